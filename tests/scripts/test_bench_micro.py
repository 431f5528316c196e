"""How runs of the micro-benchmarks are compared; pytest-benchmark's own part is not tested here."""

import importlib.util
import json
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture(scope="module")
def bench_micro() -> Any:
    """The script as a module."""
    sys.path.insert(0, str(SCRIPTS))
    loader = SourceFileLoader("bench_micro", str(SCRIPTS / "bench_micro"))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def run(path: Path, **times: tuple[float, float]) -> Path:
    """A saved run: least time and median of each benchmark."""
    stats = [
        {
            "fullname": f"tests/benchmarks/test_text.py::test_{name}",
            "stats": dict(zip(("min", "median"), both, strict=True)),
            "extra_info": {},
        }
        for name, both in times.items()
    ]
    path.write_text(json.dumps({"benchmarks": stats}))
    return path


def test_each_is_compared_with_the_runs_it_was_in(bench_micro: Any, tmp_path: Path) -> None:
    first = run(tmp_path / "0001_micro.json", encode=(0.9, 0.9), decode=(2.0, 3.0), render=(1.5, 1.5))
    second = run(tmp_path / "0002_micro.json", encode=(1.0, 1.0), render=(1.0, 1.0))
    now = run(tmp_path / "0003_micro.json", encode=(1.5, 1.5), decode=(1.0, 1.5), render=(1.5, 1.5), chat=(1.0, 1.0))
    rows = bench_micro.rows(now, [first, second])
    assert [(row["name"], row["before"], row["change"]) for row in rows] == [
        ("text encode", 1.0, "slower"),
        ("text decode", 2.0, "faster"),
        ("text render", 1.0, ""),  # it has been as slow before
        ("text chat", None, "new"),
    ]


@pytest.mark.parametrize("now", [(1.1, 1.1), (1.0, 5.0), (0.9, 0.5), (1.5, 1.1), (1.5, 0.5)])
def test_what_noise_can_do_is_no_change(bench_micro: Any, now: tuple[float, float]) -> None:
    least, median = now
    assert bench_micro.change({"min": least, "median": median}, [{"min": 1.0, "median": 1.0}]) == ""


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, ""), (2.5e-10, "0.25 ns"), (1.234e-5, "12.3 us"), (0.5, "500 ms"), (61.0, "61 s")]
)
def test_times_have_three_digits_and_a_unit(bench_micro: Any, seconds: float | None, text: str) -> None:
    assert bench_micro.readable(seconds) == text
