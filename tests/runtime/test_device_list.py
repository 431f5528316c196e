"""Several devices: each is tried in order, and what became of it is told."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

import ovgen
from ovgen.runtime import device_list
from ovgen.runtime.device_list import device_order, device_properties
from ovgen.runtime.static import StaticRunner
from tests.conftest import F32, NPU_ON_CPU

CONFIG = {"NPU": {**NPU_ON_CPU, "KV_CACHE_PRECISION": "f32"}, "CPU": F32}


class Present:
    """An `ov.Core` that finds some devices."""

    available_devices = ("CPU", "GPU.0", "GPU.1", "NPU")


def test_auto_takes_what_is_there_in_our_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_list, "core", Present)
    assert device_order("AUTO") == device_order(["AUTO"]) == ("GPU.0", "GPU.1", "NPU", "CPU")


@pytest.mark.parametrize(
    ("device", "order"),
    [
        ("CPU", ("CPU",)),
        (["NPU", "GPU.1", "CPU"], ("NPU", "GPU.1", "CPU")),
        ("AUTO:NPU,CPU", ("NPU", "CPU")),
        ("HETERO:GPU,CPU", ("HETERO:GPU,CPU",)),
    ],
)
def test_names_are_taken_as_given(device: str | list[str], order: tuple[str, ...]) -> None:
    assert device_order(device) == order


@pytest.mark.parametrize("device", ["", [], [""], ["CPU", 3], 3, None, ["CPU", "NPU", "CPU"]])
def test_what_is_no_list_of_names_is_refused(device: Any) -> None:
    with pytest.raises(ovgen.ConfigError, match="device"):
        device_order(device)


def test_properties_are_for_all_devices_or_under_the_name_of_one() -> None:
    config = {"PERFORMANCE_HINT": "LATENCY", "X": 1, "GPU": {"X": 2, "Y": 3}, "GPU.1": {"Y": 4}, "NPU": {"X": 5}}
    assert device_properties(config, "CPU") == {"PERFORMANCE_HINT": "LATENCY", "X": 1}
    assert device_properties(config, "GPU.0") == {"PERFORMANCE_HINT": "LATENCY", "X": 2, "Y": 3}
    assert device_properties(config, "GPU.1") == {"PERFORMANCE_HINT": "LATENCY", "X": 2, "Y": 4}
    assert device_properties(config, "NPU") == {"PERFORMANCE_HINT": "LATENCY", "X": 5}


def test_an_absent_device_is_passed_over_and_reported(tiny_llama: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "ovgen"):
        llm = ovgen.LLM(tiny_llama, device=["GPU", "CPU"], device_config=F32)
    assert (llm.device, llm.form) == ("CPU", "paged")
    gpu, cpu = llm.device_report
    assert (gpu.device, gpu.form, cpu.device, cpu.form, cpu.reason) == ("GPU", "paged", "CPU", "paged", None)
    assert gpu.reason is not None
    assert "not available" in gpu.reason
    assert llm.fallbacks == (gpu,)
    assert "using the paged form on CPU instead of the paged form on GPU: device 'GPU' is not available" in caplog.text


def test_one_name_is_strict(tiny_llama: Path) -> None:
    for device in ("GPU", ["GPU"]):
        with pytest.raises(ovgen.DeviceError, match="'GPU' is not available here; OpenVINO finds: CPU"):
            ovgen.LLM(tiny_llama, device=device)


def test_if_nothing_takes_the_model_every_reason_is_told(tiny_llama: Path) -> None:
    with pytest.raises(ovgen.DeviceError, match=r"form on GPU: .*not available.*form on GPU\.1: .*not available"):
        ovgen.LLM(tiny_llama, device=["GPU", "GPU.1"])


def test_a_wrong_property_is_the_callers_to_mend_whatever_devices_follow(tiny_llama: Path) -> None:
    with pytest.raises(ovgen.ConfigError, match="KV_CACHE_PRECISION"):
        ovgen.LLM(tiny_llama, device=["NPU", "CPU"], device_config={"NPU": {**NPU_ON_CPU, "KV_CACHE_PRECISION": "u4"}})


def test_a_text_goes_on_where_the_device_failed(
    storyteller: ovgen.LLM, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    prompts = ["Once upon a time", "Lily"]
    options: dict[str, Any] = {"max_new_tokens": 30, "temperature": 0.7, "seed": 3}
    expected = [out.text for out in storyteller.generate(prompts, **options)]
    llm = ovgen.LLM(ovgen.bundled_model(), device=["NPU", "CPU"], device_config=CONFIG)
    session = llm.session()
    session.forward([300, 301, 302])
    assert (llm.device, llm.form) == ("NPU", "static")
    wait, steps = StaticRunner.wait, iter(range(100))

    def fail_once(runner: StaticRunner) -> Any:
        if next(steps) == 20:
            raise ovgen.DeviceError("the driver is gone")
        return wait(runner)

    monkeypatch.setattr(StaticRunner, "wait", fail_once)
    with caplog.at_level(logging.WARNING, "ovgen"):
        assert [out.text for out in llm.generate(prompts, **options)] == expected
    assert (llm.device, llm.form) == ("CPU", "paged")
    assert "using the paged form on CPU instead of the static form on NPU: the driver is gone" in caplog.text
    assert [attempt.reason for attempt in llm.device_report] == ["the driver is gone", None]
    with storyteller.session() as reference:
        truth = reference.forward([300, 301, 302, 5])[-1]
    assert abs(session.forward([5])[-1] - truth).max() < 1e-4


def test_the_other_form_on_the_same_device_does_not_take_over(
    tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(runner: object) -> Any:
        raise ovgen.DeviceError("the driver is gone")

    llm = ovgen.LLM(tiny_llama)
    monkeypatch.setattr("ovgen.runtime.paged.PagedRunner.wait", fail)
    with pytest.raises(ovgen.DeviceError, match="the driver is gone"):
        llm.generate([1, 2, 3], max_new_tokens=3)
    assert llm.form == "paged"
