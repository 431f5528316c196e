"""What ``ovgen bench`` measures, by hand where it can be worked out; no time is asserted."""

import json
from pathlib import Path
from typing import Any

import matplotlib
import pytest

import ovgen
from ovgen.benchmark import Load, Point, Report, Spread, _steps, benchmark, load_times
from ovgen.benchmark_plot import draw
from ovgen.errors import ConfigError, OvgenError
from ovgen.machine import Limits, limits
from ovgen.metrics import StepMetrics
from tests.tiny_models import make


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> ovgen.LLM:
    return ovgen.LLM(make("llama", tmp_path_factory.mktemp("llama")), enable_prefix_caching=False)


@pytest.fixture(scope="module")
def report(llm: ovgen.LLM) -> Report:
    loads = (Load(2.0, 0.5, 3.0), Load(1.0, 0.5, 2.0))
    return benchmark(llm, prompt_tokens=(4, 9), new_tokens=12, batch=(1, 3), runs=2, curve=True, loads=lambda: loads)


def step(number: int, started: float, landed: float, waited: float, tokens: int, generated: int) -> StepMetrics:
    return StepMetrics(number, started, landed, waited, generated, tokens, generated, generated, 0, 0, 0)


def test_steps_by_hand() -> None:
    told = [
        step(1, 0.0, 1.0, 1.0, 20, 2),  # the prompts
        step(2, 1.5, 3.0, 1.0, 2, 2),
        step(3, 3.25, 5.0, 1.5, 2, 2),  # the device had nothing to do for 0.25, the host worked for 0.5
        step(4, 4.75, 6.0, 0.25, 2, 2),  # begun before the one before it had landed
        step(5, 6.5, 7.0, 0.5, 1, 1),  # one of the two has ended
    ]
    found = list(_steps(told, 10, 2))
    assert [(s.context, s.seconds, s.idle, s.host) for s in found] == [
        (10, 2.0, 0.5, 1.0),
        (11, 2.0, 0.25, 0.5),
        (12, 1.0, 0.0, 0.75),
    ]


def test_limits_by_hand() -> None:
    found = Limits(bandwidth=1e9, flops=1e9, weight_bytes=5_000_000, parameters=0, head=0, cache_bytes=1000)
    assert found.seconds(0) == pytest.approx(0.005)
    assert found.seconds(2000) == pytest.approx(0.007)


def test_bytes_and_numbers_of_a_model(llm: ovgen.LLM) -> None:
    c = llm.config
    d, f, heads, kv = c["hidden_size"], c["intermediate_size"], c["num_attention_heads"], c["num_key_value_heads"]
    width = c.get("head_dim") or d // heads
    layer = d * heads * width * 2 + 2 * d * kv * width + 3 * d * f
    found = limits(llm)
    assert found.head == d * c["vocab_size"]
    assert found.parameters == c["num_hidden_layers"] * layer + found.head
    assert found.weight_bytes == 4 * found.parameters
    assert found.bandwidth > 0
    assert found.flops > 0


def test_compressed_weights_are_counted_as_they_are_stored(llm: ovgen.LLM) -> None:
    packed = ovgen.LLM(llm.path, weights=ovgen.Compression(weights="int8", symmetric=True), kernels="off")
    found, plain = limits(packed), limits(llm)
    assert (found.parameters, found.head) == (plain.parameters, plain.head)
    assert found.parameters < found.weight_bytes < 1.2 * found.parameters + 100_000  # a byte each, and scales


def test_points(report: Report) -> None:
    assert [(p.prompt_tokens, p.batch) for p in report.points] == [(4, 1), (4, 3), (9, 1), (9, 3)]
    for point in report.points:
        assert point.new_tokens == 12
        assert point.time_per_token is not None
        assert point.time_per_token_95 is not None
        assert 0 < point.time_per_token <= point.time_per_token_95
        speed = point.tokens_per_second
        assert 0 < speed.least <= speed.median <= speed.most
        assert 0 <= (point.idle or 0) <= (point.host or 0) < point.time_per_token
        assert point.limit is not None
    assert report.cache_bytes > 0
    assert report.limits is not None


