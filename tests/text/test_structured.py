"""Whatever the logits are, the text has the form that was asked for: held against other ways to tell."""

from __future__ import annotations

import gc
import json
import math
import re
import sys
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ovgen.config import SamplingParams, StructuredOutputs
from ovgen.errors import ConfigError, GenerationError, RequestError
from ovgen.sampling import Sampler, SamplerState
from ovgen.text import Tokenizer, load_tokenizer, structured
from ovgen.text.gguf import from_gguf
from ovgen.text.structured import Constraints, GrammarConstraint, check_structure
from ovgen.text.tokenizer import PieceTable
from tests.shared_data import SHARED, needs_shared
from tests.text import gguf_toys, toys

PADDING = 24
"""Rows of logits that stand for no token."""


class Letters:
    """A tokenizer with tokens of several bytes, which spells a text by its longest ones."""

    bos_token_id = eos_token_id = None
    special_tokens: Mapping[str, str] = {}

    def __init__(self, *tokens: str, special: Sequence[int] = ()) -> None:
        self.tokens = tokens
        self.vocab_size = len(tokens)
        self.pieces = PieceTable(
            lambda i: tokens[i].encode() if i < len(tokens) else b"", frozenset(special), strips_leading_space=False
        )

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        ids: list[int] = []
        while fitting := [i for i, token in enumerate(self.tokens) if text.startswith(token)]:
            ids.append(max(fitting, key=lambda i: len(self.tokens[i])))
            text = text[len(self.tokens[ids[-1]]) :]
        return ids

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        return self.pieces.text(token_ids, skip_special_tokens=skip_special_tokens)


def spm(name: str) -> Tokenizer:
    with TemporaryDirectory() as folder:
        return toys.sentencepiece(Path(folder), name)


def as_ir(make: Callable[[], Any]) -> Tokenizer:
    with TemporaryDirectory() as folder:
        return toys.ir(Path(folder), make())


def no_ir(folder: Path) -> Any:
    raise AssertionError(folder)


def real(name: str) -> Callable[[], Tokenizer | None]:
    return lambda: load_tokenizer(SHARED / name, no_ir)


TOKENIZERS: dict[str, Callable[[], Any]] = {
    "byte-level": toys.byte_level,
    "sentencepiece": lambda: spm("as Llama"),
    "sentencepiece without a space before": lambda: spm("no space before a text, pieces of its own"),
    "sentencepiece that normalises": lambda: spm("characters normalised"),
    "GGUF byte-level": lambda: from_gguf(gguf_toys.as_read(gguf_toys.byte_level()), "toy"),
    "GGUF sentencepiece": lambda: from_gguf(gguf_toys.as_read(gguf_toys.sentencepiece()), "toy"),
    "IR byte-level": lambda: as_ir(toys.byte_level),
    "IR sentencepiece": lambda: as_ir(lambda: spm("as Llama")),
}
REAL = {name: real(name) for name in ("stories260K", "tokenizers/llama2", "tokenizers/gpt2")}
_LAST_OF_GPT2 = 50256  # its folder does not say that this ends a text
EVERY = [*TOKENIZERS, *(pytest.param(name, marks=needs_shared) for name in REAL)]


class Writer:
    """Writes texts by chance, through the sampler, with a tokenizer."""

    def __init__(self, tokenizer: Any, eos: Sequence[int]) -> None:
        self.pieces: PieceTable = tokenizer.pieces
        self.eos = frozenset(eos)
        self.vocab_size = tokenizer.vocab_size + PADDING
        self.constraints = Constraints(tokenizer, self.vocab_size, self.eos)
        spelt = {self.pieces.spell(i): i for i in range(tokenizer.vocab_size)}
        self.closing = [spelt[mark] for mark in (b'"', b"}", b"]", b")") if mark in spelt] + list(eos)

    def write(self, seed: int, most: int = 400, patience: int = 40, **wanted: Any) -> str:
        """A whole text; after ``patience`` tokens, those are likelier that bring it to an end."""
        constraint = self.constraints.constraint(StructuredOutputs(**wanted))
        state = SamplerState(
            SamplingParams(temperature=1.0, seed=seed), prompt_ids=[0], eos_token_ids=self.eos, constraint=constraint
        )
        rng, sampler = np.random.default_rng(seed), Sampler()
        tokens: list[int] = []
        while len(tokens) < most:
            logits = rng.normal(0, 3, self.vocab_size).astype(np.float32)
            if len(tokens) > patience:
                logits[self.closing] += 30
            if seed % 2:
                state.prepare()
            for guess in constraint.forced():
                assert guess < self.vocab_size - PADDING
            token = sampler.choose(logits, state).token_id
            state.append(token)
            if token in self.eos:
                return self.pieces.join(tokens, skip_special_tokens=True).decode()
            tokens.append(token)
            assert token < self.vocab_size - PADDING
            assert token not in self.pieces.special_ids
        raise AssertionError(f"no end to {self.pieces.join(tokens, skip_special_tokens=True)!r}")


