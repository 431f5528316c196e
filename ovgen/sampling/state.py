"""One request's side of sampling: its options, the tokens so far, and its random generator."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy, deepcopy
from functools import partial
from typing import TypeAlias

import numpy as np

from ovgen.config import LogitsProcessor, SamplingParams
from ovgen.errors import GenerationError
from ovgen.sampling import transforms
from ovgen.sampling.constraint import Constraint
from ovgen.sampling.history import BadWords, History
from ovgen.sampling.transforms import Ids, Logits

__all__ = ["SamplerState"]

_Stage: TypeAlias = Callable[[Logits], object]
"""One option at work: overwrites a row of logits ``(vocab,)`` float32."""


class SamplerState:
    """One request's params, token history and random generator.

    Args:
        params: the options.
        prompt_ids: the tokens of the prompt.
        eos_token_ids: the model's end-of-sequence tokens; empty if they are ignored.
        bad_words_ids: ``params.bad_words`` as token ids, each way in which a word may be written.
        max_new_tokens: the number of tokens after which the request ends, where a full context makes it
            lower than ``params`` has it; None: as in ``params``.
        constraint: what the text has to be; it is the state's own.

    Attributes:
        params: the options.
        plain: whether the next token is simply the one with the highest logit.
        rng: gives one uniform number per sampled token.
    """

    def __init__(
        self,
        params: SamplingParams,
        prompt_ids: Sequence[int],
        eos_token_ids: frozenset[int],
        bad_words_ids: Sequence[Sequence[int]] = (),
        max_new_tokens: int | None = None,
        constraint: Constraint | None = None,
    ) -> None:
        self.params = params
        self.rng = np.random.default_rng(params.seed)
        self._history = History(params, prompt_ids)
        self._prompt_length = len(self._history.ids)
        self._bad_words = BadWords(bad_words_ids, eos_token_ids) if bad_words_ids else None
        self._closing = eos_token_ids.union(params.stop_token_ids)
        self._limit = params.max_new_tokens if max_new_tokens is None else max_new_tokens
        self._constraint = constraint
        self._stages = self._make_stages()
        self.plain = params.greedy and not self._stages and params.logprobs is None

    @property
    def generated(self) -> int:
        """How many tokens were appended."""
        return len(self._history.ids) - self._prompt_length

    def append(self, token_id: int) -> None:
        """Commit a token to the history, in constant time."""
        self._history.append(token_id)
        if self._constraint is not None:
            self._constraint.append(token_id)

    def fork(self) -> SamplerState:
        """A state that goes on from here on its own; its random numbers will be the same as this one's."""
        twin = copy(self)
        twin.rng = deepcopy(self.rng)
        twin._history = self._history.fork()
        twin._constraint = None if self._constraint is None else self._constraint.fork()
        twin._stages = twin._make_stages()
        return twin

    @property
    def complete(self) -> bool:
        """Whether the constraint lets nothing come any more: the text is all that it has to be."""
        return self._constraint is not None and self._constraint.complete

    def prepare(self) -> None:
        """Do what can be done for the next token before its logits are there."""
        if self._constraint is not None:
            self._constraint.prepare()

    def forced(self) -> Sequence[int]:
        """Tokens that must come next, where something says so."""
        return () if self._constraint is None else self._constraint.forced()

    def process(self, logits: Logits) -> None:
        """Apply every option up to and including the user's processors.

        Args:
            logits: ``(vocab,)`` float32; overwritten.

        Raises:
            GenerationError: an option names a token beyond the vocabulary, or a processor failed.
        """
        for stage in self._stages:
            stage(logits)

    def _make_stages(self) -> list[_Stage]:
        # The order is that of the docstring of ovgen.sampling.transforms.
        return [
            *self._penalties(),
            *self._bans(),
            *self._forced(),
            *self._suppressed(),
            *(partial(_call, processor, self._history.ids) for processor in self.params.logits_processors),
            *(() if self._constraint is None else (self._constraint.apply,)),
        ]

    def _penalties(self) -> Iterator[_Stage]:
        params = self.params
        if params.logit_bias:
            yield _bias(params.logit_bias)
        if (seen := self._history.seen) is not None:
            penalty = params.repetition_penalty
            yield lambda row: transforms.repetition_penalty(row, seen.ids, penalty, out=row)
        if (made := self._history.made) is not None:
            presence, frequency = params.presence_penalty, params.frequency_penalty
            yield lambda row: transforms.count_penalties(row, made.ids, made.counts, presence, frequency, out=row)

    def _bans(self) -> Iterator[_Stage]:
        if (ngrams := self._history.ngrams) is not None:
            yield lambda row: transforms.suppress(row, ngrams.banned(), out=row)
        if (words := self._bad_words) is not None:
            ids = self._history.ids
            yield lambda row: transforms.suppress(row, words.banned(ids), out=row)
        if self._closing and self.params.min_new_tokens:
            yield partial(self._suppress_in, range(self.params.min_new_tokens), _array(self._closing))

    def _forced(self) -> Iterator[_Stage]:
        first, last = self.params.forced_bos_token_id, self.params.forced_eos_token_id
        if first is not None:
            yield partial(self._force_at, 0, "forced_bos_token_id", first)
        if last is not None and self._limit is not None and self._constraint is None:  # which may want more text
            yield partial(self._force_at, self._limit - 1, "forced_eos_token_id", last)

    def _suppressed(self) -> Iterator[_Stage]:
        params = self.params
        if params.suppress_tokens:
            never = _array(params.suppress_tokens)
            yield lambda row: transforms.suppress(row, never, out=row)
        if params.begin_suppress_tokens:
            first_free = 0 if params.forced_bos_token_id is None else 1
            positions = range(first_free, first_free + 1)
            yield partial(self._suppress_in, positions, _array(params.begin_suppress_tokens))

    def _suppress_in(self, positions: range, ids: Ids, row: Logits) -> None:
        if self.generated in positions:
            transforms.suppress(row, ids, out=row)

    def _force_at(self, position: int, option: str, token_id: int, row: Logits) -> None:
        if self.generated == position:
            _check_id(option, token_id, row)
            transforms.force(row, token_id, out=row)


def _array(ids: Sequence[int] | frozenset[int]) -> Ids:
    return np.array(sorted(ids), dtype=np.int64)


def _bias(bias: Mapping[int, float]) -> _Stage:
    ids = np.array(list(bias), dtype=np.int64)
    values = np.array(list(bias.values()), dtype=np.float32)

    def stage(row: Logits) -> None:
        _check_id("logit_bias", int(ids.max()), row)
        transforms.add_bias(row, ids, values, out=row)

    return stage


def _check_id(option: str, token_id: int, row: Logits) -> None:
    if token_id >= row.size:
        raise GenerationError(f"{option} names token {token_id}, but the model has {row.size} tokens")


def _call(processor: LogitsProcessor, ids: list[int], row: Logits) -> None:
    """Run a user's function, and turn whatever goes wrong in it into the request's own error.

    It gets copies: the row is the infer request's memory, and both are ours to go on with.
    """
    name = getattr(processor, "__name__", type(processor).__name__)
    try:
        result = processor(list(ids), row.copy())
    except Exception as error:
        raise GenerationError(f"logits processor {name} failed: {error!r}") from error
    if not isinstance(result, np.ndarray) or result.shape != row.shape or result.dtype != np.float32:
        got = f"{result.dtype} {result.shape}" if isinstance(result, np.ndarray) else repr(result)
        raise GenerationError(f"logits processor {name} must return float32 {row.shape}, got {got}")
    np.copyto(row, result)
