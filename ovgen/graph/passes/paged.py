"""The paged form: KV blocks are input tensors, tokens of all sequences lie in one row (vLLM, arXiv:2309.06180)."""

from __future__ import annotations

import openvino as ov

from ovgen.graph.passes.rows import select_rows
from ovgen.graph.private import to_paged_attention

__all__ = ["to_paged"]


def to_paged(model: ov.Model) -> ov.Model:
    """A copy of a stateful causal LM in the paged form; weights are shared with the original.

    Inputs of the result: ``input_ids``, ``position_ids`` ``(tokens,)`` int64; ``past_lens`` ``(sequences,)``,
    ``subsequence_begins``, ``block_indices_begins`` ``(sequences + 1,)``, ``block_indices`` ``(blocks in use,)``,
    ``max_context_len`` ``()``, ``logit_rows`` ``(rows,)`` int32; and ``key_cache.N``, ``value_cache.N``, whose shapes
    the device decides when the model is compiled. Output: ``logits`` ``(rows, 1, vocab)`` float32.

    Raises:
        TransformationError: OpenVINO does not recognise the model's attention.
    """
    form = model.clone()
    to_paged_attention(form)
    select_rows(form, axis=0)
    return form
