"""The safetensors reader agrees with the reference implementation, and never trusts a header."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from safetensors.numpy import load, save

from ovgen.errors import CorruptFileError, ModelNotFoundError, UnsupportedModelError
from ovgen.weights.safetensors import read_safetensors
from ovgen.weights.weight import DTYPES
from tests.fuzzing import CASES, fuzz, mutants, reads_or_raises
from tests.tiny_models import make

quick = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

arrays = hnp.arrays(
    st.sampled_from([np.float64, np.float32, np.float16, np.int64, np.int32, np.int8, np.uint8, np.bool_]),
    hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5),
)


def encode(header: Any, buffer: bytes = b"", length: int | None = None) -> bytes:
    """A file with this header, which may be text, and perhaps a length that lies."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + buffer


def entry(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@quick
@given(tensors=st.dictionaries(st.text(min_size=1, max_size=8), arrays, max_size=5))
def test_equals_the_reference(tensors: dict[str, NDArray[Any]], tmp_path: Path) -> None:
    tensors.pop("__metadata__", None)
    path = tmp_path / "model.safetensors"
    raw = save(tensors, {"format": "np"})
    path.write_bytes(raw)

    found = read_safetensors(path)
    expected = load(raw)

    assert found.keys() == expected.keys()
    for name, weight in found.items():
        assert weight.array.dtype == expected[name].dtype == DTYPES[weight.dtype]
        assert weight.shape == expected[name].shape
        assert weight.array.tobytes() == expected[name].tobytes()
        assert weight.array.tobytes() == raw[weight.offset : weight.offset + weight.array.nbytes]


def test_values_of_16_bit_floats(tmp_path: Path) -> None:
    header = {"b": entry("BF16", [3], [0, 6]), "h": entry("F16", [1], [6, 8])}
    buffer = np.array([0x3F80, 0xC000, 0x7F80], "<u2").tobytes() + np.array([0.1], "<f2").tobytes()
    (tmp_path / "m").write_bytes(encode(header, buffer))

    weights = read_safetensors(tmp_path / "m")

    assert weights["b"].to_f32().tolist() == [1.0, -2.0, float("inf")]
    assert weights["h"].to_f32().tolist() == [float(np.float16(0.1))]


def test_writing_to_an_array_leaves_the_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    raw = save({"a": np.arange(4, dtype=np.float32)})
    path.write_bytes(raw)

    read_safetensors(path)["a"].array[:] = 7

    assert path.read_bytes() == raw


def test_transposing_copies(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(save({"a": np.arange(6, dtype=np.float16).reshape(2, 3)}))

    weight = read_safetensors(path)["a"]
    turned = weight.transposed()

    assert turned.array.tolist() == weight.array.T.tolist()
    assert turned.array.flags.c_contiguous
    assert turned.file is None
    assert not np.shares_memory(turned.array, weight.array)


DAMAGE: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "too short"),
    "seven bytes": (b"1234567", "too short"),
    "length beyond the file": (encode({}, length=3000), "claims 3000 bytes"),
    "length of 2**64 - 1": (b"\xff" * 8 + b"{}", "claims"),
    "length that cuts the JSON": (encode({"a": entry()}, b"\0" * 8, length=9), "not JSON"),
    "not UTF-8": (encode(b'{"\xff": 1}'), "UTF-8"),
    "an array": (encode([]), "JSON object"),
    "nested without end": (encode(b"[" * 100_000), "nested"),
    "a number of 5000 digits": (encode(b'{"a": ' + b"9" * 5000 + b"}"), "not valid JSON"),
    "NaN": (encode(b'{"a": NaN}'), "NaN"),
    "repeated names": (encode(b'{"a": 1, "a": 2}'), "'a' occurs twice"),
    "metadata that is no strings": (encode({"__metadata__": {"a": 1}}), "__metadata__"),
    "an entry that is a list": (encode({"a": []}), "must have dtype"),
    "an entry without shape": (encode({"a": {"dtype": "F32", "data_offsets": [0, 8]}}), "must have dtype"),
    "a dtype that is a number": (encode({"a": entry(dtype=1)}), "dtype must be a string"),
    "a negative size": (encode({"a": entry(shape=[-2])}), "shape must be"),
    "a size that is true": (encode({"a": entry(shape=[True], offsets=[0, 4])}, b"\0" * 4), "shape must be"),
    "a size that is a float": (encode({"a": entry(shape=[2.0])}), "shape must be"),
    "a thousand dimensions": (encode({"a": entry(shape=[1] * 1000, offsets=[0, 4])}, b"\0" * 4), "at most 16"),
    "an empty tensor of 2**62 rows": (encode({"a": entry(shape=[0, 2**62], offsets=[0, 0])}), "beyond any model"),
    "one offset": (encode({"a": entry(offsets=[0])}), "data_offsets must be"),
    "offsets backwards": (encode({"a": entry(offsets=[8, 0])}), "data_offsets must be"),
    "offsets that do not fit the shape": (encode({"a": entry(offsets=[0, 4])}, b"\0" * 4), "takes 8"),
    "offsets beyond the file": (encode({"a": entry()}, b"\0" * 4), "the file holds 4"),
    "bytes of no tensor": (encode({"a": entry()}, b"\0" * 12), "the file holds 12"),
    "overlap": (encode({"a": entry(), "b": entry(offsets=[4, 12])}, b"\0" * 12), "overlaps"),
    "a gap": (encode({"a": entry(), "b": entry(offsets=[12, 20])}, b"\0" * 20), "gap"),
}


