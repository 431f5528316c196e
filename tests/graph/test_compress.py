"""Compressed weights in graphs: plugins keep them so and compute with them; models can be compressed later."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import openvino.opset15 as op
import pytest
from numpy.typing import NDArray

from ovgen.errors import ModelError, UnsupportedModelError
from ovgen.graph import build_model, estimate_size, read_config, read_ir, save_ir
from ovgen.graph.compressed import decompressed, stored_matrix
from ovgen.graph.passes import compress_model, compressed_size, to_paged
from ovgen.graph.passes.compress import stored_matrices
from ovgen.runtime.calibration import Calibration
from ovgen.runtime.windows import attention_windows
from ovgen.weights import Checkpoint, Compressed, Compression, Weight, open_checkpoint
from tests.graph.tools import build, compile_exact

FolderOf = Callable[[str], Path]
COMPRESSIONS = {
    "f16": Compression(weights="f16"),
    "int8": Compression(weights="int8"),
    "int8-sym": Compression(weights="int8", symmetric=True),
    "int8-groups": Compression(weights="int8", group_size=32),
    "int4": Compression(weights="int4", group_size=32),
    "int4-sym": Compression(weights="int4", group_size=32, symmetric=True),
    "int4-rows": Compression(weights="int4", group_size=-1),
    "int4-all": Compression(weights="int4", group_size=32, embeddings="int4"),
}
STORED = {"f16": "f16", "int8": "u8", "int8-sym": "i8", "int8-groups": "u8", "int4-sym": "i4"}  # else u4
TABLES = {"f16": "f16", "int8-sym": "i8", "int4-all": "u4"}  # else u8


def compress_folder(folder: Path, compression: Compression) -> ov.Model:
    return build_model(read_config(folder), open_checkpoint(folder), compression)


def logits(model: ov.Model, ids: NDArray[np.int64]) -> NDArray[np.float32]:
    shape = ids.shape
    inputs = {"input_ids": ids, "attention_mask": np.ones(shape, np.int64)}
    inputs |= {"position_ids": np.arange(shape[1])[None], "beam_idx": np.zeros(1, np.int32)}
    return np.array(compile_exact(model).create_infer_request().infer(inputs)["logits"])


def random_matrix(dtype: Any, rows: int, columns: int, group: int, zeros: str | None) -> Compressed:
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 256, (rows, columns if "8" in dtype else columns // 2), np.uint8)
    per_group = (rows, columns // group)
    scale = (rng.uniform(0.5, 1, per_group) * rng.choice([-0.01, 0.01], per_group)).astype(np.float16)
    zero = {None: None, "whole": rng.integers(0, 16, per_group, np.uint8)}.get(
        zeros, rng.uniform(-3, 15, per_group).astype(np.float16)
    )
    return Compressed(codes.view(np.int8) if dtype == "i8" else codes, dtype, scale, zero)


MATRICES = [
    (dtype, group, zeros)
    for dtype, kinds in {"u8": ("whole", "half"), "u4": ("whole", "half"), "i8": (None,), "i4": (None,)}.items()
    for zeros in kinds
    for group in (16, 32, 160)
]


@pytest.mark.parametrize(("dtype", "group", "zeros"), MATRICES)
def test_a_compiled_graph_computes_with_the_values_meant(dtype: str, group: int, zeros: str | None) -> None:
    matrix = random_matrix(dtype, 33, 160, group, zeros)
    x, ids = op.parameter([-1, 160], ov.Type.f32), op.parameter([-1], ov.Type.i64)
    node = decompressed("w", matrix)
    results = [op.matmul(x, node, False, True), op.gather(node, ids, op.constant(0, ov.Type.i64))]
    compiled = compile_exact(ov.Model(results, [x, ids], "both"))
    constants = [
        n for n in compiled.get_runtime_model().get_ops() if "Const" in n.get_rt_info()["layerType"].astype(str)
    ]
    kinds = {n.get_output_element_type(0).to_string() for n in constants if np.prod(n.get_output_shape(0)) == 33 * 160}
    assert kinds == {dtype}
    inputs = np.random.default_rng(1).standard_normal((5, 160)).astype(np.float32)
    product, rows = compiled([inputs, np.arange(33)]).values()
    values = matrix.to_f32()
    np.testing.assert_allclose(rows, values, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(product, inputs @ values.T, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("dtype", "group", "zeros"), MATRICES)
def test_what_is_written_is_read_back(dtype: str, group: int, zeros: str | None) -> None:
    matrix = random_matrix(dtype, 33, 160, group, zeros)
    found = stored_matrix(decompressed("w", matrix).output(0))
    assert found is not None
    name, again = found
    assert name == "w"
    assert isinstance(again, Compressed)
    assert again.dtype == dtype
    assert np.array_equal(again.to_f32(), matrix.to_f32())


@pytest.mark.parametrize("code", range(16))
def test_nibbles_are_ordered_as_openvino_orders_them(code: int) -> None:
    """The first of two codes lies in the lower half; OpenVINO itself is asked, by converting the constant."""
    codes = np.array([[code | 3 << 4]], np.uint8)
    for dtype in ("u4", "i4"):
        matrix = Compressed(codes, dtype, np.ones((1, 1), np.float16))
        constant = op.constant(ov.Tensor(codes, [1, 2], ov.Type.u4 if dtype == "u4" else ov.Type.i4))
        model = ov.Model([op.convert(constant, "f32")], [], "convert")
        assert compile_exact(model)([])[0].tolist() == matrix.to_f32().tolist()


def test_groups_along_the_outputs_are_refused() -> None:
    with pytest.raises(UnsupportedModelError, match="'w' has its groups along the outputs"):
        decompressed("w", random_matrix("i8", 8, 32, 32, None).transposed())


@pytest.mark.parametrize("form", ["stateful", "paged"])
@pytest.mark.parametrize("kind", COMPRESSIONS)
@pytest.mark.parametrize("variant", ["llama", "llama-bias-untied", "llama-bf16", "gpt2", "gpt2-unscaled"])
def test_every_weight_stays_compressed_when_compiled(variant: str, kind: str, form: str, folder_of: FolderOf) -> None:
    model = compress_folder(folder_of(variant), COMPRESSIONS[kind])
    if form == "paged":
        model = to_paged(model, attention_windows(model))
    layers: Counter[tuple[str, str]] = Counter()
    for node in compile_exact(model).get_runtime_model().get_ops():
        info = node.get_rt_info()
        layer, shape = (
            info["layerType"].astype(str),
            node.get_output_partial_shape(0) if node.get_output_size() else None,
        )
        if layer == "FullyConnected":
            layers[layer, info["runtimePrecision"].astype(str)] += 1
        elif layer == "Const" and shape is not None and shape.is_static and np.prod(shape.to_shape()) >= 64 * 32:
            layers[layer, node.get_output_element_type(0).to_string()] += 1
    linears, embeddings = 3 * (7 if "llama" in variant else 4), 1 if "llama" in variant else 2
    stored, table = STORED.get(kind, "u4"), TABLES.get(kind, "u8")
    expected = Counter({("FullyConnected", stored): linears}) + Counter({("FullyConnected", table): 1})
    assert Counter({key: n for key, n in layers.items() if key[0] == "FullyConnected"}) == expected
    constants = {key[1] for key in layers if key[0] == "Const"}
    assert constants == {stored, table}
    assert sum(n for key, n in layers.items() if key[0] == "Const") >= linears + embeddings


@pytest.mark.parametrize("kind", COMPRESSIONS)
@pytest.mark.parametrize("variant", ["llama", "gpt2-unscaled"])
def test_a_model_compressed_later_is_the_one_compressed_at_once(variant: str, kind: str, folder_of: FolderOf) -> None:
    folder, compression = folder_of(variant), COMPRESSIONS[kind]
    model, told = build(folder), list[tuple[str, int]]()
    expected_size = compressed_size(model, compression)
    compress_model(model, compression, progress=lambda *args: told.append(args))
    at_once = {m.name: m for m in stored_matrices(compress_folder(folder, compression))}
    later = {m.name: m for m in stored_matrices(model)}
    assert [name for name, _ in told] == list(later)
    assert later.keys() == at_once.keys()
    for name, matrix in later.items():
        assert matrix.value.dtype == at_once[name].value.dtype
        assert np.array_equal(matrix.value.to_f32(), at_once[name].value.to_f32()), name
    assert sum(matrix.value.nbytes for matrix in later.values()) == expected_size


@pytest.mark.parametrize("variant", ["llama", "gpt2"])
def test_tied_tables_stay_shared(variant: str, folder_of: FolderOf) -> None:
    for model in (build(folder_of(variant)), compress_folder(folder_of(variant), COMPRESSIONS["int8"])):
        compress_model(model, COMPRESSIONS["int4"])
        table = next(matrix for matrix in stored_matrices(model) if matrix.table)
        assert sorted(port.get_node().get_type_name() for port in table.uses) == ["Gather", "MatMul"]
        assert len({port.get_source_output().get_node().get_name() for port in table.uses}) == 1


def test_eight_bits_are_near_and_sixteen_nearer(folder_of: FolderOf) -> None:
    ids = np.arange(5, 25)[None]
    for variant in ("gpt2", "gpt2-bf16"):
        exact = logits(build(folder_of(variant)), ids)
        errors = {
            kind: np.sqrt(np.square(logits(compress_folder(folder_of(variant), c), ids) - exact).mean() / exact.var())
            for kind, c in COMPRESSIONS.items()
        }
        assert errors["f16"] < 0.002 < errors["int8"] < 0.08
        assert errors["int8-groups"] < 0.08
        assert errors["int8"] < errors["int4"] < 0.6


def test_a_written_model_is_smaller_as_foretold_and_reads_back(tmp_path: Path, folder_of: FolderOf) -> None:
    folder = folder_of("gpt2")
    compression = COMPRESSIONS["int4"]
    model = compress_folder(folder, compression)
    save_ir(model, tmp_path / "ir")
    written = (tmp_path / "ir" / "openvino_model.bin").stat().st_size
    estimate = estimate_size(open_checkpoint(folder), compression)
    assert estimate == pytest.approx(written, rel=0.03)
    again = read_ir(tmp_path / "ir")
    ids = np.arange(5, 25)[None]
    np.testing.assert_array_equal(logits(again, ids), logits(model, ids))
    assert compressed_size(again, Compression(weights="int8")) == compressed_size(model, compression)


def test_compressed_tensors_of_a_checkpoint_go_in_as_they_are(folder_of: FolderOf) -> None:
    folder = folder_of("llama")
    tensors: dict[str, Weight | Compressed] = dict(open_checkpoint(folder).items())
    name = "model.layers.1.mlp.up_proj.weight"
    tensors[name] = matrix = random_matrix("i8", 96, 64, 32, None)
    for compression in (None, Compression(weights="int8")):
        model = build_model(read_config(folder), Checkpoint("here", tensors), compression)
        stored = next(m.value for m in stored_matrices(model) if m.name == name)
        assert stored.dtype == "i8"
        assert np.array_equal(stored.to_f32(), matrix.to_f32())


def test_statistics_are_those_of_the_inputs_and_help(folder_of: FolderOf) -> None:
    folder = folder_of("gpt2")
    model, rng = build(folder), np.random.default_rng(0)
    texts = rng.integers(0, 300, (40, 100))
    statistics = Calibration(model, texts.tolist())
    assert len(statistics) == 12
    matrices = {m.name: m for m in stored_matrices(model) if not m.table}
    assert statistics.keys() == matrices.keys()
    first = statistics["transformer.h.0.attn.c_attn.weight"]
    weights = open_checkpoint(folder)
    x = np.concatenate([_embedded(weights, text) for text in texts])
    np.testing.assert_allclose(first, x.T @ x / len(x), rtol=1e-3, atol=1e-4)

    ids, exact = texts[0][None], logits(model, texts[0][None])
    plain, calibrated = (
        build_model(read_config(folder), open_checkpoint(folder), COMPRESSIONS["int4-rows"], statistics=used)
        for used in (None, statistics)
    )
    errors = [np.square(logits(m, ids) - exact).mean() for m in (plain, calibrated)]
    assert errors[1] < 0.9 * errors[0]


@pytest.mark.parametrize("variant", ["gpt2", "llama"])
def test_statistics_are_the_same_whatever_memory_they_may_take(variant: str, folder_of: FolderOf) -> None:
    model, texts = build(folder_of(variant)), [list(range(5, 60)), list(range(100, 130))]
    at_once, told = Calibration(model, texts), list[tuple[str, int]]()
    in_groups = Calibration(model, texts, budget=2 * 5 * 64 * 64 * 4)
    in_groups.progress = lambda *args: told.append(args)
    assert at_once.tokens == 85
    assert list(at_once) == list(in_groups)
    for name in in_groups:
        assert np.array_equal(in_groups[name], at_once[name])
    assert sum(size for _, size in told) == in_groups.tokens > 3 * at_once.tokens
    count = len(told)
    assert in_groups[name] is in_groups[name]
    assert len(told) == count


def test_groups_take_turns_without_running_the_text_again(folder_of: FolderOf) -> None:
    told: list[tuple[str, int]] = []
    statistics = Calibration(build(folder_of("gpt2")), [[1, 2]], budget=1)
    statistics.progress = lambda *args: told.append(args)
    first, second, third, *_ = statistics
    for name in (first, second, first, second, third, second, third):
        statistics[name]
    assert [what for what, _ in told] == ["1 of 12", "2 of 12", "3 of 12"]


def test_a_text_that_a_model_cannot_compute_is_an_error(folder_of: FolderOf) -> None:
    tensors: dict[str, Weight | Compressed] = dict(open_checkpoint(folder_of("gpt2")).items())
    name = "transformer.h.1.ln_2.weight"
    tensors[name] = Weight(np.full(tensors[name].shape, np.inf, np.float32), "F32")
    model = build_model(read_config(folder_of("gpt2")), Checkpoint("here", tensors))
    with pytest.raises(ModelError, match=r"calibration text, the input of 'transformer\.h\.1\.mlp\.c_fc\.weight'"):
        Calibration(model, [[1, 2, 3]])["transformer.h.0.attn.c_attn.weight"]


def _embedded(weights: Checkpoint, ids: NDArray[np.int64]) -> NDArray[np.float32]:
    """What the first layer's attention of GPT-2 takes in, worked out in numpy."""
    arrays = {name.removeprefix("transformer."): tensor.to_f32() for name, tensor in weights.items()}
    x = arrays["wte.weight"][ids] + arrays["wpe.weight"][: len(ids)]
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return np.asarray(x * arrays["h.0.ln_1.weight"] + arrays["h.0.ln_1.bias"])


