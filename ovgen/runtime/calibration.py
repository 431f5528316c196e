"""What the inputs of linear layers look like on some text: it tells compression which errors matter."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from ovgen.errors import ConfigError
from ovgen.graph.passes.compress import stored_matrices

__all__ = ["gather_statistics"]

_LENGTH = 512  # tokens at once: their activations of all layers are in memory together


def gather_statistics(model: ov.Model, texts: Iterable[Sequence[int]]) -> dict[str, NDArray[np.float32]]:
    """Mean products ``x^T x`` ``(inputs, inputs)`` of the inputs of every linear layer, by the name of its weight.

    The model runs on the CPU in float32. Layers that share an input, such as queries, keys and values, share the array.

    Args:
        model: the causal LM form, not compressed; it is left as it is.
        texts: token ids of texts; long ones are cut.

    Raises:
        ConfigError: there is no token.
    """
    form = model.clone()
    names: dict[str, list[str]] = {}  # by output of the form
    for matrix in stored_matrices(form):
        for port in matrix.uses if not matrix.table else ():
            source = port.get_node().input_value(0)
            key = f"input_of_{source.get_node().get_friendly_name()}:{source.get_index()}"
            if key not in names:
                source.add_names({key})
                form.add_outputs(source)
            names.setdefault(key, []).append(matrix.name)
    request = ov.Core().compile_model(form, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}).create_infer_request()
    count = 0
    sums: dict[str, NDArray[np.float32]] = {}
    for ids in _stretches(texts):
        request.reset_state()
        request.infer(_inputs(form, ids))
        count += len(ids)
        for key in names:
            x = request.get_tensor(key).data.reshape(len(ids), -1)
            sums[key] = x.T @ x + sums.get(key, np.float32(0))
    if not count:
        raise ConfigError("the calibration text has no tokens")
    for total in sums.values():
        total /= np.float32(count)
    return {name: sums[key] for key, users in names.items() for name in users}


def _stretches(texts: Iterable[Sequence[int]]) -> Iterable[NDArray[np.int64]]:
    for text in texts:
        ids = np.asarray(text, np.int64)
        yield from (ids[start : start + _LENGTH] for start in range(0, len(ids), _LENGTH))


def _inputs(model: ov.Model, ids: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    known: dict[str, NDArray[Any]] = {
        "input_ids": ids[None],
        "attention_mask": np.ones((1, len(ids)), np.int64),
        "position_ids": np.arange(len(ids), dtype=np.int64)[None],
        "beam_idx": np.zeros(1, np.int32),
    }
    return {name: known[name] for port in model.inputs for name in port.get_names() & known.keys()}
