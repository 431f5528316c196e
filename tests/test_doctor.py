"""Devices held against the CPU: by children of the test's own making, and by real ones of which some fail."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ovgen
from ovgen import doctor
from ovgen.doctor import TOLERANCE, examine, forms_on
from ovgen.errors import DeviceError
from tests.conftest import NPU_ON_CPU

VOCAB = 50
SPREAD = 10.0
ALLOWED = TOLERANCE * SPREAD

FAULTY = """\
import os, sys
import openvino as ov
from ovgen.runtime.static import StaticRunner

compile_model, wait = ov.Core.compile_model, StaticRunner.wait

def compile_or_abort(core, model, device, config):
    if "NPUW_LLM" in config:
        print("out of tiles", file=sys.stderr, flush=True)
        os.abort()
    return compile_model(core, model, device, config)

ov.Core.compile_model = compile_or_abort
StaticRunner.wait = lambda runner: wait(runner)[:, ::-1]
"""


def truth() -> np.ndarray[Any, Any]:
    """Logits of 32 places, whose likeliest tokens are 0, 1, 2, ..."""
    logits = np.zeros((32, VOCAB), np.float32)
    logits[np.arange(32), np.arange(32)] = SPREAD
    return logits


class Children:
    """Answers in place of child processes: with the truth, unless told otherwise.

    Attributes:
        answers: by device, or by kind of work: what is changed in the result, or the error raised.
        tasks: what they were asked.
    """

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.tasks: list[dict[str, Any]] = []

    def __call__(self, module: str, task: dict[str, Any], *, who: str, doing: str, timeout: float) -> Any:
        self.tasks.append(json.loads(json.dumps(task)))
        kind = "reference" if task.get("form") == "auto" else task.get("device", task["work"])
        answer = self.answers.get(kind, {})
        if isinstance(answer, Exception):
            raise answer
        if task["work"] != "measure":
            return answer
        np.save(task["logits"], answer.get("logits", truth()))
        return {
            "form": "paged" if task["form"] == "auto" else task["form"],
            "prompt_tokens": 7,
            "tokens": answer.get("tokens", list(range(32))),
            "load_time": 1.0,
            "time_to_first_token": 0.5,
            "time_per_token": 0.01,
        }


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> Children:
    children = Children(devices={"CPU": {"FULL_DEVICE_NAME": "a CPU"}, "NPU": {"NPU_DRIVER_VERSION": 3}})
    monkeypatch.setattr(doctor, "in_child", children)
    return children


def test_each_device_has_the_forms_that_make_sense_there() -> None:
    assert forms_on("CPU") == forms_on("GPU.1") == ("paged", "stateful", "static")
    assert forms_on("NPU") == ("static", "npuw")


def test_everything_found_is_tried_and_compared(children: Children) -> None:
    steps: list[str] = []
    report = examine(ovgen.bundled_model(), progress=steps.append)
    tried = [(check.device, check.form, check.status) for check in report.checks]
    assert tried == [
        *(("CPU", form, "agrees") for form in ("paged", "stateful", "static")),
        *(("NPU", form, "agrees") for form in ("static", "npuw")),
    ]
    assert (report.healthy, report.findings, report.trouble) == (True, None, None)
    check = report.checks[-1]
    assert (check.tokens, check.tokens_equal, check.text_equal, check.difference) == (32, 32, 32, 0)
    assert check.allowed == pytest.approx(ALLOWED)
    assert set(report.missing) == {"GPU"}
    assert [step.split(":")[0] for step in steps] == ["listing devices", *(f"{n}/5" for n in range(6))]
    assert json.loads(json.dumps(report.record()))["healthy"] is True


def test_the_reference_is_float32_and_its_tokens_are_what_the_others_compute(children: Children) -> None:
    config = {"PERFORMANCE_HINT": "LATENCY", "NPU": {"NPU_TURBO": "YES"}}
    examine(ovgen.bundled_model(), ["NPU"], ["static"], config)
    _, reference, check = children.tasks
    assert reference["config"] == {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32"}
    assert reference["tokens"] is None
    assert check["config"] == {"PERFORMANCE_HINT": "LATENCY", "NPU_TURBO": "YES"}
    assert check["tokens"] == list(range(32))


@pytest.mark.parametrize(
    ("off", "status", "reason"),
    [
        (0.9 * ALLOWED, "agrees", None),
        (1.1 * ALLOWED, "differs", "a logit is off by 0.22; rounding explains 0.2"),
        (np.nan, "differs", "logits are not numbers"),
        (np.inf, "differs", "logits are not numbers"),
    ],
)
def test_a_logit_may_be_off_by_rounding_only(children: Children, off: float, status: str, reason: str | None) -> None:
    logits = truth()
    logits[20, 40] += off
    children.answers["NPU"] = {"logits": logits}
    report = examine(ovgen.bundled_model(), ["NPU"], ["static"])
    assert [(check.status, check.reason) for check in report.checks] == [(status, reason)]
    assert report.healthy == (status == "agrees")
    json.dumps(report.record(), allow_nan=False)


def test_another_token_counts_as_rounding_where_it_is_nearly_as_likely(children: Children) -> None:
    logits = truth()
    logits[5, 40] = SPREAD - 1.9 * ALLOWED
    children.answers["reference"] = {"logits": logits}
    here = logits.copy()
    here[5, [5, 40]] += -0.95 * ALLOWED, 0.96 * ALLOWED
    tokens = [*range(5), 40, *range(40, 14, -1)]
    children.answers["NPU"] = {"logits": here, "tokens": tokens}
    (check,) = examine(ovgen.bundled_model(), ["NPU"], ["static"]).checks
    assert (check.status, check.tokens_equal, check.text_equal) == ("agrees", 31, 5)


def test_a_text_that_does_not_follow_its_logits_differs(children: Children) -> None:
    children.answers["NPU"] = {"tokens": [*range(5), 40, *range(6, 32)]}
    (check,) = examine(ovgen.bundled_model(), ["NPU"], ["static"]).checks
    assert (check.status, check.text_equal) == ("differs", 5)
    assert check.reason == "logits agree, but token 6 of the text is not the likeliest"


def test_a_device_that_fails_is_a_line_and_an_npu_gets_its_graph_looked_through(children: Children) -> None:
    children.answers |= {"NPU": DeviceError("NPU aborted (SIGABRT)"), "lint": "Gelu-7 is not known"}
    report = examine(ovgen.bundled_model(), ["NPU", "CPU"], ["static"])
    assert [(check.status, check.reason) for check in report.checks] == [
        ("failed", "NPU aborted (SIGABRT)"),
        ("agrees", None),
    ]
    assert report.findings == "Gelu-7 is not known"
    assert not report.healthy


def test_without_a_reference_the_devices_are_tried_all_the_same(children: Children) -> None:
    children.answers["reference"] = DeviceError("CPU aborted (SIGILL)")
    report = examine(ovgen.bundled_model(), ["NPU"], ["static"])
    assert (report.reference.status, report.reference.reason) == ("failed", "CPU aborted (SIGILL)")
    assert [(check.status, check.load_time) for check in report.checks] == [("unchecked", 1.0)]
    assert not report.healthy


def test_devices_that_cannot_be_listed_are_told(children: Children) -> None:
    children.answers["devices"] = DeviceError("OpenVINO crashed (SIGSEGV)")
    report = examine(ovgen.bundled_model())
    assert (report.trouble, report.checks, report.healthy) == ("OpenVINO crashed (SIGSEGV)", [], False)
    assert [check.device for check in examine(ovgen.bundled_model(), ["CPU"], ["paged"]).checks] == ["CPU"]


def test_a_property_that_cannot_travel_is_a_line(children: Children) -> None:
    report = examine(ovgen.bundled_model(), ["CPU"], ["paged"], {"CACHE_ENCRYPTION_CALLBACKS": [print, print]})
    assert "cannot be sent" in str(report.checks[0].reason)


def test_properties_under_a_name_of_no_device_are_refused_before_the_reference_runs(children: Children) -> None:
    with pytest.raises(ovgen.ConfigError, match="'npu', which is no device; did you mean 'NPU'"):
        examine(ovgen.bundled_model(), device_config={"npu": {"NPU_TURBO": "YES"}})
    assert [task["work"] for task in children.tasks] == ["devices"]


def test_no_model_is_an_error_at_once(children: Children, tmp_path: Path) -> None:
    with pytest.raises(ovgen.ModelNotFoundError):
        examine(tmp_path / "none")
    assert children.tasks == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_what_computes_wrongly_and_what_aborts_are_told_apart(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(FAULTY)
    monkeypatch.syspath_prepend(str(tmp_path))
    report = examine(tiny_llama, ["NPU"], device_config=NPU_ON_CPU)
    assert report.reference.status == "agrees"
    static, npuw = report.checks
    assert (static.status, npuw.status) == ("differs", "failed")
    assert static.difference is not None
    assert static.allowed is not None
    assert static.difference > 10 * static.allowed
    assert npuw.reason == "NPU aborted (SIGABRT) in a child process that ran the npuw form: out of tiles"
    assert report.findings == "nothing in it is known to be refused"
    assert {"CPU"} <= set(report.devices)
    assert report.devices["CPU"]["FULL_DEVICE_NAME"]
    assert dataclasses.replace(report, checks=[]).healthy