def model_of(*weights: ov.Node, transposed: bool = True) -> ov.Model:
    """MatMuls in a row, of square weights, between an embedding and the logits."""
    ids = op.parameter([-1, -1], ov.Type.i64, name="input_ids")
    ids.output(0).set_names({"input_ids"})
    x = op.gather(op.constant(np.eye(64, dtype=np.float32)), ids, op.constant(np.int64(0)))
    for weight in (*weights, op.constant(np.ones((8, 64), np.float32))):
        x = op.matmul(x, weight, False, transposed or weight.get_output_shape(0)[0] == 8)
    x.output(0).set_names({"logits"})
    return ov.Model([op.result(x)], [ids], "linear")


def test_constants_of_one_name_are_not_mixed_up() -> None:
    rng = np.random.default_rng(0)
    weights = [op.constant(rng.standard_normal((64, 64)).astype(np.float32)) for _ in range(2)]
    weights[0].set_friendly_name("w")
    weights[1].set_friendly_name("w_compressed")
    model = model_of(*weights)
    compress_model(model, COMPRESSIONS["f16"])
    kept = [matrix.value.to_f32() for matrix in stored_matrices(model) if not matrix.table]
    assert len(kept) == 2
    assert not np.array_equal(kept[0], kept[1])


@pytest.mark.parametrize("shape", [(1, 64), (1, 1), ()])
def test_scales_that_are_not_of_rows_are_left_alone(shape: tuple[int, ...]) -> None:
    codes = op.constant(np.arange(4096, dtype=np.int8).reshape(64, 64))
    scales = op.constant(np.full(shape, 0.01, np.float16))
    weight = op.convert(op.multiply(op.convert(codes, "f16"), scales), "f32")
    assert stored_matrix(weight.output(0)) is None


