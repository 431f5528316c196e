"""A model without a device: what it predicts is a function of the tokens that it finds in the blocks it is given."""

from __future__ import annotations

from collections.abc import Sequence

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


class FakeRunner:
    """A `Runner` whose cache holds the tokens themselves, so that a wrong block shows as wrong output."""

    form = "fake"
    device = "FAKE"
    slots: int | None = None
    block_size = 4
    bytes_per_block = 1 << 20
    vocab_size = VOCAB
    cache_layout = "fake"

    def __init__(self) -> None:
        self.memory = np.full((0, self.block_size), -1, np.int64)  # (blocks, tokens of a block)
        self.steps: list[list[Chunk]] = []
        self.fail: dict[str, BaseException] = {}  # method -> what it raises, once
        self._logits = np.zeros((0, VOCAB), np.float32)  # one buffer, as an infer request has
        self._flying: list[Chunk] | None = None

    def start(self, chunks: Sequence[Chunk]) -> None:
        assert self._flying is None, "a step was started before the last one was waited for"
        assert all(chunk.token_ids for chunk in chunks), "a chunk without tokens"
        self._fail("start")
        self._logits[:] = np.nan  # whoever still looks at the last step's logits shall notice
        self._flying = list(chunks)
        self.steps.append(self._flying)

    def wait(self) -> NDArray[np.float32]:
        chunks, self._flying = self._flying or [], None  # waiting for an idle request is allowed
        self._fail("wait")
        rows = []
        for chunk in chunks:
            end = chunk.past + len(chunk.token_ids)
            for position, token in enumerate(chunk.token_ids, chunk.past):
                self.memory[chunk.blocks[position // self.block_size], position % self.block_size] = token
            cached = self.memory[list(chunk.blocks)].reshape(-1)[:end].tolist()
            assert -1 not in cached, "a token was never computed"
            rows += [cached[: end - chunk.rows + 1 + i] for i in range(chunk.rows)]
        if len(rows) > len(self._logits):
            self._logits = np.zeros((len(rows), VOCAB), np.float32)
        logits = self._logits[: len(rows)]
        logits[:] = 0
        for row, tokens in enumerate(rows):
            logits[row, next_token(tokens)] = 5.0
        return logits

    def _fail(self, method: str) -> None:
        if method in self.fail:
            raise self.fail.pop(method)

    def resize(self, num_blocks: int) -> None:
        self._fail("resize")
        grown = np.full((num_blocks, self.block_size), -1, np.int64)
        grown[: len(self.memory)] = self.memory
        self.memory = grown

    def copy_block(self, source: int, target: int) -> None:
        self.memory[target] = self.memory[source]

    def fork(self, source: int, target: int) -> None: ...

    def trim(self, sequence: int, length: int) -> None: ...

    def release(self, sequence: int) -> None: ...

    def export_cache(self, sequence: int, blocks: Sequence[int]) -> list[NDArray[np.uint8]]:
        return [self.memory[list(blocks)].view(np.uint8)]

    def import_cache(self, sequence: int, blocks: Sequence[int], data: list[NDArray[np.uint8]]) -> None:
        self.memory[list(blocks)] = data[0].view(np.int64)


class NoText:
    """A text stream that spells each token as a letter."""

    def push(self, token_ids: Sequence[int]) -> str:
        return "".join(chr(ord("A") + token % 26) for token in token_ids)

    def flush(self) -> str:
        return ""