def test_the_curve_fills_the_context(llm: ovgen.LLM, report: Report) -> None:
    contexts = [s.context for s in report.curve]
    assert contexts == list(range(contexts[0], contexts[0] + len(contexts)))
    assert llm.engine.max_model_len - 4 <= contexts[-1] < llm.engine.max_model_len


def test_the_model_is_as_it_was(llm: ovgen.LLM) -> None:
    told: list[StepMetrics] = []
    hook = told.append
    llm.on_step = hook
    benchmark(llm, prompt_tokens=[3], new_tokens=2, batch=[1], runs=1)
    assert llm.on_step is hook
    llm.on_step = None
    assert llm.engine.pool.used == 0


def test_a_record_is_json(report: Report) -> None:
    record = json.loads(json.dumps(report.record()))
    assert record["points"][0]["tokens_per_second"]["median"] == report.points[0].tokens_per_second.median
    assert record["warm"]["total"] == 2.0


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_the_picture(report: Report, tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"speed{suffix}"
    draw(report, file)
    beginning = file.read_bytes()[:200]
    assert beginning.startswith(b"\x89PNG") if suffix == ".png" else b"<svg" in file.read_bytes()
    assert list(tmp_path.iterdir()) == [file]


def test_a_picture_without_limits_or_curve(report: Report, tmp_path: Path) -> None:
    point = Point(8, 2, 1, Spread(1, 1, 1), Spread(5, 4, 6), None, None, None, None)
    bare = Report(report.model, {}, None, None, [point], [], None, 1, None)
    with matplotlib.rc_context({"svg.fonttype": "none"}):  # text stays text
        draw(bare, tmp_path / "bare.svg")
    assert "limits are measured on CPUs only" in (tmp_path / "bare.svg").read_text("utf-8")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt_tokens": [0]}, "prompt_tokens must be 1 or more"),
        ({"prompt_tokens": []}, "prompt_tokens must be 1 or more"),
        ({"new_tokens": 1}, "new_tokens must be 2 or more"),
        ({"runs": 0}, "runs must be 1 or more"),
        ({"prompt_tokens": [10**6]}, "do not fit the context"),
        ({"batch": [10**6]}, "max_num_seqs=1000000 is needed"),
    ],
)
def test_what_cannot_be_measured(llm: ovgen.LLM, options: dict[str, Any], message: str) -> None:
    few: dict[str, Any] = {"prompt_tokens": [4], "new_tokens": 4, "batch": [1]}
    with pytest.raises(ConfigError, match=message):
        benchmark(llm, **(few | options))


def test_batches_that_do_not_fit(llm: ovgen.LLM) -> None:
    static = ovgen.LLM(llm.path, form="static", batch_slots=2)
    with pytest.raises(ConfigError, match="batch_slots=3 is needed"):
        benchmark(static, prompt_tokens=[4], new_tokens=4, batch=[3])
    small = ovgen.LLM(llm.path, cache_size=2e-5)
    with pytest.raises(ConfigError, match="raise cache_size"):
        benchmark(small, prompt_tokens=[20], new_tokens=4, batch=[1, 16])


def test_starts(tmp_path: Path, llm: ovgen.LLM) -> None:
    home = tmp_path / "home"
    options = {"weights": ovgen.Compression(weights="int8"), "kernels": "off", "device_config": {"CACHE_DIR": "no"}}
    for load in load_times(llm.path, options, keep=home):
        assert 0 < load.load + load.first_token < load.total
    assert (home / "models").is_dir()  # the copy that the second start took
    assert not Path("no").exists()


def test_a_start_that_fails(tmp_path: Path) -> None:
    with pytest.raises(OvgenError, match="there is no model at"):
        load_times(tmp_path / "none", {})


def test_what_cannot_be_measured_is_refused_before_starts_are(llm: ovgen.LLM) -> None:
    with pytest.raises(ConfigError):
        benchmark(llm, prompt_tokens=[10**6], loads=pytest.fail)


def test_the_curve_of_a_small_cache(llm: ovgen.LLM) -> None:
    small = ovgen.LLM(llm.path, cache_size=2e-5)
    report = benchmark(small, prompt_tokens=[2], new_tokens=4, batch=[1], runs=1, curve=True)
    assert 0 < report.curve[-1].context < small.engine.cache.tokens
