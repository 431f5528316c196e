from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino as ov
import openvino.opset15 as op
import pytest

from ovgen.graph.lint import Finding, lint, summary
from ovgen.graph.passes import StaticShape, to_paged, to_static
from ovgen.loader import load
from ovgen.resources import BUNDLED_MODELS, bundled_model
from ovgen.runtime.windows import attention_windows
from ovgen.weights import Compression
from tests.tiny_models import VARIANTS, make

SHAPES = [StaticShape(1, 1, 16, 1), StaticShape(2, 4, 16, 4)]


def findings(model: ov.Model, shape: StaticShape = SHAPES[0]) -> list[Finding]:
    return lint(to_static(model, attention_windows(model), shape, ov.Type.f16))


def reasons(found: list[Finding]) -> set[tuple[str, str]]:
    return {(finding.operation, finding.reason.split()[0]) for finding in found}


@pytest.mark.parametrize("variant", VARIANTS)
def test_static_graphs_have_nothing_that_an_npu_refuses(variant: str, tmp_path: Path) -> None:
    model = load(make(variant, tmp_path)).build()
    for shape in SHAPES:
        found = findings(model, shape)
        assert not [str(finding) for finding in found if finding.refused]
        # the weights of a bfloat16 checkpoint are constants of that type, which are converted at once
        assert reasons(found) == ({("Constant-1", "bf16")} if VARIANTS[variant].dtype == "BF16" else set())


@pytest.mark.parametrize("name", BUNDLED_MODELS)
def test_the_bundled_models_are_as_documented(name: str) -> None:
    assert findings(load(bundled_model(name)).build()) == []


@pytest.mark.parametrize(
    ("compression", "expected"),
    [
        (Compression(weights="int8"), set()),
        (Compression(weights="int4", group_size=16, symmetric=True), set()),
        (Compression(weights="int4", group_size=16), {("Constant-1", "u4")}),
    ],
    ids=["int8", "int4 symmetric", "int4"],
)
def test_of_compressed_weights_only_asymmetric_int4_is_not_documented(
    compression: Compression, expected: set[tuple[str, str]], tiny_llama: Path
) -> None:
    found = findings(load(tiny_llama).build(compression))
    assert reasons(found) == expected
    assert not any(finding.refused for finding in found)


def test_forms_for_other_devices_are_refused(tiny_llama: Path) -> None:
    model = load(tiny_llama).build()
    paged = lint(to_paged(model, attention_windows(model)))
    assert any(f.operation.startswith("PagedAttentionExtension") and f.refused for f in paged)
    dynamic = [finding for finding in lint(model) if "fixed shapes only" in finding.reason]
    assert {"input_ids", "attention_mask"} <= {finding.node for finding in dynamic}
    assert all(finding.refused for finding in dynamic)


def test_types_that_no_compiler_knows_are_refused() -> None:
    x = op.parameter([3], ov.Type.f32, name="x")
    text = op.parameter([3], ov.Type.string, name="text")
    model = ov.Model([op.result(op.relu(x)), op.result(text)], [x, text], "m")
    found = {finding.node: finding for finding in lint(model)}
    assert found["text"] == Finding("text", "Parameter-1", "NPU compilers know no string", True)
    assert "x" not in found


def test_a_summary_counts_what_is_alike() -> None:
    x = op.parameter([2], ov.Type.f64, name="x")
    y = op.add(op.add(x, op.constant(np.ones(2))), op.constant(np.ones(2)))
    y.set_friendly_name("sum")
    told = summary(lint(ov.Model([op.result(y)], [x], "m")))
    assert "x (Parameter-1): f64 is known to NPU compilers, but the documentation does not name it; " in told
    assert told.count("Constant-1") == 1
    assert told.count("(and 1 more)") == 2
    assert summary([]) == ""
