"""What a request remembers of its tokens, kept up token by token so that no step walks through the past."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from copy import copy

import numpy as np
from numpy.typing import NDArray

from ovgen.config import SamplingParams

__all__ = ["BadWords", "History", "NgramIndex", "TokenCounts"]


class TokenCounts:
    """Which tokens occurred, and how often, as arrays ready for indexing."""

    def __init__(self, ids: Sequence[int] = ()) -> None:
        distinct, counts = np.unique(np.asarray(ids, dtype=np.int64), return_counts=True)
        self._slots = {token: slot for slot, token in enumerate(distinct.tolist())}
        self._ids = distinct
        self._counts = counts.astype(np.float32)

    @property
    def ids(self) -> NDArray[np.int64]:
        """The distinct tokens, ``(distinct,)`` int64; a view."""
        return self._ids[: len(self._slots)]

    @property
    def counts(self) -> NDArray[np.float32]:
        """How often each of ``ids`` occurred, ``(distinct,)`` float32; a view."""
        return self._counts[: len(self._slots)]

    def add(self, token_id: int) -> None:
        """Count one more ``token_id``."""
        slot = self._slots.get(token_id)
        if slot is None:
            slot = len(self._slots)
            self._slots[token_id] = slot
            if slot == self._ids.size:  # doubling keeps the cost of growing constant per token
                spare = max(slot, 64)
                self._ids = np.concatenate((self._ids, np.zeros(spare, np.int64)))
                self._counts = np.concatenate((self._counts, np.zeros(spare, np.float32)))
            self._ids[slot] = token_id
        self._counts[slot] += 1

    def fork(self) -> TokenCounts:
        """Counts that go on from here on their own."""
        twin = TokenCounts()
        twin._slots, twin._ids, twin._counts = self._slots.copy(), self._ids.copy(), self._counts.copy()
        return twin


class NgramIndex:
    """For each run of ``size - 1`` tokens that occurred, the tokens that followed it.

    Args:
        size: length of the n-grams that may not occur twice.
        history: the tokens of the request; the owner appends to this very list, then calls ``add``.
    """

    def __init__(self, size: int, history: list[int]) -> None:
        self._size = size
        self._history = history
        self._followers: dict[tuple[int, ...], list[int]] = {}
        for end in range(size, len(history) + 1):
            self._enter(end)

    def add(self, _token_id: int) -> None:
        """Enter the n-gram that the newest token of the history completes."""
        if len(self._history) >= self._size:
            self._enter(len(self._history))

    def banned(self) -> Sequence[int]:
        """The tokens that would complete an n-gram that occurred before."""
        start = len(self._history) - self._size + 1
        return self._followers.get(tuple(self._history[max(start, 0) :]), ())

    def fork(self, history: list[int]) -> NgramIndex:
        """An index that goes on from here on its own, with a copy of the history."""
        twin = NgramIndex(self._size, [])
        twin._history = history
        twin._followers = {prefix: followers.copy() for prefix, followers in self._followers.items()}
        return twin

    def _enter(self, end: int) -> None:
        *prefix, last = self._history[end - self._size : end]
        self._followers.setdefault(tuple(prefix), []).append(last)


class BadWords:
    """Token sequences that may not occur; the last token of one is banned once all before it stand.

    Args:
        words: the sequences, none empty.
        allowed: end-of-sequence tokens; a sequence that is just one of these is passed over.
    """

    def __init__(self, words: Iterable[Sequence[int]], allowed: Collection[int]) -> None:
        always: list[int] = []
        # Keyed by the token before the last one, so that a step looks only at words about to be completed.
        self._pending: dict[int, list[tuple[list[int], int]]] = {}
        for word in words:
            *prefix, last = word
            if prefix:
                self._pending.setdefault(prefix[-1], []).append((prefix, last))
            elif last not in allowed:
                always.append(last)
        self._always = np.array(always, dtype=np.int64)

    def banned(self, history: list[int]) -> NDArray[np.int64]:
        """The tokens that would complete a word after ``history``, ``(banned,)`` int64."""
        candidates = self._pending.get(history[-1], ()) if history else ()
        completed = [last for prefix, last in candidates if history[-len(prefix) :] == prefix]
        return np.append(self._always, completed) if completed else self._always


class History:
    """The tokens of a request, and as much about them as its options ask for.

    Args:
        params: the options.
        prompt_ids: the tokens of the prompt.

    Attributes:
        ids: prompt and output.
        seen: the tokens of both, where repetition is penalised.
        made: those of the output, where presence or frequency is penalised.
        ngrams: what must not be repeated, where nothing must.
    """

    def __init__(self, params: SamplingParams, prompt_ids: Sequence[int]) -> None:
        self.ids = [int(token) for token in prompt_ids]
        counts_output = params.presence_penalty or params.frequency_penalty
        size = params.no_repeat_ngram_size
        self.seen = TokenCounts(self.ids) if params.repetition_penalty != 1 else None
        self.made = TokenCounts() if counts_output else None
        self.ngrams = NgramIndex(size, self.ids) if size else None

    def append(self, token_id: int) -> None:
        """Take one more token, in constant time."""
        self.ids.append(token_id)
        for tracker in (self.seen, self.made, self.ngrams):
            if tracker is not None:
                tracker.add(token_id)

    def fork(self) -> History:
        """A history that goes on from here on its own."""
        twin = copy(self)
        twin.ids = self.ids.copy()
        twin.seen = self.seen and self.seen.fork()
        twin.made = self.made and self.made.fork()
        twin.ngrams = self.ngrams and self.ngrams.fork(twin.ids)
        return twin
