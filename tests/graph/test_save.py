"""IR folders: written whole or not at all, read back as the same model."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import openvino.opset15 as op
import pytest
from numpy.typing import NDArray

from ovgen.errors import ConfigError, CorruptFileError, ModelNotFoundError, UnsupportedModelError
from ovgen.graph import read_config, read_ir, remove_leftovers, save_ir
from tests.graph.tools import build, compile_exact

FolderOf = Callable[[str], Path]


def logits(model: ov.Model) -> NDArray[np.float32]:
    """Logits ``(1, 5, vocab)`` of some tokens."""
    request = compile_exact(model).create_infer_request()
    ids = np.array([[3, 7, 250, 41, 9]])
    inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids), "position_ids": np.arange(5)[None]}
    request.infer(inputs | {"beam_idx": np.zeros(1, np.int32)})
    return np.array(request.get_tensor("logits").data)


@pytest.fixture(scope="module")
def ir(folder_of: FolderOf, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = folder_of("llama-f16")
    return save_ir(build(folder), tmp_path_factory.mktemp("ir"))


@pytest.fixture
def copied(ir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(ir, tmp_path / "copied"))


@pytest.mark.parametrize("variant", ["llama", "llama-f16", "llama-bf16", "gpt2", "gpt2-bf16"])
def test_what_is_read_is_what_was_saved(variant: str, folder_of: FolderOf, tmp_path: Path) -> None:
    source = folder_of(variant)
    model = build(source)
    folder = save_ir(model, tmp_path / "new" / "ir", {"config.json": source / "config.json"})

    again = read_ir(folder)

    assert [p.get_names() for p in again.inputs] == [p.get_names() for p in model.inputs]
    assert [p.get_names() for p in again.outputs] == [p.get_names() for p in model.outputs]
    np.testing.assert_array_equal(logits(again), logits(model))
    names, saved = ({node.get_friendly_name() for node in m.get_ops()} for m in (model, again))
    assert {name for name in names if "/" not in name} <= saved
    assert read_config(folder) == read_config(source)


def test_16_bit_weights_take_16_bits_on_disk(ir: Path, folder_of: FolderOf) -> None:
    stored = (folder_of("llama-f16") / "model.safetensors").stat().st_size
    assert (ir / "openvino_model.bin").stat().st_size < stored * 1.05
    assert '<attribute name="decompression"' in (ir / "openvino_model.xml").read_text()


def test_other_files_go_along(copied: Path, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")
    files = {"b.json": tmp_path / "a.json", "note.txt": "ä", "other.xml": read_ir(copied)}
    folder = save_ir(read_ir(copied), tmp_path / "ir", files)
    expected = {"openvino_model.xml", "openvino_model.bin", "b.json", "note.txt", "other.xml", "other.bin"}
    assert {file.name for file in folder.iterdir()} == expected
    assert (folder / "b.json").read_text() == "{}"
    assert (folder / "note.txt").read_bytes() == "ä".encode()


def test_others_may_read_the_folder(ir: Path) -> None:
    folder = ir.parent / "other"
    folder.mkdir()
    assert stat.S_IMODE(ir.stat().st_mode) == stat.S_IMODE(folder.stat().st_mode)


def test_a_full_destination_is_refused(ir: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    for destination in (tmp_path, tmp_path / "mine.txt"):
        with pytest.raises(ConfigError, match="exists and is not an empty folder"):
            save_ir(read_ir(ir), destination, force=True)
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


def test_nothing_is_left_of_a_failure(ir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(shutil, "copyfile", fail)
    with pytest.raises(OSError, match="no space left"):
        save_ir(read_ir(ir), tmp_path / "ir", {"tokenizer.json": ir / "tokenizer.json"})
    assert list(tmp_path.iterdir()) == []


def test_an_ir_is_replaced_only_by_force(copied: Path, ir: Path) -> None:
    (copied / "tokenizer.json").write_text("{}")
    with pytest.raises(ConfigError, match="force"):
        save_ir(read_ir(ir), copied)
    assert (copied / "tokenizer.json").exists()
    save_ir(read_ir(ir), copied, {"new.txt": "new"}, force=True)
    names = {"openvino_model.xml", "openvino_model.bin", "new.txt"}
    assert {file.name for file in copied.iterdir()} == names
    assert [path.name for path in copied.parent.iterdir()] == ["copied"]


def test_a_model_may_replace_the_file_that_it_is_read_from(copied: Path) -> None:
    model = read_ir(copied)  # its weights are mapped from the file that goes away
    before = logits(model)
    save_ir(model, copied, force=True)
    np.testing.assert_array_equal(logits(read_ir(copied)), before)


def test_the_old_model_comes_back_if_the_new_one_cannot_take_its_place(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (copied / "openvino_model.bin").read_bytes()
    model = read_ir(copied)
    replace = os.replace

    def fail(source: Path, destination: Path) -> None:
        if Path(source).name == "new":
            raise OSError("no right to rename")
        replace(source, destination)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no right"):
        save_ir(model, copied, force=True)
    assert (copied / "openvino_model.bin").read_bytes() == before
    assert [path.name for path in copied.parent.iterdir()] == ["copied"]


PROGRAM = """
import sys, time
from pathlib import Path
from ovgen.graph.staging import staging
with staging(Path(sys.argv[1])) as folder:
    (folder / "new").mkdir()
    print(folder, flush=True)
    time.sleep(60)
