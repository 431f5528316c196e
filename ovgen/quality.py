"""How well a model predicts a text, and how far two models are apart in it.

Perplexity is measured as Hugging Face's documentation does it (https://huggingface.co/docs/transformers/perplexity): a
window slides over the text by a stride, and in each window the tokens that no window before it had are predicted. So
every token but the first is predicted once, from ``window - stride`` tokens or more, unless the text has just begun.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ovgen.errors import ConfigError, RequestError
from ovgen.llm import LLM

if TYPE_CHECKING:
    from tqdm import tqdm

__all__ = ["Comparison", "Perplexity", "compare", "perplexity"]

_WINDOW = 1024  # tokens at most, if nobody says
_AT_ONCE = 1 << 24  # logits that are asked for at once: 64 MB
_FLOAT64 = 1 << 21  # of those, so many are widened at once
_Rows: TypeAlias = NDArray[np.float32]  # (tokens, vocab)
_Numbers: TypeAlias = NDArray[np.float64]  # (tokens,)


@dataclass(frozen=True, slots=True)
class Perplexity:
    """How well a text was predicted.

    Attributes:
        tokens: that were predicted: all but the first, which is the BOS token where the tokenizer puts one.
        text_bytes: of the text in UTF-8, without those of a first token that was not predicted; None for token ids.
        nats: mean of the negative log-probabilities of the tokens.
        nats_error: standard error of that mean, as if tokens were independent.
        window: tokens that were looked at together.
        stride: tokens from a window to the next.
    """

    tokens: int
    text_bytes: int | None
    nats: float
    nats_error: float
    window: int
    stride: int

    @property
    def perplexity(self) -> float:
        """``exp(nats)``."""
        return math.exp(self.nats)

    @property
    def perplexity_error(self) -> float:
        """Its standard error, to first order."""
        return self.perplexity * self.nats_error

    @property
    def bits_per_byte(self) -> float | None:
        """What the text would take if it were compressed with the model; models of other tokenizers compare by this."""
        return self.nats * self.tokens / math.log(2) / self.text_bytes if self.text_bytes else None


@dataclass(frozen=True, slots=True)
class Comparison:
    """How far the predictions of a model are from those of another, token by token.

    Attributes:
        this: how well the one predicted the text.
        other: how well the other one did, which is what it is compared with.
        ratio_error: standard error of `ratio`; much smaller than those of both perplexities, as the text is the same.
        divergence: mean Kullback-Leibler divergence of this one's distributions from the other's, in nats.
        divergence_error: standard error of that mean.
        divergence_median: half of the tokens have less.
        divergence_99: 99 % of the tokens have less.
        divergence_max: the largest.
        same_top: share of the tokens for which both find the same one likeliest.
        same_top_error: standard error of that share.
    """

    this: Perplexity
    other: Perplexity
    ratio_error: float
    divergence: float
    divergence_error: float
    divergence_median: float
    divergence_99: float
    divergence_max: float
    same_top: float
    same_top_error: float

    @property
    def ratio(self) -> float:
        """Perplexity as a multiple of the other one's."""
        return math.exp(self.this.nats - self.other.nats)


def perplexity(
    llm: LLM,
    text: str | Sequence[int],
    *,
    window: int | None = None,
    stride: int | None = None,
    progress: bool = False,
) -> Perplexity:
    """Measure a model on a text.

    Args:
        llm: the model.
        text: the text, or its token ids.
        window: tokens that are looked at together; the default is the model's context, but at most 1024.
        stride: tokens from a window to the next; the default is half a window.
        progress: show a progress bar.

    Raises:
        ConfigError: window or stride cannot be.
        RequestError: the text has no two tokens, or the model has no tokenizer for it.
        CacheFullError: a window does not fit the KV cache.
        DeviceError: the device failed.
    """
    ids = _token_ids(llm, text)
    windows = _Windows.of([llm], ids, window, stride)
    losses = []
    with _bar(ids, progress) as bar:
        for targets, logits in windows.rows(llm):
            losses.append(_losses(logits, targets))
            bar.update(len(targets))
    return _summary(llm, text, ids, np.concatenate(losses), windows)


