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
from typing import Any, Literal, overload

from ovgen.config import SamplingParams, is_number, nearest, override
from ovgen.configuration import ModelSpec, read_configuration
from ovgen.engine.leftovers import Leftovers
from ovgen.errors import ConfigError, ModelNotFoundError, RequestError
from ovgen.llm import LLM, Message, Prompt
from ovgen.loader import load
from ovgen.outputs import GenerationOutput, Piece
from ovgen.weights import Compression

__all__ = ["ModelManager", "ModelStatus"]

_MIB, _GIB = 1 << 20, 1 << 30
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
        size = f", {_size(self.bytes)}" if self.bytes else ""
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
    first time, what its weights will take is estimated, so that room is made before and not after.

    A model in use is never unloaded. If those in use, and the one that is asked for, exceed the budget together, a
    warning says so, and the budget is kept again as soon as requests end. So it is for a model that exceeds it alone.

    Models load and generate side by side. Threads that ask for the same one at the same time wait for one loading; if
    that fails, all of them get the error, and whoever asks next tries again.

    Args:
        models: by id: a path, or a `ModelSpec` with the options of `LLM` and sampling defaults.
        memory_budget: GiB for all loaded models together; None for no limit.

    Raises:
        ConfigError: there is no model, one is neither a path nor a `ModelSpec`, the budget is no number above 0, or a
            sampling default cannot be used.
    """

    def __init__(
        self, models: Mapping[str, str | os.PathLike[str] | ModelSpec], *, memory_budget: float | None = None
    ) -> None:
        if not isinstance(models, Mapping):
            raise ConfigError(f"models must be a mapping from ids to paths or ModelSpecs, got {models!r:.80}")
        if not models:
            raise ConfigError("models is empty: name one at least")
        if memory_budget is not None and not (is_number(memory_budget) and memory_budget > 0):
            raise ConfigError(f"memory_budget must be a number above 0 (GiB) or None, got {memory_budget!r}")
        self._slots = {id_: _Slot(id_, _checked(id_, spec)) for id_, spec in models.items()}
        self._budget = None if memory_budget is None else int(memory_budget * _GIB)
        # A stream that is left open is closed by the garbage collector, in any thread at any time. Whoever holds this
        # lock waits for no other: not for an engine's, which that thread may hold.
        self._lock = threading.RLock()
        self._left = Leftovers(self._lock, self._end)
        self._gone: list[LLM] = []  # unloaded, to be freed outside the lock, where nobody waits
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
        self, model_id: str, prompt: Any, params: Any = None, **options: Any
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
        with self._locked():
            if self._closed:
                raise RequestError("the manager is closed: make another one")
            slot.users += 1
            self._idle.pop(model_id, None)
        finalised = False
        try:
            yield self._loaded(slot)
        except GeneratorExit:  # of a stream, by the garbage collector maybe: that must not wait for a lock
            finalised = True
            raise
        finally:
            if finalised:
                self._left.leave(slot)
                self._gone.clear()
            else:
                with self._locked():
                    self._end(slot)

    def load_model(self, model_id: str) -> LLM:
        """The model itself, loaded if it is not.

        To the manager it is not in use. Who holds it keeps it in memory all the same: prefer `use`, which says so.
        """
        with self.use(model_id) as llm:
            return llm

    def unload(self, model_id: str) -> bool:
        """Take a model out of memory: now if nobody uses it (True), else when its last request ends (False)."""
        slot = self._slot(model_id)
        with self._locked():
            slot.leaving = in_use = slot.users > 0
            self._drop(slot)
        return not in_use

    def status(self) -> list[ModelStatus]:
        """A row for each model, in the order in which they were given."""
        with self._locked():
            return [_status(slot) for slot in self._slots.values()]

    def close(self) -> None:
        """Unload all models, those in use as soon as their requests end; nothing can be asked for any more."""
        with self._locked():
            self._closed = True
            for slot in list(self._idle.values()):
                self._drop(slot)

    def __enter__(self) -> ModelManager:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """The lock; models that are unloaded inside are freed after it."""
        try:
            with self._lock:
                self._left.free()
                yield
                self._left.free()
        finally:
            self._gone.clear()

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
            with self._locked():
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
            with self._locked():
                slot.loading = None
            if not isinstance(error, Exception):  # Ctrl-C is for this thread alone
                future.cancel()
                raise
            future.set_exception(error)
            return
        with self._locked():
            slot.llm, slot.loading = llm, None
            self._keep_budget()
            taken = _bytes(slot)
        future.set_result(llm)
        if self._budget is not None and taken > self._budget:
            text = "%s alone takes %s, more than memory_budget (%s)"
            _log.warning(text, slot.id, _size(taken), _size(self._budget))

    def _make_room(self, slot: _Slot) -> None:
        """Unload what gives way to a model that is about to be loaded; warns if that is not enough."""
        if slot.weights is None:
            slot.weights = estimated_bytes(slot.spec)
        with self._locked():
            self._keep_budget()
            others = ", ".join(each.id for each in self._slots.values() if each is not slot and _in_memory(each))
            exceeded = self._exceeded()
        if others and exceeded:
            _log.warning("loading %s exceeds memory_budget, until requests to these end: %s", slot.id, others)

    def _end(self, slot: _Slot) -> None:
        """A request to the model of a slot has ended; the lock is held."""
        slot.users -= 1
        slot.last_used = time.time()
        if not slot.users:
            if slot.llm is not None:
                self._idle[slot.id] = slot
            if slot.leaving or self._closed:
                self._drop(slot)
            slot.leaving = False
        self._keep_budget()

    def _keep_budget(self) -> None:
        """Unload what was not used for longest, until the budget is kept or only one model is in memory."""
        while self._idle and self._exceeded() and sum(map(_in_memory, self._slots.values())) > 1:
            self._drop(next(iter(self._idle.values())))

    def _exceeded(self) -> bool:
        return self._budget is not None and sum(map(_bytes, self._slots.values())) > self._budget

    def _drop(self, slot: _Slot) -> None:
        """Forget the model of a slot unless it is in use."""
        if self._idle.pop(slot.id, None) is not None:
            assert slot.llm is not None  # idle models are loaded
            self._gone.append(slot.llm)
            slot.llm = None
            _log.info("unloading %s", slot.id)


def estimated_bytes(spec: ModelSpec) -> int:
    """About what a model's weights will take, from what its files say of themselves.

    Raises:
        OvgenError: there is no model, or it is damaged: what `LLM` would raise.
    """
    return load(Path(spec.path)).estimate(Compression.of(spec.options.get("weights")))


def weight_bytes(llm: LLM) -> int:
    """Bytes of the constants in a model's graph: its weights as loaded."""
    return llm.kernels.nbytes


def cache_bytes(llm: LLM) -> int:
    """Bytes of a model's KV cache as far as it has grown."""
    return llm.engine.runner.cache_bytes


def _in_memory(slot: _Slot) -> bool:
    return slot.llm is not None or slot.loading is not None


def _bytes(slot: _Slot) -> int:
    cache = 0 if slot.llm is None else cache_bytes(slot.llm)
    return (slot.weights or 0) + cache if _in_memory(slot) else 0


def _checked(id_: object, given: Any) -> ModelSpec:
    """What a model was given as, refused now and not when it is loaded."""
    if not isinstance(id_, str) or not id_:
        raise ConfigError(f"models: an id must be text, and not empty, got {id_!r}")
    spec = given if isinstance(given, ModelSpec) else ModelSpec(given)
    if not isinstance(spec.path, (str, os.PathLike)) or not os.fspath(spec.path):
        raise ConfigError(f"models: {id_!r} must be a path or a ModelSpec with one, got {given!r:.80}")
    override(SamplingParams(), spec.params)
    return spec


def _size(count: int) -> str:
    """A number of bytes for people."""
    return f"{count / _GIB:.2f} GiB" if count >= _GIB else f"{count / _MIB:.1f} MiB"


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
