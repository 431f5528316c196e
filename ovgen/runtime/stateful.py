"""The stateful form at work: the plugin keeps the cache, one infer request per sequence.

The fallback where the paged form cannot be built. Sequences of a step run one after the other, and rewinding, forking
and saving copy the plugin's state, which is exact for f32 and f16 caches and re-quantised for u8 ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from ovgen.graph.passes import ADAPTERS_INPUT, ROWS_INPUT
from ovgen.runtime.device import compile_model, device_errors, wait_before_freeing, wait_quietly
from ovgen.runtime.inputs import InputBuffer
from ovgen.runtime.runner import PLUGIN, Chunk

__all__ = ["StatefulRunner"]


@dataclass(slots=True)
class _State:
    """One sequence: its infer request, which owns the cache, and how many tokens that holds."""

    request: ov.InferRequest
    inputs: dict[str, InputBuffer]
    length: int = 0


class StatefulRunner:
    """Runs the causal LM form as it is, with `ovgen.graph.passes.select_rows` applied. A `Runner`.

    Raises:
        DeviceError: the device refuses the model.
    """

    form = "stateful"
    kernels = PLUGIN
    slots: int | None = None
    depth = 1
    shares_blocks = False
    block_size = 32  # for the engine's accounting only
    max_blocks: int | None = None

    def __init__(self, model: ov.Model, device: str, config: Mapping[str, Any]) -> None:
        self.device = device
        self.compiled = compile_model(model, device, config)
        self.vocab_size = self.compiled.output("logits").partial_shape[2].get_length()
        self._states: dict[int, _State] = {}
        self._spare: list[_State] = [self._new_state()]  # kept when released: making one allocates
        self._running: list[_State] = []
        shapes = sorted((v.name, tuple(v.state.shape)[1::2]) for v in self._spare[0].request.query_state())
        self.bytes_per_block = 4 * self.block_size * sum(heads * dim for _, (heads, dim) in shapes)
        precision = self.compiled.get_property("KV_CACHE_PRECISION").get_type_name() if device == "CPU" else "default"
        self.cache_layout = f"stateful {precision} {[shape for _, shape in shapes]}"

    @property
    def cache_bytes(self) -> int:
        """Bytes that the variables of all sequences take in f32; the plugin may take less."""
        states = list(self._states.values())  # others may ask in the middle of a step, which adds to them
        tokens = sum(state.length for state in states)
        return int(tokens * self.bytes_per_block // self.block_size)

    def start(self, chunks: Sequence[Chunk]) -> None:
        """Queue one inference per chunk."""
        self._running = []
        for chunk in chunks:
            if chunk.past == 0:
                self.release(chunk.sequence)  # recomputed from its beginning
            with device_errors(self.device):
                state = self._state(chunk.sequence)
            assert chunk.past == state.length, "the sequence was trimmed without telling the runner"
            end = chunk.past + len(chunk.token_ids)
            values: dict[str, Sequence[int] | NDArray[np.int64]] = {
                "input_ids": chunk.token_ids,
                "attention_mask": np.ones(end, np.int64),
                "position_ids": range(chunk.past, end),
                "beam_idx": [0],
                ADAPTERS_INPUT: [chunk.adapter],
                ROWS_INPUT: range(len(chunk.token_ids) - chunk.rows, len(chunk.token_ids)),
            }
            with device_errors(self.device):
                for name, buffer in state.inputs.items():
                    buffer.write(values[name])
                state.request.start_async()
            state.length = end
            self._running.append(state)

    def wait(self) -> NDArray[np.float32]:
        """Logits ``(rows, vocab)``, gathered from the requests of the step."""
        rows: list[NDArray[np.float32]] = []
        for state in self._running:
            with device_errors(self.device):
                state.request.wait()
                rows.append(state.request.get_tensor("logits").data.reshape(-1, self.vocab_size))
        nothing = np.empty((0, self.vocab_size), np.float32)
        return rows[0] if len(rows) == 1 else np.concatenate([nothing, *rows])

    def resize(self, num_blocks: int) -> None:
        """Nothing to do: the plugin grows its own cache."""

    def copy_block(self, source: int, target: int) -> None:
        """Nothing to do: `fork` copied the whole sequence."""

    def fork(self, source: int, target: int) -> None:
        """Copy the plugin's cache of one sequence to another."""
        if source in self._states:
            self.import_cache(target, (), self.export_cache(source, ()), self._states[source].length)

    def trim(self, sequence: int, length: int) -> None:
        """Write the first ``length`` tokens of the plugin's cache back."""
        state = self._states.get(sequence)
        if length == 0:
            self.release(sequence)
        if length == 0 or state is None or state.length <= length:
            return
        with device_errors(self.device):
            for variable in _variables(state):
                kept = np.ascontiguousarray(variable.state.data[:, :, :length])  # (1, heads, length, head_dim)
                variable.state = ov.Tensor(kept)
        state.length = length

    def release(self, sequence: int) -> None:
        """Empty the sequence's request and keep it for another, unless it has failed."""
        state = self._states.pop(sequence, None)
        if state is not None:
            wait_quietly(state.request)
            with suppress(RuntimeError):
                state.request.reset_state()
                state.length = 0
                self._spare.append(state)

    def export_cache(self, sequence: int, blocks: Sequence[int]) -> list[NDArray[np.uint8]]:
        """The plugin's variables in f32, as bytes."""
        with device_errors(self.device):
            variables = _variables(self._states[sequence])
            return [np.ascontiguousarray(v.state.data, np.float32).view(np.uint8).reshape(-1) for v in variables]

    def import_cache(self, sequence: int, blocks: Sequence[int], data: list[NDArray[np.uint8]], length: int) -> None:
        """Set the plugin's variables."""
        with device_errors(self.device):
            state = self._state(sequence)
            for variable, raw in zip(_variables(state), data, strict=True):
                _, heads, _, dim = variable.state.shape
                values = raw.view(np.float32).reshape(1, heads, length, dim)
                variable.state = ov.Tensor(values)  # copies
                state.length = length

    def _state(self, sequence: int) -> _State:
        if sequence not in self._states:
            self._states[sequence] = self._spare.pop() if self._spare else self._new_state()
        return self._states[sequence]

    def _new_state(self) -> _State:
        request = self.compiled.create_infer_request()
        wait_before_freeing(self, request)
        inputs = {}
        for port in self.compiled.inputs:
            name = port.get_any_name()
            inputs[name] = InputBuffer(request, port, (1,) if port.partial_shape.rank.get_length() == 2 else ())
        return _State(request, inputs)


def _variables(state: _State) -> list[Any]:
    """The variables in an order that does not depend on the plugin's."""
    return sorted(state.request.query_state(), key=lambda variable: str(variable.name))
