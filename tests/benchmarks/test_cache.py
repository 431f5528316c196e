"""Host time of the KV cache's bookkeeping: blocks of the pool, prefixes, and rows of the static form. No device."""

from __future__ import annotations

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from ovgen.engine.block_pool import BlockPool
from ovgen.engine.sequence import KVSequence
from ovgen.runtime.slots import Slots

BLOCK = 32  # tokens
TURNS = 100  # of what takes less than the clock can tell


def computed(pool: BlockPool, tokens: list[int]) -> KVSequence:
    """A sequence that has been computed, and whose blocks others may begin with."""
    sequence = KVSequence(tokens)
    sequence.reserve(pool, BLOCK, len(tokens))
    sequence.computed = len(tokens)
    sequence.keep(pool, BLOCK)
    return sequence


def test_allocate_and_release_100_blocks(benchmark: BenchmarkFixture) -> None:
    pool = BlockPool(1 << 16)

    def turn() -> None:
        pool.release([pool.allocate() for _ in range(TURNS)])

    benchmark(turn)
    assert pool.used == 0


def test_share_100_blocks(benchmark: BenchmarkFixture) -> None:
    pool = BlockPool(1 << 16)
    blocks = [pool.allocate() for _ in range(TURNS)]

    def turn() -> None:
        pool.share(blocks)
        pool.release(blocks)

    benchmark(turn)
    assert pool.used == TURNS


def test_evict_100_blocks(benchmark: BenchmarkFixture) -> None:
    """What is kept of earlier sequences gives way to a new one, which is kept in its turn."""
    pool = BlockPool(10 * TURNS)
    tokens = list(range(TURNS * BLOCK))

    def turn() -> None:
        tokens[0] += 1  # like none before
        computed(pool, tokens).release(pool)

    for _ in range(10):
        turn()
    benchmark(turn)
    assert pool.size == pool.limit
    assert pool.used == 0


@pytest.mark.parametrize("tokens", [1_000, 32_000])
@pytest.mark.parametrize("known", [True, False], ids=["known", "new"])
def test_find_the_prefix_of_a_prompt(benchmark: BenchmarkFixture, known: bool, tokens: int) -> None:
    pool = BlockPool(1 << 16)
    computed(pool, list(range(tokens)))
    prompt = list(range(0 if known else 1, tokens))

    def turn() -> int:
        sequence = KVSequence(prompt)
        sequence.reuse(pool, BLOCK)
        count = len(sequence.blocks)
        sequence.release(pool)
        return count

    assert benchmark(turn) == (tokens // BLOCK if known else 0)


@pytest.mark.parametrize("tokens", [1, 128])
@pytest.mark.parametrize("context", [256, 1024])
def test_write_rows_of_the_static_form(benchmark: BenchmarkFixture, context: int, tokens: int) -> None:
    """Keys and values of GPT-2's 12 layers behind a sequence that fills half of the context."""
    slots = Slots(1)
    slots.move([np.zeros((1, 12, context, 64), np.float16) for _ in range(24)])
    new = [np.ones((12, tokens, 64), np.float16) for _ in range(24)]
    old = [np.ones((12, context // 2, 64), np.float16) for _ in range(24)]
    slots.admit(0, 0, {0})
    slots.append(0, old, context // 2)

    def turn() -> None:
        slots.append(0, new, tokens)
        slots.trim(0, context // 2)  # which zeroes them again

    benchmark(turn)
