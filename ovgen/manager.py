"""`ModelManager`: several models in one memory budget, loaded when they are first used."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, overload

from ovgen.config import SamplingParams, nearest, override
from ovgen.configuration import ModelSpec, read_configuration
from ovgen.errors import ConfigError, ModelNotFoundError, RequestError
from ovgen.graph import IR_WEIGHTS
from ovgen.llm import LLM, Message, Prompt
from ovgen.outputs import GenerationOutput, Piece
from ovgen.weights.gguf import gguf_files

__all__ = ["ModelManager", "ModelStatus"]

_GIB = 1 << 30
_log = logging.getLogger("ovgen")


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """How things stand with one model.

    Attributes:
        id: its name.
        path: where it lies.
        state: whether it is in memory.
        device: where it runs; None until it is loaded.
        form: in which form; None until it is loaded.
        bytes: its weights as loaded and its KV cache as far as that has grown; an estimate while it is loading.
        last_used: when its last request ended; None if there was none.
        requests: how many are running, or waiting for it to be loaded.
    """

    id: str
    path: Path
    state: Literal["unloaded", "loading", "loaded"]
    device: str | None
    form: str | None
    bytes: int
    last_used: datetime | None
    requests: int

    def __str__(self) -> str:
        """One line for people."""
        where = f" on {self.device} ({self.form})" if self.device else ""
        size = f", {self.bytes / _GIB:.2f} GiB" if self.bytes else ""
        running = f", {self.requests} request{'' if self.requests == 1 else 's'}" if self.requests else ""
        used = f", last used {self.last_used.astimezone():%Y-%m-%d %H:%M:%S}" if self.last_used else ""
        return f"{self.id}: {self.state}{where}{size}{running}{used}"


@dataclass(slots=True, eq=False)
class _Slot:
    """What the manager knows of one model."""

    id: str
    spec: ModelSpec
    llm: LLM | None = None
    loading: Future[LLM] | None = None
    users: int = 0  # requests that run on it or wait for it; it is not unloaded while there are any
    weights: int | None = None  # bytes, known since it was first loaded
    last_used: float | None = None
    leaving: bool = False  # to be unloaded once nobody uses it


class ModelManager:
    """Several models by id: each is loaded when it is first used, shared by all threads, and unloaded to make room.

    The model that has not been used for longest gives way when all together exceed ``memory_budget``. What a model
    takes is what can be counted: the constants of its graph and the blocks of its KV cache so far. What a device adds
    for itself (repacked weights, intermediate results) is not in it: leave some room. Before a model is loaded for the
    first time, the size of its weight files stands for it, so that room is made before and not after.

    A model in use is never unloaded. If those in use, and the one that is asked for, exceed the budget together, a
    warning says so, and the budget is kept again as soon as requests end. So it is for a model that exceeds it alone.

    Models load and generate side by side. Threads that ask for the same one at the same time wait for one loading; if
    that fails, all of them get the error, and whoever asks next tries again.

    Args:
        models: by id: a path, or a `ModelSpec` with the options of `LLM` and sampling defaults.
        memory_budget: GiB for all loaded models together; None for no limit.

    Raises:
        ConfigError: there is no model, the budget is no number above 0, or a sampling default cannot be used.
    """

    def __init__(
        self, models: Mapping[str, str | os.PathLike[str] | ModelSpec], *, memory_budget: float | None = None
    ) -> None:
        if not models:
            raise ConfigError("models is empty: name one at least")
        if memory_budget is not None and not memory_budget > 0:
            raise ConfigError(f"memory_budget must be a number above 0 (GiB) or None, got {memory_budget!r}")
        specs = {id_: spec if isinstance(spec, ModelSpec) else ModelSpec(spec) for id_, spec in models.items()}
        for spec in specs.values():
            override(SamplingParams(), spec.params)  # refused now, not after loading
        self._slots = {id_: _Slot(id_, spec) for id_, spec in specs.items()}
        self._budget = None if memory_budget is None else int(memory_budget * _GIB)
        # Reentrant, for a stream that is left open may be closed by the garbage collector, in any thread at any time.
        self._lock = threading.RLock()
        self._idle: OrderedDict[str, _Slot] = OrderedDict()  # loaded and not in use; least recently used first
        self._closed = False

    @classmethod
    def from_config(cls, path: str | os.PathLike[str]) -> ModelManager:
        """The models of a YAML file; ``ovgen config check`` shows what it comes to, its ``--help`` a file.

        Raises:
            ConfigError: the file cannot be read, or something in it cannot be used.
        """
        config = read_configuration(path)
        specs = {id_: model.spec() for id_, model in config.models.items()}
        return cls(specs, memory_budget=config.memory_budget.value)

    @overload
    def generate(
        self, model_id: str, prompt: Prompt, params: SamplingParams | None = None, **options: Any
    ) -> GenerationOutput: ...

    @overload
    def generate(
        self,
        model_id: str,
        prompt: Sequence[Prompt],
        params: SamplingParams | Sequence[SamplingParams] | None = None,
        **options: Any,
    ) -> list[GenerationOutput]: ...

    def generate(
        self,
        model_id: str,
        prompt: Any,
        params: Any = None,
        **options: Any,
    ) -> GenerationOutput | list[GenerationOutput]:
        """`LLM.generate` of a model, loaded if it is not."""
        with self.use(model_id) as llm:
            outputs: GenerationOutput | list[GenerationOutput] = llm.generate(prompt, params, **options)
            return outputs

    def stream(
        self, model_id: str, prompt: Prompt, params: SamplingParams | None = None, **sampling: Any
    ) -> Generator[Piece, None, None]:
        """`LLM.stream` of a model, loaded now if it is not; it stays in use until the stream is closed or ends."""
        return self._stream(model_id, lambda llm: llm.stream(prompt, params, **sampling))

    def chat(
        self, model_id: str, messages: Sequence[Message], params: SamplingParams | None = None, **sampling: Any
    ) -> GenerationOutput:
        """`LLM.chat` of a model, loaded if it is not."""
        with self.use(model_id) as llm:
            return llm.chat(messages, params, **sampling)

    def stream_chat(
        self, model_id: str, messages: Sequence[Message], params: SamplingParams | None = None, **sampling: Any
    ) -> Generator[Piece, None, None]:
        """`chat`, piece by piece."""
        return self._stream(model_id, lambda llm: llm.stream_chat(messages, params, **sampling))

    @contextmanager
    def use(self, model_id: str) -> Iterator[LLM]:
        """The model itself, loaded if it is not, which stays in memory inside the ``with``: for sessions, say.

        Raises:
            ModelNotFoundError: there is no such id.
            RequestError: the manager is closed.
            OvgenError: what `LLM` raises.
        """
        slot = self._slot(model_id)
        with self._lock:
            if self._closed:
                raise RequestError("the manager is closed: make another one")
            slot.users += 1
            self._idle.pop(model_id, None)
        try:
            yield self._loaded(slot)
        finally:
            self._release(slot)

    def load_model(self, model_id: str) -> LLM:
        """The model itself, loaded if it is not.

        To the manager it is not in use. Who holds it keeps it in memory all the same: prefer `use`, which says so.
        """
        with self.use(model_id) as llm:
            return llm

    def unload(self, model_id: str) -> bool:
        """Take a model out of memory: now if nobody uses it (True), else when its last request ends (False)."""
        slot = self._slot(model_id)
        with self._lock:
            slot.leaving = in_use = slot.users > 0
            gone = self._drop(slot)
        del gone  # its memory is freed here, where nobody waits for the lock
        return not in_use

    def status(self) -> list[ModelStatus]:
        """A row for each model, in the order in which they were given."""
        with self._lock:
            return [_status(slot) for slot in self._slots.values()]

    def close(self) -> None:
        """Unload all models, those in use as soon as their requests end; nothing can be asked for any more."""
        with self._lock:
            self._closed = True
            gone = [self._drop(slot) for slot in list(self._idle.values())]
        del gone

    def __enter__(self) -> ModelManager:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _slot(self, model_id: str) -> _Slot:
        try:
            return self._slots[model_id]
        except KeyError:
            raise ModelNotFoundError(f"no model {model_id!r}{nearest(str(model_id), list(self._slots))}") from None

    def _stream(
        self, model_id: str, begin: Callable[[LLM], Generator[Piece, None, None]]
    ) -> Generator[Piece, None, None]:
        def pieces() -> Generator[Any, None, None]:
            with self.use(model_id) as llm, closing(begin(llm)) as stream:
                yield None
                yield from stream

        started = pieces()
        next(started)  # loads the model and refuses what cannot be; closing it will now release the model
        return started

    def _loaded(self, slot: _Slot) -> LLM:
        """The model of a slot that has us among its users."""
        while True:
            with self._lock:
                if slot.llm is not None:
                    return slot.llm
                future, mine = slot.loading, slot.loading is None
                if future is None:
                    future = slot.loading = Future()
            if mine:
                self._load(slot, future)
            with suppress(CancelledError):  # another thread was interrupted while it loaded: it is our turn
                return future.result()

    def _load(self, slot: _Slot, future: Future[LLM]) -> None:
        try:
            self._make_room(slot)
            llm = LLM(slot.spec.path, **slot.spec.options)
            llm.default_params = override(llm.default_params, slot.spec.params)
            slot.weights = weight_bytes(llm)
        except BaseException as error:
            with self._lock:
                slot.loading = None
            if not isinstance(error, Exception):  # Ctrl-C is for this thread alone
                future.cancel()
                raise
            future.set_exception(error)
            return
        with self._lock:
            slot.llm, slot.loading = llm, None
            gone = self._over_budget()
            taken = _bytes(slot)
        del gone
        future.set_result(llm)
        if self._budget is not None and taken > self._budget:
            text = "%s alone takes %.2f GiB, more than memory_budget (%.2f GiB)"
            _log.warning(text, slot.id, taken / _GIB, self._budget / _GIB)

    def _make_room(self, slot: _Slot) -> None:
        """Unload what gives way to a model that is about to be loaded; warns if that is not enough."""
        with self._lock:
            if slot.weights is None:
                slot.weights = _bytes_on_disk(Path(slot.spec.path).expanduser())
            gone = self._over_budget()
            others = ", ".join(each.id for each in self._slots.values() if each is not slot and _in_memory(each))
            exceeded = self._exceeded()
        del gone
        if others and exceeded:
            _log.warning("loading %s exceeds memory_budget, until requests to these end: %s", slot.id, others)

    def _release(self, slot: _Slot) -> None:
        with self._lock:
            slot.users -= 1
            slot.last_used = time.time()
            gone: list[LLM | None] = []
            if not slot.users:
                if slot.llm is not None:
                    self._idle[slot.id] = slot
                if slot.leaving or self._closed:
                    gone.append(self._drop(slot))
                slot.leaving = False
            gone += self._over_budget()
        del gone  # freed here, where nobody waits for the lock

    def _over_budget(self) -> list[LLM]:
        """Unload what was not used for longest, until the budget is kept or only one model is in memory."""
        gone = []
        while self._idle and self._exceeded() and sum(map(_in_memory, self._slots.values())) > 1:
            llm = self._drop(next(iter(self._idle.values())))
            assert llm is not None  # idle models are loaded
            gone.append(llm)
        return gone

    def _exceeded(self) -> bool:
        return self._budget is not None and sum(map(_bytes, self._slots.values())) > self._budget

    def _drop(self, slot: _Slot) -> LLM | None:
        """Forget the model of a slot unless it is in use; given back, so that it is freed outside the lock."""
        if self._idle.pop(slot.id, None) is None:
            return None
        llm, slot.llm = slot.llm, None
        _log.info("unloading %s", slot.id)
        return llm


def weight_bytes(llm: LLM) -> int:
    """Bytes of the constants in a model's graph: its weights as loaded."""
    return sum(op.get_byte_size() for op in llm.model.get_ops() if op.get_type_name() == "Constant")


