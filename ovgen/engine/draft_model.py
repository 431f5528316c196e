"""A smaller model of the same vocabulary that guesses what a larger one will say."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ovgen.config import EngineConfig
from ovgen.engine.cache import KVCache
from ovgen.engine.request import Request
from ovgen.engine.sequence import KVSequence
from ovgen.errors import CacheFullError, ConfigError, DeviceError
from ovgen.runtime.runner import Chunk, Runner

__all__ = ["DraftModel"]

_log = logging.getLogger("ovgen")


@dataclass(slots=True)
class _Guess:
    """What the draft model has of a request.

    Attributes:
        sequence: the request's tokens and the guesses behind them.
        known: how many of them are the request's.
        wanted: guesses.
        tokens: guesses so far.
    """

    sequence: KVSequence
    known: int = 0
    wanted: int = 0
    tokens: list[int] = field(default_factory=list)

    @property
    def behind(self) -> int:
        """Tokens to compute before the next one can be guessed."""
        return len(self.sequence.tokens) - self.sequence.computed


class DraftModel:
    """Guesses greedily, for all requests at once; a `DraftSource`.

    It has a KV cache of its own, which follows the requests: what they turned out to have otherwise is dropped, and
    what is new is computed before the first guess. Long prompts take several calls, and have no guess until then.

    Args:
        runner: the compiled draft model; nobody else uses it.
        config: its budgets: ``cache_size``, and ``max_num_batched_tokens`` for catching up in one call.
        context: tokens that it takes.
        vocab_size: of the model that it guesses for.
        cost: what a guess takes, in tokens of that model: the ratio of their sizes is near enough.

    Raises:
        ConfigError: the vocabularies differ.
    """

    def __init__(self, runner: Runner, config: EngineConfig, context: int, vocab_size: int, cost: float) -> None:
        if runner.vocab_size != vocab_size:
            raise ConfigError(
                f"the draft model has a vocabulary of {runner.vocab_size} tokens and the model one of {vocab_size}: "
                "take a draft model of the same family"
            )
        self.cost = cost
        self.cache = KVCache(runner, config.cache_size)
        self._runner = runner
        self._budget = config.max_num_batched_tokens
        self._most = min(config.max_num_seqs, runner.slots or config.max_num_seqs)
        self._context = min(context, self.cache.tokens)
        self._guesses: dict[Request, _Guess] = {}
        self._failed = False

    def propose(self, wanted: Mapping[Request, int]) -> dict[Request, list[int]]:
        """The likeliest next tokens, at most as many as wanted; requests that find no room or are behind have none."""
        if self._failed:
            return {}
        guesses = {request: self._follow(request, count) for request, count in wanted.items()}
        try:
            guessing = self._catch_up(guesses.values())
            while guessing := [guess for guess in guessing if len(guess.tokens) < guess.wanted]:
                self._step([(guess, 1) for guess in guessing])
        except DeviceError as error:
            _log.warning("no more guesses of the draft model: %s", error)
            self._failed = True
            return {}
        return {request: guess.tokens for request, guess in guesses.items() if guess.tokens}

    def forget(self, request: Request) -> None:
        """The request has ended; unknown ones are ignored."""
        guess = self._guesses.pop(request, None)
        if guess is not None:
            self.cache.release(guess.sequence)

    def _follow(self, request: Request, wanted: int) -> _Guess:
        """Keep what is cached of the tokens that the request has, and take the new ones for those to be computed."""
        tokens = request.sequence.tokens
        guess = self._guesses.get(request)
        if guess is None:
            guess = self._guesses[request] = _Guess(KVSequence(list(tokens)))
            if self._runner.shares_blocks:
                guess.sequence.reuse(self.cache.pool, self._runner.block_size)
        sequence = guess.sequence
        length = min(_alike(sequence.tokens, tokens, guess.known), len(tokens) - 1)
        if length < sequence.computed:
            self.cache.trim(sequence, length)
        sequence.tokens[length:] = tokens[length:]
        guess.known, guess.tokens = len(tokens), []
        guess.wanted = min(wanted, self._context + 1 - len(tokens))
        return guess

    def _catch_up(self, guesses: Iterable[_Guess]) -> list[_Guess]:
        """Compute what is new, up to the budget; who is least behind goes first. Those that have begun to guess."""
        parts: list[tuple[_Guess, int]] = []
        budget = self._budget
        for guess in sorted((guess for guess in guesses if guess.wanted > 0), key=lambda guess: guess.behind):
            count = min(guess.behind, budget)
            if count and len(parts) < self._most and self._reserve(guess, count):
                parts.append((guess, count))
                budget -= count
        if parts:
            self._step(parts)
        return [guess for guess, _ in parts if guess.tokens]

    def _reserve(self, guess: _Guess, count: int) -> bool:
        """Find room for tokens to be computed, and for guesses if these are the last."""
        guesses = guess.wanted - 1 if count == guess.behind else 0
        length = guess.sequence.computed + count + guesses
        try:
            copies = guess.sequence.reserve(self.cache.pool, self._runner.block_size, length)
        except CacheFullError:
            return False
        self.cache.prepare(copies)
        return True

    def _step(self, parts: Sequence[tuple[_Guess, int]]) -> None:
        """Compute so many tokens of each, and guess the next one of those that have no more to compute."""
        chunks = [_chunk(guess, count) for guess, count in parts]
        try:
            self._runner.start(chunks)
            logits = self._runner.wait()  # (rows, vocab) float32
        except BaseException:
            with contextlib.suppress(DeviceError):
                self._runner.wait()  # leaves the device idle
            raise
        likeliest = iter(logits.argmax(axis=-1).tolist())
        for (guess, count), chunk in zip(parts, chunks, strict=True):
            guess.sequence.computed += count
            if self._runner.shares_blocks:
                guess.sequence.keep(self.cache.pool, self._runner.block_size)
            if chunk.rows:
                guess.tokens.append(next(likeliest))
                guess.sequence.tokens.append(guess.tokens[-1])


def _chunk(guess: _Guess, count: int) -> Chunk:
    sequence, rows = guess.sequence, int(count == guess.behind)
    tokens = sequence.tokens[sequence.computed : sequence.computed + count]
    return Chunk(sequence.number, tokens, sequence.computed, sequence.blocks, rows)


def _alike(ours: Sequence[int], theirs: Sequence[int], known: int) -> int:
    """With how many tokens both begin; mostly it is the first ``known`` at least."""
    length = known if ours[:known] == theirs[:known] else 0
    for our, their in zip(ours[length:], theirs[length:], strict=False):
        if our != their:
            break
        length += 1
    return length
