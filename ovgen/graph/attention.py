"""Finding the attentions of a causal LM in the graph: what a pass that rewrites them needs to know."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import openvino as ov

from ovgen.errors import UnsupportedModelError

__all__ = ["Attention", "attentions"]

# What may stand between the cache and an attention: heads repeated for grouped queries, and casts.
_REPEATING = {"Broadcast", "Convert", "Reshape", "Unsqueeze"}


@dataclass(frozen=True, slots=True, eq=False)
class Attention:
    """One attention: ``softmax(q k^T * scale + mask) v``.

    Attributes:
        node: its result is the attention's, ``(b, heads, t, d)``.
        q: queries, ``(b, heads, t, d)``.
        k: cache and new keys, ``(b, kv_heads, s, d)``, before heads are repeated: the output of a Concat.
        v: values, like ``k``.
        mask: takes what is added to the scores.
        scale: scalar; None for ``1 / sqrt(d)``.
        softcap: scalar ``c``: scaled scores ``x`` become ``c * tanh(x)``; None where they do not.
    """

    node: ov.Node
    q: ov.Output
    k: ov.Output
    v: ov.Output
    mask: ov.Input
    scale: ov.Output | None
    softcap: ov.Output | None

    @property
    def name(self) -> str:
        """The friendly name of ``node``."""
        return str(self.node.get_friendly_name())


def attentions(model: ov.Model) -> Iterator[Attention]:
    """Every attention of a causal LM, in the order of the layers.

    Found are ScaledDotProductAttention, and attention with capped scores, which is spelled out in operations.

    Raises:
        UnsupportedModelError: one has no mask or makes its own, its keys or values do not come from a cache, or capped
            scores are used in another way.
    """
    for node in model.get_ordered_ops():
        if node.get_type_name() == "ScaledDotProductAttention":
            yield _fused(node)
        elif node.get_type_name() == "Softmax":
            found = _capped(node)
            if found is not None:
                yield found


def _fused(node: ov.Node) -> Attention:
    if node.get_input_size() < 4:
        raise UnsupportedModelError(f"the attention {node.get_friendly_name()} has no mask")
    if node.get_attributes()["causal"]:  # then it does not read its mask
        raise UnsupportedModelError(f"the attention {node.get_friendly_name()} makes its own mask (causal)")
    q, k, v, _, *rest = node.input_values()
    scale = rest[0] if rest else None
    return Attention(node, q, _with_cache(node, k), _with_cache(node, v), node.input(3), scale, None)


def _capped(softmax: ov.Node) -> Attention | None:
    """``softmax(tanh(q k^T * scale) * softcap + mask)`` and what it is multiplied by; None for any other softmax."""
    add = softmax.input_value(0).get_node()
    if add.get_type_name() != "Add":
        return None
    multiply, mask = add.input_value(0).get_node(), add.input(1)
    tanh = multiply.input_value(0).get_node()
    if multiply.get_type_name() != "Multiply" or tanh.get_type_name() != "Tanh":
        return None
    scaled = tanh.input_value(0).get_node()
    scores = scaled.input_value(0).get_node()
    users = [user.get_node() for user in softmax.output(0).get_target_inputs()]
    kinds = [node.get_type_name() for node in (scaled, scores, *users)]
    if kinds != ["Multiply", "MatMul", "MatMul"]:
        raise UnsupportedModelError(f"the capped attention around {softmax.get_friendly_name()} is not known")
    (node,) = users
    q, k = scores.input_values()
    v = node.input_value(1)
    scale, softcap = scaled.input_value(1), multiply.input_value(1)
    return Attention(node, q, _with_cache(node, k), _with_cache(node, v), mask, scale, softcap)


def _with_cache(attention: ov.Node, output: ov.Output) -> ov.Output:
    """Where the cache and the new tokens were put together."""
    while output.get_node().get_type_name() in _REPEATING:
        output = output.get_node().input_value(0)
    if output.get_node().get_type_name() != "Concat":
        raise UnsupportedModelError(
            f"{attention.get_friendly_name()}: its keys or values come from {output.get_node().get_type_name()}, "
            "not from a cache"
        )
    return output
