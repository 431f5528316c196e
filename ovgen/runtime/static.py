"""The static form at work: fixed sizes, slots for sequences, and a cache whose rows ovgen writes itself.

A step is cut into passes. Short chunks (one token, or a draft) of several sequences go together in one pass over all
slots; longer ones go piece by piece, one sequence at a time. Each pass returns the new rows of keys and values, which
are written behind those that are there. The cache is as long as the longest sequence in it needs, in steps of doubling;
a sequence that finds no slot is kept aside, as rows, until it is its turn.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from ovgen.graph.passes import StaticShape
from ovgen.runtime.device import device_errors, wait_quietly
from ovgen.runtime.runner import PLUGIN, Chunk
from ovgen.runtime.slots import Slots
from ovgen.runtime.static_graphs import StaticGraph, StaticGraphs

__all__ = ["StaticRunner"]

_SHORTEST = 256  # tokens: the first context that graphs are made for
_KEPT = 2  # contexts whose graphs are kept: each graph may have a copy of the weights
_DRAFT = 8  # tokens of the graph that takes short chunks of which every logit is wanted


@dataclass(frozen=True, slots=True)
class _Part:
    """What a pass computes of one sequence.

    Attributes:
        sequence: its number.
        slot: where its cache is.
        past: tokens cached before.
        token_ids: the new ones.
        rows: logits are wanted for this many of the last tokens.
        first: the first row of the step's logits that they are.
        adapter: that the sequence goes through.
    """

    sequence: int
    slot: int
    past: int
    token_ids: Sequence[int]
    rows: int
    first: int
    adapter: int


class StaticRunner:
    """Runs `ovgen.graph.passes.to_static` of a model, in as many sizes as needed. A `Runner`.

    Args:
        model: the causal LM form, stateful.
        windows: by attention, as `to_static` takes them.
        device: compiles and runs it.
        config: OpenVINO properties; ``KV_CACHE_PRECISION`` is read here.
        slots: how many sequences are computed at once.
        chunk: tokens of a prompt that are computed at once.
        longest: tokens of the longest sequence.
        cache_size: bytes that all slots may take.
        ahead: compile for every length of the cache now, and not when a sequence grows to it.
        identity: stands for the model's weights, so that compiled graphs can be kept in ``CACHE_DIR``.

    Raises:
        ConfigError: the cache can have no such precision.
        UnsupportedModelError: the model cannot be brought into this form.
        DeviceError: the device refuses the model.
    """

    form = "static"
    kernels = PLUGIN
    depth = 1
    shares_blocks = False
    block_size = 32  # for the engine's accounting only
    max_blocks: int | None = None

    def __init__(
        self,
        model: ov.Model,
        windows: Mapping[str, int | None],
        device: str,
        config: Mapping[str, Any],
        *,
        slots: int,
        chunk: int,
        longest: int,
        cache_size: int,
        ahead: bool = False,
        identity: str | None = None,
    ) -> None:
        self.device = device
        self._graphs = StaticGraphs(model, windows, device, config, identity)
        self.slots: int | None = slots
        self._batch = slots
        self._chunk = chunk
        self._cache = Slots(slots)
        self._context = 0
        self._tensors: list[ov.Tensor] = []  # the cache's memory: inputs of the graph that decodes all slots
        self._bound: dict[StaticShape, int | None] = {}  # the slot that a graph reads; None: all
        self._passes: deque[tuple[StaticShape, list[_Part]]] = deque()
        self._flying: tuple[StaticGraph, list[_Part]] | None = None
        self._rows = 0  # of the step
        self._ahead = ahead
        self._recent: list[int] = []  # contexts, the one in use last
        self._contexts = [min(_SHORTEST, longest)]
        self._fit(1)
        arrays = self._cache.arrays
        token = slots * sum(a.itemsize * a.shape[1] * a.shape[3] for a in arrays)  # bytes: all slots are as long
        self.bytes_per_block = self.block_size * token
        self._contexts += _longer(self._contexts[0], min(longest, cache_size // token))
        for context in reversed(self._contexts) if ahead else self._contexts[:1]:
            self._fit(context)
            for tokens in (chunk, 1) if ahead else (chunk,):
                self._graph(self._shape(tokens, 1), 0)  # a device that refuses it shall do so now
        self.cache_layout = f"static {' '.join(f'{a.dtype.name}{[a.shape[1], a.shape[3]]}' for a in arrays)}"
        self.vocab_size = self._graphs[self._decoding].logits.shape[2]
        self._logits = np.empty((0, self.vocab_size), np.float32)

    @property
    def cache_bytes(self) -> int:
        """Bytes that the cache takes now: all slots, and what lies aside."""
        return self._cache.nbytes

    @property
    def compiled(self) -> ov.CompiledModel:
        """The graph that takes one token of each sequence."""
        return self._graphs[self._decoding].compiled

    def start(self, chunks: Sequence[Chunk]) -> None:
        """Cut the step into passes and start the first."""
        self._forget_passes()
        working = {chunk.sequence for chunk in chunks}
        self._fit(max(chunk.past + len(chunk.token_ids) for chunk in chunks), working)
        self._rows = sum(chunk.rows for chunk in chunks)
        if self._rows > len(self._logits):
            self._logits = np.empty((self._rows, self.vocab_size), np.float32)
        self._passes.extend(self._cut(chunks))
        self._launch()

    def wait(self) -> NDArray[np.float32]:
        """Logits ``(rows, vocab)`` in the runner's memory: valid until the next `start`."""
        try:
            while self._flying is not None:
                self._land(*self._flying)
                self._launch()
        except BaseException:
            self._forget_passes()
            raise
        return self._logits[: self._rows]

    def resize(self, num_blocks: int) -> None:
        """Nothing to do: the cache grows with the sequences."""

    def copy_block(self, source: int, target: int) -> None:
        """Nothing to do: `fork` copied the whole sequence."""

    def fork(self, source: int, target: int) -> None:
        """Copy the rows of one sequence for another."""
        self._cache.fork(source, target)

    def trim(self, sequence: int, length: int) -> None:
        """Forget the rows behind ``length``."""
        self._cache.trim(sequence, length)

    def release(self, sequence: int) -> None:
        """Give the sequence's slot to the next."""
        self._cache.release(sequence)

    def export_cache(self, sequence: int, blocks: Sequence[int]) -> list[NDArray[np.uint8]]:
        """The sequence's rows, as bytes: the same whatever the context and the slot."""
        return [rows.view(np.uint8).reshape(-1) for rows in self._cache.read(sequence)]

    def import_cache(self, sequence: int, blocks: Sequence[int], data: list[NDArray[np.uint8]], length: int) -> None:
        """Keep saved rows for when the sequence is computed."""
        self._cache.put_bytes(sequence, data, length)

    @property
    def _decoding(self) -> StaticShape:
        return StaticShape(self._batch, 1, self._context, 1)

    def _shape(self, tokens: int, rows: int, sequences: int = 1) -> StaticShape:
        """The graph for so many tokens, logits and sequences: it takes one sequence, or all slots."""
        if rows > 1 or tokens not in (1, self._chunk):
            rows = tokens
        return StaticShape(1 if sequences == 1 else self._batch, tokens, self._context, max(rows, 1))

    def _fit(self, length: int, working: Collection[int] = ()) -> None:
        """Let the cache hold ``length`` tokens; it may become shorter where none of those at work is in it."""
        context = next(context for context in self._contexts if context >= length)
        if context == self._context or (context < self._context and not self._cache.resident.isdisjoint(working)):
            return
        if context < self._context:
            for sequence in list(self._cache.resident):
                self._cache.put_aside(sequence)
        with device_errors(self.device):
            tensors = self._graphs[StaticShape(self._batch, 1, context, 1)].own_cache()
        self._cache.move([tensor.data for tensor in tensors])
        self._context, self._tensors = context, tensors  # last: what fails before leaves all as it was
        self._recent = [*(other for other in self._recent if other != context), context]
        if not self._ahead:
            for old in self._recent[:-_KEPT]:
                self._graphs.drop(old)
            self._recent = self._recent[-_KEPT:]
            self._bound = {shape: slot for shape, slot in self._bound.items() if shape in self._graphs}

    def _cut(self, chunks: Sequence[Chunk]) -> Iterator[tuple[StaticShape, list[_Part]]]:
        """Passes: pieces that take one each, then those that can share one."""
        numbers = {chunk.sequence for chunk in chunks}
        together: dict[int, list[_Part]] = {}  # by tokens of the graph
        first = 0
        for chunk in chunks:
            slot = self._cache.admit(chunk.sequence, chunk.past, numbers)
            unwanted = len(chunk.token_ids) - chunk.rows
            for begin in range(0, len(chunk.token_ids), self._chunk):
                token_ids = chunk.token_ids[begin : begin + self._chunk]
                rows = min(len(token_ids), max(0, begin + len(token_ids) - unwanted))
                part = _Part(chunk.sequence, slot, chunk.past + begin, token_ids, rows, first, chunk.adapter)
                first += rows
                tokens, ends = self._tokens(part), begin + len(token_ids) == len(chunk.token_ids)
                if tokens < self._chunk or (tokens == 1 and ends):
                    together.setdefault(tokens, []).append(part)
                else:
                    yield self._shape(tokens, rows), [part]
        for tokens, parts in together.items():
            shape = self._shape(tokens, tokens, len(parts))
            if tokens == 1 or shape in self._graphs or any(part.rows > 1 for part in parts):
                yield shape, parts
            else:  # short ends of prompts: no reason to compile for them
                yield from ((self._shape(tokens, tokens), [part]) for part in parts)

    def _tokens(self, part: _Part) -> int:
        """The size of graph for a part; that for drafts is not made only because a prompt has a short end."""
        count = len(part.token_ids)
        for tokens in (1, _DRAFT):
            if count <= tokens < self._chunk and (
                tokens == 1 or part.rows > 1 or self._shape(tokens, 2) in self._graphs
            ):
                return tokens
        return self._chunk

    def _launch(self) -> None:
        if not self._passes:
            return
        shape, parts = self._passes.popleft()
        graph = self._graph(shape, parts[0].slot)
        for part in parts:
            graph.write(self._index(shape, part), part.token_ids, part.past, part.adapter)
        with device_errors(self.device):
            graph.request.start_async()
        self._flying = graph, parts

    def _land(self, graph: StaticGraph, parts: list[_Part]) -> None:
        """Wait for a pass; keep its keys, values and logits."""
        with device_errors(self.device):
            graph.request.wait()
        self._flying = None
        for part in parts:
            index, count = self._index(graph.shape, part), len(part.token_ids)
            self._cache.append(part.sequence, [new[index] for new in graph.new], count)
            if part.rows:
                end = min(count, graph.shape.rows)  # a graph with one row has that of the last token
                self._logits[part.first : part.first + part.rows] = graph.logits[index, end - part.rows : end]

    def _graph(self, shape: StaticShape, slot: int) -> StaticGraph:
        """The graph for a shape; one for a single sequence reads its slot."""
        graph = self._graphs[shape]
        whole = shape.batch == self._batch
        wanted = None if whole else slot
        if shape != self._decoding and self._bound.get(shape, -1) != wanted:
            with device_errors(self.device):
                graph.bind(self._tensors if whole else [_slice(tensor, slot) for tensor in self._tensors])
            self._bound[shape] = wanted
        return graph

    def _index(self, shape: StaticShape, part: _Part) -> int:
        """Which of the pass's sequences a part is."""
        return part.slot if shape.batch == self._batch else 0

    def _forget_passes(self) -> None:
        """After a failure: the rest of the step will not be computed."""
        self._passes.clear()
        if self._flying is not None:
            wait_quietly(self._flying[0].request)
            self._flying = None


def _longer(context: int, longest: int) -> list[int]:
    """Lengths of the cache that graphs are made for after ``context``, each twice the one before."""
    contexts = []
    while context < longest:
        context = min(2 * context, longest)
        contexts.append(context)
    return contexts


def _slice(tensor: ov.Tensor, slot: int) -> ov.Tensor:
    """One slot of a cache, in the same memory."""
    return ov.Tensor(tensor, [slot, 0, 0, 0], [slot + 1, *tensor.shape[1:]])
