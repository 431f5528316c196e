"""``ovgen bench``: its table, its JSON, its picture, and what it refuses before anything long begins."""

import json
import sys
from pathlib import Path

import pytest

from ovgen.cli import main

QUICK = ["bench", "--prompt-tokens", "4", "--new-tokens", "6", "--batch", "1,2", "--runs", "1", "--no-load"]


def test_table_and_picture(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "speed.png"
    assert main([*QUICK, "--max-model-len", "64", "--plot", str(file)]) == 0
    out = capsys.readouterr()
    lines = out.out.splitlines()
    header = next(i for i, line in enumerate(lines) if "tokens/s" in line)
    assert [line.split()[:2] for line in lines[header + 1 :]] == [["4", "1"], ["4", "2"]]
    assert "storyteller" in lines[0]
    assert "GB/s read by numpy" in out.out
    assert "cold start" not in out.out
    assert "prompts of 4 tokens, 2 at once" in out.err
    assert file.stat().st_size > 10_000


def test_json_and_starts(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [argument for argument in QUICK if argument != "--no-load"]
    assert main([*arguments, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["cold"]["total"] > 0
    assert record["warm"]["total"] > 0
    assert [point["batch"] for point in record["points"]] == [1, 2]
    assert record["machine"]["openvino"].startswith("2026.")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--plot", "speed.txt"], "must end in .png, .svg, .pdf"),
        (["--plot", "no/such/folder/speed.png"], "there is no folder"),
        (["--prompt-tokens", "5000"], "do not fit the context"),
        (["no/such/model"], "no/such/model"),
    ],
)
def test_errors_are_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*QUICK, *arguments]) == 1
    out = capsys.readouterr()
    assert out.out == ""
    assert message in out.err
    assert out.err.startswith("ovgen: error: ")


def test_numbers_that_are_none(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["bench", "--batch", "1,two"])
    assert "--batch: takes whole numbers with commas between them, got '1,two'" in capsys.readouterr().err


def test_without_matplotlib(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main([*QUICK, "--plot", "speed.png"]) == 1
    assert "ovgen[plot]" in capsys.readouterr().err
