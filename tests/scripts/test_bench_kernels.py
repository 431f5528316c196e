import json
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

import bench_kernels
import bench_models
from bench_engines import Worker, WorkerError


def test_engines_take_turns_and_one_that_cannot_be_had_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench_models, "MODELS", {"llama": {}})
    sizes = ["--rounds", "2", "--loads", "1", "--prompt", "8", "--tokens", "4", "--prefill", "40"]
    choice = ["--models", "llama", "--precisions", "int4", "--engines", "plugin", "genai"]
    out = tmp_path / "figures.json"
    command = ["bench_kernels.py", *choice, *sizes, "--work", str(tmp_path), "--json", str(out)]
    monkeypatch.setattr(sys, "argv", [*command, "--peers-python", str(tmp_path / "no-python")])
    bench_kernels.main()
    (result,) = json.loads(out.read_text())
    counts = {measure: len(values) for measure, values in result["figures"]["plugin"].items()}
    a_round = ("decode", "batch", "prefill", "one", "four", "four/one", "share")
    assert counts == {"load": 1, "peak": 1, **dict.fromkeys(a_round, 2)}
    assert all(value > 0 for values in result["figures"]["plugin"].values() for value in values)
    assert list(result["missing"]) == ["genai"]
    assert len(result["bandwidth"]) == 2
    assert set(result["idle"]) == {"plugin", "memory"}
    text = capsys.readouterr().out
    assert "without genai: " in text
    assert "no-python" in text


def test_engines_that_are_compared_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["bench_kernels.py"])
    assert tuple(bench_kernels.arguments().engines) == ("native", "plugin", "genai", "llamacpp")


def test_the_weights_of_a_step_are_counted_once_and_with_their_scales(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_models, "MODELS", {"llama": {}})
    source = bench_models.Source(tmp_path, "llama", "int8")
    # 3 layers of width 64 with 4 heads, 2 of them for keys and values; inner width 96; a head of 300 tokens, tied.
    layer = {(64, 64): 2, (32, 64): 2, (96, 64): 2, (64, 96): 1}
    matrices = [shape for shape, count in layer.items() for _ in range(3 * count)] + [(300, 64)]
    assert source.weight_bytes() == sum(rows * columns + 3 * rows for rows, columns in matrices)


def test_a_worker_that_cannot_load_tells_why(tmp_path: Path) -> None:
    script = str(Path(bench_kernels.__file__))
    with pytest.raises(WorkerError, match=r"no model.*nowhere|nowhere.*exit status 1"):
        Worker([sys.executable, script, "--worker", "plugin", "--model", str(tmp_path / "nowhere")], tmp_path / "log")


def test_what_a_library_prints_is_no_answer_but_told_when_the_engine_ends(tmp_path: Path) -> None:
    code = f"""if True:
        import os, sys
        sys.path.insert(0, {str(Path(bench_kernels.__file__).parent)!r})
        import bench_engines
        class Loud:
            imports = ()
            def __init__(self, path, device): os.write(1, f"loading {{path}} for {{device}}".encode())
            def double(self, number): print("doubling", flush=True); return {{"result": 2 * number}}
            def abort(self): os._exit(3)
        bench_engines.ENGINES["loud"] = Loud
        bench_engines.serve("loud", "it")
    """
    worker = Worker([sys.executable, "-c", code], tmp_path / "log")
    answer = worker.ask("double", number=21)
    with pytest.raises(WorkerError, match=r"^loading it for CPUdoubling .exit status 3; more in .*log.$"):
        worker.ask("abort")
    assert answer["result"] == 42
    assert answer["peak"] > 1 << 20
    assert 0 <= answer["idle"] < 2


@pytest.mark.parametrize(
    ("measure", "native", "other", "said"),
    [
        ("decode", [4.0, 5.0, 4.0], [10.0, 15.0, 12.0], "3.00 (2.75 .. 3.00)           >= 2.5 reached"),
        ("decode", [4.0, 5.0, 4.0], [8.0, 10.0, 8.0], "2.00 (2.00 .. 2.00)           >= 2.5 missed"),
        ("batch", [300.0, 400.0], [150.0, 100.0], "3.00 (2.50 .. 3.50)           "),
    ],
)
def test_gains_are_of_quotients_within_a_round(
    measure: str, native: list[float], other: list[float], said: str
) -> None:
    result = _result({"native": {measure: native}, "genai": {measure: other}})
    assert bench_kernels.comparison(result, measure, "genai") == said
    assert bench_kernels.comparison(result, measure, "native") == ""


def test_goals_of_what_is_not_compared() -> None:
    result = _result({"native": {"share": [49.0], "four/one": [1.4]}})
    assert _goals(result) == {"four/one": ["1.5", "reached"], "share": ["50", "missed"]}


def test_nothing_is_judged_that_was_measured_on_a_busy_machine() -> None:
    result = {**_result({"native": {"four/one": [1.4]}}), "load": 2.0}
    assert _goals(result) == {"four/one": ["not", "judged"]}
    assert any("busy" in line and "2.0" in line for line in bench_kernels.table(result))


def _goals(result: dict[str, Any]) -> dict[str, list[str]]:
    """The last two words of the lines about native kernels."""
    return {line.split()[0]: line.split()[-2:] for line in bench_kernels.table(result) if "native  " in line}


def _result(figures: Any) -> dict[str, Any]:
    result = {"model": "gpt2", "precision": "int4", "weight_bytes": 62e6, "bandwidth": [3.5e10]}
    return {**result, "figures": figures, "missing": {}, "idle": {}, "load": 0.1}