def cache_bytes(llm: LLM) -> int:
    """Bytes of a model's KV cache as far as it has grown."""
    return llm.engine.pool.size * llm.engine.runner.bytes_per_block


def _in_memory(slot: _Slot) -> bool:
    return slot.llm is not None or slot.loading is not None


def _bytes(slot: _Slot) -> int:
    if not _in_memory(slot):
        return 0
    return (slot.weights or 0) + (0 if slot.llm is None else cache_bytes(slot.llm))


def _bytes_on_disk(path: Path) -> int:
    """The size of a model's weight files; loading says what is wrong if there are none."""
    if path.is_file():
        files = gguf_files(path)
    else:
        files = [path / IR_WEIGHTS] if (path / IR_WEIGHTS).is_file() else list(path.glob("*.safetensors"))
    return sum(file.stat().st_size for file in files if file.is_file())


def _status(slot: _Slot) -> ModelStatus:
    llm = slot.llm
    used = None if slot.last_used is None else datetime.fromtimestamp(slot.last_used, timezone.utc)
    return ModelStatus(
        id=slot.id,
        path=Path(slot.spec.path),
        state="loading" if slot.loading is not None else "unloaded" if llm is None else "loaded",
        device=None if llm is None else llm.device,
        form=None if llm is None else llm.form,
        bytes=_bytes(slot),
        last_used=used,
        requests=slot.users,
    )
