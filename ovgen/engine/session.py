"""One sequence with the user's hand on it: raw logits in and out of a cache that can be rewound, forked and saved."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ovgen.engine.engine import Engine
from ovgen.engine.sequence import KVSequence
from ovgen.errors import CacheFileError, CacheFullError, RequestError

__all__ = ["Session"]

_FORMAT = 1


class Session:
    """A sequence of tokens whose keys and values stay in the cache between calls.

    Made by `ovgen.LLM.session`. Close it, or use it in a ``with`` block, to give its blocks back.

    Args:
        engine: shared with the requests of the same model.
        identity: names the model, and the adapter; a saved cache is only loaded where it is the same.
        sequence: what is cached already; None starts empty.
    """

    def __init__(self, engine: Engine, identity: Callable[[], str], sequence: KVSequence | None = None) -> None:
        self._engine = engine
        self._identity = identity
        self._sequence = sequence or KVSequence([])

    def __len__(self) -> int:
        return len(self._sequence.tokens)

    @property
    def token_ids(self) -> tuple[int, ...]:
        """The tokens that are in the cache."""
        return tuple(self._sequence.tokens)

    def forward(self, token_ids: Sequence[int], *, rows: int | None = None) -> NDArray[np.float32]:
        """Append tokens and compute them: the model's raw logits, a copy that is the caller's.

        Args:
            token_ids: one or more token ids.
            rows: give the logits of this many last positions only; None gives all. A long prompt whose next token
                alone matters is computed faster with ``rows=1``.

        Returns:
            Logits ``(rows, vocab)`` float32; row ``i`` predicts what follows token ``i`` of those asked for.

        Raises:
            RequestError: there are no tokens, an id is out of range, or ``rows`` is.
            ContextLengthError: the sequence would be longer than the model's context.
            CacheFullError: the cache has no room left; the session is as before.
        """
        ids = self._engine.checked(token_ids)
        count = len(ids) if rows is None else rows
        if not isinstance(count, int) or not 0 <= count <= len(ids):
            raise RequestError(f"rows must be from 0 to the {len(ids)} tokens given, got {rows}")
        return self._engine.compute(self._sequence, ids, count)

    def trim(self, length: int) -> None:
        """Rewind: keep the first ``length`` tokens and forget the rest.

        Raises:
            RequestError: the session is not that long.
        """
        if not isinstance(length, int) or not 0 <= length <= len(self):
            raise RequestError(f"cannot keep {length} of {len(self)} tokens")
        self._engine.trim(self._sequence, length)

    def fork(self) -> Session:
        """A second session with the same past; memory is shared until one of the two goes on."""
        return Session(self._engine, self._identity, self._engine.fork(self._sequence))

    def close(self) -> None:
        """Give the blocks back; the session is empty then."""
        self._engine.trim(self._sequence, 0)
        self._engine.release(self._sequence)

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # the interpreter may be shutting down, half dismantled
            self._engine.leave(self._sequence)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write tokens and cache to a file, whole or not at all.

        Raises:
            CacheFileError: the file cannot be written.
        """
        target = Path(path)
        with self._engine.lock:  # the device must not change between the two
            data = self._engine.export(self._sequence)
            header = json.dumps(self._header()).encode()
        arrays: dict[str, Any] = {f"cache_{i:04d}": array for i, array in enumerate(data)}
        arrays["header"] = np.frombuffer(header, np.uint8)
        arrays["tokens"] = np.array(self.token_ids, np.int64)
        partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
        try:
            with open(partial, "wb") as file:
                np.savez(file, **arrays)
            os.replace(partial, target)
        except OSError as error:
            raise CacheFileError(f"cannot write {target}: {error.strerror or error}") from error
        finally:
            partial.unlink(missing_ok=True)

    @classmethod
    def load(
        cls, engine: Engine, identity: Callable[[], str], path: str | os.PathLike[str], adapter: int = 0
    ) -> Session:
        """A session that goes on where `save` was called, through the same adapter (0: none).

        Raises:
            CacheFileError: there is no such file, it is damaged, or it is of another model or cache precision.
            CacheFullError: the cache has no room for it.
        """
        session = cls(engine, identity, KVSequence([], adapter=adapter))
        try:
            with np.load(path, allow_pickle=False) as file:
                header = json.loads(file["header"].tobytes())
                tokens = file["tokens"].tolist()
                data = [file[name] for name in sorted(file.files) if name.startswith("cache_")]
            with engine.lock:
                engine.drain()  # which may go on with another device, and another kind of cache
                session._check_header(header, path)
                if tokens:
                    session._sequence = engine.adopt(tokens, data, adapter)
        except FileNotFoundError:
            raise CacheFileError(f"no saved session at {path}") from None
        except (CacheFileError, CacheFullError):
            raise
        except Exception as error:  # whatever zip, JSON and numpy make of bytes that are not what `save` writes
            raise CacheFileError(f"{path} is not a saved session, or is damaged: {error}") from error
        return session

    def _header(self) -> dict[str, object]:
        return {"format": _FORMAT, "model": self._identity(), "cache": self._engine.runner.cache_layout}

    def _check_header(self, found: dict[str, object], path: str | os.PathLike[str]) -> None:
        for name, ours in self._header().items():
            if found.get(name) != ours:
                raise CacheFileError(
                    f"{path} was saved with another {name} ({found.get(name)!r}, here {ours!r}): "
                    "load it with the model, adapter, form and cache precision that saved it"
                )
