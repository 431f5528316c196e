"""What a static graph is given to read: positions, rows and masks, as they lie in the request's memory."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from ovgen.graph.passes import StaticShape
from ovgen.runtime.static_graphs import StaticGraph, StaticGraphs
from ovgen.runtime.windows import attention_windows
from tests.conftest import F32
from tests.graph.tools import build
from tests.tiny_models import make

SHAPE = StaticShape(batch=2, tokens=4, context=16, rows=1)
WINDOW = 3


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> StaticGraph:
    """Of a model whose attentions see all tokens, or three."""
    model = build(make("gemma3", tmp_path_factory.mktemp("model"), sliding_window=WINDOW))
    return StaticGraphs(model, attention_windows(model), "CPU", F32)[SHAPE]


def read(graph: StaticGraph, name: str) -> NDArray[np.generic]:
    data: NDArray[np.generic] = graph.request.get_tensor(name).data
    return data


def test_padding_has_positions_that_exist_and_the_last_token_gets_logits(graph: StaticGraph) -> None:
    graph.write(0, [5, 6, 7, 8], 0)
    graph.write(1, [9, 10], 14)
    np.testing.assert_array_equal(read(graph, "input_ids")[1, :2], [9, 10])
    np.testing.assert_array_equal(read(graph, "position_ids"), [[0, 1, 2, 3], [14, 15, 14, 14]])
    np.testing.assert_array_equal(read(graph, "logit_rows"), [1])


@pytest.mark.parametrize(("name", "window"), [("mask", 100), (f"mask.window_{WINDOW}", WINDOW)])
def test_a_token_sees_what_is_before_it_and_in_its_window(graph: StaticGraph, name: str, window: int) -> None:
    for past in (16, 0, 7, 3):  # what an earlier step left must not show
        graph.write(1, [1, 2, 3, 4], past)
        mask = read(graph, name)[1, 0]  # (tokens, context + tokens)
        for token in range(SHAPE.tokens):
            positions = [*range(past), *[None] * (SHAPE.context - past), *range(past, past + SHAPE.tokens)]
            seen = [p is not None and 0 <= past + token - p < window for p in positions]
            np.testing.assert_array_equal(mask[token] == 0, seen)
            hidden = mask[token][~np.array(seen)]
            assert (hidden.astype(np.float32) < -1e4).all()
            assert np.isfinite(hidden.astype(np.float16)).all()


def test_a_cache_begins_without_nan(graph: StaticGraph) -> None:
    for tensor in graph.own_cache():
        tensor.data[:] = np.nan
    for tensor in graph.own_cache():
        assert not tensor.data.any()
        assert tensor.data.shape[2] == SHAPE.context
