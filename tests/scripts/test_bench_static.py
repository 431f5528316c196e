import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

import bench_static


def test_every_kind_of_work_is_timed_in_both_forms(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OVGEN_HOME", str(tmp_path))
    sizes = ["--contexts", "8", "24", "--prompts", "20", "--slots", "1", "2", "--rounds", "1"]
    out = tmp_path / "figures.json"
    arguments = [str(tiny_llama), "--weights", "f16", "--caches", "f32", *sizes, "--json", str(out)]
    monkeypatch.setattr(sys, "argv", ["bench_static.py", *arguments])
    bench_static.main()
    rows = json.loads(out.read_text())
    work = [(row["slots"], row["work"]) for row in rows if row["work"] != "compile"]
    assert work == [(1, "token 8"), (1, "token 24"), (1, "prompt 20"), (2, "token 8"), (2, "token 24")]
    assert all(row["paged"] > 0 and row["static"] > 0 for row in rows if row["work"] != "compile")
    assert all(row["static"] > row["host"] > 0 for row in rows if row["work"].startswith("token"))
    assert {row["slots"] for row in rows if row["work"] == "compile"} == {1, 2}
    assert len(capsys.readouterr().out.splitlines()) == len(rows) + 1


def test_a_context_longer_than_the_models_is_refused(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OVGEN_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["bench_static.py", str(tiny_llama), "--weights", "f16", "--contexts", "100000"])
    with pytest.raises(SystemExit, match="name shorter --contexts"):
        bench_static.main()