def compare(
    llm: LLM,
    other: LLM,
    text: str | Sequence[int],
    *,
    window: int | None = None,
    stride: int | None = None,
    progress: bool = False,
) -> Comparison:
    """Measure two models on a text side by side, such as the same one in two precisions.

    Args:
        llm: the one.
        other: what it is compared with; both have the same tokenizer.
        text: the text, or its token ids.
        window: as in `perplexity`; the default is what both take.
        stride: as in `perplexity`.
        progress: show a progress bar.

    Raises:
        ConfigError: window or stride cannot be.
        RequestError: the text has no two tokens, or other tokens for the other model.
        CacheFullError: a window does not fit the KV cache.
        DeviceError: the device failed.
    """
    ids = _token_ids(llm, text)
    sizes = [each.engine.runner.vocab_size for each in (llm, other)]
    if sizes[0] != sizes[1]:
        raise RequestError(f"vocabularies of {sizes[0]} and {sizes[1]} tokens: the models cannot be compared")
    if ids != _token_ids(other, text):
        raise RequestError("the two models have different tokenizers: they cannot be compared token by token")
    windows = _Windows.of([llm, other], ids, window, stride)
    parts: list[tuple[NDArray[Any], ...]] = []
    with _bar(ids, progress) as bar:
        for (targets, ours), (_, theirs) in zip(windows.rows(llm), windows.rows(other), strict=True):
            same = ours.argmax(-1) == theirs.argmax(-1)
            parts.append((_losses(ours, targets), _losses(theirs, targets), _divergences(theirs, ours), same))
            bar.update(len(targets))
    losses, other_losses, divergences, same = (np.concatenate(column) for column in zip(*parts, strict=True))
    this = _summary(llm, text, ids, losses, windows)
    base = _summary(other, text, ids, other_losses, windows)
    return Comparison(
        this=this,
        other=base,
        ratio_error=math.exp(this.nats - base.nats) * _error(losses - other_losses),
        divergence=float(divergences.mean()),
        divergence_error=_error(divergences),
        divergence_median=float(np.median(divergences)),
        divergence_99=float(np.quantile(divergences, 0.99)),
        divergence_max=float(divergences.max()),
        same_top=float(same.mean()),
        same_top_error=_error(same.astype(np.float64)),
    )


@dataclass(frozen=True, slots=True)
class _Windows:
    """A text cut into windows."""

    ids: list[int]
    size: int
    stride: int

    @classmethod
    def of(cls, llms: Sequence[LLM], ids: list[int], window: int | None, stride: int | None) -> _Windows:
        most = min(llm.engine.max_model_len for llm in llms)
        size = min(_WINDOW, most) if window is None else window
        if not isinstance(size, int) or not 2 <= size <= most:
            raise ConfigError(f"window must be from 2 to the {most} tokens of the context, got {size!r}")
        step = max(1, size // 2) if stride is None else stride
        if not isinstance(step, int) or not 1 <= step < size:
            raise ConfigError(f"stride must be from 1 to {size - 1}, less than the window, got {step!r}")
        return cls(ids, size, step)

    def rows(self, llm: LLM) -> Iterator[tuple[NDArray[np.int64], _Rows]]:
        """Tokens, and the logits that predict them; equally many at a time for models of equal vocabularies."""
        ids, most = self.ids, max(1, _AT_ONCE // llm.engine.runner.vocab_size)
        with llm.session() as session:
            begin, done = 0, 1  # tokens before `done` have been predicted, or are the first
            while done < len(ids):
                end = min(begin + self.size, len(ids))
                session.trim(0)  # positions begin with 0 in each window
                if begin < done - 1:
                    session.forward(ids[begin : done - 1], rows=0)
                for first in range(done, end, most):
                    last = min(first + most, end)
                    yield np.array(ids[first:last]), session.forward(ids[first - 1 : last - 1])
                begin, done = begin + self.stride, end


def _token_ids(llm: LLM, text: str | Sequence[int]) -> list[int]:
    if not isinstance(text, str):
        ids = list(text)
    elif llm.tokenizer is None:
        raise RequestError(f"{llm.path} has no tokenizer: put its tokenizer.json there, or give token ids")
    else:
        ids = llm.tokenizer.encode(text)
    if len(ids) < 2:
        count = "one token" if ids else "no tokens"
        raise RequestError(f"the text has {count}: nothing can be predicted in it")
    return llm.engine.checked(ids)


def _log_sums(logits: _Rows) -> _Numbers:
    """``log(sum(exp(row)))`` of each row."""
    top = logits.max(-1)
    with np.errstate(under="ignore"):
        sums = np.exp(logits - top[:, None]).sum(-1, dtype=np.float64)
    return np.asarray(top + np.log(sums), np.float64)


def _losses(logits: _Rows, targets: NDArray[np.int64]) -> _Numbers:
    """Negative log-probabilities of the targets."""
    chosen = np.take_along_axis(logits, targets[:, None], -1)[:, 0]
    return _log_sums(logits) - chosen


def _divergences(base: _Rows, rows: _Rows) -> _Numbers:
    """Kullback-Leibler divergence of the distributions ``rows`` from ``base``, in nats."""
    found = []
    count = max(1, _FLOAT64 // base.shape[1])
    for begin in range(0, len(base), count):
        p, q = base[begin : begin + count], rows[begin : begin + count]
        log_p = p.astype(np.float64) - _log_sums(p)[:, None]
        log_q = q.astype(np.float64) - _log_sums(q)[:, None]
        found.append((np.exp(log_p) * (log_p - log_q)).sum(-1))
    return np.concatenate(found)


def _summary(llm: LLM, text: str | Sequence[int], ids: list[int], losses: _Numbers, windows: _Windows) -> Perplexity:
    size = None
    if isinstance(text, str) and llm.tokenizer is not None:
        first = llm.tokenizer.decode(ids[:1])  # empty if it is a BOS token
        size = len(text.encode()) - len(first.encode())
    mean = float(losses.mean())
    return Perplexity(len(losses), size, mean, _error(losses), windows.size, windows.stride)


def _error(values: _Numbers) -> float:
    """Standard error of the mean; of a single value it is not known."""
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan


def _bar(ids: Sequence[int], progress: bool) -> tqdm[Any]:
    from tqdm import tqdm

    return tqdm(total=len(ids) - 1, unit="token", disable=not progress)
