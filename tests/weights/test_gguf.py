"""The GGUF reader agrees with the `gguf` package, reads what that does not, and never trusts a header."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from numpy.typing import NDArray

from ovgen.errors import CorruptFileError, ModelNotFoundError, UnsupportedModelError
from ovgen.weights import Weight
from ovgen.weights.gguf import GGUF, read_gguf
from tests.shared_data import SHARED, needs_shared
from tests.weights.gguf_bytes import ARRAY, BOOL, F32, F64, I8, I16, I32, I64, STRING, U8, U16, U32, U64, encode

METADATA: dict[str, tuple[int, Any]] = {
    "u8": (U8, 255),
    "i8": (I8, -128),
    "u16": (U16, 65535),
    "i16": (I16, -1),
    "u32": (U32, 2**32 - 1),
    "i32": (I32, -(2**31)),
    "f32": (F32, 0.5),
    "u64": (U64, 2**64 - 1),
    "i64": (I64, -(2**63)),
    "f64": (F64, 0.1),
    "bool": (BOOL, True),
    "text": (STRING, "naïve"),
    "texts": (ARRAY, (STRING, ["", "a", "▁b"])),
    "numbers": (ARRAY, (I32, [1, -2, 3])),
    "none": (ARRAY, (U8, [])),
}
MATRIX = np.arange(6, dtype=np.float32).reshape(2, 3)
MATRIX_ENTRY = ("m", [3, 2], 0, MATRIX.tobytes())


def read(folder: Path, raw: bytes) -> GGUF:
    path = folder / "model.gguf"
    path.write_bytes(raw)
    return read_gguf(path)


@pytest.mark.parametrize("version", [1, 2, 3])
def test_every_version_and_type_of_metadata(version: int, tmp_path: Path) -> None:
    model = read(tmp_path, encode(METADATA, [MATRIX_ENTRY], version=version))
    for key, (kind, value) in METADATA.items():
        expected = value[1] if kind == ARRAY else value
        assert list(model.metadata[key]) == expected if kind == ARRAY else model.metadata[key] == expected
    tensor = model.load("m")
    assert isinstance(tensor, Weight)
    assert tensor.array.tolist() == MATRIX.tolist()


def test_what_the_package_writes(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    arrays: dict[str, NDArray[Any]] = {
        "f32": MATRIX,
        "f16": np.ones((4, 5), np.float16),
        "vector": np.arange(7, dtype=np.float32),
        "cube": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    }
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_custom_alignment(128)
    writer.add_token_list(["a", "b"])
    writer.add_token_scores([0.5, 1.5])
    for name, array in arrays.items():
        writer.add_tensor(name, array)
    writer.add_tensor("bf16", gguf.quants.quantize(MATRIX, gguf.GGMLQuantizationType.BF16), raw_dtype=30)  # type: ignore[arg-type]
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    model = read_gguf(path)

    theirs = gguf.GGUFReader(path)
    assert list(model.tensors) == [tensor.name for tensor in theirs.tensors]
    assert [entry.begin for entry in model.tensors.values()] == [tensor.data_offset for tensor in theirs.tensors]
    assert model.metadata["tokenizer.ggml.tokens"] == ["a", "b"]
    assert model.metadata["tokenizer.ggml.scores"].tolist() == [0.5, 1.5]
    for name, array in arrays.items():
        np.testing.assert_array_equal(model.load(name).to_f32(), array)
    np.testing.assert_array_equal(model.load("bf16").to_f32(), MATRIX)


def test_numbers_are_views_of_the_file_that_may_be_written_to(tmp_path: Path) -> None:
    raw = encode({}, [MATRIX_ENTRY])
    tensor = read(tmp_path, raw).load("m")
    assert isinstance(tensor, Weight)
    assert tensor.file is not None
    assert tensor.file.read_bytes()[tensor.offset : tensor.offset + 24] == MATRIX.tobytes()
    tensor.array[:] = 7
    assert (tmp_path / "model.gguf").read_bytes() == raw


@needs_shared
def test_a_real_vocabulary() -> None:
    path = SHARED / "tokenizers" / "vectors" / "ggml-vocab-gpt-2.gguf"
    model, theirs = read_gguf(path), gguf.GGUFReader(path)
    assert not model.tensors
    for key, field in theirs.fields.items():
        if not key.startswith("GGUF."):
            ours = model.metadata[key]
            assert (ours.tolist() if isinstance(ours, np.ndarray) else ours) == field.contents(), key


def write_parts(folder: Path, count: int = 3) -> list[Path]:
    """A model in several files, each with a tensor ``t.NUMBER``."""
    paths = [folder / f"m-{number:05}-of-{count:05}.gguf" for number in range(1, count + 1)]
    for number, path in enumerate(paths):
        split = {"split.no": (U16, number), "split.count": (U16, count), "split.tensors.count": (I32, count)}
        own = {"general.name": (STRING, "whole")} if number == 0 else {}
        path.write_bytes(encode({**own, **split}, [(f"t.{number}", [3, 2], 0, (MATRIX + number).tobytes())]))
    return paths


@pytest.mark.parametrize("asked", [0, 1, 2])
def test_a_model_in_several_files(asked: int, tmp_path: Path) -> None:
    paths = write_parts(tmp_path)
    model = read_gguf(paths[asked])
    assert model.path == paths[0]
    assert model.metadata["general.name"] == "whole"
    for number in range(3):
        np.testing.assert_array_equal(model.load(f"t.{number}").to_f32(), MATRIX + number)


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    paths = write_parts(tmp_path)
    paths[1].unlink()
    with pytest.raises(ModelNotFoundError, match=r"m-00002-of-00003.gguf, which m-00001-of-00003.gguf goes with"):
        read_gguf(paths[0])


def test_parts_in_the_wrong_order(tmp_path: Path) -> None:
    paths = write_parts(tmp_path)
    paths[1].write_bytes(paths[2].read_bytes())
    with pytest.raises(CorruptFileError, match=r"m-00002-of-00003.gguf: split.no=2 does not fit"):
        read_gguf(paths[0])


def test_a_part_under_another_name(tmp_path: Path) -> None:
    path = write_parts(tmp_path)[0].rename(tmp_path / "model.gguf")
    with pytest.raises(CorruptFileError, match=r"split.count=3 does not fit the file's name"):
        read_gguf(path)


def test_a_tensor_in_two_parts(tmp_path: Path) -> None:
    paths = write_parts(tmp_path)
    paths[1].write_bytes(paths[1].read_bytes().replace(b"t.1", b"t.0"))
    with pytest.raises(CorruptFileError, match=r"'t.0' is in m-00001-of-00003.gguf too"):
        read_gguf(paths[0])


def test_too_few_tensors_in_the_parts(tmp_path: Path) -> None:
    paths = write_parts(tmp_path)
    split = {"split.no": (U16, 2), "split.count": (U16, 3)}
    paths[2].write_bytes(encode(split))
    with pytest.raises(CorruptFileError, match=r"split.tensors.count=3, but there are 2 tensors in 3 files"):
        read_gguf(paths[0])


def test_a_merged_file(tmp_path: Path) -> None:
    """llama.cpp's gguf-split leaves a count of 0 in it."""
    split = {"split.no": (U16, 0), "split.count": (U16, 0), "split.tensors.count": (I32, 1)}
    assert list(read(tmp_path, encode(split, [MATRIX_ENTRY])).tensors) == ["m"]


