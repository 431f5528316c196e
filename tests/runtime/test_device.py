from __future__ import annotations

import gc
from typing import Any

import openvino as ov
import openvino.opset15 as op
import pytest

from ovgen.errors import ConfigError, DeviceError
from ovgen.runtime.device import check_device, compile_model, device_errors, list_devices, wait_before_freeing


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


def test_config_overrides_our_defaults_and_bad_values_are_named() -> None:
    compiled = compile_model(model(), "CPU", {"PERFORMANCE_HINT": "THROUGHPUT"})
    assert compiled.get_property("PERFORMANCE_HINT") == "THROUGHPUT"
    assert compile_model(model(), "CPU", {}).get_property("PERFORMANCE_HINT") == "LATENCY"
    with pytest.raises(ConfigError, match="PERFORMANCE_HINT='fast'"):
        compile_model(model(), "CPU", {"PERFORMANCE_HINT": "fast"})


def test_what_openvino_raises_while_it_runs_names_the_device() -> None:
    with pytest.raises(DeviceError, match="CPU failed while it ran the model: out of luck"), device_errors("CPU"):
        raise RuntimeError("Exception from src/inference/x.cpp:1:\nout of luck")


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
