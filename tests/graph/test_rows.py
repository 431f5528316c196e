"""Which rows of logits are computed: those wanted, and the same ones as without the pass."""

from __future__ import annotations

import numpy as np
import openvino as ov
import openvino.opset15 as op
import pytest

from ovgen.graph.passes.rows import ROWS_INPUT, select_rows
from tests.graph.tools import compile_exact

TOKENS, HIDDEN, VOCABULARY = 5, 4, 5  # as many tokens as words: shapes cannot tell the axes apart
RANDOM = np.random.RandomState(0)
WEIGHTS = RANDOM.standard_normal((VOCABULARY, HIDDEN)).astype(np.float32)
BIAS = RANDOM.standard_normal(VOCABULARY).astype(np.float32)


def logits(kind: str, x: ov.Node) -> ov.Node:
    """A head on ``(1, tokens, hidden)``."""
    head = op.matmul(x, op.constant(WEIGHTS), transpose_a=False, transpose_b=True)
    if kind == "bias":
        return op.add(head, op.constant(BIAS))
    if kind == "two heads added":
        return op.add(head, op.matmul(op.tanh(x), op.constant(WEIGHTS), transpose_a=False, transpose_b=True))
    if kind == "residual after a bias":
        return op.add(op.add(head, op.constant(BIAS)), op.concat([x, op.reduce_sum(x, op.constant([2]), True)], -1))
    if kind == "bias on the left":
        return op.add(op.constant(BIAS), head)
    if kind == "hidden states turned":
        turned = op.transpose(x, op.constant([0, 2, 1]))
        return op.matmul(turned, op.constant(WEIGHTS), transpose_a=True, transpose_b=True)
    return head


KINDS = ["plain", "bias", "two heads added", "residual after a bias", "bias on the left", "hidden states turned"]


@pytest.mark.parametrize("kind", KINDS)
def test_wanted_rows_are_those_of_all_logits(kind: str) -> None:
    x = op.parameter([1, -1, HIDDEN], ov.Type.f32, name="x")
    x.output(0).set_names({"x"})
    y = logits(kind, x)
    y.output(0).set_names({"logits"})
    model = ov.Model([op.result(y)], [x], "head")
    feed = {"x": RANDOM.standard_normal((1, TOKENS, HIDDEN)).astype(np.float32)}
    everything = compile_exact(model)(feed)["logits"]
    select_rows(model, axis=1)
    rows = [3, 0]
    got = compile_exact(model)(feed | {ROWS_INPUT: np.array(rows, np.int32)})["logits"]
    np.testing.assert_allclose(got, everything[:, rows], atol=1e-5, rtol=0)
