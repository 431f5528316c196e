"""The layers that architectures are made of, each in the pattern that plugins fuse into one operation.

Every function takes the module's path in the Hugging Face model (``model.layers.0.mlp.up_proj``) and gives it
to the node that matters as its friendly name. Shapes: b batch, t new tokens, h hidden.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import openvino as ov
import openvino.opset15 as op

from ovgen.graph.constants import Constants

__all__ = ["ACTIVATIONS", "embedding", "head", "head_norms", "i64", "layer_norm", "linear", "named", "rms_norm"]

ACTIVATIONS: dict[str, Callable[[ov.Node], ov.Node]] = {
    "silu": op.swish,
    "swish": op.swish,
    "relu": op.relu,
    "gelu": lambda x: op.gelu(x, "ERF"),
    "gelu_new": lambda x: op.gelu(x, "TANH"),
    "gelu_fast": lambda x: op.gelu(x, "TANH"),
    "gelu_pytorch_tanh": lambda x: op.gelu(x, "TANH"),
}
"""Activation functions by the name that ``hidden_act`` or ``activation_function`` gives them."""


def named(node: ov.Node, name: str) -> ov.Node:
    """``node``, which people will see under ``name``."""
    node.set_friendly_name(name)
    return node


def i64(value: int | list[int]) -> ov.Node:
    """An int64 constant: a scalar or a vector."""
    return op.constant(np.array(value, np.int64))


def f32(value: float) -> ov.Node:
    """A float32 scalar constant."""
    return op.constant(np.array(value, np.float32))


def embedding(name: str, ids: ov.Node, w: Constants, sizes: tuple[int, int]) -> ov.Node:
    """Rows of the table ``name.weight``, whose sizes are ``(rows, h)``: ``(b, t)`` int64 -> ``(b, t, h)``."""
    return named(op.gather(w.table(f"{name}.weight", sizes), ids, i64(0)), name)


def linear(
    name: str,
    x: ov.Node,
    w: Constants,
    sizes: tuple[int, int],
    *,
    bias: bool = False,
    transposed: bool = False,
) -> ov.Node:
    """``x @ weight.T + bias``: ``(b, t, inputs)`` -> ``(b, t, outputs)``.

    The weight is always ``(outputs, inputs)`` in the graph: what goes into one output lies together, which is
    the layout that plugins take unchanged and that weight compression groups along.

    Args:
        name: the module; its MatMul is called ``name``, its bias is ``name.bias``.
        x: the input.
        w: the weights.
        sizes: ``(outputs, inputs)``.
        bias: whether there is a bias.
        transposed: the checkpoint holds ``(inputs, outputs)``, as GPT-2's Conv1D does.
    """
    matrix = w.matrix(f"{name}.weight", sizes, transposed=transposed)
    y = named(op.matmul(x, matrix, False, True), name)
    return named(op.add(y, w.get(f"{name}.bias", sizes[:1])), f"{name}/bias") if bias else y


def head(name: str, x: ov.Node, w: Constants, sizes: tuple[int, int], *, tied_to: str | None = None) -> ov.Node:
    """Logits: ``(b, t, h)`` -> ``(b, t, vocabulary)``.

    Args:
        name: the module.
        x: the input.
        w: the weights.
        sizes: ``(vocabulary, h)``.
        tied_to: the embedding whose table it shares; None where it has its own.
    """
    return named(op.matmul(x, w.table(f"{tied_to or name}.weight", sizes), False, True), name)


def rms_norm(name: str, x: ov.Node, w: Constants, size: int, epsilon: float, *, offset: float = 0.0) -> ov.Node:
    """Root mean square normalisation (arXiv:1910.07467) over the last axis, whose length is ``size``.

    The gain is ``name.weight + offset``: some families store what it differs from 1 by.
    """
    mean = op.reduce_mean(op.multiply(x, x), i64([-1]), True)
    inverse = op.divide(f32(1.0), op.sqrt(op.add(mean, f32(epsilon))))
    gain = w.get(f"{name}.weight", (size,))
    if offset:
        gain = op.add(gain, f32(offset))
    return named(op.multiply(op.multiply(x, inverse), gain), name)


def layer_norm(name: str, x: ov.Node, w: Constants, size: int, epsilon: float) -> ov.Node:
    """Layer normalisation (arXiv:1607.06450) over the last axis, whose length is ``size``."""
    normal = op.mvn(x, i64([-1]), True, epsilon, "inside_sqrt")
    scaled = op.multiply(normal, w.get(f"{name}.weight", (size,)))
    return named(op.add(scaled, w.get(f"{name}.bias", (size,))), name)


def head_norms(name: str, x: ov.Node, w: Constants, sizes: tuple[int, int], epsilon: float) -> ov.Node:
    """Layer normalisation of ``(b, t, heads, dim)``, each head with a gain of its own: ``name.norms.0.weight``, ….

    ``sizes`` are ``(heads, dim)``.
    """
    heads, dim = sizes
    gains = [op.unsqueeze(w.get(f"{name}.norms.{head}.weight", (dim,)), i64(0)) for head in range(heads)]
    normal = op.mvn(x, i64([-1]), True, epsilon, "inside_sqrt")
    return named(op.multiply(normal, op.concat(gains, 0)), name)  # gains: (heads, dim)
