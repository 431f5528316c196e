"""Beam search, as Hugging Face transformers does it; in groups that differ, after Vijayakumar et al. 2016.

A beam is an unfinished text. A step takes the likeliest next tokens of all beams and keeps the best texts, of which
any number may stem from one beam. The score of a text is the sum of the log-probabilities of its tokens, after the
options have acted on these; that of a finished one is divided by ``length ** length_penalty``.

Diverse groups (https://arxiv.org/abs/1610.02424, Hamming diversity): each group is a beam search by itself. The groups
choose one after the other, and a token loses ``diversity_penalty`` for each beam of the earlier groups that
has just chosen it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ovgen.config import SamplingParams
from ovgen.errors import GenerationError
from ovgen.sampling.candidates import keep_top_k
from ovgen.sampling.logprobs import check_finite
from ovgen.sampling.state import SamplerState
from ovgen.sampling.transforms import Logits, total_weight

__all__ = ["BeamSearch", "Candidates", "Hypothesis", "Successor"]


class Candidates(NamedTuple):
    """What a beam may go on with: ``token_ids`` ``(n,)`` int64 and their ``scores`` ``(n,)`` float32, best first.

    ``n`` is less than asked for where the options leave less, even 0.
    """

    token_ids: NDArray[np.int64]
    scores: Logits


class Successor(NamedTuple):
    """A beam of the next step: the beam with the number ``parent`` of the last step, and ``token_id``."""

    parent: int
    token_id: int


class Hypothesis(NamedTuple):
    """A finished text: the tokens generated, the one that ended it included, and the score to compare it by."""

    token_ids: tuple[int, ...]
    score: float


class _Beam(NamedTuple):
    number: int  # among the beams of all groups that are computed
    token_ids: tuple[int, ...]  # generated so far
    score: float


class BeamSearch:
    """Searches for the texts of the highest scores; knows tokens and log-probabilities, nothing of what computes them.

    In the beginning there is one beam, the prompt. As soon as each beam's next logits are there, they go to
    `candidates`; once those of all beams have been seen, `step` says which beams there are next, until `done`.

    Args:
        params: ``num_beams``, ``length_penalty``, ``early_stopping``, ``num_beam_groups``, ``diversity_penalty``.
        stop_ids: tokens that finish a text.
        max_new_tokens: texts have this many tokens at most; those that have are finished.
    """

    def __init__(self, params: SamplingParams, stop_ids: frozenset[int], max_new_tokens: int) -> None:
        count = params.num_beam_groups
        self._groups = [_Group(params, stop_ids, max_new_tokens) for _ in range(count)]
        self._penalty = params.diversity_penalty
        # Tokens that earlier groups have chosen fall back. There are no more of them than beams in these groups, so
        # that with as many in reserve the list holds all tokens that are among the best after the penalty.
        reserve = params.num_beams - params.num_beams // count
        self._wanted = self._groups[0].wanted + reserve

    @property
    def done(self) -> bool:
        """Whether no text can get any better; there are no more beams."""
        return not any(group.beams for group in self._groups)

    def candidates(self, row: Logits, state: SamplerState) -> Candidates:
        """The best next tokens of one beam.

        Args:
            row: its logits ``(vocab,)`` float32; overwritten.
            state: its tokens and options; these act on log-probabilities, which are not normalised again.

        Raises:
            GenerationError: the logits are no numbers, or an option fails.
        """
        peak = row.max()
        check_finite(row, float(peak))
        row -= peak + np.float32(math.log(total_weight(row)))
        state.process(row)
        if (peak := row.max()) != -np.inf:  # -inf: nothing is left to this beam, but there are others
            check_finite(row, float(peak))
        ids = keep_top_k(row, min(self._wanted, row.size))
        ids = ids[np.argsort(-row[ids], kind="stable")[: self._wanted]]
        return Candidates(ids, row[ids])

    def step(self, candidates: Sequence[Candidates]) -> list[Successor]:
        """Choose the beams of the next step.

        Args:
            candidates: those of each beam, in the order of the successors that the last step gave.

        Returns:
            The new beams; none when the search is done. Where a parent has several children, its state is to be forked.

        Raises:
            GenerationError: no beam has a token to go on with, and no text is finished.
        """
        chosen: Counter[int] = Counter()
        successors: list[Successor] = []
        for group in self._groups:
            penalties = {token: self._penalty * times for token, times in chosen.items()}
            chosen.update(group.advance(candidates, penalties))
            for place, beam in enumerate(group.beams):
                successors.append(Successor(beam.number, beam.token_ids[-1]))
                group.beams[place] = beam._replace(number=len(successors) - 1)
        if self.done and not self.best(1):
            raise GenerationError("no token is left to choose from: the options forbid them all in every beam")
        return successors

    def best(self, n: int) -> list[Hypothesis]:
        """The ``n`` finished texts of the highest scores in all groups, best first; fewer if there are not as many."""
        return _highest([text for group in self._groups for text in group.finished], n)


class _Group:
    """One beam search: its beams, best first, and the finished texts, of which as many are kept as it has beams.

    After ``_beam_search`` of Hugging Face transformers 5.23. Where that goes on with impossible tokens (of
    log-probability -inf) to keep its tensors full, there are fewer beams here.
    """

    def __init__(self, params: SamplingParams, stop_ids: frozenset[int], max_new_tokens: int) -> None:
        self.beams = [_Beam(0, (), 0.0)]
        self.finished: list[Hypothesis] = []
        self._size = params.num_beams // params.num_beam_groups
        self._length_penalty = params.length_penalty
        self._early_stopping = params.early_stopping
        self._stop_ids = stop_ids
        self._max_new_tokens = max_new_tokens
        # Each beam has len(stop_ids) successors at most that do not go on: enough are left that do.
        self.wanted = max(2, 1 + len(stop_ids)) * self._size

    def advance(self, candidates: Sequence[Candidates], penalties: Mapping[int, float]) -> list[int]:
        """Replace the beams by the best of their successors; those that are finished are put aside.

        Args:
            candidates: of all beams of all groups.
            penalties: what is taken off the scores of tokens.

        Returns:
            The tokens chosen to go on with, even if this step has been the last one.
        """
        going: list[_Beam] = []
        last = False
        for rank, (score, beam, token_id) in enumerate(self._ranked(candidates, penalties)):
            token_ids = (*beam.token_ids, token_id)
            last = len(token_ids) == self._max_new_tokens
            stops = token_id in self._stop_ids
            if not stops:
                going.append(_Beam(beam.number, token_ids, score))
            if (stops or last) and rank < self._size:
                self.finished.append(Hypothesis(token_ids, self._weighed(score, len(token_ids))))
        del going[self._size :]
        self.finished = _highest(self.finished, self._size)
        self.beams = going if not last and self._may_improve(going) else []
        return [beam.token_ids[-1] for beam in going]

    def _ranked(
        self, candidates: Sequence[Candidates], penalties: Mapping[int, float]
    ) -> list[tuple[float, _Beam, int]]:
        """The best of what the beams may go on with: score, beam and token, best first."""
        successors = [
            (beam.score + score - penalties.get(token_id, 0.0), beam, token_id)
            for beam in self.beams
            for token_id, score in zip(*(column.tolist() for column in candidates[beam.number]), strict=True)
        ]
        return sorted(successors, key=lambda successor: -successor[0])[: self.wanted]

    def _may_improve(self, going: Sequence[_Beam]) -> bool:
        """Whether one of the beams, best first, may become better than the worst finished text."""
        if not going or len(self.finished) < self._size:
            return bool(going)
        if self._early_stopping is True:
            return False
        longer_wins = self._early_stopping == "never" and self._length_penalty > 0
        length = self._max_new_tokens if longer_wins else len(going[0].token_ids)
        return self._weighed(going[0].score, length) > self.finished[-1].score

    def _weighed(self, score: float, length: int) -> float:
        return score / float(length**self._length_penalty)


def _highest(texts: Sequence[Hypothesis], n: int) -> list[Hypothesis]:
    return sorted(texts, key=lambda text: -text.score)[:n]
