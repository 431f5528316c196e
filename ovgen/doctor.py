"""Whether a model runs on this machine's devices, in each form, as it does on the CPU: what ``ovgen doctor`` reports.

Everything that touches a device happens in child processes (`ovgen.probe`), so that a driver that fails takes nothing
along. The reference is the model on the CPU in float32. It chooses tokens; each form on each device then computes the
logits of the same tokens, and generates by itself.

No GPU and no NPU was at hand when this was written: it is how people who have one can find out.
"""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from ovgen.config import SamplingParams
from ovgen.errors import OvgenError
from ovgen.graph.lint import lint, summary
from ovgen.graph.passes import StaticShape, to_static
from ovgen.llm import LLM
from ovgen.loader import digest
from ovgen.probe import answer, in_child
from ovgen.runtime.advice import driver_advice
from ovgen.runtime.device import base_name, list_devices
from ovgen.runtime.device_list import check_sections, device_properties
from ovgen.runtime.forms import Form
from ovgen.runtime.properties import spelt
from ovgen.runtime.windows import attention_windows

__all__ = ["TOLERANCE", "Check", "Report", "examine", "forms_on"]

TOLERANCE = 0.02
"""Largest difference of a logit that counts as rounding, as a share of how far the logits spread.

Of the bundled model's logits, which spread over 21, PyTorch in float16 is off by 0.03, a cache of 8 bits by 0.09,
PyTorch in bfloat16 by 0.21; another first token in the prompt makes it 14.
"""

Status = Literal["agrees", "differs", "unchecked", "failed"]
"""``unchecked``: it ran, and there is no reference to compare it with."""

_TOKENS = 32  # that are generated
_PROMPT = (
    "Once upon a time, there was a little fox who lived in a garden behind an old house. One day, the fox met a bear "
    "who was looking for honey. "
) * 5  # longer than a chunk of the static form
_REFERENCE = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32"}
_FIXED_SHAPES = ("static", "npuw")  # all that an NPU takes; the second is a mode of its plugin
_TOLD = ("FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES", "INFERENCE_PRECISION_HINT", "NPU_PLATFORM", "NPU_MAX_TILES")
_TOLD_ENDS = ("_VERSION", "_ARCHITECTURE", "_MEM_SIZE", "_UNITS_COUNT", "DEVICE_TYPE")
_CPU_FLAGS = ("avx2", "fma", "f16c", "avx_vnni", "avx512", "amx")


@dataclass(frozen=True, slots=True)
class Check:
    """What came of the model on a device in a form.

    Attributes:
        device: OpenVINO's name.
        form: the form.
        status: the judgement.
        reason: why it is not "agrees"; None if it is.
        prompt_tokens: length of the prompt.
        load_time: seconds that loading and compiling took.
        time_to_first_token: seconds that the prompt took.
        time_per_token: seconds for each token after the first.
        tokens: how many the reference generated.
        tokens_equal: of those, how many are the likeliest here too, each after the same past.
        text_equal: how many tokens, generated here, are the same before the first that is not.
        difference: the largest of a logit from the reference's.
        allowed: the largest that is taken for rounding.
    """

    device: str
    form: str
    status: Status
    reason: str | None = None
    prompt_tokens: int | None = None
    load_time: float | None = None
    time_to_first_token: float | None = None
    time_per_token: float | None = None
    tokens: int | None = None
    tokens_equal: int | None = None
    text_equal: int | None = None
    difference: float | None = None
    allowed: float | None = None


@dataclass(frozen=True)
class Report:
    """All that `examine` found; plain data.

    Attributes:
        machine: versions, processor, memory.
        devices: those that OpenVINO finds, with their telling properties.
        trouble: why they cannot be listed; None if they can.
        missing: what to install where OpenVINO finds no GPU or no NPU, if the machine has one.
        model: the name of its folder or file, and a digest of what is there.
        reference: what the CPU computed in float32, compared with itself.
        checks: each form on each device.
        findings: what NPUs may not take in the static form of the model, where an NPU failed.
    """

    machine: Mapping[str, Any]
    devices: Mapping[str, Mapping[str, Any]]
    trouble: str | None
    missing: Mapping[str, str]
    model: Mapping[str, Any]
    reference: Check
    checks: Sequence[Check]
    findings: str | None

    @property
    def healthy(self) -> bool:
        """Whether everything ran and agreed."""
        return self.trouble is None and all(check.status == "agrees" for check in (self.reference, *self.checks))

    def record(self) -> dict[str, Any]:
        """All of it, as JSON holds it."""
        return {**asdict(self), "healthy": self.healthy}


