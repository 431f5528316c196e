"""The paged form at work: all sequences of a step in one inference, the cache in blocks."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from ovgen.errors import DeviceError, UnsupportedModelError
from ovgen.graph.passes import ADAPTERS_INPUT, ROWS_INPUT, of_tokens
from ovgen.runtime.block_memory import on_gpu
from ovgen.runtime.device import compile_model, device_errors, wait_before_freeing, wait_quietly
from ovgen.runtime.inputs import InputBuffer
from ovgen.runtime.kv_blocks import KVBlocks
from ovgen.runtime.runner import PLUGIN, Chunk

__all__ = ["PagedRunner"]

_OFTEN = 4  # steps, after which such a graph is worth its compiling
_log = logging.getLogger("ovgen")


class _Graph:
    """An infer request and its input buffers."""

    def __init__(self, compiled: ov.CompiledModel) -> None:
        self.request = compiled.create_infer_request()
        self._inputs = {
            port.get_any_name(): InputBuffer(self.request, port)
            for port in compiled.inputs
            if "_cache." not in port.get_any_name() and port.partial_shape.rank.get_length() == 1
        }
        self._longest = np.zeros((), np.int32)
        self._longest_tensor = ov.Tensor(self._longest, shared_memory=True)  # of max_context_len, written in place
        self.request.set_tensor("max_context_len", self._longest_tensor)

    def write(self, values: Mapping[str, Sequence[int]], longest: int) -> None:
        """Make these the inputs of the next inference."""
        for name, buffer in self._inputs.items():
            buffer.write(values[name])
        self._longest[()] = longest


class _Lane:
    """Computes one step at a time; with two of them, two steps can be in flight.

    Attributes:
        graphs: by the number of tokens that they are for; 0: any.
        request: that of the step in flight, or of the last one.
    """

    def __init__(self, compiled: ov.CompiledModel) -> None:
        self.graphs = {0: _Graph(compiled)}
        self.request = self.graphs[0].request

    def write(self, tokens: int, values: Mapping[str, Sequence[int]], longest: int) -> None:
        """Make these the inputs of the next inference."""
        graph = self.graphs[tokens]
        graph.write(values, longest)
        self.request = graph.request


class PagedRunner:
    """Runs what `ovgen.graph.passes.to_paged` made. A `Runner`.

    Args:
        model: the paged form.
        device: compiles and runs it.
        config: OpenVINO properties.
        depth: steps in flight, each with an infer request of its own. None: two on a GPU, not tried there; one
            elsewhere. With two, each computes half of the requests. It pays where the host's part of a step takes
            longer than what the device saves on halves; a CPU that is shared with Python lost a quarter or more.
        fixed: make graphs of fixed shapes, too, for steps of up to so many tokens of one sequence: for one token, and
            for what is computed again and again, such as drafts. They take less time, and give the same logits bit by
            bit. They are compiled in the background, while the graph of any shape goes on. Each takes a copy of the
            weights that graphs do not share.

    Raises:
        DeviceError: the device refuses the model.
        UnsupportedModelError: the device's KV cache cannot be in blocks of ours.
    """

    form = "paged"
    kernels = PLUGIN
    slots: int | None = None
    shares_blocks = True

    def __init__(
        self,
        model: ov.Model,
        device: str,
        config: Mapping[str, Any],
        depth: int | None = None,
        *,
        fixed: int = 0,
    ) -> None:
        self.device = device
        self._config = _useful(config, device)
        self.compiled = compile_model(model, device, self._config)
        self.depth = depth or (2 if on_gpu(self.compiled) else 1)
        self._lanes = [_Lane(self.compiled) for _ in range(self.depth)]  # taken in turn
        self._started = self._finished = 0  # steps
        requests = [lane.request for lane in self._lanes]
        for request in requests:
            wait_before_freeing(self, request)
        self._cache = KVBlocks(self.compiled, device, requests)
        self.block_size = self._cache.block_size
        self.bytes_per_block = self._cache.bytes_per_block
        self.max_blocks = self._cache.most
        self.vocab_size = self.compiled.output("logits").partial_shape[2].get_length()
        self.cache_layout = f"paged {self._cache.layout}"
        self._model = model if fixed else None
        self._most_fixed = fixed
        self._asked: Counter[int] = Counter()  # how often steps of so many tokens were wanted
        self._coming: tuple[int, Future[ov.CompiledModel]] | None = None  # for so many tokens, being compiled
        if on_gpu(self.compiled):
            self._check_blocks()

    @property
    def cache_bytes(self) -> int:
        """Bytes of all blocks."""
        return self._cache.blocks * self.bytes_per_block

    def start(self, chunks: Sequence[Chunk]) -> None:
        """Lay the chunks one after the other and start the inference."""
        ids: list[int] = []
        positions: list[int] = []
        lens: list[int] = []
        begins = [0]
        blocks: list[int] = []
        block_begins = [0]
        rows: list[int] = []
        adapters: list[int] = []
        longest = 0
        for chunk in chunks:
            end = chunk.past + len(chunk.token_ids)
            ids += chunk.token_ids
            positions += range(chunk.past, end)
            lens.append(chunk.past)
            begins.append(len(ids))
            blocks += chunk.blocks[: -(-end // self.block_size)]
            block_begins.append(len(blocks))
            rows += range(len(ids) - chunk.rows, len(ids))
            adapters += [chunk.adapter] * len(chunk.token_ids)
            longest = max(longest, end)
        values = {
            "input_ids": ids,
            "position_ids": positions,
            "past_lens": lens,
            "subsequence_begins": begins,
            "block_indices": blocks,
            "block_indices_begins": block_begins,
            ROWS_INPUT: rows,
            ADAPTERS_INPUT: adapters,
        }
        assert self._started - self._finished < self.depth, "more steps than the runner takes"
        lane = self._lanes[self._started % self.depth]
        lane.write(self._fixed(len(ids)) if len(chunks) == 1 and len(rows) == len(ids) else 0, values, longest)
        self._started += 1  # first: if it is interrupted, `wait` leaves the request idle
        with device_errors(self.device):
            lane.request.start_async()

    def wait(self) -> NDArray[np.float32]:
        """Logits ``(rows, vocab)`` in the memory of the oldest step's request, which the next `start` may write to."""
        if self._started == self._finished:
            return np.empty((0, self.vocab_size), np.float32)
        lane = self._lanes[self._finished % self.depth]
        with device_errors(self.device):
            try:
                lane.request.wait()
            except RuntimeError:
                self._finished += 1  # an interrupt is another matter: the request may be running still
                raise
        self._finished += 1
        logits: NDArray[np.float32] = lane.request.get_output_tensor(0).data  # (rows, 1, vocab)
        return logits.reshape(-1, self.vocab_size)

    def resize(self, num_blocks: int) -> None:
        """Make room for this many blocks, when the steps in flight are over: they work on the memory that moves."""
        for lane in self._lanes:
            wait_quietly(lane.request)  # what failed fails again in `wait`
        self._cache.resize(num_blocks)

    def copy_block(self, source: int, target: int) -> None:
        """Copy one block over all layers."""
        with device_errors(self.device):
            self._cache.copy(source, target)

    def fork(self, source: int, target: int) -> None:
        """Nothing to do: the twin's blocks are the original's until one of them writes."""

    def trim(self, sequence: int, length: int) -> None:
        """Nothing to do: ``past`` of the next chunk says where the sequence ends."""

    def release(self, sequence: int) -> None:
        """Nothing to do: the blocks are the engine's."""

    def export_cache(self, sequence: int, blocks: Sequence[int]) -> list[NDArray[np.uint8]]:
        """A copy of the sequence's blocks."""
        with device_errors(self.device):
            return self._cache.read(blocks)

    def import_cache(self, sequence: int, blocks: Sequence[int], data: list[NDArray[np.uint8]], length: int) -> None:
        """Write saved blocks."""
        with device_errors(self.device):
            self._cache.write(blocks, data)

    def settle(self) -> None:
        """Wait for what is being compiled in the background, so that it disturbs nobody who measures."""
        if self._coming is not None:
            self._coming[1].exception()
            self._adopt()

    def _fixed(self, tokens: int) -> int:
        """``tokens`` if there is a graph for just as many, else 0; one is compiled when it has been wanted often."""
        if self._coming is not None and self._coming[1].done():
            self._adopt()
        if self._model is None or tokens > self._most_fixed:
            return 0
        if tokens in self._lanes[-1].graphs:
            return tokens
        self._asked[tokens] += 1
        if self._asked[tokens] >= _OFTEN and self._coming is None:
            self._begin_fixed(tokens)
        return 0

    def _begin_fixed(self, tokens: int) -> None:
        """Compile a graph in a thread that ends with that, and that the end of the program waits for."""
        assert self._model is not None
        try:
            pool = ThreadPoolExecutor(1, "ovgen-compile")
            self._coming = tokens, pool.submit(_compile_fixed, self._model, tokens, self.device, self._config)
            pool.shutdown(wait=False)
        except RuntimeError as error:  # no more threads
            self._go_without(error)

    def _adopt(self) -> None:
        """Use what has been compiled; between two steps, as it is given the blocks that they work on."""
        assert self._coming is not None
        tokens, future = self._coming
        try:
            for lane in self._lanes:
                graph = _Graph(future.result())
                wait_before_freeing(self, graph.request)
                self._cache.share(graph.request)
                lane.graphs[tokens] = graph
        except (DeviceError, RuntimeError, MemoryError) as error:
            self._go_without(error)
        self._coming = None  # last: if this is interrupted, it is done another time

    def _go_without(self, error: Exception) -> None:
        _log.warning("steps of a fixed number of tokens take longer: there can be no graphs for them: %s", error)
        self._model = None

    def _check_blocks(self) -> None:
        """Compute a token to see that it is cached: a plugin that works on a copy of the blocks does not say so."""
        self.resize(1)
        self.start([Chunk(0, [0], 0, [0], 1)])
        self.wait()
        if not all(data.any() for data in self.export_cache(0, [0])):
            raise UnsupportedModelError(
                f"{self.device} does not write into the blocks of the KV cache that it is given"
            )


def _compile_fixed(model: ov.Model, tokens: int, device: str, config: Mapping[str, Any]) -> ov.CompiledModel:
    """A graph for steps of so many tokens. It knows no runner, so that one can go while its graph is compiled."""
    return compile_model(of_tokens(model, tokens), device, config)


def _useful(config: Mapping[str, Any], device: str) -> dict[str, Any]:
    """Without ``CACHE_DIR`` where that only costs time: OpenVINO 2026.4.1 would write what it cannot read."""
    used = dict(config)
    if device == "CPU" and used.pop("CACHE_DIR", None):
        _log.warning("CACHE_DIR is not used: the CPU plugin does not take models in the paged form back")
    return used
