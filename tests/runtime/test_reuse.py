"""Where the runner keeps the cache by sequence, a request that begins with another's rows says the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import ovgen
from ovgen.engine.block_pool import BlockPool
from ovgen.engine.kept import KeptSequences
from ovgen.engine.sequence import KVSequence
from ovgen.runtime.forms import Form
from ovgen.runtime.runner import Chunk, Runner
from tests.conftest import F32

FORMS: tuple[Form, ...] = ("stateful", "static")
BLOCK = 32
PROMPT = [(7 * i * i + 3) % 251 for i in range(75)]


@pytest.fixture(params=FORMS)
def runner(request: pytest.FixtureRequest, tiny_llama: Path) -> Runner:
    return ovgen.LLM(tiny_llama, device_config=F32, form=request.param).engine.runner


class Alone:
    """Computes one request after the other and keeps what can be kept."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.pool = BlockPool(64)
        self.kept = KeptSequences(self.pool, BLOCK, self.copy, runner.release)

    def copy(self, source: int, target: int, length: int) -> None:
        if source != target:
            self.runner.fork(source, target)
        self.runner.trim(target, length)

    def logits(self, tokens: list[int]) -> tuple[int, NDArray[np.float32]]:
        """How many tokens were reused, and the logits ``(vocab,)`` of the last one."""
        sequence = KVSequence(list(tokens))
        self.kept.begin(sequence)
        reused = sequence.computed
        sequence.reserve(self.pool, BLOCK, len(tokens))
        last = compute(self.runner, sequence)
        self.kept.keep(sequence)
        return reused, last


def compute(runner: Runner, sequence: KVSequence) -> NDArray[np.float32]:
    """Logits ``(vocab,)`` of the last token, from what is computed on."""
    rest = sequence.tokens[sequence.computed :]
    runner.start([Chunk(sequence.number, rest, sequence.computed, sequence.blocks, 1)])
    sequence.computed = len(sequence.tokens)
    last: NDArray[np.float32] = runner.wait()[-1].copy()
    return last


def from_scratch(runner: Runner, tokens: list[int]) -> NDArray[np.float32]:
    sequence = KVSequence(list(tokens))
    logits = compute(runner, sequence)
    runner.release(sequence.number)
    return logits


def in_two(runner: Runner, tokens: list[int], first: int) -> NDArray[np.float32]:
    sequence = KVSequence(tokens[:first])
    compute(runner, sequence)
    sequence.tokens = list(tokens)
    logits = compute(runner, sequence)
    runner.release(sequence.number)
    return logits


def test_a_chat_goes_on_with_the_rows_of_its_last_turn(runner: Runner) -> None:
    alone = Alone(runner)
    assert alone.logits(PROMPT[:50])[0] == 0
    reused, logits = alone.logits(PROMPT)
    assert reused == 50
    np.testing.assert_array_equal(logits, in_two(runner, PROMPT, 50))
    np.testing.assert_allclose(logits, from_scratch(runner, PROMPT), atol=1e-4, rtol=0)


def test_a_copy_of_a_shared_beginning_says_the_same_and_leaves_its_source_alone(runner: Runner) -> None:
    alone = Alone(runner)
    alone.logits(PROMPT)
    other = [*PROMPT[:40], *range(5, 25)]
    reused, logits = alone.logits(other)
    assert reused == 40
    np.testing.assert_allclose(logits, from_scratch(runner, other), atol=1e-4, rtol=0)
    longer = [*PROMPT, 3, 4]
    reused, logits = alone.logits(longer)
    assert reused == len(PROMPT)
    np.testing.assert_array_equal(logits, in_two(runner, longer, len(PROMPT)))


def test_a_row_more_than_was_kept_is_cut(runner: Runner) -> None:
    alone = Alone(runner)
    ended = KVSequence(PROMPT[:51])
    ended.reserve(alone.pool, BLOCK, 51)
    compute(runner, ended)
    ended.computed = 50  # a stop string ended the request while the device computed one token more
    alone.kept.keep(ended)
    reused, logits = alone.logits(PROMPT)
    assert reused == 50
    np.testing.assert_array_equal(logits, in_two(runner, PROMPT, 50))
