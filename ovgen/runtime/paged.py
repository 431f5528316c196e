"""The paged form at work: all sequences of a step in one inference, the cache in blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from ovgen.graph.passes import ROWS_INPUT
from ovgen.runtime.device import compile_model, device_errors, wait_before_freeing
from ovgen.runtime.inputs import InputBuffer
from ovgen.runtime.kv_blocks import KVBlocks
from ovgen.runtime.runner import Chunk

__all__ = ["PagedRunner"]


class PagedRunner:
    """Runs what `ovgen.graph.passes.to_paged` made. A `Runner`.

    Raises:
        DeviceError: the device refuses the model.
    """

    form = "paged"
    slots: int | None = None

    def __init__(self, model: ov.Model, device: str, config: Mapping[str, Any]) -> None:
        self.device = device
        self.compiled = compile_model(model, device, config)
        self._request = self.compiled.create_infer_request()
        wait_before_freeing(self, self._request)
        self._cache = KVBlocks(self.compiled, self._request)
        self._inputs = {
            port.get_any_name(): InputBuffer(self._request, port)
            for port in self.compiled.inputs
            if "_cache." not in port.get_any_name() and port.partial_shape.rank.get_length() == 1
        }
        self._longest = np.zeros((), np.int32)
        self._longest_tensor = ov.Tensor(self._longest, shared_memory=True)  # of max_context_len, written in place
        self._request.set_tensor("max_context_len", self._longest_tensor)
        self.block_size = self._cache.block_size
        self.bytes_per_block = self._cache.bytes_per_block
        self.vocab_size = self.compiled.output("logits").partial_shape[2].get_length()
        self.cache_layout = f"paged {self._cache.layout}"

    def start(self, chunks: Sequence[Chunk]) -> None:
        """Lay the chunks one after the other and start the inference."""
        ids: list[int] = []
        positions: list[int] = []
        lens: list[int] = []
        begins = [0]
        blocks: list[int] = []
        block_begins = [0]
        rows: list[int] = []
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
            longest = max(longest, end)
        values = {
            "input_ids": ids,
            "position_ids": positions,
            "past_lens": lens,
            "subsequence_begins": begins,
            "block_indices": blocks,
            "block_indices_begins": block_begins,
            ROWS_INPUT: rows,
        }
        for name, buffer in self._inputs.items():
            buffer.write(values[name])
        self._longest[()] = longest
        with device_errors(self.device):
            self._request.start_async()

    def wait(self) -> NDArray[np.float32]:
        """Logits ``(rows, vocab)`` in the request's own memory: valid until the next `start`."""
        with device_errors(self.device):
            self._request.wait()
        logits: NDArray[np.float32] = self._request.get_output_tensor(0).data  # (rows, 1, vocab)
        return logits.reshape(-1, self.vocab_size)

    def resize(self, num_blocks: int) -> None:
        """Make room for this many blocks."""
        self._cache.resize(num_blocks)

    def copy_block(self, source: int, target: int) -> None:
        """Copy one block over all layers."""
        self._cache.copy(source, target)

    def fork(self, source: int, target: int) -> None:
        """Nothing to do: the twin's blocks are the original's until one of them writes."""

    def trim(self, sequence: int, length: int) -> None:
        """Nothing to do: ``past`` of the next chunk says where the sequence ends."""

    def release(self, sequence: int) -> None:
        """Nothing to do: the blocks are the engine's."""

    def export_cache(self, sequence: int, blocks: Sequence[int]) -> list[NDArray[np.uint8]]:
        """A copy of the sequence's blocks."""
        return self._cache.read(blocks)

    def import_cache(self, sequence: int, blocks: Sequence[int], data: list[NDArray[np.uint8]]) -> None:
        """Write saved blocks."""
        self._cache.write(blocks, data)