def forms_on(device: str) -> tuple[str, ...]:
    """The forms that make sense on a device."""
    forms = [form for form in get_args(Form) if form != "auto"]
    if base_name(device) == "NPU":
        return tuple(form for form in forms if form in _FIXED_SHAPES)
    return tuple(form for form in forms if form != "npuw")


def examine(
    path: Path,
    devices: Sequence[str] = (),
    forms: Sequence[str] = (),
    device_config: Mapping[str, Any] | None = None,
    *,
    timeout: float = 600,
    progress: Callable[[str], None] = lambda text: None,
) -> Report:
    """Run a model in each form on each device, and compare it with the CPU.

    Args:
        path: the model, as `ovgen.LLM` takes it.
        devices: which; all that are found if empty.
        forms: which; those that make sense on a device if empty.
        device_config: OpenVINO properties, as `ovgen.LLM` takes them; not for the reference.
        timeout: seconds that each of them may take.
        progress: is told what begins.

    Raises:
        ConfigError: ``device_config`` has properties under what is no device's name.
        ModelNotFoundError: there is no model at ``path``.
        UnsupportedModelError: it is a file of another kind.
    """
    model = {"name": path.resolve().name, "digest": digest(path)}
    found, trouble = {}, None
    progress("listing devices")
    try:
        found = _child("devices", {}, "OpenVINO", "listed devices", timeout)
    except OvgenError as error:
        trouble = str(error)
    wanted = [(device, form) for device in devices or found for form in forms or forms_on(device)]
    check_sections(device_config or {}, list(devices or found))
    configs = {device: device_properties(device_config or {}, device) for device, _ in wanted}
    progress(f"0/{len(wanted)}: the reference, float32 on CPU")
    reference, truth = _check(path, "CPU", "auto", _REFERENCE, None, timeout)
    checks = []
    for number, (device, form) in enumerate(wanted, 1):
        progress(f"{number}/{len(wanted)}: {form} on {device}")
        check, _ = _check(path, device, form, configs[device], truth, timeout)
        checks.append(check)
    npu_failed = any(check.status == "failed" and base_name(check.device) == "NPU" for check in checks)
    return Report(
        machine=_machine(),
        devices=found,
        trouble=trouble,
        missing={kind: driver_advice(kind) for kind in ("GPU", "NPU") if kind not in map(base_name, found)},
        model=model,
        reference=reference if truth is None else _judged(reference, truth, truth),
        checks=checks,
        findings=_findings(path, timeout) if npu_failed else None,
    )


@dataclass(frozen=True, slots=True)
class _Computed:
    """What a model computed.

    Attributes:
        tokens: that it generated.
        logits: ``(tokens, vocab)`` float32: of the prompt's last token, and of the reference's tokens but the last.
    """

    tokens: list[int]
    logits: NDArray[np.float32]


def _child(work: str, task: Mapping[str, Any], who: str, doing: str, timeout: float) -> Any:
    return in_child("ovgen.doctor", {**task, "work": work}, who=who, doing=doing, timeout=timeout)


def _check(
    path: Path, device: str, form: str, config: Mapping[str, Any], truth: _Computed | None, timeout: float
) -> tuple[Check, _Computed | None]:
    """One form on one device, and what it computed."""
    with tempfile.TemporaryDirectory(prefix="ovgen-doctor-") as folder:
        logits = Path(folder) / "logits.npy"
        task: dict[str, Any] = {"path": str(path), "device": device, "form": form, "logits": str(logits)}
        task["tokens"] = truth.tokens if truth else None
        try:
            task["config"] = spelt(config)
            result = _child("measure", task, device, f"ran the {form} form", timeout)
        except OvgenError as error:
            return Check(device, form, "failed", str(error)), None
        computed = _Computed(result.pop("tokens"), np.load(logits))
    check = Check(device, status="unchecked", reason="the reference failed", **result)
    return check if truth is None else _judged(check, computed, truth), computed


