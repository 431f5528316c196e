"""What a user may set: frozen dataclasses that check themselves, each message naming the value."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, get_args

from ovgen.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "EngineConfig",
    "Kernels",
    "LogitsProcessor",
    "SamplingParams",
    "StructuredOutputs",
    "fields_set",
    "is_number",
    "nearest",
    "override",
]

LogitsProcessor: TypeAlias = "Callable[[Sequence[int], NDArray[np.float32]], NDArray[np.float32]]"
"""``f(token_ids, logits) -> logits``: prompt and generated ids so far, one row ``(vocab,)`` float32."""

Kernels: TypeAlias = Literal["auto", "off", "require"]
"""``auto`` takes ovgen's own CPU kernels where they can be built and are faster, ``require`` nothing else."""

_Config = TypeVar("_Config", "SamplingParams", "EngineConfig")


def _option(default: Any, text: str) -> Any:
    """A field with its one-line help, which the command line shows."""
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True, kw_only=True)
class StructuredOutputs:
    """What a text has to be, in one of five ways. The names are vLLM's; ``llguidance`` sees to it, and has to be there.

    It is about the generated text alone, whatever the prompt is. A text that is complete ends, with an end-of-sequence
    token where the model has one. One that may end or go on does what the model likes better; with ``ignore_eos`` it
    goes on. A text that ``max_new_tokens`` or a stop string cuts off need not be of the form.

    Attributes:
        json: a JSON schema, as an object or as text. White space in the text is one space, or one line break with up
            to 40 spaces or tabs; ``{"x-guidance": {"whitespace_pattern": ...}}`` in the schema changes that.
        json_object: any JSON object.
        regex: a regular expression that the whole text matches, in Rust's syntax: without look-around and back
            references, and ``\\d`` is 0 to 9.
        choice: the text is one of these.
        grammar: a context-free grammar in Lark's notation, or in EBNF as llama.cpp writes it (``root ::= ...``).

    Raises:
        ConfigError: none of them is given, or more than one, or one is of the wrong type, or the schema is no JSON.
    """

    json: Mapping[str, Any] | str | None = None
    json_object: bool = False
    regex: str | None = None
    choice: tuple[str, ...] = ()
    grammar: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "choice", _as_tuple("choice", self.choice))
        _require("choice", self.choice, all(isinstance(c, str) and c for c in self.choice), "non-empty strings")
        json_ok = self.json is None or isinstance(self.json, (str, Mapping))
        _require("json", self.json, json_ok, "a JSON schema, as an object or as text")
        _require("json_object", self.json_object, isinstance(self.json_object, bool), "True or False")
        for name in ("regex", "grammar"):
            _require(name, getattr(self, name), isinstance(getattr(self, name), (str, type(None))), "text, or None")
        given = [f.name for f in fields(self) if getattr(self, f.name) not in (None, False, ())]
        if len(given) != 1:
            among = ", ".join(f.name for f in fields(self))
            raise ConfigError(f"structured_outputs takes one of {among}; given: {', '.join(given) or 'none'}")
        if self.json is not None:
            self.schema()

    @property
    def kind(self) -> str:
        """The name of the one that is given."""
        return next(f.name for f in fields(self) if getattr(self, f.name) not in (None, False, ()))

    def schema(self) -> str:
        """The JSON schema as text.

        Raises:
            ConfigError: it is no JSON.
        """
        try:
            if isinstance(self.json, str):
                json.loads(self.json)
                return self.json
            return json.dumps(self.json)
        except (TypeError, ValueError, RecursionError) as error:
            raise ConfigError(f"json must be a JSON schema, got {self.json!r:.80}: {error}") from error


