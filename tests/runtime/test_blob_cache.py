from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import openvino.opset15 as op
import pytest

from ovgen.graph.passes import StaticShape, to_paged, to_static
from ovgen.loader import load
from ovgen.runtime import blob_cache
from ovgen.runtime.blob_cache import blob_key, keeps_blobs
from ovgen.runtime.device import compile_model, core
from ovgen.runtime.windows import attention_windows

NPUW = {"NPU_USE_NPUW": "YES", "NPUW_DEVICES": "CPU", "NPUW_ONLINE_PIPELINE": "NONE"}
EXACT = {"INFERENCE_PRECISION_HINT": "f32"}
DEVICES = pytest.mark.parametrize(("device", "config"), [("CPU", EXACT), ("NPU", NPUW)])
ROW = np.ones((1, 128), np.float32)


def model(scale: float = 1.0, weight: float = 0.0, name: str = "x", gap: int = 0) -> ov.Model:
    """Two matrices of 64 KiB and a constant; ``gap`` nodes are made and dropped, which moves OpenVINO's numbering."""
    for _ in range(gap):
        op.constant(0.0)
    matrices = np.random.RandomState(0).standard_normal((2, 128, 256)).astype(np.float32)
    matrices[0, 3, 5] += weight
    x = op.parameter([1, 128], ov.Type.f32, name=name)
    x.output(0).set_names({name})
    hidden = op.multiply(op.relu(op.matmul(x, op.constant(matrices[0]), False, False)), op.constant(np.float32(scale)))
    y = op.matmul(hidden, op.constant(matrices[1]), False, True)
    y.output(0).set_names({"y"})
    return ov.Model([op.result(y)], [x], "m")


