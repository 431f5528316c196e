"""Whatever bytes a GGUF file has, it is read or refused by one of our errors that names it."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovgen.errors import MissingTensorError
from ovgen.graph import build_model
from ovgen.text.gguf import end_token_ids, from_gguf
from ovgen.weights.gguf import gguf_checkpoint, gguf_config, read_gguf
from tests import tiny_gguf
from tests.fuzzing import CASES, fuzz, mutants, reads_or_raises
from tests.shared_data import SHARED, needs_shared
from tests.text.gguf_toys import byte_level, sentencepiece
from tests.tiny_models import make
from tests.weights.gguf_bytes import ARRAY, BOOL, F32, I32, I64, STRING, U32, encode
from tests.weights.test_gguf_models import EMBEDDING, LLAMA, numbered

STORIES = SHARED / "stories260K" / "stories260K-f32.v1.gguf"


def read_all(path: Path) -> None:
    """Every tensor and the tokenizer too."""
    model = read_gguf(path)
    from_gguf(model.metadata, str(path))
    end_token_ids(model.metadata, str(path))
    gguf_config(model)
    with np.errstate(invalid="ignore"):  # damaged weights may be infinite
        for tensor in dict(gguf_checkpoint(model).items()).values():
            tensor.to_f32()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A small Llama in blocks, with a tokenizer."""
    folder = tmp_path_factory.mktemp("whole")
    source = make("llama", folder / "llama", num_hidden_layers=1, vocab_size=40)
    path = tiny_gguf.write(source, folder / "model.gguf", "Q4_1", {**sentencepiece(), "llama.expert_count": (U32, 0)})
    read_all(path)  # or nothing would be tested
    return path.read_bytes()