@pytest.mark.parametrize("kind", COMPRESSIONS)
def test_weights_that_are_stored_the_other_way_round_are_turned(kind: str) -> None:
    matrices = np.random.default_rng(0).standard_normal((2, 64, 64)).astype(np.float32)
    models = [
        model_of(
            *(op.constant(np.ascontiguousarray(m.T if transposed else m)) for m in matrices), transposed=transposed
        )
        for transposed in (True, False)
    ]
    sizes = [compressed_size(model, COMPRESSIONS[kind]) for model in models]
    for model in models:
        compress_model(model, COMPRESSIONS[kind])
    turned, straight = ([m.value for m in stored_matrices(model)] for model in models)
    assert len(turned) == 4
    for one, other in zip(turned, straight, strict=True):
        assert one.dtype == other.dtype
        assert np.array_equal(one.to_f32(), other.to_f32())
    assert sizes == [sum(value.nbytes for value in turned)] * 2
    found = [compile_exact(model)(np.arange(20)[None])[0] for model in models]
    assert np.array_equal(*found)


def test_statistics_of_weights_stored_the_other_way_round_are_found() -> None:
    matrix = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    weights = [op.constant(matrix), op.constant(matrix + 1)]
    for weight in weights:
        weight.set_friendly_name("w")
    statistics = Calibration(model_of(*weights, transposed=False), [list(range(64))])
    np.testing.assert_allclose(statistics["w"], np.eye(64) / 64, atol=1e-7)  # of the embeddings, which are unit vectors
    np.testing.assert_allclose(statistics["w_2"], matrix.T @ matrix / 64, rtol=1e-4, atol=1e-5)


