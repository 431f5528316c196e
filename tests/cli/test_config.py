"""``ovgen config check``: a table for people, JSON for programs, one line for what is wrong."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from ovgen.cli import main
from ovgen.cli.config import EXAMPLE

TEXT = """\
memory_budget: 8
openvino: {device: CPU, num_streams: 2}
models:
  story: {path: a.gguf, params: {temperature: 0.5}}
  other: {path: a.gguf, device: [NPU, CPU]}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "a.gguf").write_bytes(b"")
    (tmp_path / "ovgen.yaml").write_text(TEXT, encoding="utf-8")
    return tmp_path / "ovgen.yaml"


def test_a_table_says_where_each_value_comes_from(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OVGEN_PERFORMANCE_HINT", "throughput")
    assert main(["config", "check", str(file)]) == 0
    out, err = capsys.readouterr()
    rows = [re.split(r"\s{2,}", line.strip()) for line in out.splitlines()]
    story, other = rows[: rows.index(["other"])], rows[rows.index(["other"]) :]
    assert rows[0] == [f"{file}: no errors"]
    assert ["memory_budget", "8.0", "memory_budget, line 1"] in story
    assert ["path", str(file.parent / "a.gguf"), "models.story.path, line 4"] in story
    assert ["device", "CPU", "openvino.device, line 2"] in story
    assert ["num_streams", "2", "openvino.num_streams, line 2"] in story
    assert ["performance_hint", "THROUGHPUT", "OVGEN_PERFORMANCE_HINT"] in story
    assert ["max_num_seqs", "64", "default"] in story
    assert ["cache_dir", "-", "default"] in story
    assert ["params.temperature", "0.5", "models.story.params.temperature, line 4"] in story
    assert ["device", "NPU, CPU", "models.other.device, line 5"] in other
    assert "note: device 'NPU' is not available here" in err


def test_json_holds_the_same(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "check", str(file), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["file"] == str(file)
    assert record["memory_budget"] == {"value": 8.0, "from": "memory_budget, line 1"}
    assert list(record["models"]) == ["story", "other"]
    assert record["models"]["other"]["settings"]["device"]["value"] == ["NPU", "CPU"]
    assert record["models"]["story"]["params"] == {
        "temperature": {"value": 0.5, "from": "models.story.params.temperature, line 4"}
    }


def test_an_error_is_one_line(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(TEXT.replace("num_streams", "num_stream"), encoding="utf-8")
    assert main(["config", "check", str(file)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"ovgen: error: {file}, line 2: openvino.num_stream is not known; did you mean 'num_streams'?\n"


def test_the_file_that_help_shows_is_right(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["config", "check", "--help"])
    assert EXAMPLE in capsys.readouterr().out
    (tmp_path / "models" / "storyteller").mkdir(parents=True)
    (tmp_path / "models" / "storyteller" / "openvino_model.xml").touch()
    shown = EXAMPLE.partition("a file:\n")[2].partition("\n\n")[0]
    (tmp_path / "ovgen.yaml").write_text(shown, encoding="utf-8")
    assert main(["config", "check", str(tmp_path / "ovgen.yaml")]) == 0
    assert "NPU, GPU, CPU" in capsys.readouterr().out
