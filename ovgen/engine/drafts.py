"""Who guesses what comes next, so that a step can check several tokens at once. Numbers only: no device, no tensors.

A guess changes no text: each token is sampled as if there were none (`ovgen.engine.results`). It only has to pay.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from ovgen.engine.request import Request

__all__ = ["DraftSource", "Drafts", "Pace", "PromptLookup", "best_length", "price"]

_FIRST_RATE = 0.5  # taken for the share of right guesses before there were any
_NEW = 0.25  # what the newest guess counts in it
_PROBES = 0.01  # of the time may go into trying again what did not pay
_TURN = 4  # tokens that take as long to compute as the weights to read: int8 on a CPU; float32 has more
_MODEL = 0  # where others have the size of a match


class DraftSource(Protocol):
    """Guesses for several requests at once, at some cost: a draft model."""

    def propose(self, wanted: Mapping[Request, int]) -> Mapping[Request, Sequence[int]]:
        """Guesses of at most so many tokens; requests for which there is none are left out. It never fails."""

    @property
    def cost(self) -> float:
        """What a guess of the next token takes, in tokens of the model that it is for."""

    def forget(self, request: Request) -> None:
        """The request has ended; unknown ones are ignored."""


class PromptLookup:
    """Finds where the end of a text stood before, and guesses that it goes on in the same way.

    Prompt lookup decoding (Saxena 2023, https://github.com/apoorvumang/prompt-lookup-decoding): the longest end first,
    up to ``largest`` tokens, at its latest place. A token takes ``largest`` entries of a dict, however long the text.
    """

    def __init__(self, largest: int) -> None:
        self._largest = largest
        self._tokens: list[int] = []
        self._ends: dict[tuple[int, ...], int] = {}  # of each n-gram that something follows, at its latest place

    def follow(self, tokens: Sequence[int]) -> None:
        """Take in what is new in a text; one that has lost or changed its newest tokens is read again."""
        seen = len(self._tokens)
        if len(tokens) < seen or (seen and tokens[seen - 1] != self._tokens[-1]):
            seen = 0
            self._tokens.clear()
            self._ends.clear()
        known = self._tokens
        for token in tokens[seen:]:
            end = len(known)
            for size in range(1, min(self._largest, end) + 1):  # those that this token follows
                self._ends[tuple(known[end - size :])] = end
            known.append(token)

    def find(self) -> tuple[int, int]:
        """Size of the longest end of the text that stood there before, and where it ended; 0, 0 if there is none."""
        known = self._tokens
        for size in range(min(self._largest, len(known)), 0, -1):
            place = self._ends.get(tuple(known[-size:]))
            if place is not None:
                return size, place
        return 0, 0

    def copy(self, place: int, count: int) -> list[int]:
        """``count`` tokens from ``place`` on; where the text ends, it is taken to repeat what followed ``place``."""
        follows = self._tokens[place : place + count]
        period = len(self._tokens) - place
        return [follows[i % period] for i in range(count)]


def price(batch: int) -> float:
    """What a guessed token costs in a step for ``batch`` requests, in tokens of a step without guesses.

    A step takes the time of reading the weights, and that of computing each of its tokens: alone, some more tokens cost
    little; in a large batch a guess costs as much as it can bring. Measuring would make texts depend on the weather
    where a device rounds differently for other numbers of tokens.
    """
    return batch / (batch + _TURN)


def best_length(rate: float, cost: float, most: int) -> int:
    """How many tokens to guess, if each is right with probability ``rate`` where those before it are.

    A step with ``k`` of them brings ``1 + rate + ... + rate ** k`` tokens and takes ``1 + k * cost`` (Leviathan et al.
    2023, https://arxiv.org/abs/2211.17192, section 3.5).
    """
    best, gain, tokens = 0, 1.0, 1.0
    for length in range(1, most + 1):
        tokens += rate**length
        if tokens / (1 + length * cost) > gain:
            best, gain = length, tokens / (1 + length * cost)
    return best


class Pace:
    """How long the guesses for a request are, by what was right so far.

    Where none would pay, one token is tried each time that it costs no more than a hundredth of what has passed since;
    as long as such tries are right, they go on at once.
    """

    def __init__(self) -> None:
        self._rates: dict[int, float] = {}  # by kind of guess: the share of tokens that were right
        self._waited = 1 / _PROBES  # chances that were left out since a guess was wrong
        self._kind: int | None = None  # of the guess under way

    def length(self, kind: int, cost: float, most: int) -> int:
        """The number of tokens to guess now, where each costs ``cost`` plain ones; 0: none, it would not pay."""
        best = best_length(self._rates.get(kind, _FIRST_RATE), cost, most)
        if not best and most and self._waited * _PROBES >= cost:
            best = 1
        if best:
            self._kind = kind
        else:
            self._waited += 1
        return best

    def landed(self, drafted: int, accepted: int) -> None:
        """Of the tokens guessed, the first ``accepted`` were right. A draft of somebody else's is left alone."""
        kind, self._kind = self._kind, None
        if kind is None or not drafted:
            return
        for right in [1.0] * accepted + [0.0] * (accepted < drafted):
            old = self._rates.get(kind, _FIRST_RATE)
            self._rates[kind] = old + _NEW * (right - old)
        if accepted < drafted:
            self._waited = 0


class Drafts:
    """Gives requests their drafts, as long as they pay: from their own text, else from a draft model.

    Args:
        model: None: there is none.
    """

    def __init__(self, model: DraftSource | None = None) -> None:
        self._model = model
        self._paces: dict[Request, Pace] = {}
        self._lookups: dict[Request, PromptLookup] = {}

    def propose(self, requests: Sequence[Request]) -> None:
        """Set the ``draft`` of requests whose next step gives them a token.

        One that has a draft keeps it: what a grammar forces is always right, and says nothing about guesses.

        Args:
            requests: all that the next step gives a token; with many of them, guesses have to be better.
        """
        asked: dict[Request, int] = {}
        cost = price(len(requests))
        for request in requests:
            if not request.draft:
                request.draft = self._look_up(request, cost)
            if not request.draft and self._model is not None:
                most = request.params.num_assistant_tokens
                length = self._pace(request).length(_MODEL, cost + self._model.cost, most)
                if length:
                    asked[request] = length
        if asked and self._model is not None:
            for request, draft in self._model.propose(asked).items():
                request.draft = draft

    def landed(self, request: Request, drafted: int, accepted: int) -> None:
        """A step has checked the first ``drafted`` tokens of a draft, and ``accepted`` of them were right."""
        if request in self._paces:
            self._paces[request].landed(drafted, accepted)

    def forget(self, request: Request) -> None:
        """The request has ended; unknown ones are ignored."""
        self._paces.pop(request, None)
        self._lookups.pop(request, None)
        if self._model is not None:
            self._model.forget(request)

    def _pace(self, request: Request) -> Pace:
        return self._paces.setdefault(request, Pace())

    def _look_up(self, request: Request, cost: float) -> Sequence[int]:
        """What followed the end of the text where it stood before."""
        most = request.params.prompt_lookup_num_tokens
        if not most:
            return ()
        lookup = self._lookups.get(request)
        if lookup is None:
            lookup = self._lookups[request] = PromptLookup(request.params.max_matching_ngram_size)
        lookup.follow(request.sequence.tokens)
        size, place = lookup.find()
        return lookup.copy(place, self._pace(request).length(size, cost, most)) if size else ()