@pytest.mark.parametrize("name", ["m-00001-of-00000.gguf", "m-00003-of-00002.gguf"])
def test_a_name_that_only_looks_like_a_part_s(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(encode({}, [MATRIX_ENTRY]))
    assert list(read_gguf(tmp_path / name).tensors) == ["m"]


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="there is no file"):
        read_gguf(tmp_path / "model.gguf")


BEYOND = b"GGUF" + struct.pack("<IQQ", 3, 2**60, 0)
LONG_ARRAY = b"GGUF" + struct.pack("<IQQQcIIQ", 3, 0, 1, 1, b"k", ARRAY, F64, 2**61) + bytes(8)
GOOD = encode({"k": (STRING, "value")}, [MATRIX_ENTRY])
DAMAGE: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "another format": (b"PK\3\4" + bytes(40), "not a GGUF file"),
    "magic alone": (b"GGUF", "ends within version"),
    "tensors beyond the file": (BEYOND, f"tensor_count={2**60}"),
    "metadata beyond the file": (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**63), f"metadata_kv_count={2**63}"),
    "a long key": (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 2**62) + bytes(40), "ends within the key of metadata 0"),
    "a long array": (LONG_ARRAY, f"metadata 'k'={2**61}, but only 8 bytes follow"),
    "a key twice": (encode({"kk": (U8, 1), "kj": (U8, 1)}).replace(b"kj", b"kk"), "'kk' occurs twice"),
    "an unknown type": (encode({"k": (13, 1)}), "'k' has the unknown type 13"),
    "nested arrays": (encode({"k": (ARRAY, (ARRAY, [(U8, [1])]))}), "'k' is an array of the unknown type 9"),
    "a bool of 2": (encode({"k": (BOOL, True)}).replace(b"\7\0\0\0\1", b"\7\0\0\0\2"), "'k' must be 0 or 1"),
    "a key that is not UTF-8": (encode({"k": (U8, 1)}).replace(b"k", b"\xff"), "is not UTF-8"),
    "a text that is not UTF-8": (encode({"k": (STRING, b"a\xff")}), "'k': b'a\\\\xff' is not UTF-8"),
    "alignment of 24": (encode({"general.alignment": (U32, 24)}), "general.alignment must be a power of two"),
    "alignment of a text": (encode({"general.alignment": (STRING, "32")}), "general.alignment must be"),
    "no dimensions": (encode({}, [("m", [], 0, b"")]), "'m' must have 1 to 4 dimensions, got 0"),
    "five dimensions": (encode({}, [("m", [1] * 5, 0, bytes(4))]), "must have 1 to 4 dimensions, got 5"),
    "an empty tensor": (encode({}, [("m", [0, 2], 0, b"")]), r"'m' has shape \(2, 0\)"),
    "half a block": (encode({}, [("m", [16], 8, bytes(34))]), "rows of Q8_0 must be multiples of 32"),
    "huge dimensions": (encode({}, [("m", [2**63, 2**63], 0, bytes(24))]), f"takes {2**128} bytes"),
    "an unknown tensor type": (encode({}, [("m", [1], 99, bytes(4))]), "'m' has the unknown type 99"),
    "a removed tensor type": (encode({}, [("m", [1], 4, bytes(4))]), "'m' has the unknown type 4"),
    "a tensor twice": (encode({}, [MATRIX_ENTRY, MATRIX_ENTRY]), "'m' occurs twice"),
    "tensors that overlap": (
        encode({}, [MATRIX_ENTRY, ("n", [16], 0, bytes(64))], offsets=[32, 0]),
        "'m': its offset lies within another tensor",
    ),
    "an odd offset": (encode({}, [MATRIX_ENTRY], offsets=[4]), "'m': its offset is not a multiple"),
    "an offset beyond the file": (encode({}, [MATRIX_ENTRY], offsets=[2**62]), "'m' of shape"),
    "data cut off": (GOOD[:-16], "'m' of shape .* takes 24 bytes"),
    "a header cut off": (GOOD[:60], "ends within"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_named(damage: str, tmp_path: Path) -> None:
    raw, message = DAMAGE[damage]
    with pytest.raises(CorruptFileError, match=message) as caught:
        read(tmp_path, raw)
    assert str(tmp_path / "model.gguf") in str(caught.value)


UNSUPPORTED = {
    "big-endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
    "version 4": (b"GGUF" + struct.pack("<IQQ", 4, 0, 0), "GGUF version 4; there are 1, 2, 3"),
    "Q2_K": (encode({}, [("m", [256], 10, bytes(84))]), "'m' is stored as Q2_K, which is not supported"),
    "IQ4_NL": (encode({}, [("m", [32], 20, bytes(18))]), "'m' is stored as IQ4_NL"),
}


@pytest.mark.parametrize("case", UNSUPPORTED)
def test_what_is_sound_but_not_supported(case: str, tmp_path: Path) -> None:
    raw, message = UNSUPPORTED[case]
    with pytest.raises(UnsupportedModelError, match=message):
        read(tmp_path, raw)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(CorruptFileError, match="cannot be read"):
        read_gguf(tmp_path)
