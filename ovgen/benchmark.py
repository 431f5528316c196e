"""How fast a model is on this machine, and what it takes: what ``ovgen bench`` reports."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ovgen.errors import ConfigError
from ovgen.llm import LLM
from ovgen.machine import Limits, limits, machine, peak_bytes
from ovgen.metrics import StepMetrics
from ovgen.outputs import GenerationOutput
from ovgen.probe import answer, in_child
from ovgen.runtime.device import base_name
from ovgen.runtime.paged import PagedRunner
from ovgen.runtime.properties import spelt
from ovgen.weights import Compression

__all__ = ["Load", "Point", "Report", "Spread", "Step", "benchmark", "load_times"]

_WARM_UP = 8  # tokens: paged graphs of fixed shapes are begun after four steps
_CURVE = 1024  # tokens of the long text, if the context holds them
_TIMEOUT = 3600.0  # seconds that a start may take


@dataclass(frozen=True, slots=True)
class Spread:
    """Of several runs: the median, the least and the most."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Those of some values, one at least."""
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True, slots=True)
class Load:
    """A start of the program, in seconds.

    Attributes:
        load: `LLM` alone.
        first_token: the first token of a prompt of one token, after that.
        total: from the start of the process to that token, imports included.
    """

    load: float
    first_token: float
    total: float


@dataclass(frozen=True, slots=True)
class Step:
    """A step in which every request got a token, in seconds.

    Attributes:
        context: tokens of each sequence before it.
        seconds: since the step before had landed.
        idle: of those, what the device was not busy with it.
        host: of those, what the host did not wait; some of it while the device worked.
    """

    context: int
    seconds: float
    idle: float
    host: float


