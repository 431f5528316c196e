"""The slow twin of the sampler: every option worked out anew from the whole history, on the whole row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from ovgen.config import SamplingParams
from ovgen.sampling import transforms
from ovgen.sampling.transforms import Logits


def processed(
    logits: Logits,
    params: SamplingParams,
    prompt: Sequence[int],
    output: Sequence[int],
    eos: frozenset[int] = frozenset(),
    bad_words: Sequence[Sequence[int]] = (),
) -> Logits:
    """Steps 1 to 11 of the docstring of ``ovgen.sampling.transforms``."""
    row = logits.copy()
    history = [*prompt, *output]
    for token, bias in params.logit_bias.items():
        row[token] += np.float32(bias)
    if params.repetition_penalty != 1:
        row = transforms.repetition_penalty(row, sorted(set(history)), params.repetition_penalty)
    counts = Counter(output)
    if counts:
        numbers = np.array(list(counts.values()), np.float32)
        presence, frequency = params.presence_penalty, params.frequency_penalty
        row = transforms.count_penalties(row, list(counts), numbers, presence, frequency)
    row = transforms.suppress(row, banned_by_ngrams(history, params.no_repeat_ngram_size))
    row = transforms.suppress(row, banned_by_words(history, bad_words, eos))
    if len(output) < params.min_new_tokens:
        row = transforms.suppress(row, [*eos, *params.stop_token_ids])
    if params.forced_bos_token_id is not None and not output:
        row = transforms.force(row, params.forced_bos_token_id)
    if params.forced_eos_token_id is not None and len(output) + 1 == params.max_new_tokens:
        row = transforms.force(row, params.forced_eos_token_id)
    row = transforms.suppress(row, params.suppress_tokens)
    if len(output) == (0 if params.forced_bos_token_id is None else 1):
        row = transforms.suppress(row, params.begin_suppress_tokens)
    for processor in params.logits_processors:
        row = processor(history, row)
    return row


def banned_by_ngrams(history: Sequence[int], size: int) -> list[int]:
    """The tokens that end an n-gram of the history whose beginning is the history's end."""
    if not size or len(history) < size:
        return []
    grams = [list(history[i : i + size]) for i in range(len(history) - size + 1)]
    end = list(history[len(history) - size + 1 :])
    return [gram[-1] for gram in grams if gram[:-1] == end]


def banned_by_words(history: Sequence[int], bad_words: Sequence[Sequence[int]], eos: frozenset[int]) -> list[int]:
    """The last tokens of the words that the history ends on but for them."""
    banned = []
    for word in bad_words:
        prefix = list(word[:-1])
        ends_so = list(history[len(history) - len(prefix) :]) == prefix
        if ends_so and not (len(word) == 1 and word[0] in eos):
            banned.append(word[-1])
    return banned


def warped(logits: Logits, params: SamplingParams) -> Logits:
    """Steps 12 to 16."""
    if params.temperature != 1:
        logits = transforms.temperature(logits, params.temperature)
    if params.top_k:
        logits = transforms.top_k(logits, params.top_k)
    if params.top_p < 1:
        logits = transforms.top_p(logits, params.top_p)
    if params.min_p > 0:
        logits = transforms.min_p(logits, params.min_p)
    if params.typical_p < 1:
        logits = transforms.typical_p(logits, params.typical_p)
    return logits
