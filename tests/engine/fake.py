"""A model without a device: what it predicts is a function of the tokens that it finds in the blocks it is given."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ovgen.runtime.runner import Chunk

VOCAB = 97


def next_token(tokens: Sequence[int]) -> int:
    """What the fake model finds likeliest after ``tokens``: depends on every one of them and on their order."""
    state = 7
    for token in tokens:
        state = (state * 31 + token + 1) % 1_000_003
    return state % VOCAB


def continuation(prompt: Sequence[int], count: int) -> list[int]:
    """The greedy output of the fake model."""
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(next_token(tokens))
    return tokens[len(prompt) :]


@dataclass(frozen=True)
class _Step:
    """A step in flight: in which buffer its logits come, what is computed, and the tokens before each row, later."""

    buffer: int
    chunks: list[Chunk]
    rows: Callable[[], list[list[int]]]


class FakeRunner:
    """A `Runner` whose cache holds the tokens themselves, so that a wrong block shows as wrong output."""

    form = "fake"
    device = "FAKE"
    kernels = "fake"
    slots: int | None = None
    shares_blocks = True
    block_size = 4
    bytes_per_block = 1 << 20
    max_blocks: int | None = None
    vocab_size = VOCAB
    cache_layout = "fake"

    def __init__(self, depth: int = 1) -> None:
        self.depth = depth
        self.memory = np.full((0, self.block_size), -1, np.int64)  # (blocks, tokens of a block)
        self.steps: list[list[Chunk]] = []
        self.fail: dict[str, BaseException] = {}  # method -> what it raises, once
        self._logits = [np.zeros((0, VOCAB), np.float32)] * depth  # one buffer for each infer request
        self._flying: deque[_Step] = deque()

    @property
    def cache_bytes(self) -> int:
        return len(self.memory) * self.bytes_per_block

    def start(self, chunks: Sequence[Chunk]) -> None:
        assert len(self._flying) < self.depth, "a step was started before the last one was waited for"
        assert all(chunk.token_ids for chunk in chunks), "a chunk without tokens"
        chunks = [chunk._replace(token_ids=list(chunk.token_ids), blocks=list(chunk.blocks)) for chunk in chunks]
        others = {block for step in self._flying for block in self._written(step.chunks)}
        assert not others & self._written(chunks), "two steps in flight write to the same block"
        self._fail("start")
        buffer = len(self.steps) % self.depth
        self._logits[buffer][:] = np.nan  # whoever still looks at the logits of an earlier step shall notice
        self._flying.append(_Step(buffer, chunks, self._begin(len(self.steps), chunks)))
        self.steps.append(chunks)

    def wait(self) -> NDArray[np.float32]:
        if not self._flying:  # waiting for an idle request is allowed
            return np.zeros((0, VOCAB), np.float32)
        step = self._flying.popleft()
        self._fail("wait")
        rows = step.rows()
        if len(rows) > len(self._logits[step.buffer]):
            self._logits[step.buffer] = np.zeros((len(rows), VOCAB), np.float32)
        logits = self._logits[step.buffer][: len(rows)]
        logits[:] = 0
        for row, tokens in enumerate(rows):
            logits[row, next_token(tokens)] = 5.0
        return logits

    def _begin(self, number: int, chunks: Sequence[Chunk]) -> Callable[[], list[list[int]]]:
        """Make the device work; what comes back waits for it. This one is as lazy as a device can be."""
        return lambda: self._compute(chunks)

    def _compute(self, chunks: Sequence[Chunk]) -> list[list[int]]:
        """Write the tokens into their blocks; the tokens that precede each row of logits are read from there."""
        rows = []
        for chunk in chunks:
            end = chunk.past + len(chunk.token_ids)
            for position, token in enumerate(chunk.token_ids, chunk.past):
                self.memory[chunk.blocks[position // self.block_size], position % self.block_size] = token
            cached = self.memory[list(chunk.blocks)].reshape(-1)[:end].tolist()
            assert -1 not in cached, "a token was never computed"
            rows += [cached[: end - chunk.rows + 1 + i] for i in range(chunk.rows)]
        return rows

    def _written(self, chunks: Sequence[Chunk]) -> set[int]:
        """The blocks that a step writes to."""
        return {
            block
            for chunk in chunks
            for block in chunk.blocks[
                chunk.past // self.block_size : -(-(chunk.past + len(chunk.token_ids)) // self.block_size)
            ]
        }

    def _fail(self, method: str) -> None:
        if method in self.fail:
            raise self.fail.pop(method)

    def resize(self, num_blocks: int) -> None:
        self._fail("resize")
        grown = np.full((num_blocks, self.block_size), -1, np.int64)
        grown[: len(self.memory)] = self.memory
        self.memory = grown

    def copy_block(self, source: int, target: int) -> None:
        written = {block for step in self._flying for block in self._written(step.chunks)}
        assert not written & {source, target}, "the device writes there"
        self.memory[target] = self.memory[source]

    def fork(self, source: int, target: int) -> None: ...

    def trim(self, sequence: int, length: int) -> None: ...

    def release(self, sequence: int) -> None: ...

    def export_cache(self, sequence: int, blocks: Sequence[int]) -> list[NDArray[np.uint8]]:
        return [self.memory[list(blocks)].view(np.uint8)]

    def import_cache(self, sequence: int, blocks: Sequence[int], data: list[NDArray[np.uint8]], length: int) -> None:
        self.memory[list(blocks)] = data[0].view(np.int64)


class KeepingRunner(FakeRunner):
    """Keeps the cache by sequence, as plugins and the static form do; blocks are numbers only."""

    shares_blocks = False

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[int, list[int]] = {}  # tokens by sequence

    def _begin(self, number: int, chunks: Sequence[Chunk]) -> Callable[[], list[list[int]]]:
        for chunk in chunks:
            rows = self.rows.setdefault(chunk.sequence, [])
            assert len(rows) == chunk.past, "the sequence was trimmed without telling the runner"
        return super()._begin(number, chunks)

    def _compute(self, chunks: Sequence[Chunk]) -> list[list[int]]:
        wanted = []
        for chunk in chunks:
            rows = self.rows.get(chunk.sequence, [])  # one that has been released meanwhile is dropped
            rows += chunk.token_ids
            wanted += [rows[: len(rows) - chunk.rows + 1 + i] for i in range(chunk.rows)]
        return wanted

    def copy_block(self, source: int, target: int) -> None: ...

    def fork(self, source: int, target: int) -> None:
        if source in self.rows:
            self.rows[target] = list(self.rows[source])

    def trim(self, sequence: int, length: int) -> None:
        if sequence in self.rows:
            del self.rows[sequence][length:]

    def release(self, sequence: int) -> None:
        self.rows.pop(sequence, None)


class LateRunner(FakeRunner):
    """A device of its own: a thread that takes its time.

    Args:
        depth: steps in flight.
        during: called in that thread in the middle of a step, with its number and how many tokens it computes.
    """

    def __init__(self, depth: int, during: Callable[[int, int], None]) -> None:
        super().__init__(depth)
        self._during = during
        self._device = ThreadPoolExecutor(1)

    def _begin(self, number: int, chunks: Sequence[Chunk]) -> Callable[[], list[list[int]]]:
        return self._device.submit(self._work, number, chunks).result

    def _work(self, number: int, chunks: Sequence[Chunk]) -> list[list[int]]:
        self._during(number, sum(len(chunk.token_ids) for chunk in chunks))
        return self._compute(chunks)

    def resize(self, num_blocks: int) -> None:
        for step in self._flying:
            step.rows()
        super().resize(num_blocks)


class NoText:
    """A text stream that spells each token as a letter."""

    def push(self, token_ids: Sequence[int]) -> str:
        return "".join(chr(ord("A") + token % 26) for token in token_ids)

    def flush(self) -> str:
        return ""