@dataclass(frozen=True, slots=True)
class Point:
    """Some prompts of one length, generated together, several times.

    Attributes:
        prompt_tokens: of each prompt.
        new_tokens: that were generated for each.
        batch: prompts.
        time_to_first_token: seconds, the median of the prompts of a run.
        tokens_per_second: of all together, after each had its first.
        time_per_token: seconds between two tokens of a text, the median of all steps that compute nothing else; None,
            as for what follows, if the first text was done before the last had begun.
        time_per_token_95: seconds that 95 % of the steps took at most.
        idle: seconds a step for which the device had nothing to do, the median.
        host: seconds of the host's work a step, the median; most of it is done while the device works.
        limit: share of the time per token that reading weights and cache from memory takes at least; None where it is
            not known.
    """

    prompt_tokens: int
    new_tokens: int
    batch: int
    time_to_first_token: Spread
    tokens_per_second: Spread
    time_per_token: float | None
    time_per_token_95: float | None
    idle: float | None
    host: float | None
    limit: float | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What was measured.

    Attributes:
        model: what was chosen, and why, as `LLM.explain` says it.
        machine: versions, and the CPU.
        cold: the first start, with nothing kept by ovgen; None if it was not measured. Files may be in memory already.
        warm: the start after it.
        points: one for each length and batch.
        curve: steps of one long text.
        peak_bytes: most memory that this process has had; None where the system does not tell.
        cache_bytes: most that the KV cache took.
        limits: None where the model does not run on a CPU.
    """

    model: dict[str, str]
    machine: dict[str, str]
    cold: Load | None
    warm: Load | None
    points: list[Point]
    curve: list[Step]
    peak_bytes: int | None
    cache_bytes: int
    limits: Limits | None

    def record(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)


def benchmark(
    llm: LLM,
    *,
    prompt_tokens: Sequence[int] = (64, 512),
    new_tokens: int = 128,
    batch: Sequence[int] = (1, 4, 16),
    runs: int = 3,
    curve: bool = False,
    loads: Callable[[], tuple[Load, Load]] | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> Report:
    """Measure a model that has been loaded, greedily, with random token ids.

    Nothing is taken from earlier prompts, as no two are alike. For the peak of memory, load nothing else before.

    Args:
        llm: the model.
        prompt_tokens: lengths of prompts.
        new_tokens: to generate for each.
        batch: how many prompts to compute together.
        runs: how often each is measured, after a short one that is not.
        curve: measure also the steps of one text that fills the context, up to 1024 tokens.
        loads: measures the starts, as `load_times` does; called when all else has been checked.
        progress: told what comes next.

    Raises:
        ConfigError: a number cannot be: it does not fit the context, the KV cache or a step.
        DeviceError: the device failed.
    """
    _check(llm, prompt_tokens, new_tokens, batch, runs)
    cold = warm = None
    if loads is not None:
        progress("cold and warm starts")
        cold, warm = loads()
    rng = np.random.default_rng(0)
    points, steps, cache = [], [], 0
    for length in prompt_tokens:
        for count in batch:
            progress(f"prompts of {length} tokens, {count} at once")
            _generate(llm, rng, length, count, min(_WARM_UP, new_tokens))
            if isinstance(llm.engine.runner, PagedRunner):
                llm.engine.runner.settle()
            measured = [_generate(llm, rng, length, count, new_tokens) for _ in range(runs)]
            cache = max(cache, llm.engine.runner.cache_bytes)
            points.append(_point(measured, length, new_tokens, count))
    if curve:
        progress("one long text")
        longest = min(llm.engine.max_model_len, llm.engine.cache.tokens, _CURVE)
        steps = list(_steps(_generate(llm, rng, 1, 1, longest - 1)[1], 1, 1))
    peak = peak_bytes()
    found = None
    if base_name(llm.device) == "CPU":
        progress("what the machine allows")
        found = limits(llm)
        points = [_limited(point, found) for point in points]
    return Report(llm.explain(), machine(), cold, warm, points, steps, peak, cache, found)


def load_times(path: str | Path, options: Mapping[str, Any], *, keep: Path | None = None) -> tuple[Load, Load]:
    """Start a process twice that loads a model and computes a token: with nothing kept, and again.

    Args:
        path: the model.
        options: of `LLM`.
        keep: folder for what is kept from the one to the other; None takes one that is removed.

    Raises:
        OvgenError: the model cannot be loaded so.
    """
    with tempfile.TemporaryDirectory() as folder:
        home = Path(keep or folder)
        weights = options.get("weights")
        task = {**options, "weights": asdict(weights) if isinstance(weights, Compression) else weights}
        task["device_config"] = _fresh_cache(spelt(options.get("device_config") or {}), home / "compiled")
        first, second = (_start(str(path), task, home) for _ in range(2))
    return first, second


def _check(llm: LLM, lengths: Sequence[int], new: int, batch: Sequence[int], runs: int) -> None:
    for name, values in (("prompt_tokens", lengths), ("batch", batch), ("new_tokens", [new]), ("runs", [runs])):
        least = 2 if name == "new_tokens" else 1  # there is no time between fewer
        if not values or any(not isinstance(value, int) or value < least for value in values):
            raise ConfigError(f"{name} must be {least} or more, got {list(values)}")
    engine, longest = llm.engine, max(lengths) + new
    if longest > engine.max_model_len:
        raise ConfigError(f"{max(lengths)} + {new} tokens do not fit the context of {engine.max_model_len}")
    most = min(engine.config.max_num_seqs, engine.runner.slots or max(batch))
    if max(batch) > most:
        option = "max_num_seqs" if engine.config.max_num_seqs == most else "batch_slots"
        raise ConfigError(f"a batch of {max(batch)} is more than a step computes: {option}={max(batch)} is needed")
    if longest * max(batch) > engine.cache.tokens:
        raise ConfigError(
            f"{max(batch)} texts of {longest} tokens do not fit the KV cache of {engine.cache.tokens}: raise cache_size"
        )


_Run = tuple[list[GenerationOutput], list[StepMetrics]]


def _generate(llm: LLM, rng: np.random.Generator, length: int, count: int, new: int) -> _Run:
    """Generate from random prompts, and note the steps."""
    prompts = rng.integers(0, llm.engine.runner.vocab_size, (count, length)).tolist()
    steps: list[StepMetrics] = []
    before, llm.on_step = llm.on_step, steps.append
    try:
        return llm.generate(prompts, temperature=0, max_new_tokens=new, ignore_eos=True), steps
    finally:
        llm.on_step = before


def _steps(steps: Sequence[StepMetrics], length: int, count: int) -> Iterator[Step]:
    """Those in which every request got a token, as in the one before, and nothing but these was computed."""
    context = length
    for before, step in pairwise(steps):
        if before.generated == step.generated == step.tokens == count:
            seconds = step.landed - before.landed
            yield Step(context, seconds, max(0.0, step.started - before.landed), seconds - step.waited)
            context += 1


def _point(runs: Sequence[_Run], length: int, new: int, count: int) -> Point:
    steps = [step for _, told in runs for step in _steps(told, length, count)]
    firsts, speeds = [], []
    for outputs, told in runs:
        metrics = [output.metrics for output in outputs]
        firsts.append(statistics.median(m.time_to_first_token or 0.0 for m in metrics))
        begin, end = max(m.first_token or 0.0 for m in metrics), max(m.last_token or 0.0 for m in metrics)
        speeds.append(sum(step.generated for step in told if step.landed > begin) / (end - begin))
    seconds = [step.seconds for step in steps]
    return Point(
        prompt_tokens=length,
        new_tokens=new,
        batch=count,
        time_to_first_token=Spread.of(firsts),
        tokens_per_second=Spread.of(speeds),
        time_per_token=statistics.median(seconds) if steps else None,
        time_per_token_95=float(np.quantile(seconds, 0.95)) if steps else None,
        idle=statistics.median(step.idle for step in steps) if steps else None,
        host=statistics.median(step.host for step in steps) if steps else None,
    )


def _limited(point: Point, found: Limits) -> Point:
    if point.time_per_token is None:
        return point
    middle = point.batch * (point.prompt_tokens + point.new_tokens / 2)  # tokens that are cached halfway
    return replace(point, limit=found.seconds(middle) / point.time_per_token)


def _fresh_cache(config: Any, folder: Path) -> Any:
    """Properties with a ``CACHE_DIR`` of our own in place of any."""
    if not isinstance(config, Mapping):
        return config
    return {k: str(folder) if k == "CACHE_DIR" else _fresh_cache(value, folder) for k, value in config.items()}


def _start(path: str, options: Mapping[str, Any], home: Path) -> Load:
    task = {"path": path, "options": options, "begun": time.time()}
    told = in_child(
        "ovgen.benchmark",
        task,
        who=str(options.get("device", "CPU")),
        doing="loaded the model",
        timeout=_TIMEOUT,
        environment={"OVGEN_HOME": str(home)},
    )
    return Load(**told)


def _load(task: dict[str, Any]) -> dict[str, float]:
    options = task["options"]
    if isinstance(options.get("weights"), dict):
        options["weights"] = Compression(**options["weights"])
    begin = time.perf_counter()
    llm = LLM(task["path"], **options)
    loaded = time.perf_counter()
    llm.generate([0], temperature=0, max_new_tokens=1, ignore_eos=True)
    done = time.perf_counter()
    return {"load": loaded - begin, "first_token": done - loaded, "total": time.time() - task["begun"]}


if __name__ == "__main__":
    answer(_load)