@dataclass(frozen=True, kw_only=True)
class SamplingParams:
    """How tokens are chosen and when to stop. Names and meanings are those of HF ``generate`` and vLLM.

    ``temperature=0`` (the default) is greedy. The order in which the options act on the logits is that of
    ``ovgen.sampling.transforms``. Lists are accepted wherever a tuple is declared.

    Raises:
        ConfigError: a value is outside its range; the message names the option and the value.
    """

    max_new_tokens: int | None = _option(None, "most tokens to generate (None: as many as the context holds)")
    min_new_tokens: int = _option(0, "no end-of-sequence or stop token before this many")
    temperature: float = _option(0.0, "0 is greedy; higher is more varied")
    top_k: int = _option(0, "keep the k most likely tokens (0: all)")
    top_p: float = _option(1.0, "keep the most likely tokens that hold this much probability")
    min_p: float = _option(0.0, "drop tokens less likely than this share of the likeliest")
    typical_p: float = _option(1.0, "keep the most typical tokens that hold this much probability")
    repetition_penalty: float = _option(1.0, "above 1: tokens of prompt and output become less likely (CTRL)")
    presence_penalty: float = _option(0.0, "subtracted from the logit of each token already generated")
    frequency_penalty: float = _option(0.0, "subtracted once per time that a token was generated")
    no_repeat_ngram_size: int = _option(0, "no n-gram of this size occurs twice (0: off)")
    logit_bias: Mapping[int, float] = field(
        default_factory=dict, metadata={"help": "token id -> number added to its logit"}
    )
    suppress_tokens: tuple[int, ...] = _option((), "token ids that are never generated")
    begin_suppress_tokens: tuple[int, ...] = _option((), "token ids that are not generated first")
    forced_bos_token_id: int | None = _option(None, "token id that is generated first")
    forced_eos_token_id: int | None = _option(None, "token id that is generated last, at max_new_tokens")
    bad_words: tuple[str | tuple[int, ...], ...] = _option((), "words, or lists of token ids, never generated")
    stop: tuple[str, ...] = _option((), "strings that end the generation; not part of the text")
    stop_token_ids: tuple[int, ...] = _option((), "token ids that end the generation")
    include_stop_str_in_output: bool = _option(False, "leave the stop string in the text")
    ignore_eos: bool = _option(False, "do not stop at the model's end-of-sequence tokens")
    skip_special_tokens: bool = _option(True, "leave special tokens out of the text")
    add_special_tokens: bool = _option(True, "let the tokenizer add its special tokens (BOS) to a text prompt")
    seed: int | None = _option(None, "same seed, same text, whatever else is in the batch (None: random)")
    logprobs: int | None = _option(None, "report this many most likely tokens per generated token")
    prompt_logprobs: int | None = _option(None, "the same for each token of the prompt")
    logits_processors: tuple[LogitsProcessor, ...] = _option((), "functions f(token_ids, logits) -> logits")
    structured_outputs: StructuredOutputs | None = field(
        default=None, metadata={"help": "what the text has to be: JSON, a regular expression, a grammar"}
    )
    n: int = _option(1, "texts for each prompt, which is computed once")
    best_of: int | None = _option(None, "generate so many texts and return the n likeliest of them (None: n)")
    num_beams: int = _option(1, "beams of a beam search (1: none)")
    length_penalty: float = _option(1.0, "beam search: above 0 longer texts win more easily, below 0 shorter ones")
    early_stopping: bool | Literal["never"] = _option(
        False, "beam search: stop at num_beams finished texts (true), when better ones are unlikely (false), or never"
    )
    num_beam_groups: int = _option(1, "beam search: groups of beams that differ from each other")
    diversity_penalty: float = _option(0.0, "beam search: off the score of a token that an earlier group has chosen")
    prompt_lookup_num_tokens: int = _option(0, "guess up to so many tokens where the text repeats itself (0: off)")
    max_matching_ngram_size: int = _option(3, "the longest end of the text that is looked for in it for such guesses")
    num_assistant_tokens: int = _option(5, "most tokens that the draft model, if there is one, proposes at once")
    adapter: str | None = _option(None, "LoRA adapter of the model to use, by its name (None: none)")
    priority: int = _option(0, "requests with a lower number go first")
    context_shift: int | None = _option(
        None, "go on when the context is full: keep so many of the first tokens, and the newer half of the others"
    )

    def __post_init__(self) -> None:
        for name in (
            "suppress_tokens",
            "begin_suppress_tokens",
            "stop",
            "stop_token_ids",
            "logits_processors",
        ):
            object.__setattr__(self, name, _as_tuple(name, getattr(self, name)))
        words = _as_tuple("bad_words", self.bad_words)
        object.__setattr__(
            self, "bad_words", tuple(w if isinstance(w, str) else _as_tuple("bad_words", w) for w in words)
        )
        _require("logit_bias", self.logit_bias, isinstance(self.logit_bias, Mapping), "a mapping")
        object.__setattr__(self, "logit_bias", dict(self.logit_bias))
        _check_sampling(self)

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is always taken."""
        return self.temperature == 0


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """How requests are scheduled and how much memory the KV cache may take.

    Raises:
        ConfigError: a value is outside its range; the message names the option and the value.
    """

    max_num_seqs: int = _option(64, "most requests in one step")
    max_num_batched_tokens: int = _option(512, "most tokens in one step; longer prompts are computed in chunks")
    max_model_len: int | None = _option(None, "longest sequence, if below the model's own limit; longrope goes by it")
    cache_size: float = _option(4.0, "most memory for the KV cache, GiB; it grows by need")
    enable_prefix_caching: bool = _option(
        True, "keep what was computed of earlier requests for those that begin with the same tokens"
    )
    kernels: Literal["auto", "off", "require"] = _option("auto", "ovgen's own CPU kernels: auto, off or require")
    batch_slots: int = _option(1, "static form (NPU): requests in one step")
    prefill_chunk_size: int = _option(128, "static form (NPU): tokens of a prompt that are computed at once")
    compile_ahead: bool = _option(
        False, "static form (NPU): compile what generating takes, for all context lengths, when loading"
    )

    def __post_init__(self) -> None:
        seqs, tokens, length = self.max_num_seqs, self.max_num_batched_tokens, self.max_model_len
        _require("max_num_seqs", seqs, _is_int(seqs) and seqs >= 1, "a whole number of at least 1")
        tokens_ok = _is_int(tokens) and tokens >= seqs
        _require("max_num_batched_tokens", tokens, tokens_ok, f"at least max_num_seqs ({seqs})")
        length_ok = length is None or (_is_int(length) and length >= 1)
        _require("max_model_len", length, length_ok, "a whole number of at least 1, or None")
        kernels: object = self.kernels
        object.__setattr__(self, "kernels", "off" if kernels is False else kernels)  # as YAML reads ``off``
        choices = get_args(Kernels)
        _require("kernels", self.kernels, self.kernels in choices, f"one of {', '.join(choices)}")
        for name in ("batch_slots", "prefill_chunk_size"):
            value = getattr(self, name)
            _require(name, value, _is_int(value) and value >= 1, "a whole number of at least 1")
        for name in ("enable_prefix_caching", "compile_ahead"):
            _require(name, getattr(self, name), isinstance(getattr(self, name), bool), "True or False")
        size_ok = is_number(self.cache_size) and self.cache_size > 0
        _require("cache_size", self.cache_size, size_ok, "a number above 0 (GiB)")


def override(config: _Config, options: Mapping[str, Any]) -> _Config:
    """``config`` with some fields replaced; an unknown option is an error that suggests the nearest name.

    Raises:
        ConfigError: an option is unknown, or its value is outside its range.
    """
    if not isinstance(config, (SamplingParams, EngineConfig)):
        raise ConfigError(f"params must be SamplingParams, got {config!r:.80}; options go in by name")
    known = [f.name for f in fields(config)]
    for name in options:
        if name not in known:
            raise ConfigError(f"unknown option {name!r}{nearest(name, known)}")
    return replace(config, **options) if options else config


def nearest(name: str, known: Sequence[str]) -> str:
    """The end of a message about an unknown name: the nearest that is known, else all of them."""
    near = get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; there are: {', '.join(known)}"


def fields_set(config: SamplingParams) -> set[str]:
    """The options that differ from their defaults."""
    plain = SamplingParams()
    return {f.name for f in fields(config) if getattr(config, f.name) != getattr(plain, f.name)}


def _as_tuple(name: str, value: Any) -> tuple[Any, ...]:
    if isinstance(value, str) and name == "stop":
        return (value,)  # HF and vLLM both take a single string here
    if isinstance(value, (str, bytes)) or not isinstance(value, (Sequence, set, frozenset)):
        raise ConfigError(f"{name} must be a list, got {value!r}")
    return tuple(value)


def _require(name: str, value: object, ok: bool, rule: str) -> None:
    if not ok:
        raise ConfigError(f"{name} must be {rule}, got {value!r}")


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Whether a value is a finite number, and no truth value."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


# name -> (lowest value, what the message says)
_INTEGERS: dict[str, tuple[int, str]] = {
    "max_new_tokens": (1, "a whole number of at least 1, or None"),
    "min_new_tokens": (0, "a whole number of at least 0"),
    "top_k": (0, "a whole number of at least 0"),
    "no_repeat_ngram_size": (0, "a whole number of at least 0"),
    "forced_bos_token_id": (0, "a token id, or None"),
    "forced_eos_token_id": (0, "a token id, or None"),
    "seed": (0, "a whole number of at least 0, or None"),
    "logprobs": (0, "a whole number of at least 0, or None"),
    "prompt_logprobs": (0, "a whole number of at least 0, or None"),
    "n": (1, "a whole number of at least 1"),
    "best_of": (1, "a whole number of at least 1, or None"),
    "num_beams": (1, "a whole number of at least 1"),
    "num_beam_groups": (1, "a whole number of at least 1"),
    "prompt_lookup_num_tokens": (0, "a whole number of at least 0"),
    "max_matching_ngram_size": (1, "a whole number of at least 1"),
    "num_assistant_tokens": (0, "a whole number of at least 0"),
    "context_shift": (0, "a whole number of at least 0, or None"),
}
_OPTIONAL = {
    "max_new_tokens",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "seed",
    "logprobs",
    "prompt_logprobs",
    "best_of",
    "context_shift",
}
_NUMBERS: dict[str, tuple[Callable[[float], bool], str]] = {
    "temperature": (lambda v: v >= 0, "a number of at least 0"),
    "top_p": (lambda v: 0 < v <= 1, "above 0 and at most 1"),
    "min_p": (lambda v: 0 <= v <= 1, "from 0 to 1"),
    "typical_p": (lambda v: 0 < v <= 1, "above 0 and at most 1"),
    "repetition_penalty": (lambda v: v > 0, "above 0"),
    "presence_penalty": (lambda v: True, "a finite number"),
    "frequency_penalty": (lambda v: True, "a finite number"),
    "length_penalty": (lambda v: abs(v) <= 20, "from -20 to 20"),  # a length to this power is a number
    "diversity_penalty": (lambda v: v >= 0, "a number of at least 0"),
}
_FLAGS = ("include_stop_str_in_output", "ignore_eos", "skip_special_tokens", "add_special_tokens")


_MOST_TEXTS = 1024  # of a prompt; each is a sequence from the beginning, and others would have to wait for them


def _check_sampling(p: SamplingParams) -> None:
    for name, (least, rule) in _INTEGERS.items():
        value = getattr(p, name)
        ok = name in _OPTIONAL if value is None else _is_int(value) and value >= least
        _require(name, value, ok, rule)
    for name, (in_range, rule) in _NUMBERS.items():
        number = getattr(p, name)
        _require(name, number, is_number(number) and in_range(number), rule)
    for name in _FLAGS:
        _require(name, getattr(p, name), isinstance(getattr(p, name), bool), "True or False")
    for name in ("suppress_tokens", "begin_suppress_tokens", "stop_token_ids"):
        ids = getattr(p, name)
        _require(name, ids, all(_is_int(i) and i >= 0 for i in ids), "a list of token ids")
    _require("stop", p.stop, all(isinstance(s, str) and s for s in p.stop), "non-empty strings")
    words_ok = all(isinstance(w, str) or all(_is_int(i) and i >= 0 for i in w) for w in p.bad_words)
    _require("bad_words", p.bad_words, all(p.bad_words) and words_ok, "non-empty words or lists of token ids")
    bias_ok = all(_is_int(i) and i >= 0 and is_number(b) for i, b in p.logit_bias.items())
    _require("logit_bias", dict(p.logit_bias), bias_ok, "token ids -> finite numbers")
    _require("logits_processors", p.logits_processors, all(map(callable, p.logits_processors)), "callables")
    if p.max_new_tokens is not None:
        _require("min_new_tokens", p.min_new_tokens, p.min_new_tokens <= p.max_new_tokens, "<= max_new_tokens")
    _require("priority", p.priority, _is_int(p.priority), "a whole number")
    _require(
        "adapter", p.adapter, p.adapter is None or (isinstance(p.adapter, str) and p.adapter != ""), "a name, or None"
    )
    form = p.structured_outputs
    form_ok = form is None or isinstance(form, StructuredOutputs)
    _require("structured_outputs", form, form_ok, "a StructuredOutputs, as in ovgen.StructuredOutputs(regex=...)")
    _check_several(p)


def _check_several(p: SamplingParams) -> None:
    """Options for more than one text from a prompt."""
    for name in ("n", "best_of", "num_beams"):
        texts = getattr(p, name)
        _require(name, texts, texts is None or texts <= _MOST_TEXTS, f"at most {_MOST_TEXTS}")
    stopping_ok = isinstance(p.early_stopping, bool) or str(p.early_stopping) == "never"
    _require("early_stopping", p.early_stopping, stopping_ok, 'True, False or "never"')
    diverse_ok = not p.diversity_penalty or p.num_beam_groups > 1
    _require("diversity_penalty", p.diversity_penalty, diverse_ok, "0 without num_beam_groups")
    if p.num_beams == 1:
        best_of = p.n if p.best_of is None else p.best_of
        _require("best_of", best_of, best_of >= p.n, f"at least n ({p.n})")
        if best_of > 1 and p.greedy:
            raise ConfigError(
                f"{best_of} greedy texts of a prompt would be the same: set temperature above 0, or num_beams"
            )
        _require("num_beam_groups", p.num_beam_groups, p.num_beam_groups == 1, "1 without num_beams")
        return
    _require("n", p.n, p.n <= p.num_beams, f"at most num_beams ({p.num_beams})")
    groups_ok = p.num_beams % p.num_beam_groups == 0
    _require("num_beam_groups", p.num_beam_groups, groups_ok, f"a divisor of num_beams ({p.num_beams})")
    for name in ("temperature", "best_of", "logprobs", "stop", "prompt_lookup_num_tokens", "context_shift"):
        value, off = getattr(p, name), getattr(SamplingParams, name)
        _require(name, value, value == off, f"{off} in a beam search (num_beams={p.num_beams})")
    if p.structured_outputs is not None:  # a beam that is complete has to end by a token
        _require("ignore_eos", p.ignore_eos, not p.ignore_eos, "False in a beam search with structured_outputs")
