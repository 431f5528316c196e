"""The command line, as a person or a program calls it."""

from __future__ import annotations

import argparse
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ovgen
from ovgen.cli import main
from ovgen.cli.options import add_sampling_options, sampling_options
from ovgen.llm import LLM


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = main(arguments)
    out, err = capsys.readouterr()
    return status, out, err


def test_generate_streams_the_prompt_and_its_continuation(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, "generate", "Once upon a time", "--max-new-tokens", "12", "--temperature", "0")
    assert status == 0
    assert out.startswith("Once upon a time")
    assert len(out) > len("Once upon a time") + 12
    assert "[12 tokens at " in err
    assert "first token after" in err
    assert "model loaded in" in err


def test_generate_json_has_what_a_program_needs(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "generate", "--json", "--max-new-tokens", "5", "--seed", "1", "One day")
    record = json.loads(out)
    assert status == 0
    assert (record["prompt"], record["generated_tokens"], len(record["token_ids"])) == ("One day", 5, 5)
    assert record["finish_reason"] == "length"
    assert {"text", "time_to_first_token", "tokens_per_second", "load_time", "device", "form"} <= set(record)


def test_generate_takes_many_prompts_from_a_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("One day\n\nIn the garden\n", encoding="utf-8")
    status, out, _ = run(capsys, "generate", "--json", "--file", str(tmp_path / "prompts.txt"), "--max-new-tokens", "3")
    assert status == 0
    assert [json.loads(line)["prompt"] for line in out.splitlines()] == ["One day", "In the garden"]


