"""The paged form: KV blocks are input tensors, tokens of all sequences lie in one row (vLLM, arXiv:2309.06180)."""

from __future__ import annotations

from collections.abc import Mapping

import openvino as ov

from ovgen.graph.attention import attentions
from ovgen.graph.linears import MULTIPLYING
from ovgen.graph.passes.lora import ADAPTERS_INPUT
from ovgen.graph.passes.rows import ROWS_INPUT, select_rows
from ovgen.graph.private import TransformationError, has_slopes, set_window, to_paged_attention

__all__ = ["of_tokens", "to_paged"]


def to_paged(model: ov.Model, windows: Mapping[str, int | None]) -> ov.Model:
    """A copy of a stateful causal LM in the paged form; weights are shared with the original.

    Inputs of the result: ``input_ids``, ``position_ids`` ``(tokens,)`` int64; ``past_lens`` ``(sequences,)``,
    ``subsequence_begins``, ``block_indices_begins`` ``(sequences + 1,)``, ``block_indices`` ``(blocks in use,)``,
    ``max_context_len`` ``()``, ``logit_rows`` ``(rows,)`` int32; and ``key_cache.N``, ``value_cache.N``, whose shapes
    the device decides when the model is compiled. Output: ``logits`` ``(rows, 1, vocab)`` float32.

    Args:
        model: is left as it is.
        windows: by attention: how many tokens it sees, 0 for all, None where its mask does more.

    Raises:
        TransformationError: OpenVINO does not recognise the model's attention, or cannot compute it in this form.
    """
    form = model.clone()
    if any(attention.softcap is not None for attention in attentions(form)):
        raise TransformationError("the paged form has no soft cap on attention scores")
    to_paged_attention(form)
    for node in form.get_ops():
        if node.get_type_name() == "PagedAttentionExtension":
            _narrow(node, windows)
    select_rows(form, axis=0)
    return form


def of_tokens(form: ov.Model, count: int) -> ov.Model:
    """A copy of a paged form for steps of ``count`` tokens of one sequence, with the logits of all.

    All shapes are fixed but those of the cache and ``block_indices``, so that a device need not infer them in each
    step, which takes the CPU plugin longer than many a small layer.
    """
    copy = form.clone()
    tokens = {"input_ids", "position_ids", ROWS_INPUT, ADAPTERS_INPUT}
    names = {port.get_any_name() for port in copy.inputs}
    copy.reshape(
        {
            **{name: [count] for name in tokens & names},
            "past_lens": [1],
            "subsequence_begins": [2],
            "block_indices_begins": [2],
        }
    )
    return copy


def _narrow(attention: ov.Node, windows: Mapping[str, int | None]) -> None:
    """Set the window of a PagedAttentionExtension, whatever the transformation made of the mask."""
    node = attention
    while node.get_friendly_name() not in windows:  # a Transpose has the name of the ScaledDotProductAttention
        users = list(node.output(0).get_target_inputs())
        if not users or node.get_type_name() in MULTIPLYING:
            raise TransformationError(f"{attention.get_friendly_name()}: it cannot be told which attention this was")
        node = users[0].get_node()
    window = windows[node.get_friendly_name()]
    if window is not None:
        set_window(attention, window)
    elif not has_slopes(attention):
        raise TransformationError("the paged form has no place for what a mask adds to attention scores")