@pytest.mark.parametrize(("head", "cases"), [(1500, CASES), (None, CASES // 5)])
def test_mutated_models(whole: bytes, head: int | None, cases: int, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    for raw in mutants(whole, cases, head):
        path.write_bytes(raw)
        reads_or_raises(read_all, path)


def test_mutated_vocabularies(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    for raw in mutants(encode(byte_level()), CASES):
        path.write_bytes(raw)
        reads_or_raises(read_all, path)


@needs_shared
def test_mutated_real_file_of_version_1(tmp_path: Path) -> None:
    path, raw = tmp_path / "model.gguf", STORIES.read_bytes()
    for damaged in mutants(raw, CASES // 10, 11_500):  # the header; it is 1 MB of weights else
        path.write_bytes(damaged)
        reads_or_raises(read_all, path)


ODD: list[tuple[int, Any]] = [
    *((ARRAY, (I32, values)) for values in ([], [1, 2], [-1] * 400)),
    (ARRAY, (F32, [math.nan] * 400)),
    *((ARRAY, (STRING, values)) for values in ([], ["", "", "▁"])),
    *((STRING, value) for value in ("", "llama")),
    *((I64, value) for value in (0, -1, 2**62)),
    *((F32, value) for value in (-1.5, math.nan)),
    (BOOL, True),
]
RARE: dict[str, tuple[int, Any]] = {
    "llama.attention.key_length": (U32, 4),
    "llama.attention.value_length": (U32, 4),
    "llama.attention.head_count_kv": (U32, 2),
    "llama.rope.freq_base": (F32, 10000.0),
    "llama.rope.scaling.type": (STRING, "yarn"),
    "llama.rope.scaling.factor": (F32, 2.0),
    "llama.rope.scaling.original_context_length": (U32, 32),
    "llama.rope.dimension_count": (U32, 4),
    "llama.tensor_data_layout": (STRING, "reference"),
    "llama.expert_count": (U32, 0),
    "general.alignment": (U32, 32),
    "split.no": (U32, 0),
    "split.count": (U32, 0),
    "split.tensors.count": (U32, 1),
    "tokenizer.ggml.pre": (STRING, "qwen2"),
    "tokenizer.ggml.add_space_prefix": (BOOL, True),
    "tokenizer.ggml.eot_token_id": (U32, 1),
    "tokenizer.ggml.merges": (ARRAY, (STRING, ["a b"])),
}


@pytest.mark.parametrize("tokenizer", [byte_level, sentencepiece])
def test_any_value_of_any_key(tokenizer: Callable[[], dict[str, tuple[int, Any]]], tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    metadata = {**RARE, **tokenizer(), **LLAMA}
    path.write_bytes(encode(metadata, [EMBEDDING]))
    read_all(path)
    for key in metadata:
        for value in ODD:
            path.write_bytes(encode({**metadata, key: value}, [EMBEDDING]))
            reads_or_raises(read_all, path)


# What is there beside the keys that all architectures share; the names without the architecture's.
OWN: dict[str, dict[str, tuple[int, Any]]] = {
    "qwen2": {},
    "qwen3": {"attention.key_length": (U32, 4)},
    "gpt2": {"attention.layer_norm_epsilon": (F32, 1e-5)},
    "phi3": {
        "attention.sliding_window": (U32, 8),
        "rope.scaling.type": (STRING, "longrope"),
        "rope.scaling.attn_factor": (F32, 1.2),
        "rope.scaling.original_context_length": (U32, 32),
        "rope.dimension_count": (U32, 4),
    },
    "gemma2": {
        "attention.sliding_window": (U32, 8),
        "attention.scale": (F32, 0.5),
        "attn_logit_softcapping": (F32, 50.0),
        "final_logit_softcapping": (F32, 30.0),
    },
    "gemma3": {
        "attention.sliding_window": (U32, 8),
        "attention.sliding_window_pattern": (ARRAY, (BOOL, [True])),
        "rope.freq_base": (F32, 1e6),
        "rope.freq_base_swa": (F32, 1e4),
        "rope.scaling.type": (STRING, "linear"),
        "rope.scaling.factor": (F32, 8.0),
    },
}


@pytest.mark.parametrize("architecture", OWN)
def test_any_value_of_any_key_of_an_architecture(architecture: str, tmp_path: Path) -> None:
    """The configuration that comes of it is read, too, as that of a Hugging Face folder."""

    def build(path: Path) -> None:
        model = read_gguf(path)
        build_model(gguf_config(model), gguf_checkpoint(model))

    path = tmp_path / "model.gguf"
    common = {key.removeprefix("llama."): value for key, value in LLAMA.items() if key != "general.architecture"}
    metadata = {f"{architecture}.{key}": value for key, value in {**common, **OWN[architecture]}.items()}
    metadata["general.architecture"] = (STRING, architecture)
    if architecture == "gpt2":
        del metadata["gpt2.attention.layer_norm_rms_epsilon"]
    factors = ("rope_factors_short.weight", "rope_factors_long.weight") if architecture == "phi3" else ()
    tensors = [EMBEDDING, *map(numbered, factors)]
    path.write_bytes(encode(metadata, tensors))
    with pytest.raises(MissingTensorError, match=r"model.gguf lacks the tensor"):
        build(path)  # all of the metadata are good, that is
    for key in metadata:
        for value in (*ODD, (ARRAY, (BOOL, [True] * 400)), (ARRAY, (I32, [2**31 - 1]))):
            path.write_bytes(encode({**metadata, key: value}, tensors))
            reads_or_raises(build, path)


@fuzz
@given(
    version=st.sampled_from((1, 2, 3, 4)),
    counts=st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 3), min_size=2, max_size=2),
    rest=st.binary(max_size=200),
)
def test_any_bytes_after_the_magic(version: int, counts: list[int], rest: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    width = 4 if version == 1 else 8
    words = b"".join((count % 2 ** (8 * width)).to_bytes(width, "little") for count in counts)
    path.write_bytes(b"GGUF" + version.to_bytes(4, "little") + words + rest)
    reads_or_raises(read_all, path)