"""


def write_aside(folder: Path) -> tuple[subprocess.Popen[str], Path]:
    """A process that is writing, and its folder."""
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_leftovers_go_and_what_is_being_written_stays(tmp_path: Path) -> None:
    foreign = tmp_path / ".mine.abcdefgh"
    foreign.mkdir()
    (process, left), (living, live) = write_aside(tmp_path / "ir"), write_aside(tmp_path / "ir")
    process.kill()
    process.communicate()
    remove_leftovers(tmp_path)
    assert set(tmp_path.iterdir()) == {foreign, live}
    living.kill()
    living.communicate()
    remove_leftovers(tmp_path)
    assert set(tmp_path.iterdir()) == {foreign}
    assert left != live


def test_what_was_put_aside_by_a_killed_process_comes_back(copied: Path) -> None:
    process, left = write_aside(copied)
    os.replace(copied, left / "old")
    process.kill()
    process.communicate()
    remove_leftovers(copied.parent)
    assert list(copied.parent.iterdir()) == [copied]
    assert read_ir(copied)


def test_absent_ir(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"has no openvino_model\.xml"):
        read_ir(tmp_path)


def test_absent_weights(copied: Path) -> None:
    (copied / "openvino_model.bin").unlink()
    with pytest.raises(CorruptFileError, match=r"openvino_model\.bin is missing"):
        read_ir(copied)


@pytest.mark.parametrize("left", [0, 1000, -10])
def test_truncated_weights(left: int, copied: Path) -> None:
    weights = copied / "openvino_model.bin"
    weights.write_bytes(weights.read_bytes()[:left])
    with pytest.raises(CorruptFileError, match=r"openvino_model\.bin is damaged"):
        read_ir(copied)


@pytest.mark.parametrize("text", ["", "<html></html>", "\0\1\2", None], ids=["empty", "html", "binary", "truncated"])
def test_damaged_xml(text: str | None, copied: Path) -> None:
    xml = copied / "openvino_model.xml"
    xml.write_text(xml.read_text()[:5000] if text is None else text)
    with pytest.raises(CorruptFileError, match=r"openvino_model\.xml or"):
        read_ir(copied)


def test_another_kind_of_model_is_named_by_its_ports(tmp_path: Path) -> None:
    x = op.parameter([1], ov.Type.f32, name="pixels")
    x.output(0).set_names({"pixels"})
    y = op.add(x, op.constant(np.ones(1, np.float32)))
    y.output(0).set_names({"classes"})
    ov.save_model(ov.Model([op.result(y)], [x], "classifier"), tmp_path / "openvino_model.xml")
    with pytest.raises(UnsupportedModelError, match="it takes pixels and gives classes"):
        read_ir(tmp_path)


@pytest.mark.parametrize("foreign", ["notes.txt", "model.safetensors", "folder"])
def test_force_never_deletes_what_is_not_of_an_ir(foreign: str, copied: Path, ir: Path) -> None:
    if foreign == "folder":
        (copied / foreign).mkdir()
    else:
        (copied / foreign).write_text("precious")
    with pytest.raises(ConfigError, match=f"holds '{foreign}'"):
        save_ir(read_ir(ir), copied, force=True)
    assert (copied / foreign).exists()


def test_what_appears_meanwhile_is_not_deleted(ir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "ir"
    save_model = ov.save_model

    def meanwhile(*arguments: Any, **options: Any) -> None:
        save_model(*arguments, **options)
        target.mkdir()
        (target / "thesis.txt").write_text("precious")

    monkeypatch.setattr(ov, "save_model", meanwhile)
    with pytest.raises(ConfigError, match="not an empty folder"):
        save_ir(read_ir(ir), target)
    assert (target / "thesis.txt").read_text() == "precious"


@pytest.mark.parametrize("forced", [False, True])
def test_ctrl_c_between_the_renames_loses_nothing(forced: bool, copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (copied / "openvino_model.bin").read_bytes()
    model, replace = read_ir(copied), os.replace

    def interrupted(source: Path, destination: Path) -> None:
        replace(source, destination)
        if Path(destination).name == "old":
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises((KeyboardInterrupt, ConfigError)):
        save_ir(model, copied, force=forced)
    assert (copied / "openvino_model.bin").read_bytes() == before


def test_a_full_disk_is_an_error_of_the_system(ir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("basic_ios::clear: iostream error")

    model = read_ir(ir)
    monkeypatch.setattr(ov, "save_model", fail)
    with pytest.raises(OSError, match="disk is full"):
        save_ir(model, tmp_path / "ir")


def test_a_destination_that_cannot_be(ir: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="no folder that can be written to"):
        save_ir(read_ir(ir), tmp_path / "file" / "ir")


@pytest.mark.parametrize("kind", ["Assign", "ReadValue"])
def test_a_variable_without_a_name_is_damage(kind: str, copied: Path) -> None:
    xml = copied / "openvino_model.xml"
    text = xml.read_text()
    begin = text.index("<data", text.index(f'type="{kind}"'))
    xml.write_text(text[:begin] + text[text.index("/>", begin) + 2 :])
    with pytest.raises(CorruptFileError, match="no variable_id"):  # OpenVINO would end the process
        read_ir(copied)
