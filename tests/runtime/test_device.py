from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import openvino as ov
import openvino.opset15 as op
import pytest

from ovgen.errors import ConfigError, DeviceError
from ovgen.runtime.device import check_device, compile_model, device_errors, list_devices, wait_before_freeing

device_module = "ovgen.runtime.device"


class NoDevices:
    """An `ov.Core` that finds nothing."""

    available_devices: tuple[str, ...] = ()


def model() -> ov.Model:
    x = op.parameter([1], ov.Type.f32)
    return ov.Model([op.relu(x)], [x])


def test_the_cpu_is_listed_with_readable_properties() -> None:
    assert "FULL_DEVICE_NAME" in list_devices()["CPU"]


@pytest.mark.parametrize("device", ["CPU", "CPU.0", "AUTO", "AUTO:CPU"])
def test_devices_that_are_there_and_virtual_ones_pass(device: str) -> None:
    check_device(device)


def test_an_absent_device_is_refused() -> None:
    with pytest.raises(DeviceError, match=r"'NPU' is not available here; OpenVINO finds: .*CPU"):
        check_device("NPU")


@pytest.mark.parametrize("yes", ["YES", "yes", True])
def test_an_npu_need_not_be_there_where_its_plugin_computes_elsewhere(yes: object) -> None:
    check_device("NPU", {"NPU_USE_NPUW": yes, "NPUW_DEVICES": "CPU"})
    check_device("NPU", {"NPU_USE_NPUW": yes, "NPUW_DEVICES": "GPU.1,CPU"})


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"NPU_USE_NPUW": "YES"},
        {"NPUW_DEVICES": "CPU"},
        {"NPU_USE_NPUW": "NO", "NPUW_DEVICES": "CPU"},
        {"NPU_USE_NPUW": "YES", "NPUW_DEVICES": "NPU"},
        {"NPU_USE_NPUW": "YES", "NPUW_DEVICES": "NPU.0,CPU"},
    ],
)
def test_an_npu_must_be_there_otherwise(config: dict[str, str]) -> None:
    with pytest.raises(DeviceError, match="'NPU' is not available here"):
        check_device("NPU", config)


