"""Several devices: each is tried in order, and what became of it is told."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

import ovgen
from ovgen.runtime import device_list
from ovgen.runtime.device_list import check_sections, device_order, device_properties
from ovgen.runtime.paged import PagedRunner
from ovgen.runtime.static import StaticRunner
from tests.conftest import F32, NPU_ON_CPU

CONFIG = {"NPU": {**NPU_ON_CPU, "KV_CACHE_PRECISION": "f32"}, "CPU": F32}


class Present:
    """An `ov.Core` that finds some devices."""

    available_devices = ("CPU", "GPU.0", "GPU.1", "NPU")


@pytest.mark.parametrize("device", ["AUTO", ["AUTO"], "auto", " Auto "])
def test_auto_takes_what_is_there_in_our_order(device: str | list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_list, "core", Present)
    assert device_order(device) == ("GPU.0", "GPU.1", "NPU", "CPU")


@pytest.mark.parametrize(
    ("device", "order"),
    [
        ("CPU", ("CPU",)),
        (["NPU", "GPU.1", "CPU"], ("NPU", "GPU.1", "CPU")),
        ("AUTO:NPU,CPU", ("NPU", "CPU")),
        (["AUTO:NPU,CPU"], ("NPU", "CPU")),
        ("HETERO:GPU,CPU", ("HETERO:GPU,CPU",)),
        (["HETERO:GPU,CPU", "CPU"], ("HETERO:GPU,CPU", "CPU")),
        ("NPU,CPU", ("NPU", "CPU")),
        ("npu, gpu.1", ("NPU", "GPU.1")),
        (["cpu"], ("CPU",)),
    ],
)
def test_names_are_put_in_order(device: str | list[str], order: tuple[str, ...]) -> None:
    assert device_order(device) == order


@pytest.mark.parametrize(
    "device",
    ["", [], [""], ["CPU", 3], [3], 3, None, ["CPU", "NPU", "cpu"], "NPU,", ["AUTO", "CPU"], ["CPU", "AUTO:X"], b"CPU"],
)
def test_what_is_no_list_of_names_is_refused(device: Any) -> None:
    with pytest.raises(ovgen.ConfigError, match="device"):
        device_order(device)


def test_properties_are_for_all_devices_or_under_the_name_of_one() -> None:
    config = {"PERFORMANCE_HINT": "LATENCY", "X": 1, "GPU": {"X": 2, "Y": 3}, "GPU.1": {"Y": 4}, "NPU": {"X": 5}}
    assert device_properties(config, "CPU") == {"PERFORMANCE_HINT": "LATENCY", "X": 1}
    assert device_properties(config, "GPU.0") == {"PERFORMANCE_HINT": "LATENCY", "X": 2, "Y": 3}
    assert device_properties(config, "GPU.1") == {"PERFORMANCE_HINT": "LATENCY", "X": 2, "Y": 4}
    assert device_properties(config, "NPU") == {"PERFORMANCE_HINT": "LATENCY", "X": 5}


@pytest.mark.parametrize("config", [[1], "abc", 3])
def test_what_is_no_mapping_of_properties_is_refused(config: Any, tiny_llama: Path) -> None:
    for device in ("CPU", ["NPU", "CPU"]):
        with pytest.raises(ovgen.ConfigError, match="device_config must be a mapping"):
            ovgen.LLM(tiny_llama, device=device, device_config=config)


def test_properties_under_a_name_of_no_device_are_refused(tiny_llama: Path) -> None:
    with pytest.raises(ovgen.ConfigError, match="properties for 'cpu', which is no device; did you mean 'CPU'"):
        ovgen.LLM(tiny_llama, device_config={"cpu": F32})
    with pytest.raises(ovgen.ConfigError, match="properties for 'XYZ', which is no device; there are: NPU, CPU, GPU"):
        ovgen.LLM(tiny_llama, device=["NPU", "CPU"], device_config={"XYZ": F32})
    check_sections({"NPU": {}, "GPU.1": {}, "NVIDIA": {}, "HETERO": {}, "X": 1}, ["NVIDIA", "CPU"])


def test_an_absent_device_is_passed_over_and_reported(tiny_llama: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "ovgen"):
        llm = ovgen.LLM(tiny_llama, device=["GPU", "CPU"], device_config=F32)
    assert (llm.device, llm.form) == ("CPU", "paged")
    gpu, cpu = llm.device_report
    assert (gpu.device, gpu.form, cpu.device, cpu.form, cpu.reason) == ("GPU", "paged", "CPU", "paged", None)
    assert gpu.reason is not None
    assert "not available" in gpu.reason
    assert llm.fallbacks == (gpu,)
    (warning,) = [record.getMessage() for record in caplog.records]
    assert warning == f"using the paged form on CPU instead of the paged form on GPU: {gpu.reason}"
    assert "Intel" not in warning, "advice is for when nothing works"


def test_one_name_is_strict(tiny_llama: Path) -> None:
    for device in ("GPU", ["GPU"]):
        with pytest.raises(ovgen.DeviceError, match="'GPU' is not available here; OpenVINO finds: CPU"):
            ovgen.LLM(tiny_llama, device=device)


def test_if_nothing_takes_the_model_every_reason_is_told(tiny_llama: Path) -> None:
    with pytest.raises(ovgen.DeviceError, match=r"on GPU: .*not available.*on GPU\.1: .*not available") as raised:
        ovgen.LLM(tiny_llama, device=["GPU", "GPU.1"])
    assert str(raised.value).count("ovgen devices") <= 1, "what to install is told once"


def test_forms_that_failed_alike_are_told_together(tiny_llama: Path) -> None:
    with pytest.raises(ovgen.DeviceError) as raised:
        ovgen.LLM(tiny_llama, device="CPU.0")
    assert "the paged and stateful forms on CPU.0: " in str(raised.value)
    assert str(raised.value).count("cannot compile") == 1


def test_a_device_that_refuses_a_property_is_passed_over(tiny_llama: Path) -> None:
    refused = {**NPU_ON_CPU, "KV_CACHE_PRECISION": "u4"}
    llm = ovgen.LLM(tiny_llama, device=["NPU", "CPU"], device_config={"NPU": refused})
    npu, cpu = llm.device_report
    assert (llm.device, cpu.reason) == ("CPU", None)
    assert npu.reason == "KV_CACHE_PRECISION must be f16 or f32 in the static form, got 'u4'"
    with pytest.raises(ovgen.ConfigError, match="KV_CACHE_PRECISION"):
        ovgen.LLM(tiny_llama, device="NPU", device_config=refused)


def test_properties_of_one_device_that_are_given_to_all(tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    llm = ovgen.LLM(tiny_llama, device=["CPU", "NPU"], device_config=NPU_ON_CPU)
    cpu, npu = llm.device_report
    assert (npu.device, npu.reason) == ("NPU", None)
    assert cpu.reason is not None
    assert "CPU refuses NPU" in cpu.reason
    assert "to give it to one device: device_config={'NPU': {'NPU" in cpu.reason
    llm = ovgen.LLM(tiny_llama, device=["NPU", "CPU"], device_config=NPU_ON_CPU)
    monkeypatch.setattr(StaticRunner, "wait", fail)
    with pytest.raises(ovgen.DeviceError, match="no device takes the model: the static form on NPU: the driver is go"):
        llm.generate([1, 2, 3], max_new_tokens=3)
    assert ["CPU refuses NPU" in str(attempt.reason) for attempt in llm.device_report] == [False, True]


def test_a_runner_that_cannot_be_made_is_passed_over(tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def out_of_memory(*_: object) -> None:
        raise RuntimeError("Exception from src/x.cpp:1:\nout of device memory")

    monkeypatch.setattr("ovgen.runtime.static.StaticGraphs.__init__", out_of_memory)
    llm = ovgen.LLM(tiny_llama, device=["NPU", "CPU"], device_config=CONFIG)
    assert [attempt.reason for attempt in llm.device_report] == [
        "NPU failed while it prepared the static form: out of device memory",
        None,
    ]
    with pytest.raises(ovgen.DeviceError, match="NPU failed while it prepared the static form: out of device memory"):
        ovgen.LLM(tiny_llama, device="NPU", device_config=CONFIG)


def test_a_virtual_device_that_cannot_share_a_cache_runs_the_stateful_form(tiny_llama: Path) -> None:
    llm = ovgen.LLM(tiny_llama, device="MULTI:CPU")
    assert (llm.device, llm.form) == ("MULTI:CPU", "stateful")


@pytest.mark.parametrize("form", ["paged", "stateful"])
def test_an_npu_takes_fixed_shapes(form: Any, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ovgen.ConfigError, match=r"NPUs take fixed shapes: form='static' \(or leave form out\)"):
        ovgen.LLM(tiny_llama, device="NPU", device_config=NPU_ON_CPU, form=form)
    llm = ovgen.LLM(tiny_llama, device=["NPU", "CPU"], device_config=CONFIG, form=form)
    assert (llm.device, llm.form, len(llm.fallbacks)) == ("CPU", form, 1)


def fail(runner: object) -> Any:
    raise ovgen.DeviceError("the driver is gone")


def test_a_failure_after_which_nothing_else_takes_over_leaves_the_report(
    tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    llm = ovgen.LLM(tiny_llama, device=["GPU", "CPU"])
    before = llm.device_report
    wait = PagedRunner.wait

    def wait_and_fail(runner: PagedRunner) -> Any:
        wait(runner)
        fail(runner)

    with monkeypatch.context() as patch:
        patch.setattr(PagedRunner, "wait", wait_and_fail)
        for _ in range(3):
            with pytest.raises(ovgen.DeviceError, match="the driver is gone"):
                llm.generate([1, 2, 3], max_new_tokens=3)
    assert llm.generate([1, 2, 3], max_new_tokens=3, ignore_eos=True).token_ids
    assert llm.device_report == before
    assert [attempt.device for attempt in llm.fallbacks] == ["GPU"]


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
    llm = ovgen.LLM(tiny_llama)
    monkeypatch.setattr(PagedRunner, "wait", fail)
    with pytest.raises(ovgen.DeviceError, match="the driver is gone"):
        llm.generate([1, 2, 3], max_new_tokens=3)
    assert llm.form == "paged"