def run(compiled: ov.CompiledModel) -> np.ndarray:
    return np.array(compiled([ROW])[0])


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The devices that something was compiled for, in order."""
    done: list[str] = []

    class Counting:
        def __getattr__(self, name: str) -> Any:
            return getattr(core(), name)

        def compile_model(self, model: ov.Model, device: str, properties: dict[str, Any]) -> ov.CompiledModel:
            done.append(device)
            return core().compile_model(model, device, properties)

    monkeypatch.setattr("ovgen.runtime.device.core", Counting)
    return done


@DEVICES
def test_a_second_compilation_is_read_from_disk(
    device: str, config: dict[str, Any], tmp_path: Path, compilations: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    config = config | {"CACHE_DIR": str(tmp_path / "new")}
    first = run(compile_model(model(), device, config, identity="weights"))
    second = run(compile_model(model(gap=7), device, config, identity="weights"))
    assert compilations == [device]
    assert len(files(tmp_path / "new")) == 1
    np.testing.assert_array_equal(second, first)
    assert not caplog.records


@DEVICES
@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda data: data[: len(data) // 2], id="cut in half"),
        pytest.param(lambda data: data[:-1], id="a byte short"),
        pytest.param(lambda data: data[:20], id="a piece of the header"),
        pytest.param(lambda data: b"", id="empty"),
        pytest.param(lambda data: bytes([data[0] ^ 1]) + data[1:], id="magic"),
        pytest.param(lambda data: data[:20] + bytes([data[20] ^ 1]) + data[21:], id="key"),
        pytest.param(lambda data: data[:-3000] + bytes(2000) + data[-1000:], id="weights zeroed"),
        pytest.param(lambda data: data[:9000] + bytes([data[9000] ^ 64]) + data[9001:], id="a bit"),
        pytest.param(lambda data: data + b"more", id="longer"),
    ],
)
def test_a_damaged_file_is_made_again_with_a_warning(
    device: str,
    config: dict[str, Any],
    damage: Callable[[bytes], bytes],
    tmp_path: Path,
    compilations: list[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = config | {"CACHE_DIR": str(tmp_path)}
    expected = run(compile_model(model(), device, config, identity="w"))
    (file,) = files(tmp_path)
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    np.testing.assert_array_equal(run(compile_model(model(), device, config, identity="w")), expected)
    assert [(r.name, r.levelname) for r in caplog.records] == [("ovgen", "WARNING")]
    assert file.name in caplog.text
    assert "damaged" in caplog.text
    assert ("shorter than its header" in caplog.text) == (len(damage(whole)) < 72)
    assert compilations == [device, device]
    assert files(tmp_path) == [file]
    compile_model(model(), device, config, identity="w")
    assert compilations == [device, device]


def test_what_changes_the_result_changes_the_key() -> None:
    def key(graph: ov.Model | None = None, config: dict[str, Any] | None = None, identity: str = "w") -> bytes:
        return blob_key(core(), graph or model(), "CPU", EXACT if config is None else config, identity)

    assert key() == key() == key(model(gap=5)) == key(model().clone())
    assert key() == key(config={"INFERENCE_PRECISION_HINT": ov.Type.f32}), "however it is spelt"
    others = [
        key(identity="v"),
        key(config={}),
        key(config=EXACT | {"INFERENCE_NUM_THREADS": 1}),
        key(model(scale=2.0)),
        key(model(name="z")),
        blob_key(core(), model(), "NPU", EXACT, "w"),
    ]
    assert len({key(), *others}) == 1 + len(others)
    assert key(model(weight=1.0)) == key(), "weights are the identity's business"


def test_the_same_bytes_of_another_type_change_the_key() -> None:
    def shifted(by: np.ndarray) -> ov.Model:
        x = op.parameter([1], ov.Type.f32, name="x")
        return ov.Model([op.result(op.add(x, op.convert(op.constant(by), ov.Type.f32)))], [x], "m")

    one = np.ones(1, np.float32)
    assert blob_key(core(), shifted(one), "CPU", {}, "w") == blob_key(core(), shifted(one), "CPU", {}, "w")
    assert blob_key(core(), shifted(one), "CPU", {}, "w") != blob_key(
        core(), shifted(one.view(np.int32)), "CPU", {}, "w"
    )


def test_versions_and_drivers_are_in_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    class Device:
        driver = 1

        def get_property(self, device: str, name: str) -> object:
            if name == "NPU_DRIVER_VERSION":
                return self.driver
            raise RuntimeError("no such property")

    machine: Any = Device()
    old = blob_key(machine, model(), "NPU", {}, "w")
    machine.driver = 2
    new_driver = blob_key(machine, model(), "NPU", {}, "w")
    monkeypatch.setattr(blob_cache, "version", lambda _: "9.9")
    new_ovgen = blob_key(machine, model(), "NPU", {}, "w")
    monkeypatch.setattr("openvino.get_version", lambda: "9999.1")
    assert len({old, new_driver, new_ovgen, blob_key(machine, model(), "NPU", {}, "w")}) == 4


_PRINT_KEY = """
import sys
from tests.runtime.test_blob_cache import decoder_key
print(decoder_key(sys.argv[1]))
"""


def decoder_key(folder: str) -> str:
    graph = load(Path(folder)).build()
    static = to_static(graph, attention_windows(graph), StaticShape(1, 2, 8, 1), ov.Type.f16)
    return blob_key(core(), static, "CPU", {}, "w").hex()


def test_the_key_is_the_same_in_another_process_and_after_other_work(tiny_llama: Path) -> None:
    model(gap=1000)
    command = [sys.executable, "-c", _PRINT_KEY, str(tiny_llama)]
    other = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert decoder_key(str(tiny_llama)) == other.stdout.strip()


def test_sizes_of_the_static_form_have_different_keys(tiny_llama: Path) -> None:
    graph = load(tiny_llama).build()
    windows = attention_windows(graph)
    shapes = [StaticShape(1, 1, 8, 1), StaticShape(2, 1, 8, 1), StaticShape(1, 2, 8, 1), StaticShape(1, 2, 8, 2)]
    forms = [to_static(graph, windows, shape, kind) for shape in shapes for kind in (ov.Type.f16, ov.Type.f32)]
    assert len({blob_key(core(), form, "CPU", {}, "w") for form in forms}) == len(forms)


class Importing:
    """An `ov.Core` whose first imports fail."""

    failures = 1

    def __getattr__(self, name: str) -> Any:
        return getattr(core(), name)

    def import_model(self, *arguments: Any) -> ov.CompiledModel:
        if self.failures:
            self.failures -= 1
            raise RuntimeError("out of memory for once")
        return core().import_model(*arguments)


def test_an_import_that_failed_once_is_made_again_and_no_more_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    config = EXACT | {"CACHE_DIR": str(tmp_path)}
    expected = run(compile_model(model(), "CPU", config, identity="w"))
    (file,) = files(tmp_path)
    machine = Importing()
    monkeypatch.setattr("ovgen.runtime.device.core", lambda: machine)
    np.testing.assert_array_equal(run(compile_model(model(), "CPU", config, identity="w")), expected)
    assert [r.levelname for r in caplog.records] == ["WARNING"]
    assert "out of memory for once" in caplog.text
    assert files(tmp_path) == [file]
    caplog.clear()
    with caplog.at_level(logging.INFO, "ovgen"):
        compile_model(model(), "CPU", config, identity="w")
    assert "taken from" in caplog.text


def test_what_the_device_does_not_take_back_is_compiled_each_time_and_said_once(
    tiny_llama: Path, tmp_path: Path, compilations: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """The CPU exports the paged form and refuses to import it: attributes of PagedAttention get lost."""
    graph = load(tiny_llama).build()
    paged = to_paged(graph, attention_windows(graph))
    for _ in range(4):
        compile_model(paged, "CPU", {"CACHE_DIR": str(tmp_path)}, identity="w")
    assert len(compilations) == 4
    assert [r.levelname for r in caplog.records] == ["WARNING", "WARNING"]
    assert "does not take back" in caplog.text
    assert "nor a new one: this model is compiled each time" in caplog.text
    (file,) = files(tmp_path)
    assert file.stat().st_size == 4096
    with caplog.at_level(logging.INFO, "ovgen"):
        compile_model(paged, "CPU", {"CACHE_DIR": str(tmp_path)}, identity="w")
    assert f"does not take it back from disk: delete {file}" in caplog.text


def test_a_folder_that_cannot_be_written_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("in the way")
    config = EXACT | {"CACHE_DIR": str(tmp_path / "file" / "folder")}
    with caplog.at_level(logging.WARNING, "ovgen"):
        expected = run(compile_model(model(), "CPU", EXACT))
        np.testing.assert_array_equal(run(compile_model(model(), "CPU", config, identity="w")), expected)
    assert "cannot be kept" in caplog.text


def test_nothing_half_written_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: object, target: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    compile_model(model(), "CPU", {"CACHE_DIR": str(tmp_path)}, identity="w")
    assert files(tmp_path) == []


def test_what_is_imported_outlives_its_file(tmp_path: Path) -> None:
    config = EXACT | {"CACHE_DIR": str(tmp_path)}
    expected = run(compile_model(model(), "CPU", config, identity="w"))
    request = compile_model(model(), "CPU", config, identity="w").create_infer_request()
    (file,) = files(tmp_path)
    compile_model(model(weight=9.0), "CPU", config, identity="other")
    os.replace(next(other for other in files(tmp_path) if other != file), file)  # as another process would
    np.testing.assert_array_equal(request.infer([ROW])["y"], expected)


@pytest.mark.parametrize(
    ("device", "properties"),
    [
        ("CPU", {}),
        ("CPU", {"CACHE_DIR": ""}),
        ("CPU", {"CACHE_DIR": "x", "CACHE_ENCRYPTION_CALLBACKS": "..."}),
        ("AUTO", {"CACHE_DIR": "x"}),
        ("AUTO:CPU", {"CACHE_DIR": "x"}),
        ("GPU.0", {"CACHE_DIR": "x"}),
    ],
)
def test_where_nothing_is_kept(device: str, properties: dict[str, str]) -> None:
    assert not keeps_blobs(core(), device, properties)


def test_without_an_identity_the_folder_is_openvinos(tmp_path: Path) -> None:
    compile_model(model(), "CPU", {"CACHE_DIR": str(tmp_path)})
    assert [file.suffix for file in files(tmp_path)] == [".blob"]
