"""``ovgen doctor``: the report on the terminal, in its files, and what the exit status says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ovgen import doctor
from ovgen.cli import main
from ovgen.errors import DeviceError
from tests.conftest import NPU_ON_CPU
from tests.test_doctor import Children


@pytest.fixture
def children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Children:
    children = Children(devices={"CPU": {"FULL_DEVICE_NAME": "a CPU", "OPTIMIZATION_CAPABILITIES": ["FP32", "INT8"]}})
    monkeypatch.setattr(doctor, "in_child", children)
    monkeypatch.chdir(tmp_path)
    return children


def test_a_sound_machine(capsys: pytest.CaptureFixture[str], children: Children, tmp_path: Path) -> None:
    assert main(["doctor"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("Everything ran and agreed with the CPU.\n")
    assert "FULL_DEVICE_NAME           a CPU\n" in out
    assert "OPTIMIZATION_CAPABILITIES  FP32, INT8\n" in out
    assert "OpenVINO finds no NPU" in out
    lines = [line.split() for line in out.splitlines() if line.startswith("CPU  ")]
    assert [line[1:3] for line in lines] == [
        ["paged", "reference"],
        ["paged", "agrees"],
        ["stateful", "agrees"],
        ["static", "agrees"],
    ]
    assert " ".join(lines[1]) == "CPU paged agrees 1.00 500.0 10.00 32 of 32 32 of 32 0.0000 0.2000"
    assert "2/3: stateful on CPU\n" in err
    assert "written to ovgen-doctor.txt and ovgen-doctor.json\n" in err
    assert (tmp_path / "ovgen-doctor.txt").read_text(encoding="utf-8") == out
    record = json.loads((tmp_path / "ovgen-doctor.json").read_text(encoding="utf-8"))
    assert record["healthy"] is True
    assert [check["form"] for check in record["checks"]] == ["paged", "stateful", "static"]


def test_what_failed_is_told_once_and_the_status_is_one(capsys: pytest.CaptureFixture[str], children: Children) -> None:
    children.answers |= {"NPU": DeviceError("NPU aborted (SIGABRT)"), "lint": "Gelu-7 is not known"}
    assert main(["doctor", "--device", "NPU,CPU", "--device", "cpu", "--form", "static", "--form", "npuw"]) == 1
    out = capsys.readouterr().out
    assert out.startswith("Not everything is well")
    assert "\nNPU, static, npuw: NPU aborted (SIGABRT)\n" in out
    assert "What NPUs may not take in the static form of this model: Gelu-7 is not known\n" in out
    assert [(task["device"], task["form"]) for task in children.tasks if task["work"] == "measure"][1:] == [
        ("NPU", "static"),
        ("NPU", "npuw"),
        ("CPU", "static"),
        ("CPU", "npuw"),
    ]


def test_auto_stands_for_all_that_are_found(capsys: pytest.CaptureFixture[str], children: Children) -> None:
    assert main(["doctor", "--device", "AUTO", "--form", "paged", "--json"]) == 0
    assert [check["device"] for check in json.loads(capsys.readouterr().out)["checks"]] == ["CPU"]


def test_json_is_printed_for_programs_and_files_go_where_they_are_wanted(
    capsys: pytest.CaptureFixture[str], children: Children, tmp_path: Path
) -> None:
    (tmp_path / "reports").mkdir()
    assert main(["doctor", "--json", "--form", "paged", "--output", "reports/mine"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record == json.loads((tmp_path / "reports" / "mine.json").read_text(encoding="utf-8"))
    assert (tmp_path / "reports" / "mine.txt").exists()
    assert record["machine"]["ovgen"]
    assert record["machine"]["memory_gib"] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output", "no/such/folder/report"], "there is no folder no/such/folder"),
        (["--model", "no/such/model"], "there is no model at"),
        (["--device-config", "X"], "takes NAME=VALUE"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_runs(
    capsys: pytest.CaptureFixture[str], children: Children, arguments: list[str], message: str
) -> None:
    assert main(["doctor", *arguments]) == 1
    assert message in capsys.readouterr().err
    assert children.tasks == []


@pytest.mark.parametrize("seconds", ["0", "-1", "inf", "nan", "soon"])
def test_a_timeout_is_a_number_of_seconds(capsys: pytest.CaptureFixture[str], children: Children, seconds: str) -> None:
    with pytest.raises(SystemExit) as error:
        main(["doctor", "--timeout", seconds])
    assert error.value.code == 2
    assert "--timeout" in capsys.readouterr().err


def test_help_shows_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["doctor", "--help"])
    assert "  ovgen doctor --device" in capsys.readouterr().out


def test_the_bundled_model_on_the_cpu_and_through_the_npus_plugin(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = [part for name, value in NPU_ON_CPU.items() for part in ("--device-config", f"NPU:{name}={value}")]
    assert main(["doctor", "--device", "CPU,NPU", "--form", "static", *config, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["reference"]["status"] == "agrees"
    assert len(record["checks"]) == 2
    for check in record["checks"]:
        assert (check["status"], check["form"]) == ("agrees", "static")
        assert check["tokens_equal"] == check["text_equal"] == check["tokens"] == 32
        assert check["prompt_tokens"] > 128  # more than a chunk
        assert check["difference"] < 0.05  # the cache is in float16
        assert min(check["load_time"], check["time_to_first_token"], check["time_per_token"]) > 0
