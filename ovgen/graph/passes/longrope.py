"""Deciding once, for a model with two sets of rotary frequencies, which of them holds (arXiv:2402.13753)."""

from __future__ import annotations

import openvino as ov
import openvino.opset15 as op

from ovgen.graph.rope import BEYOND_ORIGINAL

__all__ = ["settle_longrope"]


def settle_longrope(model: ov.Model, context: int) -> dict[int, bool]:
    """Take the frequencies that fit the longest sequence that there will be, in place, whatever a call holds.

    Args:
        model: the causal LM form, built by ovgen or read from the folder that ovgen wrote.
        context: tokens of the longest sequence.

    Returns:
        By the original context of the model: whether ``context`` exceeds it, so that the long factors were taken.
        Empty where the model has no such choice.
    """
    chosen = {}
    for node in model.get_ops():
        if node.get_type_name() != "GreaterEqual" or not node.get_friendly_name().endswith(f"/{BEYOND_ORIGINAL}"):
            continue
        original = int(node.input_value(1).get_node().get_data())
        chosen[original] = context > original
        answer = op.constant(chosen[original], ov.Type.boolean)
        for user in node.output(0).get_target_inputs():
            user.replace_source_output(answer.output(0))
    model.validate_nodes_and_infer_types()
    return chosen
