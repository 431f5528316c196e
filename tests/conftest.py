"""Models that many tests use, loaded once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

import ovgen
from tests.tiny_models import make

F32 = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32"}
"""Exact arithmetic: what comparing tokens and logits takes."""
NPU_ON_CPU = {"NPU_USE_NPUW": "YES", "NPUW_DEVICES": "CPU", "NPUW_ONLINE_PIPELINE": "NONE"}
"""The NPU plugin's own front half, with the CPU underneath: what can be run of it without an NPU."""


settings.register_profile("fuzz", max_examples=20 * settings().max_examples, deadline=None)
# `scripts/test --hypothesis-profile fuzz`: twenty times the cases


@pytest.fixture(autouse=True, scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Compressed copies of models go to a folder of the tests, not to the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OVGEN_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(scope="session")
def storyteller() -> ovgen.LLM:
    """The bundled model in f32."""
    return ovgen.LLM(ovgen.bundled_model(), device_config=F32)


@pytest.fixture(scope="session")
def storyteller_stateful() -> ovgen.LLM:
    """The bundled model in f32, the plugin keeping the cache."""
    return ovgen.LLM(ovgen.bundled_model(), device_config=F32, form="stateful")


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama without a tokenizer."""
    return make("llama", tmp_path_factory.mktemp("tiny") / "llama")


@pytest.fixture(autouse=True)
def clean_cache(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever a test does, no block of the shared model's KV cache may stay in use."""
    yield
    if "storyteller" in request.fixturenames:
        engine = request.getfixturevalue("storyteller").engine
        engine.drain()
        assert engine.pool.used == 0
