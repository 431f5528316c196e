"""All texts of a prompt: what becomes of one request, or of several that are computed together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from ovgen.engine.engine import Engine
from ovgen.engine.request import Request
from ovgen.errors import RequestError
from ovgen.outputs import GenerationOutput, Piece

__all__ = ["Group"]


class Group:
    """A prompt with the requests for its texts.

    Args:
        engine: computes them.
        request: as `Engine.prepare` made it; its twins have not begun.
    """

    def __init__(self, engine: Engine, request: Request) -> None:
        self._engine = engine
        self._requests = (request, *request.twins)

    def check_stream(self) -> None:
        """Refuse to give pieces of texts that are only chosen at the end.

        Raises:
            RequestError: it is a beam search, or the best of several texts is wanted.
        """
        params = self._requests[0].params
        if params.num_beams > 1 or (params.best_of or 0) > params.n:
            option = "num_beams" if params.num_beams > 1 else "best_of"
            raise RequestError(f"{option}: texts are chosen at the end, and do not come piece by piece: use generate")

    @property
    def done(self) -> bool:
        """Whether no more pieces will come but those that can be read."""
        return all(request.done for request in self._requests)

    def submit(self) -> None:
        """Queue it."""
        self._engine.submit(self._requests[0])

    def abort(self) -> None:
        """End it now and free its cache; what has finished stays as it is."""
        for request in self._requests:
            self._engine.abort(request)

    def read(self) -> Iterator[Piece]:
        """The pieces that have come since.

        Raises:
            OvgenError: what made a request fail.
        """
        for request in self._requests:
            while request.pieces:
                yield request.pieces.popleft()
            if request.error is not None:
                raise request.error

    def drive(self) -> Iterator[Piece]:
        """Run the engine until the end, piece by piece; all other requests move on along with this."""
        while True:
            done = self.done  # asked first: what another thread emits after this is read in the next round
            yield from self.read()
            if done:
                return
            self._engine.step()

    def output(self, pieces: Sequence[Piece]) -> GenerationOutput:
        """The result, given all the pieces: the best text, if they can be compared, else the first; and the others."""
        outputs = [
            request.output([piece for piece in pieces if piece.index == request.index])
            for request in self._requests
            if not request.index or any(piece.index == request.index for piece in pieces)  # a search may find fewer
        ]
        params = self._requests[0].params
        if len(outputs) > params.n:
            outputs.sort(key=lambda output: output.score or 0.0, reverse=True)
        best, *others = outputs[: params.n]
        return replace(best, others=tuple(others))