def _judged(check: Check, computed: _Computed, truth: _Computed) -> Check:
    """Compare with the reference.

    Where a generated token differs, what came before it is the same, so the reference's logits are of its place: as
    both may be off by what is allowed, so may be the distance of the two tokens, twice.
    """
    allowed = TOLERANCE * float(np.ptp(truth.logits, axis=1).mean())
    difference = float(np.abs(computed.logits - truth.logits).max())
    same = [ours == theirs for ours, theirs in zip(computed.tokens, truth.tokens, strict=True)]
    text_equal = same.index(False) if False in same else len(same)
    reason = None
    if not np.isfinite(difference):
        reason = "logits are not numbers"
    elif difference > allowed:
        reason = f"a logit is off by {difference:.3g}; rounding explains {allowed:.2g}"
    elif text_equal < len(same):
        row, chosen = truth.logits[text_equal], computed.tokens[text_equal]
        if row.max() - row[chosen] > 2 * allowed:
            reason = f"logits agree, but token {text_equal + 1} of the text is not the likeliest"
    return replace(
        check,
        status="agrees" if reason is None else "differs",
        reason=reason,
        tokens=len(truth.tokens),
        tokens_equal=int((computed.logits.argmax(axis=1) == truth.tokens).sum()),
        text_equal=text_equal,
        difference=difference if np.isfinite(difference) else None,
        allowed=allowed,
    )


def _findings(path: Path, timeout: float) -> str:
    try:
        found: str = _child("lint", {"path": str(path)}, "CPU", "made the static form to look through", timeout)
    except OvgenError as error:
        return str(error)
    return found


def _machine() -> dict[str, Any]:
    return {
        **{package: version(package) for package in ("ovgen", "openvino", "openvino-tokenizers", "numpy")},
        "openvino_build": ov.get_version(),
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "logical_cores": os.cpu_count(),
        "instructions": _instructions(),
        "memory_gib": round(_memory() / (1 << 30), 1),
    }


def _instructions() -> list[str]:
    """The processor's vector and matrix instructions: as Linux tells them, elsewhere the levels that numpy finds."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("flags"):
                return [flag for flag in line.split() if flag.startswith(_CPU_FLAGS)]
    found: list[str] = np.show_config(mode="dicts")["SIMD Extensions"]["found"]
    return found


def _memory() -> int:
    """Bytes of the machine's memory."""
    if sys.platform == "win32":
        import ctypes

        kilobytes = ctypes.c_ulonglong()
        ctypes.windll.kernel32.GetPhysicallyInstalledSystemMemory(ctypes.byref(kilobytes))
        return kilobytes.value * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _devices(task: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """In a child: devices with their telling properties."""
    return {device: {name: known[name] for name in known if _tells(name)} for device, known in list_devices().items()}


def _tells(name: str) -> bool:
    return name in _TOLD or name.endswith(_TOLD_ENDS)


def _measure(task: Mapping[str, Any]) -> dict[str, Any]:
    """In a child: load a model, compute the reference's tokens, and generate."""
    # Devices and forms are compared: native kernels, which round activations, would only be in some of them.
    plain: dict[str, Any] = {"kernels": "off", "enable_prefix_caching": False}  # nor is the timed prompt known already
    llm = LLM(task["path"], device=task["device"], device_config=task["config"], form=task["form"], **plain)
    prompt = _prompt(llm)
    greedy = SamplingParams(max_new_tokens=_TOKENS, ignore_eos=True)
    tokens = task["tokens"] or llm.generate(prompt, greedy).token_ids
    with llm.session() as session:
        rows = [session.forward(prompt, rows=1), *(session.forward([token]) for token in tokens[:-1])]
    np.save(task["logits"], np.concatenate(rows))
    llm.generate(prompt[1:] or prompt, greedy, max_new_tokens=1)  # another, so that nothing of the timed one is kept
    out = llm.generate(prompt, greedy)
    return {
        "form": llm.form,
        "prompt_tokens": len(prompt),
        "tokens": out.token_ids,
        "load_time": llm.load_time,
        "time_to_first_token": out.metrics.time_to_first_token,
        "time_per_token": out.metrics.time_per_output_token,
    }


def _prompt(llm: LLM) -> list[int]:
    ids = llm.tokenizer.encode(_PROMPT) if llm.tokenizer else range(1, 1 + len(_PROMPT) // 4)
    longest = max(1, llm.engine.max_model_len - _TOKENS)
    return [token % llm.engine.runner.vocab_size for token in ids][:longest]


def _lint(task: Mapping[str, Any]) -> str:
    """In a child: what NPUs may not take in the graph that computes one token."""
    model = LLM(task["path"], kernels="off").model
    form = to_static(model, attention_windows(model), StaticShape(1, 1, 256, 1), ov.Type.f16)
    return summary(lint(form)) or "nothing in it is known to be refused"


_WORK = {"devices": _devices, "measure": _measure, "lint": _lint}

if __name__ == "__main__":
    answer(lambda task: _WORK[task["work"]](task))
