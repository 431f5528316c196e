"""The tables of what compression and native kernels cost, on the bundled draft model and a short text."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

import compression_table
import kernel_quality

import ovgen

DRAFT = Path(ovgen.bundled_model("storyteller-draft"))
INT4 = ovgen.Compression(weights="int4", group_size=32)


def test_held_out_stories_differ_from_those_to_calibrate_on() -> None:
    text = compression_table.held_out(DRAFT, 2, own=False)
    assert text == compression_table.held_out(DRAFT, 2, own=False)
    other = compression_table.held_out(DRAFT, 2, own=False, calibration=True)
    assert text[:200] != other[:200]
    assert len(text) > 500


def test_a_model_can_be_measured_on_stories_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression_table, "_STORY", 12)
    text = compression_table.held_out(DRAFT, 3, own=True)
    tokenizer = ovgen.LLM(DRAFT).tokenizer
    assert tokenizer is not None
    ids = tokenizer.encode(text)
    assert 20 < len(ids) < 50
    assert ids[1:13] != ids[13:25]  # they are different stories
    assert text == compression_table.held_out(DRAFT, 3, own=True)


def test_the_table_of_compression(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [ovgen.Compression(weights="f16"), ovgen.Compression(weights="int8", symmetric=True), INT4]
    monkeypatch.setattr(compression_table, "compressions", lambda: rows)
    monkeypatch.setattr(compression_table, "nncf", None)
    monkeypatch.setattr(sys, "argv", ["compression_table.py", str(DRAFT), "--stories", "6"])
    compression_table.main()
    text = capsys.readouterr().out
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    assert [line[0] for line in lines[2:]] == ["f16", "int8 sym", "int4, groups of 32"]
    sizes = [float(line[1].removesuffix(" MB")) for line in lines[2:]]
    assert sizes[0] > 1.8 * sizes[1]
    assert sizes[1] > sizes[2]  # by little: most of this model is its embeddings, which stay INT8
    costs = [[float(part) for part in line[2].split(",")] for line in lines[2:]]
    assert costs[0] == [1.0, 0.0]  # the model is stored so
    assert 0 < costs[1][1] < costs[2][1]
    calibrated = [float(part) for part in lines[4][3].split(",")]
    assert calibrated[1] < costs[2][1]
    assert lines[2][3] == lines[3][3] == ""  # nothing to calibrate


def test_the_perplexity_is_that_of_a_plain_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_quality, "COMPRESSIONS", [INT4])
    text = "One day, a little fox went into the garden. The fox was happy. The owl was not."
    llm = ovgen.LLM(DRAFT, weights=INT4, kernels="off", device_config=compression_table.EXACT)
    assert llm.tokenizer is not None
    ids = llm.tokenizer.encode(text)
    with llm.session() as session:
        logits = session.forward(ids).astype(np.float64)
    chances = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    expected = np.exp(-np.mean([np.log(chances[i, token]) for i, token in enumerate(ids[1:])]))
    name, plain, native, ratio, divergence, same = kernel_quality.row(DRAFT, INT4, text)
    assert name == "int4, groups of 32"
    assert float(plain) == pytest.approx(expected, abs=1e-3)
    assert float(ratio) == pytest.approx(float(native) / float(plain), abs=1e-3)
    plain_llm = ovgen.LLM(DRAFT, weights=INT4, kernels="require", device_config=compression_table.EXACT)
    with plain_llm.session() as session:
        other = session.forward(ids).astype(np.float64)[:-1]
    rounded = np.exp(other) / np.exp(other).sum(-1, keepdims=True)
    apart = (chances[:-1] * np.log(chances[:-1] / rounded)).sum(-1).mean()
    assert float(divergence) == pytest.approx(1000 * apart, rel=0.2, abs=0.01)  # of two digits
    assert same.endswith("%")
