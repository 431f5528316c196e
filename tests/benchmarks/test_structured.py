"""What structured outputs cost on the host. Run with ``--benchmark-enable --benchmark-only``."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from ovgen.config import StructuredOutputs
from ovgen.resources import bundled_model
from ovgen.text import load_tokenizer
from ovgen.text.structured import Constraints, GrammarConstraint
from tests.shared_data import SHARED, needs_shared

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer"},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["name", "age"],
}
JSON = StructuredOutputs(json=SCHEMA)
# A text of the schema, up to a place where little may come, and up to one where nearly all may.
PLACES = {"key": '{"name": "Pip", ', "string": '{"name": "Pip the'}


def no_ir(folder: Path) -> Any:
    raise AssertionError(folder)


def folder(name: str) -> Path:
    return bundled_model() if name == "storyteller" else SHARED / "tokenizers" / name


@cache
def vocabulary(name: str) -> tuple[Any, int, Constraints]:
    """Tokenizer, number of logits, and constraints whose vocabulary has been read."""
    tokenizer = load_tokenizer(folder(name), no_ir)
    assert tokenizer is not None
    size = -(-tokenizer.vocab_size // 128) * 128
    constraints = Constraints(tokenizer, size, frozenset({0}))
    constraints.constraint(JSON)
    return tokenizer, size, constraints


def at(name: str, place: str) -> tuple[GrammarConstraint, int]:
    """A constraint somewhere in a text, whose next tokens have been asked for at each place before."""
    tokenizer, size, constraints = vocabulary(name)
    constraint = constraints.constraint(JSON)
    for token in tokenizer.encode(PLACES[place], add_special_tokens=False):
        constraint.prepare()
        constraint.append(token)
    return constraint, size


each_vocabulary = pytest.mark.parametrize(
    "name", ["storyteller", *(pytest.param(name, marks=needs_shared) for name in ("gpt2", "qwen2"))]
)


@each_vocabulary
def test_reading_the_vocabulary(benchmark: BenchmarkFixture, name: str) -> None:
    tokenizer, size, _ = vocabulary(name)

    def read() -> Constraints:
        constraints = Constraints(tokenizer, size, frozenset({0}))
        constraints.constraint(JSON)
        return constraints

    assert benchmark.pedantic(read, rounds=3)  # type: ignore[no-untyped-call]


@each_vocabulary
@pytest.mark.parametrize("known", [False, True], ids=["new", "known"])
def test_making_a_constraint(benchmark: BenchmarkFixture, name: str, known: bool) -> None:
    _, _, constraints = vocabulary(name)
    names = iter(range(1_000_000))

    def make() -> GrammarConstraint:
        schema = SCHEMA if known else {**SCHEMA, "required": ["name"], "description": str(next(names))}
        return constraints.constraint(StructuredOutputs(json=json.dumps(schema)))

    assert benchmark(make).complete is False


@each_vocabulary
@pytest.mark.parametrize("place", PLACES)
def test_preparing(benchmark: BenchmarkFixture, name: str, place: str) -> None:
    """What the engine does while the device computes: a token further, and which may come after it."""
    constraint, size = at(name, place)
    token = vocabulary(name)[0].encode("a" if place == "string" else '"', add_special_tokens=False)[-1]

    def fork() -> tuple[tuple[GrammarConstraint], dict[str, Any]]:
        return (constraint.fork(),), {}

    def step(twin: GrammarConstraint) -> GrammarConstraint:
        twin.append(token)
        twin.prepare()
        return twin

    twin = benchmark.pedantic(step, setup=fork, rounds=200, warmup_rounds=5)  # type: ignore[no-untyped-call]
    twin.apply(np.zeros(size, np.float32))


@each_vocabulary
@pytest.mark.parametrize("place", PLACES)
def test_applying(benchmark: BenchmarkFixture, name: str, place: str) -> None:
    """What comes between the logits and the choice of a token."""
    constraint, size = at(name, place)
    logits = np.random.default_rng(0).normal(0, 1, size).astype(np.float32)
    constraint.prepare()
    benchmark(constraint.apply, logits)
    assert np.isneginf(logits).any()


@each_vocabulary
@pytest.mark.parametrize("place", PLACES)
def test_forking(benchmark: BenchmarkFixture, name: str, place: str) -> None:
    constraint, _ = at(name, place)
    assert benchmark(constraint.fork).complete is False
