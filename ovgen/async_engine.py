"""Generating for many clients of an asyncio event loop, which goes on while the device works."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Callable
from typing import Any, TypeAlias

from ovgen.config import SamplingParams
from ovgen.engine.group import Group
from ovgen.errors import OvgenError
from ovgen.llm import LLM, Prompt
from ovgen.outputs import GenerationOutput, Piece

__all__ = ["AsyncEngine"]

_Deliver: TypeAlias = "Callable[[Piece | BaseException | None], object]"


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
        self._new: list[Group] = []
        self._clients: dict[Group, _Deliver] = {}
        self._working = False

    def stream(
        self, prompt: Prompt, params: SamplingParams | None = None, **sampling: Any
    ) -> AsyncGenerator[Piece, None]:
        """Generate piece by piece, as `LLM.stream` does; what is wrong is raised where the first piece is asked for.

        Leaving the loop over the pieces, or cancelling the task, ends the request and frees its cache.

        Raises:
            ConfigError: an option is unknown or its value cannot be used.
            RequestError: the prompt cannot be processed.
            GenerationError: the model's logits could not be sampled from.
            DeviceError: the device failed.
        """
        return self._stream(prompt, params, sampling)

    async def generate(self, prompt: Prompt, params: SamplingParams | None = None, **sampling: Any) -> GenerationOutput:
        """Generate to the end; it raises what `stream` does. ``asyncio.gather`` of several computes them together."""
        group = await self._group(prompt, params, sampling)
        return group.output([piece async for piece in self._pieces(group)])

    async def _stream(
        self, prompt: Prompt, params: SamplingParams | None, sampling: dict[str, Any]
    ) -> AsyncGenerator[Piece, None]:
        group = await self._group(prompt, params, sampling)
        group.check_stream()
        async with contextlib.aclosing(self._pieces(group)) as pieces:
            async for piece in pieces:
                yield piece

    async def _group(self, prompt: Prompt, params: SamplingParams | None, sampling: dict[str, Any]) -> Group:
        """Prepare a request in a thread: long prompts, and vocabularies for a grammar, take their time."""
        request = await asyncio.to_thread(self._llm.request, prompt, params, **sampling)
        return Group(self._llm.engine, request)

    async def _pieces(self, group: Group) -> AsyncGenerator[Piece, None]:
        pieces: asyncio.Queue[Piece | BaseException | None] = asyncio.Queue()  # None: that was all
        loop = asyncio.get_running_loop()
        try:
            self._begin(group, lambda piece: loop.call_soon_threadsafe(pieces.put_nowait, piece))
            while (piece := await pieces.get()) is not None:
                if isinstance(piece, BaseException):
                    raise piece
                yield piece
        finally:
            self._end(group)

    def _begin(self, group: Group, deliver: _Deliver) -> None:
        with self._lock:
            self._new.append(group)
            self._clients[group] = deliver
            if not self._working:
                threading.Thread(target=self._work, name="ovgen").start()
                self._working = True

    def _end(self, group: Group) -> None:
        with self._lock:
            self._clients.pop(group, None)
            if group in self._new:
                self._new.remove(group)
        group.abort()  # does not wait for a step that is being taken

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
                for group in new:
                    group.submit()
                self._llm.engine.step()
            except BaseException as error:  # whatever it is, those who wait must learn of it
                failure = error
            for group, deliver in clients:
                self._deliver(group, deliver, failure)

    def _deliver(self, group: Group, deliver: _Deliver, failure: BaseException | None) -> None:
        done = group.done  # asked first: what another thread emits after this is delivered in the next round
        try:
            try:
                for piece in group.read():
                    deliver(piece)
            except OvgenError as error:
                failure = error
            if done or failure is not None:
                deliver(failure)
        except RuntimeError:  # the event loop has been closed without a word
            done = True
        if done or failure is not None:
            self._end(group)