@cache
def writer(name: str) -> Writer:
    tokenizer = {**TOKENIZERS, **REAL}[name]()
    return Writer(tokenizer, [_LAST_OF_GPT2 if tokenizer.eos_token_id is None else tokenizer.eos_token_id])


PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 6},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "mood": {"enum": ["glad", "sad", None]},
        "friends": {"type": "array", "items": {"$ref": "#/$defs/friend"}, "maxItems": 2},
    },
    "required": ["name", "age", "mood"],
    "additionalProperties": False,
    "$defs": {"friend": {"anyOf": [{"type": "string", "pattern": "^[A-Z][a-z]{1,3}$"}, {"const": {"no": "name"}}]}},
}
MARKS = {
    "type": "object",
    "patternProperties": {"^[a-f]$": {"type": ["boolean", "null"]}},
    "additionalProperties": False,
    "minProperties": 1,
    "maxProperties": 3,
}
SCHEMAS: list[Any] = [PERSON, MARKS]
PATTERNS = [
    r"\d{4}-\d\d-\d\d",
    r"(yes|no|perhaps)( (yes|no))*",
    r"[^x]{0,5}x?",
    r"(🦙|ä|  )+y",
    r"<\|eos\|>|</s>|<s>",
    r"/\*[^*]{0,9}\*/",
    r"ﬁ|e\u0301|[\x20-\x2f]{3}",
]
seeds = st.integers(0, 2**31)


@pytest.mark.parametrize("name", EVERY)
@settings(max_examples=12, deadline=None)
@given(seed=seeds, schema=st.sampled_from(SCHEMAS), as_text=st.booleans())
def test_json_keeps_to_its_schema(name: str, seed: int, schema: Any, as_text: bool) -> None:
    text = writer(name).write(seed, json=json.dumps(schema) if as_text else schema)
    jsonschema.validate(json.loads(text), schema)


@pytest.mark.parametrize("name", EVERY)
@settings(max_examples=8, deadline=None)
@given(seed=seeds)
def test_a_json_object_is_one(name: str, seed: int) -> None:
    assert isinstance(json.loads(writer(name).write(seed, json_object=True)), dict)


@pytest.mark.parametrize("name", EVERY)
@settings(max_examples=25, deadline=None)
@given(seed=seeds, pattern=st.sampled_from(PATTERNS))
def test_the_whole_text_matches_a_regular_expression(name: str, seed: int, pattern: str) -> None:
    assert re.fullmatch(pattern, writer(name).write(seed, regex=pattern))


@pytest.mark.parametrize("name", EVERY)
@settings(max_examples=25, deadline=None)
@given(seed=seeds, choice=st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=4))
@example(seed=0, choice=["<|eos|>", "</s>", "\x02", "\x00", " yes", "yes", "e\u0301", 'a"\\\n/*'])
def test_the_text_is_one_of_the_choices(name: str, seed: int, choice: list[str]) -> None:
    assert writer(name).write(seed, choice=choice) in choice


def test_there_may_be_very_many_choices() -> None:
    choice = [f"choice {number}" for number in range(20_000)]
    assert writer("byte-level").write(0, choice=choice) in choice


def test_a_schema_may_have_very_many_properties() -> None:
    names = [f"p{number}" for number in range(600)]
    schema = {"type": "object", "properties": {name: {"enum": [1, 2]} for name in names}, "additionalProperties": False}
    text = writer("byte-level").write(0, patience=0, json=schema)
    jsonschema.validate(json.loads(text), schema)


