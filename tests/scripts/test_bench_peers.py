"""What the comparison with other engines computes and says; by hand."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture(scope="module")
def peers() -> ModuleType:
    sys.path.insert(0, str(SCRIPTS))
    try:
        import bench_peers
    finally:
        sys.path.remove(str(SCRIPTS))
    return bench_peers


def answer(rest: float, ids: list[int], first: float = 0.5) -> dict[str, Any]:
    return {"first": first, "rest": rest, "ids": [ids], "load": 2.0, "peak": 3e6}


@pytest.mark.parametrize(
    ("found", "share"), [([1, 2, 3, 4], 1.0), ([1, 2, 9, 4], 0.5), ([9, 2, 3, 4], 0.0), ([1, 2, 3, 9], 0.75)]
)
def test_agreement_ends_with_the_first_difference(peers: Any, found: list[int], share: float) -> None:
    assert peers.agreement([1, 2, 3, 4], found) == share


def test_ratios_are_those_within_rounds(peers: Any) -> None:
    rounds = [
        {"ovgen": answer(1.0, [1, 2, 3, 4, 5]), "genai": answer(2.0, [1, 2, 3, 4, 5])},
        {"ovgen": answer(2.0, [1, 2, 3, 4, 5]), "genai": answer(8.0, [1, 9, 3, 4, 5])},
        {"ovgen": answer(3.0, [1, 2, 3, 4, 5]), "genai": answer(9.0, [1, 2, 3, 4, 5])},
    ]
    missing = {"optimum": "No module named 'optimum'"}
    first, second, third = peers.summary(rounds, ["ovgen", "genai", "optimum"], 5, missing)
    assert (first["engine"], first["ratio"], first["same"]) == ("ovgen", 1.0, 1.0)
    assert first["decode"] == 0.5  # four tokens after the first one, in two seconds
    assert first["speed"] == 2.0
    assert second["ratio"] == pytest.approx(1 / 3)
    assert (second["ratio_least"], second["ratio_most"]) == (0.25, 0.5)
    assert second["same"] == pytest.approx((1 + 0.2 + 1) / 3)
    assert third == {"engine": "optimum-intel", "missing": "No module named 'optimum'"}
    lines = list(peers.table([first, second, third]))
    assert lines[-1] == "optimum-intel: not available here: No module named 'optimum'"
    assert "0.33 (0.25 - 0.50)" in lines[2]
    assert "73 %" in lines[2]
    assert len({len(line) for line in lines[:3]}) == 1


def test_an_engine_that_ends_is_left_out(peers: Any) -> None:
    class Fails:
        closed = False

        def ask(self, do: str, **_: Any) -> dict[str, Any]:
            raise peers.WorkerError("it ran out of memory")

        def close(self) -> None:
            self.closed = True

    class Works:
        def ask(self, do: str, **_: Any) -> dict[str, Any]:
            return answer(1.0, [1, 2])

    fails = Fails()
    workers: dict[str, Any] = {"ovgen": Works(), "genai": fails}
    missing: dict[str, str] = {}
    answers = peers.taken_turns(workers, missing, [[1]], 2, 1)
    assert list(answers) == ["ovgen"]
    assert list(workers) == ["ovgen"]
    assert missing == {"genai": "it ran out of memory"}
    assert fails.closed


def test_figures_in_a_file(peers: Any, tmp_path: Path) -> None:
    file = tmp_path / "out.csv"
    peers.write_csv(file, [{"engine": "ovgen", "load": 1.0}, {"engine": "optimum-intel", "missing": "why"}])
    assert file.read_text("utf-8").split() == ["engine,load,missing", "ovgen,1.0,", "optimum-intel,,why"]
