"""What is found around compressed matrices, and what of it becomes one operation, in networks of a few layers."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import openvino as ov
import openvino.opset15 as op
import pytest
from numpy.typing import NDArray

from ovgen.graph.compressed import decompressed
from ovgen.graph.passes import NativeReport, Projection, select_rows, to_native
from ovgen.weights import Compressed
from tests.graph.native_ops import NumpyOps, NumpyPacked, codes_in, kinds, lowered, names
from tests.graph.tools import compile_exact

SIZE = 64  # inputs and outputs of a layer


def matrix(rows: int = SIZE, *, seed: int = 0, columns: int = SIZE, group: int = 32) -> Compressed:
    rng = np.random.default_rng(seed)
    codes = rng.integers(-128, 128, (rows, columns)).astype(np.int8)
    return Compressed(codes, "i8", np.full((rows, columns // group), 0.002, np.float16))


def layer(x: ov.Node, rows: int = SIZE, *, seed: int = 0) -> ov.Node:
    node = op.matmul(x, decompressed(f"w{seed}", matrix(rows, seed=seed)), False, True)
    node.set_friendly_name(f"layer{seed}")
    return node


def vector(*shape: int, dtype: type[np.floating] = np.float32) -> ov.Node:
    constant = op.constant(np.random.default_rng(9).standard_normal(shape).astype(dtype))
    return constant if dtype == np.float32 else op.convert(constant, "f32")


def check(network: Callable[[ov.Node], ov.Node], rank: int = 3) -> tuple[ov.Model, NativeReport, NumpyOps]:
    """Lower a network on ``x`` (tokens, 64), or with more axes; its result must stay the same."""
    x = op.parameter([*[-1] * (rank - 1), SIZE], ov.Type.f32)
    x.output(0).set_names({"x"})
    y = network(x)
    y.output(0).set_names({"y"})
    model = ov.Model([op.result(y)], [x], "network")
    native, report, ops = lowered(model)
    values = np.random.default_rng(1).standard_normal((*[1] * (rank - 2), 5, SIZE)).astype(np.float32)
    expected, got = (compile_exact(each)({"x": values})["y"] for each in (model, native))
    assert native.output("y").partial_shape == model.output("y").partial_shape
    # The plugin takes a bias of more axes than its MatMul has without the axes that it should add.
    np.testing.assert_allclose(got, expected.reshape(got.shape), rtol=0, atol=1e-4)
    return native, report, ops


FUSED = [(3, (64,)), (3, (1, 64)), (3, (1, 1, 64)), (2, (64,)), (2, (1, 64))]
NOT_FUSED = [(2, (1, 1, 64)), (3, (5, 64)), (3, ()), (3, (1,)), (3, (5, 1)), (3, (64, 1, 1)), (3, (1, 1, 1, 64))]


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize(("rank", "shape"), FUSED + NOT_FUSED)
def test_only_a_number_for_each_output_is_a_bias(
    rank: int, shape: tuple[int, ...], dtype: type[np.floating], left: bool
) -> None:
    def network(x: ov.Node) -> ov.Node:
        terms = [layer(x), vector(*shape, dtype=dtype)]
        return op.add(*(reversed(terms) if left else terms))

    native, report, ops = check(network, rank)
    assert report.linears == 1
    assert ("Add" not in kinds(native)) == ((rank, shape) in FUSED)
    assert ops.packed[0].biases[0].any() == ((rank, shape) in FUSED)


def test_a_matmul_with_two_users_keeps_its_bias_apart() -> None:
    def network(x: ov.Node) -> ov.Node:
        y = layer(x)
        return op.multiply(op.add(y, vector(SIZE)), y)

    native, _, _ = check(network)
    assert kinds(native)["Add"] == 1


def test_a_residual_is_no_bias() -> None:
    native, _, _ = check(lambda x: op.add(layer(x), x))
    assert kinds(native)["Add"] == 1


ACTIVATIONS: dict[str, Callable[[ov.Node], ov.Node]] = {
    "relu": op.relu,
    "gelu_erf": lambda x: op.gelu(x, "ERF"),
    "gelu_tanh": lambda x: op.gelu(x, "TANH"),
    "silu": op.swish,
    "silu with its factor": lambda x: op.swish(x, op.constant(np.float32(1))),
}


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_an_activation_used_twice_is_computed_along(activation: str) -> None:
    def network(x: ov.Node) -> ov.Node:
        y = ACTIVATIONS[activation](op.add(layer(x), vector(SIZE)))
        return op.add(y, op.tanh(y))

    native, _, _ = check(network)
    assert kinds(native)["PackedLinear"] == 1
    assert not {"Gelu", "Swish", "Relu"} & kinds(native).keys()


@pytest.mark.parametrize("bias", [False, True])
def test_an_activation_in_another_shape_is_computed_along(bias: bool) -> None:
    """As optimum exports GPT-2: tokens are put in one row, and taken apart again."""

    def network(x: ov.Node) -> ov.Node:
        y = layer(op.reshape(x, op.constant(np.array([-1, SIZE])), False))
        y = op.add(vector(1, SIZE), y) if bias else y
        y = op.gelu(op.reshape(y, op.constant(np.array([1, -1, SIZE])), False), "TANH")
        return layer(y, seed=1)

    native, report, _ = check(network)
    assert report.operations == 2
    assert "Gelu" not in kinds(native)
    assert kinds(native)["Reshape"] == 2


@pytest.mark.parametrize(
    "network",
    [
        lambda y: op.add(op.swish(y), y),  # the result is needed without it, too
        lambda y: op.swish(y, op.constant(np.float32(2))),
        lambda y: op.swish(op.transpose(y, op.constant([0, 2, 1]))),
    ],
)
def test_what_is_no_activation_of_the_result_alone_stays(network: Callable[[ov.Node], ov.Node]) -> None:
    native, report, _ = check(lambda x: network(layer(x)))
    assert report.linears == 1
    assert kinds(native)["Swish"] == 1


def gate(x: ov.Node, seeds: tuple[int, int] = (0, 1)) -> ov.Node:
    return op.multiply(op.swish(layer(x, seed=seeds[0])), layer(x, seed=seeds[1]))


def test_gates_become_one_operation_whichever_factor_comes_first() -> None:
    def network(x: ov.Node) -> ov.Node:
        second = op.multiply(layer(x, seed=2), op.gelu(layer(x, seed=3), "ERF"))
        return op.add(gate(x), op.add(second, op.tanh(x)))  # x is used by something else as well

    native, report, ops = check(network)
    assert (report.linears, report.operations, report.gated) == (4, 2, 2)
    assert [packed.gated for packed in ops.packed] == [True, True]
    assert sorted(names(native, "PackedLinear")) == ["layer0+layer1", "layer3+layer2"]


def not_gated(x: ov.Node, kind: str) -> ov.Node:
    first, second = layer(x), layer(x, seed=1)
    if kind == "another input":
        second = layer(op.tanh(x), seed=1)
    if kind == "another size":
        second = layer(x, 1, seed=1)
    if kind == "both activated":
        second = op.swish(second)
    if kind == "another shape":
        first = op.reshape(first, op.constant([1, 1, -1, SIZE]), False)
    y = op.multiply(op.swish(first), second)
    if kind == "a factor used twice":
        y = op.add(y, second)
    if kind == "the activation used twice":
        y = op.multiply(op.swish(first), op.add(second, op.swish(first)))
    if kind == "a square":
        activated = op.swish(first)
        y = op.add(op.multiply(activated, activated), second)
    return y


@pytest.mark.parametrize(
    "kind",
    [
        "another input",
        "another size",
        "another shape",
        "both activated",
        "a factor used twice",
        "the activation used twice",
        "a square",
    ],
)
def test_products_that_are_no_gates_stay(kind: str) -> None:
    native, report, _ = check(lambda x: not_gated(x, kind))
    assert (report.linears, report.gated) == (2, 0)
    assert kinds(native)["Multiply"] == 1


def test_layers_of_one_input_are_merged_by_four() -> None:
    def network(x: ov.Node) -> ov.Node:
        parts = [layer(x, 8 + seed, seed=seed) for seed in range(6)]
        parts[2] = op.add(parts[2], vector(10))
        return op.concat([*parts, x, op.relu(layer(x, seed=7))], -1)

    native, report, ops = check(network)
    assert (report.linears, report.operations) == (7, 3)  # not the activated one
    assert [len(packed.matrices) for packed in ops.packed] == [4, 2, 1]
    assert [bias.any() for bias in ops.packed[0].biases] == [False, False, True, False]
    assert "layer0+layer1+layer2+layer3" in names(native, "PackedLinear")


def test_what_differs_is_not_merged() -> None:
    one = matrix()
    others = [
        matrix(group=64),
        Compressed(one.codes, one.dtype, one.scale, np.ones(one.scale.shape, np.uint8)),
        Compressed(np.zeros((SIZE, SIZE // 2), np.uint8), "i4", one.scale),
    ]
    for other in others:
        weights = [decompressed("one", one), decompressed("other", other)]
        _, report, _ = check(
            lambda x, weights=weights: op.concat([op.matmul(x, w, False, True) for w in weights], -1)  # type: ignore[misc]
        )
        assert (report.linears, report.operations) == (2, 2)


@pytest.mark.parametrize("lengths", [[8, 40, 16], [32, 32]])
def test_what_is_split_is_computed_apart(lengths: list[int]) -> None:
    def network(x: ov.Node) -> ov.Node:
        whole = op.add(layer(x), vector(SIZE))
        axis = op.constant(np.int64(2))
        parts = op.split(whole, axis, 2) if len(lengths) == 2 else op.variadic_split(whole, axis, op.constant(lengths))
        return op.concat([op.multiply(part, vector(1)) for part in reversed(parts.outputs())], -1)

    native, report, ops = check(network)
    assert (report.linears, report.operations) == (1, 1)
    assert [len(part) for part in ops.packed[0].matrices] == lengths
    assert not {"Split", "VariadicSplit"} & kinds(native).keys()
    assert names(native, "PackedLinear") == ["layer0"]


def test_parts_may_go_different_ways() -> None:
    shared = decompressed("w", matrix())

    def network(x: ov.Node) -> ov.Node:
        first, second = op.split(op.matmul(x, shared, False, True), op.constant(np.int64(-1)), 2).outputs()
        return op.concat([op.swish(first), op.tanh(second)], -1)

    _, report, ops = check(network)
    assert (report.linears, report.operations) == (1, 2)
    assert [len(packed.matrices[0]) for packed in ops.packed] == [32, 32]


def test_splits_along_another_axis_stay() -> None:
    def network(x: ov.Node) -> ov.Node:
        parts = op.split(layer(x), op.constant(np.int64(1)), 5).outputs()  # of tokens
        return op.concat([op.multiply(part, vector(1)) for part in reversed(parts)], 1)

    native, report, _ = check(network)
    assert (report.linears, report.operations) == (1, 1)
    assert kinds(native)["Split"] == 1


def test_a_matrix_that_two_layers_share_is_packed_once() -> None:
    shared = decompressed("w", matrix())
    _, report, ops = check(lambda x: op.matmul(op.tanh(op.matmul(x, shared, False, True)), shared, False, True))
    assert (report.linears, report.operations, len(ops.packed)) == (2, 2, 1)
    assert (report.nbytes, report.bytes_per_step) == (matrix().nbytes, 2 * matrix().nbytes)


def test_a_matrix_with_two_biases_is_packed_twice() -> None:
    shared = decompressed("w", matrix())

    def network(x: ov.Node) -> ov.Node:
        y = op.tanh(op.add(op.matmul(x, shared, False, True), vector(SIZE)))
        return op.add(op.matmul(y, shared, False, True), op.constant(np.ones(SIZE, np.float32)))

    _, report, ops = check(network)
    assert (report.linears, report.operations, len(ops.packed)) == (2, 2, 2)


def lookup(table: ov.Node, x: ov.Node, axis: int = 0) -> ov.Node:
    ids = op.convert(op.abs(op.reduce_sum(op.sign(x), op.constant([2]), False)), "i32")
    return op.gather(table, ids, op.constant(np.int64(axis)))


def test_a_tied_table_is_packed_once_even_where_the_head_has_a_bias() -> None:
    table = decompressed("table", matrix(100))
    _, report, ops = check(lambda x: op.add(op.matmul(lookup(table, x), table, False, True), vector(100)))
    assert (report.linears, report.embeddings, len(ops.packed)) == (1, 1, 1)


def test_a_table_that_is_part_of_a_gate_is_packed_for_lookups() -> None:
    table = decompressed("w0", matrix())

    def network(x: ov.Node) -> ov.Node:
        gated = op.multiply(op.swish(op.matmul(x, table, False, True)), layer(x, seed=1))
        return op.add(gated, lookup(table, x))

    _, report, ops = check(network)
    assert (report.gated, report.embeddings, len(ops.packed)) == (1, 1, 2)
    assert (report.nbytes, report.bytes_per_step) == (3 * matrix().nbytes, 2 * matrix().nbytes)


def no_linear(x: ov.Node, kind: str) -> ov.Node:
    weight = decompressed("w0", matrix(group=SIZE))
    if kind == "the groups of its matrix lie along the outputs":
        return op.matmul(x, weight, False, False)
    if kind == "the matrix is its first operand":
        return op.matmul(weight, x, False, True)
    if kind == "it transposes what it multiplies with the matrix":
        return op.matmul(
            op.broadcast(x, op.constant([1, SIZE, SIZE]), broadcast_spec="BIDIRECTIONAL"), weight, True, True
        )
    if kind == "it looks up something else than rows":
        return lookup(weight, x, axis=1)
    if kind == "Add is neither MatMul nor Gather":
        return op.add(op.broadcast(x, op.constant([1, SIZE, SIZE]), broadcast_spec="BIDIRECTIONAL"), weight)
    half = op.multiply(op.convert(op.constant(matrix().codes), "f16"), op.constant(np.full((1, 1), 0.01, np.float16)))
    return op.matmul(x, op.convert(half, "f32"), False, True)


@pytest.mark.parametrize(
    "kind",
    [
        "the groups of its matrix lie along the outputs",
        "the matrix is its first operand",
        "it transposes what it multiplies with the matrix",
        "it looks up something else than rows",
        "Add is neither MatMul nor Gather",
        "the pattern of its compressed matrix is not known",
    ],
)
def test_what_is_not_lowered_is_told(kind: str) -> None:
    def network(x: ov.Node) -> ov.Node:
        y = no_linear(
            op.reshape(op.gather(x, op.constant([0]), op.constant(1)), op.constant([1, 1, SIZE]), False), kind
        )
        y.set_friendly_name("odd")
        return y

    native, report, _ = check(network)
    assert not report
    assert report.skipped == [f"odd: {kind}"]
    assert str(report).endswith("; 1 left as they were")
    assert len(codes_in(native)) == 1


def test_layers_in_half_precision_stay() -> None:
    def network(x: ov.Node) -> ov.Node:
        weight = op.convert(decompressed("w0", matrix()), "f16")
        y = op.matmul(op.convert(x, "f16"), weight, False, True)
        y.set_friendly_name("half")
        return op.convert(y, "f32")

    x = op.parameter([5, SIZE], ov.Type.f32)
    _, report, _ = lowered(ov.Model([op.result(network(x))], [x], "half"))
    assert report.skipped == ["half: it computes in f16"]


class _Watching(NumpyOps):
    """Counts, whenever it packs, how many of the original matrices are still there."""

    def __init__(self, originals: list[weakref.ref[NDArray[Any]]]) -> None:
        super().__init__()
        self.originals = originals
        self.counts: list[int] = []

    def pack(self, projections: Sequence[Projection], *, gated: bool = False) -> NumpyPacked:
        self.counts.append(self.count())
        return super().pack(projections, gated=gated)

    def count(self) -> int:
        gc.collect()
        return sum(original() is not None for original in self.originals)


def test_originals_are_released_one_by_one() -> None:
    weights = [matrix(seed=seed) for seed in range(3)]
    ops = _Watching([weakref.ref(weight.codes) for weight in weights])
    x = op.parameter([-1, SIZE], ov.Type.f32)
    y = x
    for weight in weights:
        y = op.matmul(y, decompressed("w", weight), False, True)
    model = ov.Model([op.result(y)], [x], "layers")
    del weights, weight, x, y
    to_native(model, ops)
    assert ops.counts == [3, 2, 1]
    assert ops.count() == 0


def test_names_of_results_stay_when_what_made_them_goes() -> None:
    x = op.parameter([-1, SIZE], ov.Type.f32)
    y = op.swish(layer(x))
    y.output(0).set_names({"logits"})
    model = ov.Model([op.result(y)], [x], "named")
    to_native(model, NumpyOps())
    assert model.output("logits").get_names() == {"logits"}


def test_rows_of_a_head_that_is_merged_with_another_are_cut_behind_it() -> None:
    x = op.parameter([1, -1, SIZE], ov.Type.f32)
    heads = [layer(x), layer(x, seed=1)]
    for name, head in zip(("logits", "other"), heads, strict=True):
        head.output(0).set_names({name})
    model = ov.Model([op.result(head) for head in heads], [x], "heads")
    assert to_native(model, NumpyOps()).operations == 1
    select_rows(model, axis=1)
    values = np.random.default_rng(1).standard_normal((1, 5, SIZE)).astype(np.float32)
    got = compile_exact(model)([values, np.array([4], np.int32)])
    assert got["other"].shape == (1, 5, SIZE)
    np.testing.assert_allclose(got["logits"], values[:, [4]] @ matrix().to_f32().T, rtol=0, atol=1e-4)
