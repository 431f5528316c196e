"""What the inputs of linear layers look like on some text: it tells compression which errors matter."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from ovgen.errors import ConfigError, ModelError
from ovgen.graph.passes.compress import StoredMatrix, stored_matrices

__all__ = ["Calibration"]

_LENGTH = 512  # tokens at once: their activations of a group of layers are in memory together
_BUDGET = 4 << 30  # bytes of moments at once; those of a model of 7B take 20 GB


class Calibration(Mapping[str, NDArray[np.float32]]):
    """Mean products ``x^T x`` ``(inputs, inputs)`` of the inputs of every linear layer, by the name of its weight.

    They are gathered when they are asked for, for a group of layers at once, by running the text through the model on
    the CPU in float32. So little memory is needed if they are asked for in about the order of the layers. Layers that
    share an input, such as queries, keys and values, share the array.

    Args:
        model: the causal LM form, not compressed; it is left as it is.
        texts: token ids of texts; long ones are cut.
        budget: how many bytes the moments may take that are in memory at once.

    Attributes:
        tokens: how many will run in all, the same text once for each group.
        progress: may be set; told each stretch of text that has run: which group it was for, and its tokens.

    Raises:
        ConfigError: there is no token.
    """

    def __init__(self, model: ov.Model, texts: Iterable[Sequence[int]], *, budget: int = _BUDGET) -> None:
        self.progress: Callable[[str, int], None] | None = None
        self._model = model
        self._stretches = list(_stretches(texts))
        # Two groups are kept: an architecture may take the weights of a layer in another order than the graph does.
        self._groups = _groups(stored_matrices(model), budget // 2)
        self._group_of = {name: number for number, group in enumerate(self._groups) for name in group}
        self._kept: dict[int, dict[str, NDArray[np.float32]]] = {}
        tokens = sum(map(len, self._stretches))
        if not tokens:
            raise ConfigError("the calibration text has no tokens")
        self.tokens = tokens * len(self._groups)

    def __len__(self) -> int:
        return len(self._group_of)

    def __iter__(self) -> Iterator[str]:
        return iter(self._group_of)

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        """The moments of one layer.

        Raises:
            KeyError: there is no such layer.
            ModelError: they are not finite.
        """
        number = self._group_of[name]
        if number not in self._kept:
            for older in list(self._kept)[:-1]:
                del self._kept[older]
            self._kept[number] = self._gather(number)
        return self._kept[number][name]

    def _gather(self, number: int) -> dict[str, NDArray[np.float32]]:
        form = self._model.clone()
        logits = form.get_results()
        users: dict[str, list[str]] = {}  # weights by the name of what they are multiplied with
        sums: dict[str, NDArray[np.float32]] = {}
        for matrix in stored_matrices(form):
            if self._group_of.get(matrix.name) == number:
                source = _multiplied_with(matrix)
                key = f"input_of_weights/{_key(source)}"
                if key not in users:
                    source.add_names({key})
                    form.add_outputs(source)
                    sums[key] = np.zeros((matrix.shape[1], matrix.shape[1]), np.float32)
                users.setdefault(key, []).append(matrix.name)
        for result in logits:  # a third of the work in a small model
            form.remove_result(result)
        request = ov.Core().compile_model(form, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}).create_infer_request()
        product = np.empty(max(map(np.size, sums.values())), np.float32)  # all there is beside the sums
        for ids in self._stretches:
            request.reset_state()
            request.infer(_inputs(form, ids), share_outputs=True)
            for key, names in users.items():
                x = request.get_tensor(key).data.reshape(len(ids), -1)
                with np.errstate(invalid="ignore", over="ignore"):
                    sums[key] += np.matmul(x.T, x, out=product[: sums[key].size].reshape(sums[key].shape))
                _check(sums[key], names[0])
            if self.progress is not None:
                self.progress(f"{number + 1} of {len(self._groups)}", len(ids))
        count = sum(map(len, self._stretches))
        for total in sums.values():
            total /= np.float32(count)
        return {name: sums[key] for key, names in users.items() for name in names}


def _check(moments: NDArray[np.float32], name: str) -> None:
    if not np.isfinite(moments.diagonal()).all():  # so are the rest, if these are: they are no larger
        raise ModelError(
            f"with the calibration text, the input of {name!r} is not finite: the model computes nothing sound from "
            "that text; check its weights, or convert it without calibration"
        )


def _groups(matrices: Sequence[StoredMatrix], budget: int) -> list[list[str]]:
    """Names of weights of linear layers, in groups whose moments fit the budget, but of one input at least."""
    groups: list[list[str]] = []
    inputs: dict[str, int] = {}  # bytes of the moments of each input of the last group
    for matrix in matrices:
        if matrix.table:
            continue
        key, size = _key(_multiplied_with(matrix)), 4 * matrix.shape[1] ** 2
        if not groups or (key not in inputs and sum(inputs.values()) + size > budget):
            groups.append([])
            inputs.clear()
        inputs[key] = size
        groups[-1].append(matrix.name)
    return groups


def _multiplied_with(matrix: StoredMatrix) -> ov.Output:
    """If several layers share the weight, the input of the first."""
    return matrix.uses[0].get_node().input_value(0)


def _key(output: ov.Output) -> str:
    return f"{output.get_node().get_name()}:{output.get_index()}"


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
