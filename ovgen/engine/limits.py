"""How much fits, and what can be refused before it is queued."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from operator import index

from ovgen.errors import ContextLengthError, RequestError

__all__ = ["block_limit", "checked_ids", "length_limit", "shortened"]

_GIB = 1 << 30
_log = logging.getLogger("ovgen")


def checked_ids(token_ids: Iterable[int], vocab_size: int) -> list[int]:
    """The ids as a list of our own.

    Raises:
        RequestError: there are none, or one is not below ``vocab_size``.
    """
    try:
        ids = [index(token) for token in token_ids]  # takes numpy's integers, and refuses 1.5
    except TypeError as error:
        raise RequestError(f"a prompt is text or a list of token ids: {error}") from error
    if not ids:
        raise RequestError("the prompt is empty: give at least one token (BOS, for example)")
    for token in ids:
        if not 0 <= token < vocab_size:
            raise RequestError(f"token id {token} is not in the vocabulary of {vocab_size}")
    return ids


def length_limit(prompt: int, max_new_tokens: int | None, context: int, room: int) -> int:
    """At how many tokens a request ends.

    Args:
        prompt: tokens of its prompt.
        max_new_tokens: None for as many as there is room for.
        context: tokens that the model takes.
        room: tokens that the KV cache holds.

    Raises:
        ContextLengthError: the prompt is longer than the context, or the request could never fit the cache.
    """
    if prompt >= context:
        raise ContextLengthError(
            f"the prompt has {prompt} tokens; the context holds {context}, output included: shorten it"
        )
    limit = min(context, prompt + max_new_tokens if max_new_tokens else max(room, prompt + 1))
    if limit > room:
        raise ContextLengthError(f"{limit} tokens never fit the KV cache of {room}: raise cache_size")
    return limit


def shortened(tokens: Sequence[int], first: int, capacity: int) -> list[int]:
    """Tokens of a sequence that has as many as it may have: the ``first``, and the newer half of the others.

    Args:
        tokens: of the sequence; fewer than ``capacity`` stay as they are.
        first: these are kept (``context_shift``).
        capacity: tokens that the model takes and the KV cache holds.

    Raises:
        RequestError: ``first`` leaves no room for others.
    """
    if first > capacity - 4:
        raise RequestError(f"context_shift={first} leaves no room in a context of {capacity} tokens: keep fewer")
    if len(tokens) < capacity:
        return list(tokens)
    newer = (capacity - first) // 2
    _log.info("a context of %d tokens is full: %d are dropped", capacity, len(tokens) - first - newer)
    return [*tokens[:first], *tokens[-newer:]]


def block_limit(cache_size: float, bytes_per_block: int, device: int | None) -> int:
    """How many blocks the KV cache may have.

    Args:
        cache_size: GiB that it may take.
        bytes_per_block: over all layers.
        device: blocks that the device has room for, whatever the memory; None: any number.
    """
    wanted = max(1, int(cache_size * _GIB) // bytes_per_block)
    if device is None or device >= wanted:
        return wanted
    size = device * bytes_per_block / _GIB
    _log.warning("the KV cache takes %.3g GiB instead of %.3g: the device allocates no more at once", size, cache_size)
    return device