def is_sum(text: str) -> bool:
    """Whether ``text`` is numbers, signs and parentheses that belong together: Python's parser and no white space."""
    if set(text) - set("0123456789+*()") or not text:
        return False
    try:
        compile(re.sub(r"\b0+(?=\d)", "", text), "", "eval")
    except SyntaxError:
        return False
    return "()" not in text and "++" not in text and "**" not in text and "(+" not in text and text[0] != "+"


LARK = r"""
start: term (("+" | "*") term)*
term: NUMBER | "(" start ")"
NUMBER: /[0-9]{1,3}/
"""
EBNF = r"""
root ::= term ([+*] term)*
term ::= [0-9] [0-9]? [0-9]? | "(" root ")"
"""


@pytest.mark.parametrize("grammar", [LARK, EBNF], ids=["Lark", "EBNF"])
@pytest.mark.parametrize("name", EVERY)
@settings(max_examples=8, deadline=None)
@given(seed=seeds)
def test_the_text_is_of_a_grammar(name: str, grammar: str, seed: int) -> None:
    assert is_sum(writer(name).write(seed, grammar=grammar))


def allowed(constraint: GrammarConstraint, vocab_size: int) -> set[int]:
    logits = np.zeros(vocab_size, np.float32)
    constraint.apply(logits)
    assert set(logits.tolist()) <= {0.0, -math.inf}
    return set(np.flatnonzero(logits == 0).tolist())


LETTERS = Letters("a", "b", "c", "ab", "bc", "abc", " ", "ca", "<end>", "<more>", "a", special=[8, 9])
END = 8


@settings(max_examples=200, deadline=None)
@given(choice=st.lists(st.text("abc ", min_size=1, max_size=6), min_size=1, max_size=4), data=st.data())
def test_the_tokens_that_may_come_are_those_that_a_choice_goes_on_with(choice: list[str], data: st.DataObject) -> None:
    size = LETTERS.vocab_size + PADDING
    constraint = Constraints(LETTERS, size, frozenset({END})).constraint(StructuredOutputs(choice=tuple(choice)))
    text, token = "", -1
    while token != END:
        ordinary = [i for i in range(LETTERS.vocab_size) if i not in (8, 9)]
        expected = {i for i in ordinary if any(c.startswith(text + LETTERS.tokens[i]) for c in choice)}
        expected |= {END} if text in choice else set()
        forced = constraint.forced()
        assert allowed(constraint, size) == ({forced[0]} if forced else expected)
        assert set(forced[:1]) <= expected
        assert constraint.complete == (expected == {END})
        token = data.draw(st.sampled_from(sorted(allowed(constraint, size))))
        constraint.append(token)
        text += LETTERS.tokens[token] if token != END else ""
    assert text in choice


def constraint_of(eos: Sequence[int] = (END,), ignore_eos: bool = False, **wanted: Any) -> GrammarConstraint:
    constraints = Constraints(LETTERS, LETTERS.vocab_size, frozenset(eos))
    return constraints.constraint(StructuredOutputs(**wanted), ignore_eos=ignore_eos)


def test_every_end_of_sequence_token_may_end_a_text() -> None:
    constraint = constraint_of(eos=[8, 9], regex="ab?")
    assert allowed(constraint, 11) == {0, 3, 10}
    constraint.append(0)
    assert allowed(constraint, 11) == {1, 8, 9}
    assert not constraint.complete
    constraint.append(1)
    assert allowed(constraint, 11) == {8, 9}
    assert constraint.complete


def test_an_end_of_sequence_token_that_looks_like_text_is_no_text() -> None:
    constraint = constraint_of(eos=[2], regex="ca?")
    assert allowed(constraint, 11) == {7}
    constraint.append(7)
    assert allowed(constraint, 11) == {2}


@pytest.mark.parametrize("options", [{"eos": []}, {"ignore_eos": True}], ids=["there is none", "it is ignored"])
def test_without_an_end_of_sequence_token_a_text_goes_on_until_it_is_complete(options: dict[str, Any]) -> None:
    constraint = constraint_of(regex="ab?", **options)
    constraint.append(0)
    assert allowed(constraint, 11) == {1}
    constraint.append(1)
    assert constraint.complete
    constraint.prepare()
    with pytest.raises(GenerationError, match="it is complete, and there is no end-of-sequence token to say so"):
        constraint.apply(np.zeros(11, np.float32))


