"""Sliding windows: what is found in masks, and what the forms make of it."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openvino as ov
import openvino.opset15 as op
import pytest
from numpy.typing import NDArray
from openvino.passes import ConstantFolding, Manager

import ovgen
from ovgen.graph import read_ir
from ovgen.graph.blocks import i64
from ovgen.graph.causal_lm import CausalLM, split_heads
from ovgen.graph.passes import to_paged
from ovgen.graph.private import TransformationError, to_paged_attention
from ovgen.runtime.forms import Form
from ovgen.runtime.windows import attention_windows
from tests.conftest import F32
from tests.graph.tools import build, compile_exact
from tests.tiny_models import make

IR = Path(__file__).resolve().parents[1] / "golden" / "ir"
HEADS, GROUPS, DIM, SCALE = 4, 2, 8, 0.6
VOCABULARY = 40
IDS = [int(token) for token in np.random.RandomState(3).randint(3, VOCABULARY, 100)]

Mask = Callable[[ov.Node, ov.Node, ov.Node], ov.Node]


def attention_model(window: int | None = None, softcap: float | None = None) -> tuple[ov.Model, NDArray[np.float32]]:
    """Attention between a table ``(vocabulary, queries + keys + values)`` and the output, and that table."""
    sizes = [HEADS * DIM, HEADS // GROUPS * DIM, HEADS // GROUPS * DIM]
    table = np.random.RandomState(0).standard_normal((VOCABULARY, sum(sizes))).astype(np.float32)
    lm = CausalLM()
    parts = op.variadic_split(op.gather(op.constant(table), lm.input_ids, i64(0)), i64(-1), i64(sizes)).outputs()
    q, k, v = (split_heads(part, size // DIM, DIM) for part, size in zip(parts, sizes, strict=True))
    y = lm.attend("attention", 0, q, k, v, groups=GROUPS, scale=SCALE, window=window, softcap=softcap)
    return lm.model(y), table


def attention(rows: NDArray[np.float32], window: int | None, softcap: float | None) -> NDArray[np.float64]:
    """The same one score after the other, ``(tokens, heads * dim)``; ``rows`` are the tokens' rows of the table."""
    kv = HEADS // GROUPS
    q = rows[:, : HEADS * DIM].reshape(-1, HEADS, DIM).astype(np.float64)
    k, v = rows[:, HEADS * DIM :].reshape(-1, 2, kv, DIM).astype(np.float64).swapaxes(0, 1)
    y = np.zeros_like(q)
    for i in range(len(q)):
        for head in range(HEADS):
            seen = [j for j in range(i + 1) if window is None or i - j < window]
            scores = np.array([SCALE * (q[i, head] @ k[j, head // GROUPS]) for j in seen])
            if softcap is not None:
                scores = softcap * np.tanh(scores / softcap)
            weights = np.exp(scores - scores.max())
            y[i, head] = (weights / weights.sum()) @ v[seen, head // GROUPS]
    return y.reshape(len(q), HEADS * DIM)


@pytest.mark.parametrize(("window", "softcap"), [(None, None), (5, None), (1, None), (None, 2.0), (5, 2.0)])
def test_attention_equals_the_formula(window: int | None, softcap: float | None) -> None:
    model, table = attention_model(window, softcap)
    request = compile_exact(model).create_infer_request()
    got = []
    for begin, end in ((0, 12), (12, 13), (13, 20)):
        request.infer(
            {
                "input_ids": np.array([IDS[begin:end]]),
                "attention_mask": np.ones((1, end), np.int64),
                "position_ids": np.arange(begin, end)[None],
                "beam_idx": np.zeros(1, np.int32),
            }
        )
        got.append(np.array(request.get_tensor("logits").data[0]))
    np.testing.assert_allclose(np.concatenate(got), attention(table[IDS[:20]], window, softcap), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("variant", "windows"),
    [
        ("llama", [0, 0, 0]),
        ("mistral", [8, 8, 8]),
        ("gpt-neo", [0, 8, 8]),
        ("gpt-neo-untied", [5, 0, 0]),
        ("gpt-neox", [0, 0, 0]),
    ],
)
def test_windows_are_found_in_what_we_build(variant: str, windows: list[int], tmp_path: Path) -> None:
    assert list(attention_windows(build(make(variant, tmp_path))).values()) == windows


@pytest.mark.parametrize(("export", "windows"), [("mistral-window", [8, 8]), ("gpt-neo-local", [0, 8])])
def test_windows_are_found_in_what_optimum_exports(export: str, windows: list[int], tmp_path: Path) -> None:
    with zipfile.ZipFile(IR / f"{export}.zip") as archive:
        archive.extractall(tmp_path)
    assert list(attention_windows(read_ir(tmp_path)).values()) == windows


@pytest.mark.parametrize("window", [2, 4096, 131072, None])
def test_long_windows_are_found(window: int | None) -> None:
    assert list(attention_windows(attention_model(window)[0]).values()) == [window or 0]


def test_windows_wider_than_any_sequence_are_none() -> None:
    model, _ = attention_model(64)
    assert list(attention_windows(model, 64).values()) == [0]
    assert list(attention_windows(model, 65).values()) == [64]


def test_what_can_only_be_compiled_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    def both(plain: ov.Node, i: ov.Node, j: ov.Node) -> ov.Node:
        old = op.less_equal(j, op.subtract(i, i64(9)))
        return hidden_where(op.bitwise_or(old, old), plain)  # which OpenVINO does not evaluate

    assert list(attention_windows(with_mask(both)).values()) == [9]
    monkeypatch.setattr("ovgen.runtime.windows.core", None)  # nothing can be compiled
    assert list(attention_windows(attention_model(9)[0]).values()) == [9]
    with pytest.raises(TypeError):
        attention_windows(with_mask(both))


def test_openvinos_transformation_knows_our_windows_by_itself() -> None:
    """So that others run what we write: openvino.genai's paged form is that transformation and nothing more."""
    model, _ = attention_model(5)
    to_paged_attention(model)
    passes = Manager()
    passes.register_pass(ConstantFolding())
    passes.run_passes(model)
    node = next(node for node in model.get_ops() if node.get_type_name() == "PagedAttentionExtension")
    assert node.input_value(10).get_node().data == 5


def test_windows_of_capped_attention_are_found_and_the_paged_form_refuses_it() -> None:
    model, _ = attention_model(5, 2.0)
    windows = attention_windows(model)
    assert list(windows.values()) == [5]
    with pytest.raises(TransformationError, match="no soft cap"):
        to_paged(model, windows)


def with_mask(mask: Mask) -> ov.Model:
    """The attention model with another mask: ``mask(plain mask, rows, columns)``; rows and columns are positions."""
    model, _ = attention_model()
    positions, tokens = (model.input(name) for name in ("position_ids", "attention_mask"))
    rows = op.unsqueeze(positions, i64([1, 3]))
    total = op.gather(op.shape_of(tokens, "i64"), i64(1), i64(0))
    columns = op.unsqueeze(op.range(i64(0), total, i64(1), "i64"), i64([0, 1, 2]))
    return change_mask(model, lambda plain: mask(plain, rows, columns))


def cached_keys(model: ov.Model) -> ov.Node:
    """Keys of all tokens, ``(b, heads, s, d)``."""
    return next(node for node in model.get_ops() if node.get_friendly_name() == "past_key_values.0.key/with_new")


def change_mask(model: ov.Model, change: Callable[[ov.Node], ov.Node]) -> ov.Model:
    node = next(node for node in model.get_ops() if node.get_type_name() == "ScaledDotProductAttention")
    node.input(3).replace_source_output(change(node.input_value(3).get_node()).output(0))
    model.validate_nodes_and_infer_types()
    return model


@pytest.mark.parametrize("kept", ["past", "all", "new"])
def test_shapes_within_the_network_are_known_without_it(kept: str) -> None:
    model, _ = attention_model(5)
    keys = cached_keys(model)
    past, new = (keys.input_value(side).get_node() for side in (0, 1))
    parts = {"past": (past, _new_ids(model)), "all": (keys,), "new": (past, new)}[kept]
    length = _length(parts[0])
    for part in parts[1:]:
        length = op.add(length, _length(part))
    model = change_mask(model, lambda mask: op.slice(mask, i64([0]), length, i64([1]), i64([3])))
    assert list(attention_windows(model).values()) == [5]


def _new_ids(model: ov.Model) -> ov.Node:
    return op.unsqueeze(model.input("input_ids"), i64([0, 3]))  # (1, b, t, 1)


def _length(x: ov.Node) -> ov.Node:
    return op.gather(op.shape_of(x, "i64"), i64([2]), i64(0))


def test_masks_that_depend_on_what_is_cached_are_refused() -> None:
    model, _ = attention_model()
    highest = op.reduce_max(cached_keys(model), i64([1, 2, 3]), True)
    with pytest.raises(TransformationError, match="depends on what the network computes"):
        attention_windows(change_mask(model, lambda mask: op.multiply(mask, highest)))


def hidden_where(condition: ov.Node, plain: ov.Node) -> ov.Node:
    return op.select(condition, op.constant(np.float32(-65504.0)), plain)


MASKS: dict[str, Mask] = {
    "blocks": lambda plain, i, j: hidden_where(op.less(j, op.multiply(op.divide(i, i64(16)), i64(16))), plain),
    "first token stays": lambda plain, i, j: hidden_where(
        op.logical_and(op.less(j, op.subtract(i, i64(7))), op.greater(j, i64(0))), plain
    ),
    "every token sees every token": lambda plain, i, j: op.multiply(plain, op.constant(np.float32(0))),
    "an input decides": lambda plain, i, j: hidden_where(op.less(i, i64(5)), plain),
}


@pytest.mark.parametrize("name", MASKS)
def test_masks_that_are_no_windows_are_refused(name: str) -> None:
    with pytest.raises(TransformationError, match="other tokens than a sliding window"):
        attention_windows(with_mask(MASKS[name]))


def test_a_bias_on_scores_is_refused() -> None:
    model = with_mask(lambda plain, i, j: op.add(plain, op.multiply(op.convert(op.subtract(j, i), "f32"), _slope())))
    windows = attention_windows(model)
    assert list(windows.values()) == [None]
    with pytest.raises(TransformationError, match="adds to attention scores"):
        to_paged(model, windows)


def _slope() -> ov.Node:
    return op.constant(np.float32(-0.01))


@pytest.mark.parametrize(("size", "window"), [(64, 9), (64, 60), (100, 9)])
def test_masks_cut_out_of_a_table(size: int, window: int) -> None:
    table = np.tril(np.ones((size, size), bool)) ^ np.tril(np.ones((size, size), bool), -window)
    additive = np.where(table, 0, -65504).astype(np.float32)

    def cut(plain: ov.Node, i: ov.Node, j: ov.Node) -> ov.Node:
        rows = op.gather(op.constant(additive), op.squeeze(i, i64([0, 1, 3])), i64(0))  # (t, size)
        length = op.shape_of(op.squeeze(j, i64([0, 1, 2])), "i64")
        end = op.minimum(length, i64([size]))
        return op.add(plain, op.slice(rows, i64([0]), end, i64([1]), i64([1])))

    model = with_mask(cut)
    if size == 64:
        assert list(attention_windows(model).values()) == [window]
    else:
        with pytest.raises(TransformationError, match="between 64 and 128 tokens"):
            attention_windows(model)


def test_masks_of_all_tokens_by_all_tokens_are_refused_before_they_take_memory() -> None:
    def square(plain: ov.Node, i: ov.Node, j: ov.Node) -> ov.Node:
        future = op.greater(j, op.transpose(j, i64([0, 1, 3, 2])))
        hidden = op.multiply(op.convert(future, "f32"), op.constant(np.float32(-65504.0)))
        return op.gather(hidden, op.squeeze(i, i64([0, 1, 3])), i64(2))

    with pytest.raises(TransformationError, match=f"take {2**36} numbers to compute"):
        attention_windows(with_mask(square))


def at_once(folder: Path, ids: list[int]) -> NDArray[np.float32]:
    """Logits ``(len(ids), vocab)`` of the causal LM form, computed in one inference."""
    feed = {
        "input_ids": np.array([ids]),
        "attention_mask": np.ones((1, len(ids)), np.int64),
        "position_ids": np.arange(len(ids))[None],
        "beam_idx": np.zeros(1, np.int32),
    }
    logits: NDArray[np.float32] = compile_exact(build(folder))(feed)["logits"][0]
    return logits


@pytest.mark.parametrize("form", ["paged", "stateful"])
@pytest.mark.parametrize("variant", ["gpt-neo", "mistral", "gemma3", "qwen3-windows", "smollm3-windows"])
def test_sessions_with_windows(variant: str, form: Form, tmp_path: Path) -> None:
    folder = make(variant, tmp_path)
    llm = ovgen.LLM(folder, device_config=F32, form=form, max_num_batched_tokens=7, max_num_seqs=4)
    expected, other = at_once(folder, IDS), at_once(folder, IDS[::-1])

    def same(got: NDArray[np.float32], want: NDArray[np.float32]) -> None:
        np.testing.assert_allclose(got, want, atol=1e-4, rtol=0)

    first, second = llm.session(), llm.session()
    same(first.forward(IDS[:40]), expected[:40])  # in chunks of 7
    for at in range(40, 60):  # two sequences in turn, far beyond the window
        same(first.forward(IDS[at : at + 1]), expected[at : at + 1])
        same(second.forward(IDS[::-1][at - 40 : at - 39]), other[at - 40 : at - 39])
    twin = first.fork()
    first.trim(33)
    same(first.forward(IDS[33:50]), expected[33:50])
    same(twin.forward(IDS[60:]), expected[60:])
    same(second.forward(IDS[::-1][20:45]), other[20:45])


@pytest.mark.parametrize("variant", ["gpt-neo", "mistral", "gemma3", "qwen3-windows", "smollm3-windows"])
def test_batches_with_windows_give_the_same_tokens_in_every_form(variant: str, tmp_path: Path) -> None:
    folder = make(variant, tmp_path)
    prompts = [IDS[:3], IDS[5:45], IDS[50:61], IDS[60:]]
    texts = [
        [
            output.token_ids
            for output in ovgen.LLM(
                folder, device_config=F32, form=form, max_num_batched_tokens=16, max_num_seqs=3
            ).generate(prompts, max_new_tokens=24, ignore_eos=True)
        ]
        for form in ("paged", "stateful")
    ]
    assert texts[0] == texts[1]
