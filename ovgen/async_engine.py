"""Generating for many clients of an asyncio event loop, which goes on while the device works."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from typing import Any, TypeAlias

from ovgen.config import SamplingParams
from ovgen.engine.request import Request
from ovgen.llm import LLM, Prompt
from ovgen.outputs import GenerationOutput, Piece

__all__ = ["AsyncEngine"]

_Deliver: TypeAlias = "Callable[[Piece | BaseException], object]"


class AsyncEngine:
    """Streams of a model for coroutines; those that run at the same time are computed together.

    A thread takes the engine's steps as long as there is anything to generate, and ends when there is not: nothing has
    to be closed. The model can be used by other threads meanwhile.

    Args:
        llm: the model.
    """

    def __init__(self, llm: LLM) -> None:
        self._llm = llm
        self._lock = threading.Lock()  # held for moments only: the event loop takes it
        self._new: list[Request] = []
        self._clients: dict[Request, _Deliver] = {}
        self._working = False

    def stream(
        self, prompt: Prompt, params: SamplingParams | None = None, **sampling: Any
    ) -> AsyncGenerator[Piece, None]:
        """Generate piece by piece, as `LLM.stream` does.

        Leaving the loop over the pieces, or cancelling the task, ends the request and frees its cache.

        Raises:
            ConfigError: an option is unknown or its value cannot be used.
            RequestError: the prompt cannot be processed.
            GenerationError: the model's logits could not be sampled from.
            DeviceError: the device failed.
        """
        return self._pieces(self._llm.request(prompt, params, **sampling))

    async def generate(self, prompt: Prompt, params: SamplingParams | None = None, **sampling: Any) -> GenerationOutput:
        """Generate to the end; it raises what `stream` does. ``asyncio.gather`` of several computes them together."""
        request = self._llm.request(prompt, params, **sampling)
        return request.output([piece async for piece in self._pieces(request)])

    async def _pieces(self, request: Request) -> AsyncGenerator[Piece, None]:
        pieces: asyncio.Queue[Piece | BaseException] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        try:
            self._begin(request, lambda piece: loop.call_soon_threadsafe(pieces.put_nowait, piece))
            while True:
                piece = await pieces.get()
                if isinstance(piece, BaseException):
                    raise piece
                yield piece
                if piece.finish_reason is not None:
                    return
        finally:
            self._end(request)

    def _begin(self, request: Request, deliver: _Deliver) -> None:
        with self._lock:
            self._new.append(request)
            self._clients[request] = deliver
            if not self._working:
                threading.Thread(target=self._work, name="ovgen").start()
                self._working = True

    def _end(self, request: Request) -> None:
        with self._lock:
            self._clients.pop(request, None)
            if request in self._new:
                self._new.remove(request)
        self._llm.engine.abort(request)  # does not wait for a step that is being taken

    def _work(self) -> None:
        """Take steps until nobody waits for anything."""
        while True:
            with self._lock:
                new, self._new = self._new, []
                clients = list(self._clients.items())
                if not clients:
                    self._working = False
                    return
            failure: BaseException | None = None
            try:
                for request in new:
                    self._llm.engine.submit(request)
                self._llm.engine.step()
            except BaseException as error:  # whatever it is, those who wait must learn of it
                failure = error
            for request, deliver in clients:
                self._deliver(request, deliver, failure)

    def _deliver(self, request: Request, deliver: _Deliver, failure: BaseException | None) -> None:
        done = request.done  # asked first: what another thread emits after this is delivered in the next round
        error = request.error or failure
        try:
            while request.pieces:
                deliver(request.pieces.popleft())
            if error is not None:
                deliver(error)
        except RuntimeError:  # the event loop has been closed without a word
            done = True
        if done or error is not None:
            self._end(request)
