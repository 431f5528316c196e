"""``ovgen perplexity``: its table, its JSON, and what it refuses."""

import io
import json
import sys
from pathlib import Path

import pytest

import ovgen
from ovgen.cli import main
from ovgen.quality import perplexity

TEXT = "One day, a fox went into the garden. She saw a red ball. The fox was happy."
EXACT = ["--device-config", "KV_CACHE_PRECISION=f32"]


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return str(path)


def test_table_and_json_agree_with_the_function(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["perplexity", "--text", file, "--window", "16", *EXACT, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    llm = ovgen.LLM(ovgen.bundled_model(), device_config={"KV_CACHE_PRECISION": "f32"})
    expected = perplexity(llm, TEXT, window=16)
    assert record["perplexity"] == pytest.approx(expected.perplexity, rel=1e-5)
    assert record["bits_per_byte"] == pytest.approx(expected.bits_per_byte, rel=1e-5)
    assert (record["window"], record["stride"], record["tokens"]) == (16, 8, expected.tokens)
    assert (record["form"], record["device"]) == ("paged", "CPU")
    assert main(["perplexity", str(ovgen.bundled_model()), "--text", file, "--window", "16", *EXACT]) == 0
    table = capsys.readouterr().out
    assert f"perplexity          {expected.perplexity:.3f}" in table
    assert f"{expected.tokens} tokens predicted in windows of 16 by 8" in table


def test_against_the_same_model_in_another_way(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["perplexity", "--text", file, "--weights", "int4", "--kernels", "off", "--against", "--kernels off"]
    assert main([*options, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["ratio"] == pytest.approx(record["this"]["perplexity"] / record["other"]["perplexity"])
    assert record["divergence"] > 0
    assert record["other"]["model"] == str(ovgen.bundled_model())
    assert record["this"]["model"] != record["other"]["model"]
    assert main(options) == 0
    table = capsys.readouterr().out
    assert f"this / its          {record['ratio']:.3f}" in table
    assert "same likeliest" in table


def test_text_from_stdin(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(TEXT.encode())))
    assert main(["perplexity", "--text", "-", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tokens"] > 10


def test_one_token_has_no_error_and_json_no_nan(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "short.txt"
    file.write_text("a")
    assert main(["perplexity", "--text", str(file), "--json"]) == 0  # the tokenizer puts a BOS token before it
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail)["nats_error"] is None


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        (b"", [], "nothing can be predicted"),
        (b"\xff\xfe\x00", [], "cannot read the text"),
        (None, [], "cannot read the text"),
        (TEXT.encode(), ["--window", "1"], "window must be from 2"),
        (TEXT.encode(), ["--against", "no/such/model"], "no/such/model"),
    ],
)
def test_errors_are_one_line(
    content: bytes | None, arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "text.txt"
    if content is not None:
        file.write_bytes(content)
    assert main(["perplexity", "--text", str(file), *arguments]) == 1
    out = capsys.readouterr()
    assert out.out == ""
    assert message in out.err
    assert out.err.startswith("ovgen: error: ")