@pytest.mark.parametrize(("raw", "message"), DAMAGE.values(), ids=DAMAGE.keys())
def test_damage_is_named(raw: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(raw)
    with pytest.raises(CorruptFileError, match=r"bad\.safetensors") as error:
        read_safetensors(path)
    assert message in str(error.value)


def test_unknown_dtype_is_not_called_damage(tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(encode({"a": entry("F8_E4M3", [8], [0, 8])}, b"\0" * 8))
    with pytest.raises(UnsupportedModelError, match="F8_E4M3"):
        read_safetensors(tmp_path / "m")


def test_absent_file(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"no\.safetensors"):
        read_safetensors(tmp_path / "no.safetensors")


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(CorruptFileError, match="cannot be read"):
        read_safetensors(tmp_path)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
sizes = st.integers(-2, 2**70) | st.integers(0, 16)
entries = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from([*DTYPES, "F8_E4M3"]) | json_values,
        "shape": st.lists(sizes, max_size=3) | json_values,
        "data_offsets": st.lists(sizes, min_size=2, max_size=2) | json_values,
    }
)


@fuzz
@given(
    header=st.dictionaries(st.text(max_size=5) | st.just("__metadata__"), entries | json_values, max_size=4),
    buffer=st.binary(max_size=64),
    length=st.none() | st.integers(0, 2**64 - 1),
)
def test_any_header_reads_or_raises_ours(header: Any, buffer: bytes, length: int | None, tmp_path: Path) -> None:
    (tmp_path / "fuzzed.safetensors").write_bytes(encode(header, buffer, length))
    reads_or_raises(_read_and_touch, tmp_path / "fuzzed.safetensors")


def test_mutated_files_read_or_raise_ours(tmp_path: Path) -> None:
    raw = (make("llama-bf16", tmp_path / "model") / "model-00001-of-00002.safetensors").read_bytes()
    header = 8 + int.from_bytes(raw[:8], "little")
    for damaged in mutants(raw, 2 * CASES, head=header + 100):
        (tmp_path / "fuzzed.safetensors").write_bytes(damaged)
        reads_or_raises(_read_and_touch, tmp_path / "fuzzed.safetensors")


def _read_and_touch(path: Path) -> None:
    """Whatever is read stays within the file: touching every byte must not fault."""
    weights = read_safetensors(path)
    assert sum(weight.array.nbytes for weight in weights.values()) < path.stat().st_size
    for weight in weights.values():
        weight.array.max(initial=0)
