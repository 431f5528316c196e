"""Checkpoints of one file and of several."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from ovgen.errors import CorruptFileError, MissingTensorError, ModelNotFoundError
from ovgen.weights import open_checkpoint
from tests.fuzzing import CASES, mutants, reads_or_raises

INDEX = "model.safetensors.index.json"


def sharded(folder: Path, weight_map: Any) -> Path:
    save_file({"a": np.zeros(2, np.float32)}, folder / "1.safetensors")
    save_file({"b": np.ones((2, 3), np.float16)}, folder / "2.safetensors")
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


def test_single_file(tmp_path: Path) -> None:
    save_file({"a": np.arange(6, dtype=np.float32).reshape(2, 3)}, tmp_path / "model.safetensors")
    checkpoint = open_checkpoint(tmp_path)
    assert checkpoint.names == ("a",)
    assert "a" in checkpoint
    assert checkpoint.get("a", (2, 3)).to_f32().tolist() == [[0, 1, 2], [3, 4, 5]]


def test_shards(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(sharded(tmp_path, {"a": "1.safetensors", "b": "2.safetensors"}))
    assert checkpoint.names == ("a", "b")
    assert checkpoint.get("b", (2, 3)).nbytes == 12
    assert [name for name, _ in checkpoint.items()] == ["a", "b"]


def test_arrays_outlive_the_checkpoint(tmp_path: Path) -> None:
    save_file({"a": np.arange(5000, dtype=np.float32)}, tmp_path / "model.safetensors")
    array = open_checkpoint(tmp_path).get("a", (5000,)).to_f32()
    assert array.sum() == 4999 * 2500


def test_missing_tensor_names_what_is_wanted(tmp_path: Path) -> None:
    save_file({"a": np.zeros(2, np.float32)}, tmp_path / "model.safetensors")
    with pytest.raises(MissingTensorError, match=r"'model\.norm\.weight' of shape \(64,\)"):
        open_checkpoint(tmp_path).get("model.norm.weight", (64,))


def test_another_shape_names_both(tmp_path: Path) -> None:
    save_file({"a": np.zeros(2, np.float32)}, tmp_path / "model.safetensors")
    with pytest.raises(MissingTensorError, match=r"'a' has shape \(2,\), but by config.json it is \(3,\)"):
        open_checkpoint(tmp_path).get("a", (3,))


def test_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"neither model\.safetensors nor"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize(
    "shard",
    ["../1.safetensors", "/etc/passwd", "sub/1.safetensors", "..", "", "1.bin", 3, None, ["1.safetensors"], {}],
)
def test_weight_map_must_stay_in_the_folder(shard: Any, tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    save_file({"a": np.zeros(2, np.float32)}, tmp_path / "1.safetensors")
    with pytest.raises(CorruptFileError, match=r"weight_map\['a'\] must be a \.safetensors file"):
        open_checkpoint(sharded(tmp_path / "inner", {"a": shard}))


@pytest.mark.parametrize("shard", ["3.safetensors", "\0.safetensors", "\ud800.safetensors"])
def test_missing_shard(shard: str, tmp_path: Path) -> None:
    with pytest.raises(CorruptFileError, match="missing"):
        open_checkpoint(sharded(tmp_path, {"a": "1.safetensors", "b": shard}))


def test_shard_without_its_tensor(tmp_path: Path) -> None:
    with pytest.raises(CorruptFileError, match=r"places 'b' in '1\.safetensors', which does not"):
        open_checkpoint(sharded(tmp_path, {"a": "1.safetensors", "b": "1.safetensors"}))


@pytest.mark.parametrize("weight_map", [None, [], {}, "1.safetensors"])
def test_index_without_a_map(weight_map: Any, tmp_path: Path) -> None:
    with pytest.raises(CorruptFileError, match="weight_map must map"):
        open_checkpoint(sharded(tmp_path, weight_map))


def test_index_that_is_not_json(tmp_path: Path) -> None:
    (tmp_path / INDEX).write_text('{"weight_map": {')
    with pytest.raises(CorruptFileError, match=r"index\.json is not JSON: .* at line 1, column 17"):
        open_checkpoint(tmp_path)


def test_mutated_indexes_read_or_raise_ours(tmp_path: Path) -> None:
    sharded(tmp_path, {"a": "1.safetensors", "b": "2.safetensors"})
    for damaged in mutants((tmp_path / INDEX).read_bytes(), CASES):
        (tmp_path / INDEX).write_bytes(damaged)
        reads_or_raises(open_checkpoint, tmp_path)