def test_the_state_of_a_sampler_tells_that_a_text_is_complete() -> None:
    state = SamplerState(SamplingParams(), [0], frozenset(), constraint=constraint_of(regex="ab"))
    assert (state.complete, state.plain) == (False, False)
    state.append(3)
    assert state.complete
    assert not SamplerState(SamplingParams(), [0], frozenset()).complete


def test_a_text_that_the_vocabulary_cannot_spell_fails() -> None:
    constraint = constraint_of(regex="a[xyz]")
    constraint.append(0)
    with pytest.raises(GenerationError, match="structured_outputs: the text cannot go on: "):
        constraint.apply(np.zeros(11, np.float32))


def test_a_token_that_may_not_come_is_found_at_the_next_one() -> None:
    constraint = constraint_of(regex="ab")
    constraint.append(2)
    constraint.prepare()
    assert not constraint.complete
    with pytest.raises(GenerationError, match="doesn't satisfy the grammar"):
        constraint.apply(np.zeros(11, np.float32))


def test_processors_cannot_break_the_form() -> None:
    params = SamplingParams(logits_processors=(lambda ids, row: np.zeros_like(row),), logit_bias={2: 100})
    state = SamplerState(params, [0], frozenset({END}), constraint=constraint_of(regex="b"))
    assert Sampler().choose(np.zeros(11, np.float32), state).token_id == 1


def test_logits_that_are_no_numbers_are_not_hidden() -> None:
    state = SamplerState(SamplingParams(), [0], frozenset({END}), constraint=constraint_of(regex="b"))
    with pytest.raises(GenerationError, match="NaN"):
        Sampler().choose(np.full(11, np.nan, np.float32), state)


def test_forks_go_on_by_themselves() -> None:
    constraint = constraint_of(regex="(ab|ca)+b")
    constraint.prepare()
    twin = constraint.fork()
    before = allowed(constraint, 11)
    twin.append(3)
    assert allowed(constraint, 11) == before == {0, 2, 3, 5, 7, 10}
    assert allowed(twin, 11) == {0, 1, 2, 3, 5, 7, 10}
    assert allowed(twin.fork(), 11) == allowed(twin, 11)


@pytest.mark.parametrize("name", EVERY)
def test_forced_tokens_are_as_the_tokenizer_spells_them_and_may_all_come(name: str) -> None:
    each = writer(name)
    constraint = each.constraints.constraint(StructuredOutputs(choice=("the friends of the sea: fish",)))
    forced = constraint.forced()
    text = each.pieces.join(forced, skip_special_tokens=False).decode()
    assert "the friends of the sea: fish".startswith(text)
    assert 20 < len(text) > len(forced)
    for token in forced:
        assert allowed(constraint, each.vocab_size) == {token}
        constraint.append(token)


