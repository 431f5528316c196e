"""The engine: the loop of requests, and sequences that a session has its hand on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ovgen.engine.loop import Loop
from ovgen.engine.sequence import KVSequence
from ovgen.errors import CacheFullError, ContextLengthError
from ovgen.runtime.runner import Chunk

__all__ = ["Engine"]


class Engine(Loop):
    """A `Loop` that computes sequences outside the schedule, too; running requests give way to them."""

    def compute(self, sequence: KVSequence, token_ids: Sequence[int], rows: int) -> NDArray[np.float32]:
        """Append tokens to a sequence outside the schedule: logits ``(rows, vocab)`` float32 of the last ``rows``.

        ``token_ids`` are `checked`.

        Raises:
            ContextLengthError: the sequence would be longer than the model's context.
            CacheFullError: the cache has no room; the sequence is as before.
            DeviceError: the device failed, and there is no other; the sequence is as before.
        """
        start = len(sequence.tokens)
        if start + len(token_ids) > self.max_model_len:
            raise ContextLengthError(
                f"{start} + {len(token_ids)} tokens do not fit the context of {self.max_model_len}: trim the session"
            )
        logits = np.empty((rows, self.runner.vocab_size), np.float32)
        with self.lock:
            self.drain()
            self._computed.add(sequence)
            sequence.tokens += token_ids
            try:
                self._on_some_device(lambda: self._catch_up(sequence, logits))
            except BaseException:
                self._settle()
                self.trim(sequence, start)
                raise
        return logits

    def export(self, sequence: KVSequence) -> list[NDArray[np.uint8]]:
        """The bytes of a sequence's cache, for `adopt`.

        Raises:
            DeviceError: the device failed, and there is no other.
        """
        with self.lock:
            self.drain()
            self._on_some_device(lambda: self._catch_up(sequence, np.empty((0, self.runner.vocab_size), np.float32)))
            return self.cache.read(sequence)

    def trim(self, sequence: KVSequence, length: int) -> None:
        """Keep the first ``length`` tokens of a sequence."""
        with self.lock:
            self.cache.trim(sequence, length)

    def fork(self, sequence: KVSequence) -> KVSequence:
        """A twin of a sequence; blocks are shared until one of the two writes."""
        with self.lock:
            self.drain()
            twin = self.cache.fork(sequence)
            self._computed.add(twin)
            return twin

    def release(self, sequence: KVSequence) -> None:
        """Free everything that a sequence holds."""
        with self.lock:
            self.cache.release(sequence)

    def adopt(self, tokens: Sequence[int], data: list[NDArray[np.uint8]], adapter: int = 0) -> KVSequence:
        """A sequence, going through ``adapter``, whose cache is the bytes that `Runner.export_cache` gave.

        Raises:
            CacheFullError: the cache has no room.
            ValueError: the data are not those of so many tokens.
        """
        sequence = KVSequence(self.checked(tokens), adapter=adapter)
        if len(tokens) > self.max_model_len:
            raise ValueError(f"{len(tokens)} tokens are more than the context of {self.max_model_len}")
        with self.lock:
            self.drain()
            try:
                self._make_room(sequence, len(tokens))
                self._computed.add(sequence)
                self.cache.write(sequence, data)
            except BaseException:
                self.release(sequence)
                raise
        return sequence

    def _make_room(self, sequence: KVSequence, length: int) -> None:
        """Reserve blocks for a session; running requests give way, youngest first."""
        while True:
            try:
                copies = sequence.reserve(self.pool, self.runner.block_size, length)
            except CacheFullError:
                if self.scheduler.forget():
                    continue
                if not self.scheduler.running:
                    raise
                youngest = self.scheduler.running[-1]
                self.scheduler.preempt(youngest)
                self.runner.release(youngest.sequence.number)
            else:
                self.cache.prepare(copies)
                return

    def _catch_up(self, sequence: KVSequence, logits: NDArray[np.float32]) -> None:
        """Compute what is not computed of a sequence, in chunks, and fill ``logits`` ``(rows, vocab)`` from its end."""
        length, budget = len(sequence.tokens), self.config.max_num_batched_tokens
        if sequence.computed < length:
            self._make_room(sequence, length)
        while sequence.computed < length:
            part = sequence.tokens[sequence.computed : sequence.computed + budget]
            end = sequence.computed + len(part)
            last = max(0, len(logits) - (length - end))  # the row of logits behind this part's
            rows = min(len(part), last)
            self.runner.start(
                [Chunk(sequence.number, part, sequence.computed, sequence.blocks, rows, sequence.adapter)]
            )
            logits[last - rows : last] = self.runner.wait()
            sequence.computed = end
