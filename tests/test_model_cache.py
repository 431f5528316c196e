"""Models compressed while loading: made once, taken again, and never a stale one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import ovgen
from ovgen import model_cache
from ovgen.graph import read_ir
from ovgen.model_cache import compressed_copy
from tests.tiny_models import make

INT8 = ovgen.Compression(weights="int8")
PROGRAM = "import sys, ovgen; print(ovgen.LLM(sys.argv[1], weights='int8').path)"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OVGEN_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make("llama", tmp_path / "tiny")


def test_a_copy_is_made_once(home: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = ovgen.LLM(source, weights="int8")
    assert first.path.parent == home / "models"
    assert first.path.name.startswith("tiny-int8-")
    monkeypatch.setattr(model_cache, "convert", None)  # would raise
    second = ovgen.LLM(source, weights=INT8)
    assert second.path == first.path
    assert len(second.generate([1, 2], max_new_tokens=4, ignore_eos=True).token_ids) == 4


def test_options_and_files_make_another_copy(home: Path, source: Path) -> None:
    folders = {compressed_copy(source, INT8), compressed_copy(source, ovgen.Compression(weights="f16"))}
    folders.add(compressed_copy(source, ovgen.Compression(weights="int8", symmetric=True)))
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 1e-6}))
    folders.add(compressed_copy(source, INT8))
    weights = source / "model.safetensors"
    os.utime(weights, ns=(0, 0))  # as if its middle had been edited, where no sample is taken
    folders.add(compressed_copy(source, INT8))
    (source / "generation_config.json").write_text("{}")
    folders.add(compressed_copy(source, INT8))
    (source / "README.md").write_text("not of the model")
    folders.add(compressed_copy(source, INT8))
    assert len(folders) == 6


def test_an_older_copy_of_the_same_source_is_removed(
    home: Path, source: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    older, other_options = compressed_copy(source, INT8), compressed_copy(source, ovgen.Compression(weights="f16"))
    os.utime(source / "model.safetensors", ns=(0, 0))
    other_source = compressed_copy(make("gpt2", source.parent / "elsewhere" / "tiny"), INT8)
    newer = compressed_copy(source, INT8)
    assert set((home / "models").iterdir()) == {other_options, other_source, newer}
    assert f"removing the older copy {older}" in caplog.text
    assert compressed_copy(source, INT8) == newer


def test_the_same_files_elsewhere_are_the_same_model(home: Path, source: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "tiny"
    shutil.copytree(source, moved)
    assert compressed_copy(moved, INT8) == compressed_copy(source, INT8)


def test_two_processes_that_start_at_once_share_one_copy(home: Path, source: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, str(source)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    paths = {process.communicate(timeout=60)[0] for process in both}
    assert [process.returncode for process in both] == [0, 0]
    assert len(paths) == 1
    assert len(list((home / "models").iterdir())) == 1


def test_a_failure_leaves_no_copy(home: Path, tmp_path: Path) -> None:
    source = make("llama", tmp_path / "broken", rope_scaling={"type": "dynamic", "factor": 2.0})
    with pytest.raises(ovgen.UnsupportedModelError, match="dynamic"):
        ovgen.LLM(source, weights="int4")
    assert not any((home / "models").glob("*"))


def test_there_must_be_a_model(home: Path, tmp_path: Path) -> None:
    with pytest.raises(ovgen.ModelNotFoundError, match="there is no model at"):
        ovgen.LLM(tmp_path / "nothing", weights="int8")


def test_a_damaged_copy_is_made_again(home: Path, source: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = compressed_copy(source, INT8)
    whole = (folder / "openvino_model.bin").read_bytes()
    for name, left in {"openvino_model.bin": whole[:100], "openvino_model.xml": b""}.items():
        (folder / name).write_bytes(left)
        assert compressed_copy(source, INT8) == folder
        assert (folder / "openvino_model.bin").read_bytes() == whole
        assert "a compressed copy is made again" in caplog.text
        caplog.clear()


def test_a_good_copy_that_was_put_there_meanwhile_stays(
    home: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = compressed_copy(source, INT8)
    inode, judged = folder.stat().st_ino, []

    def damaged_at_first(place: Path) -> object:
        judged.append(place)
        if len(judged) == 1:
            raise ovgen.CorruptFileError("was damaged when it was read, and is not any more")
        return read_ir(place)

    monkeypatch.setattr(model_cache, "read_ir", damaged_at_first)
    monkeypatch.setattr(model_cache, "convert", None)  # would raise
    assert compressed_copy(source, INT8) == folder
    assert folder.stat().st_ino == inode
    assert list(folder.parent.iterdir()) == [folder]


def test_a_damaged_copy_that_another_process_removed(home: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = compressed_copy(source, INT8)

    def removed(place: Path) -> object:
        shutil.rmtree(place)
        raise ovgen.CorruptFileError("damaged")

    monkeypatch.setattr(model_cache, "read_ir", removed)
    assert compressed_copy(source, INT8) == folder
    assert read_ir(folder)


def test_the_second_of_two_leaves_the_copy_of_the_first(
    home: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slower(path: Path, folder: Path, compression: ovgen.Compression) -> Path:
        monkeypatch.undo()
        monkeypatch.setenv("OVGEN_HOME", str(home))
        first = compressed_copy(source, compression)  # another process, meanwhile
        inodes.append(first.stat().st_ino)
        return ovgen.convert(path, folder, compression)

    inodes: list[int] = []
    monkeypatch.setattr(model_cache, "convert", slower)
    assert compressed_copy(source, INT8).stat().st_ino == inodes[0]