def test_white_space_in_json_comes_to_an_end_unless_the_schema_says_otherwise() -> None:
    tokenizer = Letters("{", "}", " ", "\n", "\r", "\t", "<end>", special=[6])

    def most(schema: dict[str, Any]) -> int:
        constraint = Constraints(tokenizer, 7, frozenset({6})).constraint(StructuredOutputs(json=schema))
        constraint.append(0)
        for count in range(100):
            spaces = allowed(constraint, 7) & {2, 3, 4, 5}
            if not spaces:
                return count
            constraint.append(max(spaces, key=[0, 0, 1, 2, 0, 0].__getitem__))
        return 100

    assert most({"type": "object"}) == 41
    assert most({"type": "object", "x-guidance": {"whitespace_pattern": "[ \n]{1,3}"}}) == 3


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        ({"json": {"type": "strin"}}, "this json cannot be used: Invalid type: strin"),
        ({"json": {"not": {}}}, 'this json cannot be used: Unimplemented keys: ["not"]'),
        ({"json": {"type": "integer", "minimum": 3, "maximum": 1}}, "minimum (3) is greater than maximum (1)"),
        ({"json": "[1]"}, "this json cannot be used: Expecting object schema"),
        ({"regex": "(a"}, "unclosed group"),
        ({"regex": "a(?=b)"}, "look-around, including look-ahead and look-behind, is not supported"),
        ({"regex": "a\\"}, "this regex cannot be used: it ends with a backslash"),
        ({"regex": "[a&&b]"}, "this regex cannot be used: no text is of this form"),
        ({"grammar": "start: x"}, 'unknown name: "x"'),
        ({"grammar": "root ::= x"}, "this grammar cannot be used: "),
        ({"grammar": "what?"}, "this grammar cannot be used: "),
        ({"grammar": 'root ::= "a" root'}, "this grammar cannot be used: parser error: Too many items"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(wanted: dict[str, Any], reason: str) -> None:
    for use in (check_structure, Constraints(LETTERS, 11, frozenset({END})).constraint):
        with pytest.raises(RequestError, match=re.escape(reason)):
            use(StructuredOutputs(**wanted))


@pytest.mark.parametrize("token", ["<[999]>", "<|more|>"])
def test_what_a_grammar_says_of_tokens_is_left_to_the_model(token: str) -> None:
    wanted = StructuredOutputs(grammar=f'start: "a" {token} "b"')
    check_structure(wanted)
    with pytest.raises(RequestError, match="this grammar cannot be used: "):
        Constraints(LETTERS, 5, frozenset()).constraint(wanted)


def test_not_every_way_of_a_grammar_need_lead_on() -> None:
    wanted = StructuredOutputs(grammar='start: "a" /[b&&c]/ | "ca"')
    check_structure(wanted)
    assert Constraints(LETTERS, 11, frozenset({END})).constraint(wanted).forced() == []


def test_a_grammar_may_name_tokens() -> None:
    constraint = constraint_of(grammar='start: "a" <[7]> "b"')
    constraint.append(0)
    assert allowed(constraint, 11) == {7}


@pytest.mark.parametrize("schema", ['{"type": ', {"type": object()}, "", "[" * 100_000])
def test_a_schema_that_is_no_json_is_refused(schema: Any) -> None:
    with pytest.raises(ConfigError, match="json must be a JSON schema, got "):
        StructuredOutputs(json=schema)


def test_a_model_may_have_fewer_tokens_than_its_tokenizer() -> None:
    constraint = Constraints(LETTERS, 3, frozenset({0, END})).constraint(StructuredOutputs(choice=("bc",)))
    assert allowed(constraint, 3) == {1}
    assert constraint.forced() == [1, 2]
    constraint.append(1)
    constraint.append(2)
    assert allowed(constraint, 3) == {0}


def test_a_backslash_may_be_matched() -> None:
    check_structure(StructuredOutputs(regex="a\\\\"))


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(RequestError, match=re.escape("pip install 'ovgen[structured]'")):
        check_structure(StructuredOutputs(regex="a"))
    with pytest.raises(RequestError, match=re.escape("pip install 'ovgen[structured]'")):
        Constraints(LETTERS, 11, frozenset({END})).constraint(StructuredOutputs(regex="a"))


def test_a_tokenizer_must_tell_the_bytes_of_its_tokens() -> None:
    without = Constraints(toys.Doubled(lambda ids: ""), 11, frozenset())
    with pytest.raises(
        RequestError, match="the model has a tokenizer that does not tell the bytes of its tokens; byte-"
    ):
        without.constraint(StructuredOutputs(regex="a"))
    with pytest.raises(RequestError, match="the model has no tokenizer; byte-level BPE and"):
        Constraints(None, 11, frozenset()).constraint(StructuredOutputs(regex="a"))


def test_grammars_stay_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []
    make = structured._matcher

    def counting(vocabulary: Any, kind: str, grammar: str) -> Any:
        compiled.append(kind)
        return make(vocabulary, kind, grammar)

    monkeypatch.setattr(structured, "_matcher", counting)
    monkeypatch.setattr(structured, "_KEPT", 2)
    constraints = Constraints(LETTERS, 11, frozenset({END}))
    ways: list[dict[str, Any]] = [{"regex": "a"}, {"json_object": True}, {"regex": "a"}, {"choice": ["a"]}]
    for wanted in [*ways, *ways[:2]]:
        constraints.constraint(StructuredOutputs(**wanted))
    assert compiled == ["regex", "json_object", "choice", "json_object"]  # the regex is always used last but one
    first = constraints.constraint(StructuredOutputs(regex="a"))
    first.append(0)
    assert allowed(constraints.constraint(StructuredOutputs(regex="a")), 11) == {0}


def test_grammars_go_with_what_made_them() -> None:
    constraints = Constraints(LETTERS, 11, frozenset({END}))
    constraints.constraint(StructuredOutputs(regex="a"))
    gone = weakref.ref(constraints)
    gc.disable()
    try:
        del constraints
        assert gone() is None  # without the collector, which may take its time
    finally:
        gc.enable()
