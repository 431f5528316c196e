"""Writing models to disk: from every source, compressed or not, whole or not at all."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tracemalloc
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

import ovgen
from ovgen.conversion import Conversion, convert
from ovgen.errors import ConfigError
from ovgen.loader import load
from ovgen.runtime.calibration import Calibration
from ovgen.weights import Precision
from tests.conftest import F32
from tests.shared_data import SHARED, needs_shared
from tests.tiny_models import make

IDS = [1, 17, 250, 3, 99, 42, 7, 7, 181, 60]
GGUF = SHARED / "stories260K" / "stories260K-f32.v1.gguf"


def logits(folder: Path) -> np.ndarray:
    return ovgen.LLM(folder, device_config=F32).session().forward(IDS)


def error_of(folder: Path, exact: np.ndarray) -> float:
    """Relative to the spread of the logits."""
    return float(np.sqrt(np.square(logits(folder) - exact).mean()) / exact.std())


@pytest.mark.parametrize("variant", ["llama-bias-untied", "gpt2"])
def test_fewer_bits_cost_less_room_and_more_error(variant: str, tmp_path: Path) -> None:
    source = make(variant, tmp_path / "hf")
    exact = logits(source)
    errors, sizes = [], []
    for name, compression in COMPRESSIONS.items():
        folder = tmp_path / name
        convert(source, folder, compression)
        size = (folder / "openvino_model.bin").stat().st_size
        errors.append(error_of(folder, exact))
        sizes.append(size)
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[3] < sizes[0] / 5
    assert errors == sorted(errors)
    assert errors[0] == 0 < errors[1] < 0.01
    assert errors[2] < 0.1 < 0.5 > errors[3]


@pytest.mark.parametrize("weights", [None, "f16", "int8", "int4"])
def test_the_size_is_estimated(weights: Precision | None, tmp_path: Path) -> None:
    conversion = Conversion(ovgen.bundled_model(), tmp_path / "ir", weights)
    written = sum(file.stat().st_size for file in conversion.run().iterdir())
    assert 0.98 * written < conversion.estimated_bytes < 1.1 * written


COMPRESSIONS = {
    "as it is": None,
    "f16": ovgen.Compression(weights="f16"),
    "int8": ovgen.Compression(weights="int8"),
    "int4": ovgen.Compression(weights="int4", group_size=32),
}


def test_an_ir_can_be_compressed(tmp_path: Path) -> None:
    source = make("llama", tmp_path / "hf")
    int8 = ovgen.Compression(weights="int8")
    direct = convert(source, tmp_path / "direct", int8)
    by_ir = convert(convert(source, tmp_path / "ir"), tmp_path / "by_ir", int8)
    np.testing.assert_array_equal(logits(by_ir), logits(direct))
    assert (by_ir / "openvino_model.bin").stat().st_size == (direct / "openvino_model.bin").stat().st_size


def test_what_is_compressed_already_stays_and_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    int4 = convert(ovgen.bundled_model(), tmp_path / "int4", "int4")
    assert not caplog.text
    again = convert(int4, tmp_path / "int8", "int8")
    assert "compressed already, and stored as before: 43 of the matrices" in caplog.text
    assert (again / "openvino_model.bin").read_bytes() == (int4 / "openvino_model.bin").read_bytes()


def test_an_ir_can_be_replaced_by_its_compression(tmp_path: Path) -> None:
    folder = convert(make("llama", tmp_path / "hf"), tmp_path / "ir")
    size = (folder / "openvino_model.bin").stat().st_size
    with pytest.raises(ConfigError, match="force"):
        convert(folder, folder, ovgen.Compression(weights="int8"))
    convert(folder, folder, ovgen.Compression(weights="int8"), force=True)
    assert (folder / "openvino_model.bin").stat().st_size < size / 3
    assert ovgen.LLM(folder).generate(IDS, max_new_tokens=3).token_ids


@needs_shared
def test_a_gguf_becomes_a_complete_folder(tmp_path: Path) -> None:
    folder = convert(GGUF, tmp_path / "ir")
    names = {"config.json", "tokenizer.json", "tokenizer_config.json", "openvino_tokenizer.xml"}
    assert names <= {file.name for file in folder.iterdir()}
    outputs = [ovgen.LLM(path, device_config=F32).generate("One day", max_new_tokens=40) for path in (GGUF, folder)]
    assert outputs[0].text == outputs[1].text
    assert outputs[0].token_ids == outputs[1].token_ids
    assert ovgen.LLM(GGUF).generate([1], max_new_tokens=0x100).finish_reason == "length"
    assert json.loads((folder / "config.json").read_text())["eos_token_id"] == [2]


def test_calibration_makes_int4_lose_less(
    storyteller: ovgen.LLM, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(start: str, seed: int) -> ovgen.GenerationOutput:
        return storyteller.generate(start, max_new_tokens=500, temperature=0.8, seed=seed, ignore_eos=True)

    int4 = ovgen.Compression(weights="int4")
    text = told("Once upon a time", seed=1).text + told("In the garden", seed=2).text
    plain = convert(ovgen.bundled_model(), tmp_path / "plain", int4)
    calibrated = convert(ovgen.bundled_model(), tmp_path / "calibrated", int4, calibration=text, progress=True)
    shown = capsys.readouterr().err
    assert "Calibrating" in shown
    assert "Compressing" in shown
    ids = told("One day", seed=3).token_ids
    exact = storyteller.session().forward(ids)
    errors = [
        np.square(ovgen.LLM(folder, device_config=F32).session().forward(ids) - exact).mean()
        for folder in (plain, calibrated)
    ]
    assert errors[1] < 0.9 * errors[0]


def test_calibrating_takes_one_product_beside_the_moments() -> None:
    statistics = Calibration(load(ovgen.bundled_model()).build(), [list(range(300))])
    tracemalloc.start()
    moments = {id(array): array.nbytes for array in statistics.values()}
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < sum(moments.values()) + 1.5 * max(moments.values())


@pytest.mark.parametrize(
    ("weights", "text", "message"),
    [("int8", "word " * 500, "for int4"), ("int4", "too short", r"too short: give 256 tokens, not \d+")],
)
def test_a_calibration_that_cannot_be_used(weights: str, text: str, message: str, tmp_path: Path) -> None:
    compression = ovgen.Compression(weights=weights)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=message):
        Conversion(ovgen.bundled_model(), tmp_path / "ir", compression, calibration=text)


def test_calibration_needs_a_tokenizer(tmp_path: Path) -> None:
    source = make("llama", tmp_path / "hf")
    with pytest.raises(ConfigError, match="has no tokenizer"):
        Conversion(source, tmp_path / "ir", ovgen.Compression(weights="int4"), calibration="word")


def test_a_full_disk_is_noticed_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage(10, 9, 1))
    with pytest.raises(ConfigError, match="MB are free on its disk"):
        Conversion(ovgen.bundled_model(), tmp_path / "not" / "there" / "yet")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="kills as a POSIX system does")
def test_a_killed_conversion_leaves_nothing_that_looks_finished(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; import openvino as ov; import ovgen; "
        "ov.save_model = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL); "
        "ovgen.convert(ovgen.bundled_model(), sys.argv[1])"
    )
    folder = tmp_path / "ir"
    done = subprocess.run([sys.executable, "-c", program, str(folder)], check=False)
    assert done.returncode == -9
    assert not folder.exists()
    assert len(list(tmp_path.iterdir())) == 1
    assert convert(ovgen.bundled_model(), folder) == folder
    assert list(tmp_path.iterdir()) == [folder]


def test_no_destination(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # which is empty, and might be taken to be meant
    with pytest.raises(ConfigError, match="got ''"):
        Conversion(ovgen.bundled_model(), "")


def test_a_model_without_a_tokenizer_is_converted_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    convert(make("llama", tmp_path / "hf"), tmp_path / "ir")
    assert "hf has no tokenizer: what is written will take and give token ids, not text" in caplog.text
