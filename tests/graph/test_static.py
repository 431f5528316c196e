"""What the static form and the masks refuse, and that they leave the model alone."""

from __future__ import annotations

import zipfile
from pathlib import Path

import openvino as ov
import openvino.opset15 as op
import pytest

from ovgen.errors import UnsupportedModelError
from ovgen.graph import read_ir
from ovgen.graph.attention import attentions
from ovgen.graph.blocks import f32, i64
from ovgen.graph.masks import mask_model
from ovgen.graph.passes import StaticShape, to_static
from ovgen.graph.private import TransformationError
from tests.graph.tools import build
from tests.tiny_models import make

IR = Path(__file__).resolve().parents[1] / "golden" / "ir"
SHAPE = StaticShape(batch=2, tokens=3, context=16, rows=1)


@pytest.fixture
def model(tiny_llama: Path) -> ov.Model:
    return build(tiny_llama)


def static(model: ov.Model, window: int | None = 0) -> ov.Model:
    return to_static(model, {attention.name: window for attention in attentions(model)}, SHAPE, ov.Type.f16)


def wiring(model: ov.Model) -> list[tuple[str, str, str, list[str]]]:
    """Every operation, its shape, and what it reads."""
    return [
        (
            node.get_type_name(),
            node.get_friendly_name(),
            str([str(output.get_partial_shape()) for output in node.outputs()]),
            [value.get_node().get_friendly_name() for value in node.input_values()],
        )
        for node in model.get_ordered_ops()
    ]


def add_to_logits(model: ov.Model, value: ov.Node) -> None:
    """Let the logits depend on a number."""
    (result,) = model.get_results()
    logits = result.input_value(0)
    names = logits.get_names()
    logits.set_names(set())
    total = op.add(logits, value)
    total.output(0).set_names(names)
    result.input(0).replace_source_output(total.output(0))
    model.validate_nodes_and_infer_types()


def total(value: ov.Output | ov.Node, axes: list[int]) -> ov.Node:
    return op.reduce_sum(op.convert(value, ov.Type.f32), i64(axes), False)


@pytest.mark.parametrize("name", ["llama-int4", "gpt2-int8", "mistral-window"])
def test_the_model_is_left_as_it_is(name: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(IR / f"{name}.zip") as archive:  # exported models ask for shapes inside of the network
        archive.extractall(tmp_path)
    model = read_ir(tmp_path)
    before = wiring(model)
    mask_model(model)
    assert wiring(model) == before
    static(model)
    assert wiring(model) == before


def test_inputs_and_outputs_are_those_of_the_docstring(model: ov.Model) -> None:
    form = static(model)
    expected: dict[str, tuple[list[int], ov.Type]] = {
        "input_ids": ([2, 3], ov.Type.i64),
        "position_ids": ([2, 3], ov.Type.i64),
        "logit_rows": ([1], ov.Type.i32),
        "mask": ([2, 1, 3, 19], ov.Type.f32),
        "logits": ([2, 1, 300], ov.Type.f32),
    }
    for layer in range(3):
        for kind in ("key", "value"):  # of two heads of 16
            expected[f"past_key_values.{layer}.{kind}"] = ([2, 2, 16, 16], ov.Type.f16)
            expected[f"present.{layer}.{kind}"] = ([2, 2, 3, 16], ov.Type.f16)
    ports = form.inputs + form.outputs
    assert {port.get_any_name(): (list(port.shape), port.get_element_type()) for port in ports} == expected
    assert not form.get_sinks()


def test_an_operation_that_stays_dynamic_is_named(model: ov.Model) -> None:
    places = op.non_zero(model.input("input_ids"))
    places.set_friendly_name("places_of_tokens")
    add_to_logits(model, total(places, [0, 1]))
    with pytest.raises(UnsupportedModelError, match=r"places_of_tokens \(NonZero\) keeps the dynamic shape \[2,"):
        static(model)


def test_a_mask_that_is_used_elsewhere_is_refused(model: ov.Model) -> None:
    add_to_logits(model, total(model.input("attention_mask"), [0, 1]))
    with pytest.raises(
        UnsupportedModelError, match="knows masks in attention only, and this model uses them elsewhere"
    ):
        static(model)


def test_a_mask_that_does_more_than_hide_is_refused(model: ov.Model) -> None:
    with pytest.raises(UnsupportedModelError, match="no place for what a mask adds to attention scores"):
        static(model, None)


def test_attention_without_a_mask_is_refused(model: ov.Model) -> None:
    first = next(attentions(model))
    q, k, v, *_ = first.node.input_values()
    bare = op.scaled_dot_product_attention(q, k, v, causal=True)
    bare.set_friendly_name("bare")
    for user in first.node.output(0).get_target_inputs():
        user.replace_source_output(bare.output(0))
    for refuses in (static, mask_model):
        with pytest.raises(UnsupportedModelError, match="the attention bare has no mask"):
            refuses(model)


def test_attention_that_ignores_its_mask_is_refused(model: ov.Model) -> None:
    first = next(attentions(model))
    causal = op.scaled_dot_product_attention(*first.node.input_values()[:4], causal=True)
    causal.set_friendly_name("causal")
    for user in first.node.output(0).get_target_inputs():
        user.replace_source_output(causal.output(0))
    for refuses in (static, mask_model):
        with pytest.raises(UnsupportedModelError, match=r"the attention causal makes its own mask \(causal\)"):
            refuses(model)


def test_capped_scores_that_are_used_twice_are_refused(tmp_path: Path) -> None:
    model = build(make("gemma2", tmp_path))
    weights = next(attentions(model)).node.input_value(0)
    add_to_logits(model, total(weights, [0, 1, 2, 3]))
    with pytest.raises(UnsupportedModelError, match=r"the capped attention around .* is not known"):
        static(model)


def test_inputs_are_known_by_the_names_of_their_tensors(model: ov.Model) -> None:
    expected = {port.get_any_name() for port in static(model).inputs}
    for number, node in enumerate(model.get_parameters()):
        node.set_friendly_name(f"Parameter_{number}")
    assert {port.get_any_name() for port in static(model).inputs} == expected


def test_attention_without_a_cache_is_refused(model: ov.Model) -> None:
    first = next(attentions(model))
    keys = first.node.input_value(1)
    first.node.input(1).replace_source_output(op.multiply(keys, f32(2.0)).output(0))
    with pytest.raises(UnsupportedModelError, match=f"{first.name}: its keys or values come from Multiply, not from"):
        static(model)


def test_two_masks_under_one_name_are_refused(tmp_path: Path) -> None:
    model = build(make("gemma3", tmp_path))
    for attention in list(attentions(model)):
        attention.node.set_friendly_name("attention")
    with pytest.raises(TransformationError, match="two attentions with different masks are called attention"):
        mask_model(model)


def test_a_mask_that_the_network_computes_is_refused(model: ov.Model) -> None:
    first = next(attentions(model))
    mask = first.mask.get_source_output()
    first.mask.replace_source_output(op.add(mask, total(first.q, [0, 1, 2, 3])).output(0))
    with pytest.raises(TransformationError, match="an attention mask depends on what the network computes"):
        mask_model(model)
