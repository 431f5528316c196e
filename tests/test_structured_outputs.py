"""Texts of a form, from the model to the caller. Which tokens may come is held to account in tests/text."""

from __future__ import annotations

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import ovgen
from ovgen import StructuredOutputs, prompts
from ovgen.cli import main
from ovgen.text.structured import Constraints
from tests import tiny_models
from tests.text import toys

SCHEMA = {
    "type": "object",
    "properties": {"animal": {"enum": ["fox", "bear"]}, "age": {"type": "integer", "minimum": 1, "maximum": 99}},
    "required": ["animal", "age"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def llm() -> ovgen.LLM:
    return ovgen.LLM(ovgen.bundled_model(), max_num_seqs=8)


@pytest.mark.parametrize(
    "options", [{"temperature": 0.0}, {"temperature": 1.0, "seed": 5}, {"temperature": 2.0, "seed": 6, "logprobs": 2}]
)
def test_each_form(llm: ovgen.LLM, options: dict[str, Any]) -> None:
    def text(**wanted: Any) -> str:
        output = llm.generate(
            "Once upon a time", structured_outputs=StructuredOutputs(**wanted), max_new_tokens=150, **options
        )
        assert output.finish_reason == "stop"
        return str(output.text)

    jsonschema.validate(json.loads(text(json=SCHEMA)), SCHEMA)
    jsonschema.validate(json.loads(text(json=json.dumps(SCHEMA))), SCHEMA)
    assert re.fullmatch(r"[A-Z][a-z ]{3,20}\.", text(regex=r"[A-Z][a-z ]{3,20}\."))
    assert text(choice=["yes", " no", "perhaps"]) in ("yes", " no", "perhaps")
    assert re.fullmatch(r"(the|a) (fox|bear)", text(grammar='start: ("the" | "a") " " ("fox" | "bear")'))
    assert re.fullmatch(r"\(*x\)*", text(grammar='root ::= "(" "(" root ")" ")" | "x"'))


def test_forms_of_different_requests_do_not_mix(llm: ovgen.LLM) -> None:
    choices = [None, ("one",), ("two", "three"), None, ("four",)]
    params = [
        ovgen.SamplingParams(
            max_new_tokens=12, structured_outputs=None if choice is None else StructuredOutputs(choice=choice)
        )
        for choice in choices
    ]
    outputs = llm.generate(["The little bear"] * 5, params)
    free = llm.generate("The little bear", temperature=0, max_new_tokens=12)
    for choice, output in zip(choices, outputs, strict=True):
        assert output.text in (choice or (free.text,))


def test_each_text_of_a_prompt_has_the_form(llm: ovgen.LLM) -> None:
    outputs = llm.generate(
        "The bear had",
        n=4,
        temperature=1.5,
        seed=1,
        structured_outputs=StructuredOutputs(regex=r" [1-9]\d{0,2} [a-z]{3}"),
    )
    texts = [outputs.text, *(other.text for other in outputs.others)]
    assert all(re.fullmatch(r" [1-9]\d{0,2} [a-z]{3}", text) for text in texts)
    assert len(set(texts)) > 1


def test_guesses_change_nothing(llm: ovgen.LLM) -> None:
    wanted = StructuredOutputs(json={"const": {"the name of the bear": "the name of the bear is the name of the bear"}})
    options: dict[str, Any] = {"structured_outputs": wanted, "temperature": 0, "max_new_tokens": 120}
    plain = llm.generate("The bear", **options)
    guessed = llm.generate("The bear", prompt_lookup_num_tokens=4, **options)
    assert plain.token_ids == guessed.token_ids
    assert json.loads(plain.text) == {"the name of the bear": "the name of the bear is the name of the bear"}


def test_beams_have_the_form(llm: ovgen.LLM) -> None:
    pattern = r" [1-9][0-9]? (friends|bears)\."
    wanted = StructuredOutputs(regex=pattern)
    output = llm.generate("He had", structured_outputs=wanted, num_beams=3, n=3, temperature=0, max_new_tokens=20)
    texts = [output.text, *(other.text for other in output.others)]
    assert len(set(texts)) == 3
    assert all(re.fullmatch(pattern, text) for text in texts)


def test_a_complete_text_ends_where_end_of_sequence_tokens_are_ignored(llm: ovgen.LLM) -> None:
    output = llm.generate(
        "Yes or no?", structured_outputs=StructuredOutputs(regex="yes+"), ignore_eos=True, max_new_tokens=9
    )
    assert (output.finish_reason, len(output.token_ids)) == ("length", 9)
    output = llm.generate("Yes or no?", structured_outputs=StructuredOutputs(choice=("no",)), ignore_eos=True)
    assert (output.finish_reason, output.text) == ("stop", "no")


def test_a_text_may_be_cut_off(llm: ovgen.LLM) -> None:
    output = llm.generate("The", structured_outputs=StructuredOutputs(json_object=True), max_new_tokens=1)
    assert (output.finish_reason, len(output.token_ids)) == ("length", 1)


def test_a_text_is_cut_off_where_its_last_token_would_be_forced(llm: ovgen.LLM) -> None:
    wanted = StructuredOutputs(json_object=True)
    output = llm.generate("The", structured_outputs=wanted, max_new_tokens=1, forced_eos_token_id=1)
    assert (output.finish_reason, output.text[:1]) == ("length", "{")


def test_a_text_begins_with_the_space_that_it_has_to(tmp_path: Path) -> None:
    """Though sentencepiece has a space before every text, and decodes a text without it."""
    toys.spm_file(tmp_path)
    llm = ovgen.LLM(tiny_models.make("llama", tmp_path, vocab_size=400), max_num_seqs=1)
    wanted = StructuredOutputs(regex=" [a-z]{3}")
    output = llm.generate([1], structured_outputs=wanted)
    assert re.fullmatch(" [a-z]{3}", output.text)
    assert "".join(piece.text for piece in llm.stream([1], structured_outputs=wanted)) == output.text
    free = llm.generate([1], logit_bias={output.token_ids[0]: 1000}, max_new_tokens=1)
    assert free.token_ids == output.token_ids[:1]
    assert output.text.startswith(f" {free.text}")


def test_requests_of_several_threads_share_a_vocabulary(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    class Slow(Constraints):
        def __init__(self, *arguments: Any) -> None:
            made.append(self)
            time.sleep(0.05)
            super().__init__(*arguments)

    monkeypatch.setattr(prompts, "Constraints", Slow)
    llm = ovgen.LLM(ovgen.bundled_model())
    wanted = StructuredOutputs(choice=("yes", "no"))
    with ThreadPoolExecutor(2) as threads:
        texts = list(threads.map(lambda prompt: llm.generate(prompt, structured_outputs=wanted).text, ["Yes?", "No?"]))
    assert set(texts) <= {"yes", "no"}
    assert len(made) == 1


def test_a_stream_and_a_chat_have_it_too(llm: ovgen.LLM) -> None:
    wanted = StructuredOutputs(choice=("the fox", "the bear"))
    assert "".join(piece.text for piece in llm.stream("Who?", structured_outputs=wanted)) in wanted.choice


def test_what_cannot_be_is_refused_before_it_is_queued(llm: ovgen.LLM) -> None:
    with pytest.raises(ovgen.RequestError, match="this regex cannot be used"):
        llm.generate("The", structured_outputs=StructuredOutputs(regex="("))
    with pytest.raises(ovgen.ConfigError, match="structured_outputs must be"):
        llm.generate("The", structured_outputs={"regex": "a"})


def command(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = main(("generate", *arguments))
    out, err = capsys.readouterr()
    return status, out, err


def test_options_of_the_command_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text(json.dumps(SCHEMA), encoding="utf-8")
    (tmp_path / "words.ebnf").write_text('root ::= " " [a-z]{4} "!"', encoding="utf-8")
    (tmp_path / "token.lark").write_text('start: "a" <[300]> "b"', encoding="utf-8")

    def text(*arguments: str) -> str:
        status, out, _ = command(capsys, "The fox", "--json", "--max-new-tokens", "150", *arguments)
        assert status == 0
        return str(json.loads(out)["text"])

    jsonschema.validate(json.loads(text("--json-schema", str(tmp_path / "schema.json"))), SCHEMA)
    assert re.fullmatch(r" [a-z]{4}!", text("--grammar", str(tmp_path / "words.ebnf")))
    assert text("--grammar", str(tmp_path / "token.lark")) == "aayb"
    assert re.fullmatch(r"\d+;", text("--regex", r"[1-9]\d{0,3};"))
    assert text("--choice", "red", "--choice", "green") in ("red", "green")
    assert text("--json-object").startswith("{")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--json-schema", "no.json"], "cannot read no.json"),
        (["--regex", "("], "this regex cannot be used: "),
        (["--choice", ""], "choice must be non-empty strings"),
    ],
)
def test_errors_come_before_the_model(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    status, _, err = command(capsys, "The", "--model", "no/such/folder", *arguments)
    assert status != 0
    assert message in err


def test_only_one_form_at_a_time(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command(capsys, "The", "--regex", "a", "--json-object")
    assert "not allowed with argument" in capsys.readouterr().err