def test_sampling_options_reach_the_sampler(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("generate", "--json", "--max-new-tokens", "20", "--temperature", "1", "Once")
    outs = [json.loads(run(capsys, *arguments, "--seed", seed)[1])["token_ids"] for seed in ("1", "1", "2")]
    assert outs[0] == outs[1] != outs[2]
    stopped = json.loads(run(capsys, *arguments, "--seed", "1", "--stop", "e", "--stop", "a")[1])
    assert not {"a", "e"} & set(stopped["text"])


@pytest.mark.parametrize(("word", "value"), [("true", True), ("false", False), ("never", "never")])
def test_early_stopping_is_one_of_the_words_that_the_help_shows(word: str, value: bool | str) -> None:
    parser = argparse.ArgumentParser()
    add_sampling_options(parser)
    assert "{true,false,never}" in parser.format_help()
    assert sampling_options(parser.parse_args(["--early-stopping", word])) == {"early_stopping": value}


def test_generate_prints_all_texts_of_a_prompt(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("generate", "--n", "3", "--temperature", "1", "--seed", "4", "--max-new-tokens", "6", "The bear")
    record = json.loads(run(capsys, *arguments, "--json")[1])
    texts = [record["text"], *(other["text"] for other in record["others"])]
    assert len(set(texts)) == 3
    _, out, _ = run(capsys, *arguments)
    assert out == "".join(f"The bear{text}\n\n" for text in texts)


@pytest.mark.parametrize("options", [("--best-of", "3", "--temperature", "1"), ("--num-beams", "2")])
def test_texts_that_are_compared_are_printed_at_the_end(
    capsys: pytest.CaptureFixture[str], options: tuple[str, ...]
) -> None:
    arguments = ("generate", "--seed", "4", "--max-new-tokens", "6", "The bear", *options)
    record = json.loads(run(capsys, *arguments, "--json")[1])
    assert record["others"] == []
    assert run(capsys, *arguments)[1] == f"The bear{record['text']}\n\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["generate", "--model", "no/such/folder"], "there is no model at"),
        (["generate", "--temperature", "-1"], "temperature must be"),
        (["generate", "--device", "NPU9"], "'NPU9' is not available"),
        (["generate", "--device-config", "KV_CACHE_PRECISION"], "takes NAME=VALUE"),
        (["generate", "--device-config", "NO_SUCH=1"], "NO_SUCH"),
        (["generate", "--device-config", "NPU=x", "--device-config", "NPU:A=B"], "got 'NPU=x and NPU:A=B'"),
        (["generate", "--device-config", "NPU:A=B", "--device-config", "NPU=x"], "takes NAME=VALUE or DEVICE:NAME"),
        (["generate", "--model", ""], "the path of the model is empty"),
        (["convert", "", "x"], "the source must be the path of a model"),
        (["generate", "--file", "no-such-file"], "cannot read prompts"),
        (["chat", "--model", "no/such/folder"], "there is no model at"),
        (["convert", "no/such/folder", "x"], "there is no model at"),
    ],
)
def test_errors_are_one_line_and_no_traceback(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (1, "")
    assert err.startswith("ovgen: error: ")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("command", ["generate", "chat", "convert", "devices"])
def test_help_shows_an_example(capsys: pytest.CaptureFixture[str], command: str) -> None:
    with pytest.raises(SystemExit) as exit_status:
        main([command, "--help"])
    assert exit_status.value.code == 0
    assert f"  ovgen {command}" in capsys.readouterr().out


def test_devices_lists_the_cpu(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "devices")
    assert status == 0
    assert out.startswith("CPU\n")
    assert "FULL_DEVICE_NAME" in out
    assert "FULL_DEVICE_NAME" in json.loads(run(capsys, "devices", "--json")[1])["CPU"]
    assert len(run(capsys, "devices", "--all")[1]) > len(out)


def test_convert_writes_a_folder_that_loads(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    target = tmp_path / "ir"
    status, out, _ = run(capsys, "convert", str(ovgen.bundled_model()), str(target))
    assert status == 0
    assert str(target) in out
    greedy = ("generate", "--json", "--temperature", "0", "--max-new-tokens", "8", "Once")
    from_ir = json.loads(run(capsys, *greedy, "--model", str(target))[1])
    assert from_ir["token_ids"] == json.loads(run(capsys, *greedy)[1])["token_ids"]
    status, _, err = run(capsys, "convert", str(ovgen.bundled_model()), str(target))
    assert status == 1
    assert str(target) in err


def test_convert_compresses_as_it_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("One day a fox met a bear in the garden. " * 60)
    options = [
        "--weights",
        "int4",
        "--group-size",
        "64",
        "--sym",
        "--calibration",
        str(tmp_path / "text.txt"),
        "--json",
    ]
    command = ["convert", str(ovgen.bundled_model()), str(tmp_path / "ir"), *options]
    status, out, err = run(capsys, *command)
    record = json.loads(out)
    assert (status, err) == (0, "")
    assert record["bytes"] == sum(file.stat().st_size for file in (tmp_path / "ir").iterdir())
    assert record["estimated_bytes"] == pytest.approx(record["bytes"], rel=0.2)
    assert 'element_type="i4" shape="256, 4, 64"' in (tmp_path / "ir" / "openvino_model.xml").read_text()
    assert run(capsys, *command)[0] == 1
    command.remove("--json")
    status, _, err = run(capsys, *command, "--force")
    assert status == 0
    assert "calibrating with " in err  # where no terminal shows a bar


def test_options_of_compression_need_weights(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status, _, err = run(capsys, "convert", str(ovgen.bundled_model()), str(tmp_path / "ir"), "--group-size", "64")
    assert status == 1
    assert "give that, too" in err


def test_generate_loads_a_compressed_copy(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "generate", "--weights", "int8", "--json", "--max-new-tokens", "5", "Once")
    assert status == 0
    assert json.loads(out)["generated_tokens"] == 5


def type_lines(monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    typed: Iterator[str] = iter(lines)

    def read(prompt: str = "") -> str:
        line = next(typed, None)
        if line is None:
            raise EOFError
        return line

    monkeypatch.setattr("builtins.input", read)


def test_chat_remembers_what_was_said_until_reset(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[list[str]] = []
    original = LLM.stream_chat

    def record(self: LLM, messages: Any, *arguments: Any, **options: Any) -> Any:
        seen.append([message["role"] for message in messages])
        return original(self, messages, *arguments, **options)

    monkeypatch.setattr(LLM, "stream_chat", record)
    type_lines(monkeypatch, "Tell me a story.", "", "Another one.", "/reset", "A third.", "/exit", "never read")
    status, out, _ = run(capsys, "chat", "--max-new-tokens", "10", "--seed", "1")
    assert status == 0
    assert seen == [["user"], ["user", "assistant", "user"], ["user"]]
    assert out.strip()


def test_ctrl_c_stops_the_answer_and_not_the_chat(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original = LLM.stream_chat

    def interrupted(self: LLM, *arguments: Any, **options: Any) -> Any:
        stream = original(self, *arguments, **options)
        yield next(stream)
        raise KeyboardInterrupt

    monkeypatch.setattr(LLM, "stream_chat", interrupted)
    type_lines(monkeypatch, "Tell me a story.", "Go on.")
    status, out, _ = run(capsys, "chat", "--max-new-tokens", "50")
    assert status == 0
    assert out.count("[stopped]") == 2


def test_a_conversation_that_outgrows_the_context_says_so_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    type_lines(monkeypatch, "fox " * 2000, "Tell me a story.")
    status, out, err = run(capsys, "chat", "--max-new-tokens", "5")
    assert status == 0
    assert "/reset starts over" in err
    assert out.strip()


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT as a POSIX terminal does")
def test_ctrl_c_ends_generate_within_a_step_and_without_a_traceback() -> None:
    command = [sys.executable, "-m", "ovgen", "generate", "--ignore-eos", "--max-new-tokens", "900"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    os.read(process.stdout.fileno(), 1000)  # the prompt
    os.read(process.stdout.fileno(), 1000)  # something of the story
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert b"Traceback" not in err
    assert b"interrupted" in err


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT as a POSIX terminal does")
@pytest.mark.parametrize("module", ["ovgen.cli", "ovgen.config", "openvino"])
def test_ctrl_c_while_it_starts_is_quiet(module: str) -> None:
    program = (
        "import os, runpy, signal, sys\n"
        "import ovgen\n"
        "[sys.modules.pop(name) for name in list(sys.modules) if name.startswith('ovgen.')]\n"
        "class Finder:\n"
        "    def find_spec(self, name, *_):\n"
        f"        if name == {module!r}: os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder())\n"
        "runpy.run_module('ovgen', run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", program, "devices"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_a_length_beyond_the_context_is_told(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    status, _, _ = run(capsys, "generate", "--max-model-len", "100000", "--max-new-tokens", "2", "Once")
    assert status == 0
    assert "max_model_len=100000 exceeds the context of the model, 1024 tokens" in caplog.text


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP] if sys.platform != "win32" else [])
def test_a_conversion_that_is_told_to_end_leaves_nothing(number: signal.Signals, tmp_path: Path) -> None:
    program = (
        "import os, sys; import openvino as ov; from ovgen.cli import main; "
        f"ov.save_model = lambda *_, **__: os.kill(os.getpid(), {number.value}); "
        "sys.exit(main(['convert', *sys.argv[1:]]))"
    )
    command = [sys.executable, "-c", program, str(ovgen.bundled_model()), str(tmp_path / "ir")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 128 + number
    assert "Traceback" not in done.stderr
    assert done.stderr.endswith("ovgen: interrupted; nothing was written\n")
    assert list(tmp_path.iterdir()) == []


def stdin(monkeypatch: pytest.MonkeyPatch, raw: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw), encoding="cp1252"))


def test_a_prompt_from_stdin_is_utf8_and_loses_its_line_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stdin(monkeypatch, "Łucja\r\n".encode())
    status, out, _ = run(capsys, "generate", "--json", "--max-new-tokens", "2", "-")
    assert (status, json.loads(out)["prompt"]) == (0, "Łucja")


def test_what_is_not_utf8_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    stdin(monkeypatch, b"Once \xff upon")
    status, out, err = run(capsys, "generate", "-")
    assert (status, out) == (1, "")
    assert "'utf-8' codec can't decode byte 0xff" in err


def test_properties_of_devices_are_plain_json(capsys: pytest.CaptureFixture[str]) -> None:
    properties = json.loads(run(capsys, "devices", "--json")[1])["CPU"]
    assert isinstance(properties["OPTIMIZATION_CAPABILITIES"], list)
    assert properties["PERF_COUNT"] is False
    assert properties["INFERENCE_PRECISION_HINT"] in ("f32", "f16", "bf16")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as status:
        main(["--version"])
    assert status.value.code == 0
    assert capsys.readouterr().out.startswith("ovgen 0.")