@pytest.mark.parametrize(
    ("platform", "device", "told"),
    [
        ("linux", "NPU", ["intel-driver-compiler-npu", "intel-level-zero-npu", "intel-fw-npu", "render"]),
        ("win32", "NPU", ["intel-npu-driver-windows"]),
        ("linux", "GPU.1", ["intel-opencl-icd", "render"]),
        ("win32", "GPU", ["graphics driver"]),
    ],
)
def test_who_lacks_a_driver_is_told_which(
    platform: str, device: str, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.platform", platform)
    monkeypatch.setattr(f"{device_module}.core", NoDevices)
    with pytest.raises(DeviceError, match="OpenVINO finds: none") as raised:
        check_device(device)
    assert all(word in str(raised.value) for word in [*told, "ovgen devices"])


@pytest.mark.skipif("NPU" in ov.Core().available_devices, reason="there is an NPU")
@pytest.mark.parametrize(
    ("config", "told"),
    [({}, '"NPU_COMPILER_TYPE": "DRIVER"'), ({"NPU_COMPILER_TYPE": "DRIVER"}, "NPU.* needs Intel's driver")],
)
def test_an_npu_without_compiler_or_driver(config: dict[str, str], told: str) -> None:
    with pytest.raises(DeviceError, match=f"NPU cannot compile the model: .*{told}"):
        compile_model(model(), "NPU", config)


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("Check 'is_static()' failed:\nto_shape was called on a dynamic shape.", r'form="static"'),
        ("Compilation failed", r"What NPUs may not take: .*\(SearchSorted-15\): NPU compilers know no such operation"),
    ],
)
def test_what_an_npu_refused_is_explained(message: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing(NoDevices):
        def compile_model(self, *_: object) -> ov.CompiledModel:
            raise RuntimeError(f"Exception from src/inference/src/cpp/core.cpp:117:\n{message}\n")

    monkeypatch.setattr(f"{device_module}.core", Refusing)
    x = op.parameter([4], ov.Type.f32)
    odd = ov.Model([op.search_sorted(x, x)], [x])
    with pytest.raises(DeviceError, match=told):
        compile_model(odd, "NPU", {})
    with pytest.raises(DeviceError) as raised:
        compile_model(odd, "CPU", {})
    assert "NPUs" not in str(raised.value)


def test_config_overrides_our_defaults_and_bad_values_are_named() -> None:
    compiled = compile_model(model(), "CPU", {"PERFORMANCE_HINT": "THROUGHPUT"})
    assert compiled.get_property("PERFORMANCE_HINT") == "THROUGHPUT"
    assert compile_model(model(), "CPU", {}).get_property("PERFORMANCE_HINT") == "LATENCY"
    with pytest.raises(ConfigError, match="PERFORMANCE_HINT='fast'"):
        compile_model(model(), "CPU", {"PERFORMANCE_HINT": "fast"})


@pytest.mark.parametrize(
    ("config", "blamed", "message"),
    [
        ({"NUM_STREAMS": 1, "NUM_STREAMSS": 2}, "NUM_STREAMSS=2", "Unsupported property NUM_STREAMSS by CPU plugin"),
        ({"SIZE": 1, "SIZE_MAX": 3}, "SIZE_MAX=3", "adjust SIZE_MAX, not SIZE"),
        ({"SIZE": 1, "SIZE_MAX": 3}, None, "adjust SIZE_MA or MAX_SIZE"),
    ],
)
def test_the_property_that_is_blamed_is_a_word_of_the_message(
    config: dict[str, Any], blamed: str | None, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refusing(NoDevices):
        def compile_model(self, *_: object) -> ov.CompiledModel:
            raise RuntimeError(message)

        def get_property(self, device: str, name: str) -> list[str]:
            return ["NUM_STREAMS", "CACHE_DIR"]

    monkeypatch.setattr(f"{device_module}.core", Refusing)
    with pytest.raises(DeviceError if blamed is None else ConfigError) as raised:
        compile_model(model(), "CPU", config)
    assert str(raised.value).startswith(f"CPU refuses {blamed} in" if blamed else "CPU cannot compile the model: adj")
    assert ("Did you mean 'NUM_STREAMS'?" in str(raised.value)) == ("STREAMSS" in message)


def test_an_unknown_property_is_told_with_the_nearest_of_the_device() -> None:
    with pytest.raises(ConfigError, match=r"CPU refuses NUM_STREAMSS=2 .* Did you mean 'NUM_STREAMS'\?$"):
        compile_model(model(), "CPU", {"NUM_STREAMSS": 2})


def test_a_mistake_of_ours_is_not_blamed_on_the_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*_: object) -> bytes:
        raise KeyError("ours")

    monkeypatch.setattr("ovgen.runtime.blob_cache.blob_key", wrong)
    with pytest.raises(KeyError, match="ours"):
        compile_model(model(), "CPU", {"CACHE_DIR": str(tmp_path)}, identity="w")


@pytest.mark.parametrize("identity", [None, "w"])
def test_a_cache_dir_that_is_no_folder_is_refused(identity: str | None, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for value in (3, tmp_path / "file", str(tmp_path / "file")):
        with pytest.raises(ConfigError, match="CACHE_DIR must be a folder"):
            compile_model(model(), "CPU", {"CACHE_DIR": value}, identity=identity)


def test_what_openvino_raises_while_it_runs_names_the_device() -> None:
    with pytest.raises(DeviceError, match="CPU failed while it ran the model: out of luck"), device_errors("CPU"):
        raise RuntimeError("Exception from src/inference/x.cpp:1:\nout of luck")
    with pytest.raises(DeviceError, match="CPU failed while it slept: MemoryError"), device_errors("CPU", "slept"):
        raise MemoryError


def test_a_running_inference_ends_before_its_memory_goes() -> None:
    class Owner: ...

    class Request:
        waited = 0

        def wait(self) -> None:
            self.waited += 1
            raise RuntimeError("nobody reads this")

    request: Any = Request()
    owner = Owner()
    wait_before_freeing(owner, request)
    assert not request.waited
    del owner
    gc.collect()
    assert request.waited == 1