def test_a_constant_taken_both_ways_round_is_stored_twice() -> None:
    matrix = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    shared = op.constant(matrix)
    x = op.parameter([-1, 64], ov.Type.f32, name="input_ids")
    y = op.matmul(op.relu(op.matmul(x, shared, False, False)), shared, False, True)
    y.output(0).set_names({"logits"})
    model = ov.Model([op.result(y)], [x], "both")
    compress_model(model, COMPRESSIONS["int8"])
    assert len(stored_matrices(model)) == 2
    inputs = np.random.default_rng(1).standard_normal((5, 64)).astype(np.float32)
    exact = np.maximum(inputs @ matrix, 0) @ matrix.T
    assert np.abs(compile_exact(model)(inputs)[0] - exact).max() < 0.03 * np.abs(exact).max()


@pytest.mark.parametrize("constant", [np.ones((64, 64), np.float32), np.ones((1, 64), np.float32)])
def test_constants_that_are_no_tables_stay(constant: NDArray[np.float32]) -> None:
    """Columns are looked up in the first, and the second is a row, such as RoPE's frequencies."""
    x = op.parameter([-1, -1, 1], ov.Type.f32)
    ids = op.parameter([2], ov.Type.i64)
    node = op.constant(constant)
    y = op.matmul(x, node, False, False) if len(constant) == 1 else op.gather(node, ids, op.constant(np.int64(1)))
    y.output(0).set_names({"logits"})
    assert stored_matrices(ov.Model([op.result(y)], [x, ids], "no table")) == []
