"""The static form's compiled graphs: one for each size of step, made when first needed."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from ovgen.errors import ConfigError
from ovgen.graph.passes import ADAPTERS_INPUT, ROWS_INPUT, StaticShape, mask_name, to_static
from ovgen.runtime.device import compile_model, device_errors, wait_before_freeing

__all__ = ["StaticGraph", "StaticGraphs", "cache_type"]

_HIDDEN = np.float32(np.finfo(np.float16).min / 2)
"""What a mask adds to hide a token: far below every score, and in float16 still a number when a score is added."""

_log = logging.getLogger("ovgen")


class StaticGraph:
    """A compiled graph and its infer request.

    What goes in is written into the plugin's own memory, since an NPU copies any other at each step; it stays where it
    is, because all shapes are fixed.

    Attributes:
        shape: what it computes.
        compiled: the model.
        request: its infer request.
        new: keys and values of the new tokens, in the same order, ``(batch, kv_heads, tokens, d)``.
        logits: ``(batch, rows, vocab)`` float32.
    """

    def __init__(self, compiled: ov.CompiledModel, shape: StaticShape, windows: set[int]) -> None:
        self.shape = shape
        self.compiled = compiled
        self.request = compiled.create_infer_request()
        wait_before_freeing(self, self.request)
        names = {name for port in compiled.inputs for name in port.get_names()}
        layers = range(sum(name.endswith(".key") for name in names))
        self._caches = [f"{layer}.{kind}" for layer in layers for kind in ("key", "value")]
        self.new = [self._view(f"present.{name}") for name in self._caches]
        self.logits: NDArray[np.float32] = self._view("logits")
        self._ids = self._view("input_ids")  # (batch, tokens)
        self._positions = self._view("position_ids") if "position_ids" in names else np.zeros_like(self._ids)
        self._adapters = self._view(ADAPTERS_INPUT) if ADAPTERS_INPUT in names else np.zeros(shape.batch, np.int32)
        self._adapters[:] = 0
        self._rows = self._view(ROWS_INPUT)  # (rows,)
        self._rows[:] = np.arange(shape.tokens - shape.rows, shape.tokens)
        self._masks = {window: self._view(mask_name(window)) for window in windows}
        self._ids[:] = 0
        self._positions[:] = 0  # of slots that are not used: any that exists
        back = np.arange(shape.tokens)[:, None] - np.arange(shape.tokens)  # how far each new token looks back
        for window, mask in self._masks.items():  # (batch, 1, tokens, context + tokens)
            mask[..., : shape.context] = _HIDDEN
            mask[..., shape.context :] = np.where((back >= 0) & (back < (window or shape.tokens)), 0, _HIDDEN)

    def own_cache(self) -> list[ov.Tensor]:
        """The inputs for keys and values, layer by layer, ``(batch, kv_heads, context, d)``, zeroed."""
        cache = [self.request.get_tensor(f"past_key_values.{name}") for name in self._caches]
        for tensor in cache:
            tensor.data[:] = 0  # what the mask hides is multiplied by 0, which makes NaN of NaN
        return cache

    def bind(self, cache: list[ov.Tensor]) -> None:
        """Read keys and values from other memory, which the caller keeps alive."""
        for name, tensor in zip(self._caches, cache, strict=True):
            self.request.set_tensor(f"past_key_values.{name}", tensor)

    def write(self, index: int, token_ids: Sequence[int], past: int, adapter: int = 0) -> None:
        """Prepare the sequence ``index`` of the batch: up to ``tokens`` new tokens after ``past`` cached ones.

        Logits are those of the last new tokens, ``rows`` of them (of all, padding included, if ``rows`` is ``tokens``).
        """
        count, size, context = len(token_ids), self.shape.tokens, self.shape.context
        self._ids[index, :count] = token_ids
        self._adapters[index] = adapter
        self._positions[index] = np.arange(past, past + size)
        self._positions[index, count:] = past  # padding: any position that exists
        if self.shape.rows < size:
            self._rows[:] = np.arange(count - self.shape.rows, count)
        for window, mask in self._masks.items():
            rows = mask[index, 0, :, :context]
            rows[:, :past] = 0
            rows[:, past:] = _HIDDEN
            if window:
                back = np.arange(past, past + size)[:, None] - np.arange(past)
                rows[:, :past][back >= window] = _HIDDEN

    def _view(self, name: str) -> NDArray[Any]:
        data: NDArray[Any] = self.request.get_tensor(name).data
        return data


class StaticGraphs:
    """Compiles a model for sizes as they are asked for, and keeps the results.

    Args:
        model: the causal LM form, stateful.
        windows: by attention, as `to_static` takes them.
        device: compiles and runs it.
        config: OpenVINO properties. ``KV_CACHE_PRECISION`` is read here: f16, which is also the default unless the
            computation shall be in float32, or f32.
        identity: as `ovgen.runtime.device.compile_model` takes it.

    Raises:
        ConfigError: the cache can have no such precision.
    """

    def __init__(
        self,
        model: ov.Model,
        windows: Mapping[str, int | None],
        device: str,
        config: Mapping[str, Any],
        identity: str | None = None,
    ) -> None:
        self._model = model
        self._windows = windows
        self._device = device
        self._config = {name: value for name, value in config.items() if name != "KV_CACHE_PRECISION"}
        self._identity = identity
        self._cache_type = cache_type(config)
        self._made: dict[StaticShape, StaticGraph] = {}

    def __contains__(self, shape: StaticShape) -> bool:
        return shape in self._made

    def __getitem__(self, shape: StaticShape) -> StaticGraph:
        """The graph for a shape, compiled now if it has not been.

        Raises:
            UnsupportedModelError: the model cannot be brought into the static form.
            DeviceError: the device refuses it.
        """
        if shape not in self._made:
            begin = time.perf_counter()
            form = to_static(self._model, self._windows, shape, self._cache_type)
            compiled = compile_model(form, self._device, self._config, identity=self._identity)
            windows = {window for window in self._windows.values() if window is not None}
            with device_errors(self._device):
                self._made[shape] = StaticGraph(compiled, shape, windows)
            _log.info("compiled for %s: %s, %.1f s", self._device, shape, time.perf_counter() - begin)
        return self._made[shape]

    def drop(self, context: int) -> None:
        """Free the graphs of one length of the cache."""
        self._made = {shape: graph for shape, graph in self._made.items() if shape.context != context}


def cache_type(config: Mapping[str, Any]) -> ov.Type:
    """What the static form keeps its cache in.

    Raises:
        ConfigError: ``KV_CACHE_PRECISION`` is neither f16 nor f32.
    """
    exact = _plain(config.get("INFERENCE_PRECISION_HINT")) == "f32" or _plain(
        config.get("EXECUTION_MODE_HINT")
    ).endswith("accuracy")
    wanted = config.get("KV_CACHE_PRECISION", "f32" if exact else "f16")
    types = {"f16": ov.Type.f16, "f32": ov.Type.f32}
    if _plain(wanted) not in types:
        raise ConfigError(f"KV_CACHE_PRECISION must be f16 or f32 in the static form, got {wanted!r}")
    return types[_plain(wanted)]


def _plain(value: Any) -> str:
    """However OpenVINO lets one write it: ``ov.Type.f16``, ``f16``, ``FP16``; an enumeration by its last name."""
    text = value.get_type_name() if isinstance(value, ov.Type) else str(value).lower()
    return text.replace("fp", "f")
