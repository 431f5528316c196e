"""Running the OpenVINO models of a tokenizer."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from openvino import opset15 as ops
from openvino_tokenizers import _get_factory

from ovgen.errors import RequestError, TokenizerError
from ovgen.runtime import tokenizer_ir
from ovgen.runtime.tokenizer_ir import TokenizerIR, compile_tokenizer
from ovgen.text.fast import FastTokenizer
from tests.text import toys

Models = tuple[ov.Model, ov.Model]
TWO = ops.constant(2, dtype=ov.Type.i32)


def models(tokenizer: FastTokenizer, folder: Path) -> Models:
    """Tokenizer and detokenizer, as they are read from their files."""
    toys.write_ir(folder, tokenizer)
    core = ov.Core()
    return core.read_model(folder / "openvino_tokenizer.xml"), core.read_model(folder / "openvino_detokenizer.xml")


def find(model: ov.Model, kind: str) -> ov.Node:
    [node] = [node for node in model.get_ops() if node.get_type_name() == kind]
    return node


def sentencepiece_models(folder: Path, *, add_bos: bool, add_eos: bool) -> Models:
    """Models of sentencepiece operations, as tokenizers without a tokenizer.json are converted."""
    proto = ops.constant(np.frombuffer(toys.spm_file(folder).read_bytes(), np.uint8))
    text = ops.parameter([-1], ov.Type.string)
    options = {"add_bos": add_bos, "add_eos": add_eos, "reverse": False, "alpha": 1.0, "nbest_size": 1}
    indices, values, shape = _get_factory().create("SentencepieceTokenizer", [proto, text], options).outputs()
    ids = _get_factory().create(
        "ScatterNDUpdate", [ops.broadcast(ops.constant(0, dtype=ov.Type.i32), shape), indices, values]
    )
    tokens = ops.parameter([-1, -1], ov.Type.i32)
    texts = _get_factory().create("SentencepieceDetokenizer", [proto, tokens])
    packed = ops.string_tensor_pack(*texts.outputs())
    return ov.Model([ids], [text], "tokenizer"), ov.Model([packed], [tokens], "detokenizer")


def test_it_is_the_tokenizer_that_was_converted(tmp_path: Path) -> None:
    original = toys.byte_level()
    compiled = compile_tokenizer(toys.write_ir(tmp_path, original))
    assert (compiled.vocab_size, compiled.bos_token_id, compiled.eos_token_id) == (400, 0, 1)
    for text in [*toys.STRINGS, "<|user|>a <|eos|>"]:
        for added in (True, False):
            ids = compiled.encode(text, added)
            assert ids == original.encode(text, add_special_tokens=added)
            for skipped in (True, False):
                assert compiled.decode(ids, skipped) == original.decode(ids, skip_special_tokens=skipped)


@pytest.mark.parametrize("name", ["as Llama", "extra spaces removed"])
def test_sentencepiece_models(tmp_path: Path, name: str) -> None:
    original = toys.sentencepiece(tmp_path, name)
    compiled = compile_tokenizer(toys.write_ir(tmp_path, original))
    for text in [*toys.STRINGS, "a</s>b"]:
        ids = compiled.encode(text, True)
        assert ids == original.encode(text)
        assert compiled.decode(ids, False) == original.decode(ids, skip_special_tokens=False)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("no space before a text, pieces of its own", "the added token '<sep>', which is matched after normalisation,"),
        ("characters normalised", "the normalizer Precompiled"),
        ("no byte fallback", "a BPE model with an unknown token"),
    ],
)
def test_what_would_come_out_otherwise_is_not_converted(tmp_path: Path, name: str, told: str) -> None:
    with pytest.raises(TokenizerError, match=f"{told} has no equivalent there"):
        toys.write_ir(tmp_path, toys.sentencepiece(tmp_path, name))


def test_what_is_not_known_of_the_metadata_is_none(tmp_path: Path) -> None:
    tokenizer, detokenizer = sentencepiece_models(tmp_path, add_bos=True, add_eos=False)
    compiled = TokenizerIR(tokenizer, detokenizer)
    assert (compiled.vocab_size, compiled.bos_token_id, compiled.eos_token_id) == (400, None, None)
    assert compiled.spelling is None


@pytest.mark.parametrize(("add_bos", "add_eos"), [(True, False), (False, True), (True, True), (False, False)])
def test_special_tokens_that_cannot_be_switched_off_are_cut_off(tmp_path: Path, add_bos: bool, add_eos: bool) -> None:
    compiled = TokenizerIR(*sentencepiece_models(tmp_path, add_bos=add_bos, add_eos=add_eos))
    bare = toys.sentencepiece(tmp_path).encode("the sea", add_special_tokens=False)
    assert compiled.encode("the sea", True) == [1] * add_bos + bare + [2] * add_eos
    assert compiled.encode("the sea", False) == bare
    assert compiled.encode("", False) == []


def test_special_tokens_that_are_always_skipped(tmp_path: Path) -> None:
    compiled = TokenizerIR(*sentencepiece_models(tmp_path, add_bos=True, add_eos=False))
    ids = compiled.encode("the sea", True)
    assert compiled.decode(ids, True) == "the sea"
    with pytest.raises(RequestError, match=r"always leaves special tokens out; .*tokenizer\.json"):
        compiled.decode(ids, False)


@pytest.mark.parametrize("name", [None, "as Llama", "extra spaces removed"])
def test_how_tokens_are_spelt(tmp_path: Path, name: str | None) -> None:
    original = toys.byte_level() if name is None else toys.sentencepiece(tmp_path, name)
    spelling = compile_tokenizer(toys.write_ir(tmp_path, original)).spelling
    assert spelling is not None
    assert original.pieces is not None
    for token_id in range(original.vocab_size + 2):
        assert spelling.spell(token_id) == original.pieces.join([token_id], skip_special_tokens=False)
    assert spelling.special_ids == {0, 1, 2}
    assert spelling.strips_leading_space == original.pieces.strips_leading_space == (name is not None)


def ignore_what_is_not_text(*strings: ov.Output) -> ov.Node:
    return _get_factory().create("UTF8Validate", list(strings), {"replace_mode": False})


def clean_up(*strings: ov.Output) -> ov.Node:
    texts = [ops.constant(np.frombuffer(text, np.uint8)).output(0) for text in (rb" ([.,!])", b"$1")]
    return _get_factory().create("RegexNormalization", [*strings, *texts])


@pytest.mark.parametrize(("do_more", "expected"), [(ignore_what_is_not_text, "a .b"), (clean_up, "a.\ufffdb")])
def test_detokenizers_that_do_more_are_asked(tmp_path: Path, do_more: Callable[..., ov.Node], expected: str) -> None:
    tokenizer, detokenizer = models(toys.byte_level(), tmp_path)
    validate, pack = find(detokenizer, "UTF8Validate"), find(detokenizer, "StringTensorPack")
    last = validate.input_values() if do_more is ignore_what_is_not_text else validate.outputs()
    for at, output in enumerate(do_more(*last).outputs()):
        pack.input(at).replace_source_output(output)
    compiled = TokenizerIR(tokenizer, detokenizer)
    assert compiled.spelling is None
    invalid = compiled.encode("\U00010348", False)[0]  # the first byte of a character
    ids = [*compiled.encode("a .", False), invalid, *compiled.encode("b", False)]
    assert compiled.decode(ids, True) == expected


def test_a_vocabulary_with_its_special_tokens_in_an_attribute(tmp_path: Path) -> None:
    """As it was before 2024.5."""
    tokenizer, detokenizer = models(toys.byte_level(), tmp_path)
    decoder = find(detokenizer, "VocabDecoder")
    inputs = [decoder.input_value(at) for at in range(4)]
    older = _get_factory().create("VocabDecoder", inputs, {"skip_tokens": [0, 1, 2]})
    for old, new in zip(decoder.outputs(), older.outputs(), strict=True):
        for target in old.get_target_inputs():
            target.replace_source_output(new)
    compiled = TokenizerIR(tokenizer, detokenizer)
    assert compiled.spelling is not None
    assert compiled.spelling.special_ids == {0, 1, 2}
    ids = compiled.encode("the sea<|eos|>", True)
    assert compiled.decode(ids, True) == "the sea"
    with pytest.raises(RequestError, match="always leaves special tokens out"):
        compiled.decode(ids, False)


def without_switch(tokenizer: ov.Model) -> None:
    """Forget the state by which truncation is switched on."""
    for sink in tokenizer.get_sinks():
        tokenizer.remove_sink(sink)
    for variable in tokenizer.get_variables():
        tokenizer.remove_variable(variable)


def truncate_always(tokenizer: ov.Model) -> None:
    find(tokenizer, "Truncate").input(3).replace_source_output(TWO.output(0))


def truncate_by_a_switch(tokenizer: ov.Model) -> None:
    select = find(tokenizer, "Truncate").input_value(3).get_node()
    select.input(0).replace_source_output(ops.constant(True).output(0))
    select.input(1).replace_source_output(TWO.output(0))


def truncate_as_before_2025(tokenizer: ov.Model) -> None:
    truncate = find(tokenizer, "Truncate")
    begins, ends, data = (truncate.input_value(at) for at in range(3))
    length = ops.minimum(ops.subtract(ends, begins), TWO)
    for old, new in zip(truncate.outputs(), (begins, ops.add(begins, length).output(0), data), strict=True):
        for target in old.get_target_inputs():
            target.replace_source_output(new)


@pytest.mark.parametrize("truncate", [truncate_always, truncate_by_a_switch, truncate_as_before_2025])
def test_prompts_are_never_cut(tmp_path: Path, truncate: Callable[[ov.Model], None]) -> None:
    tokenizer, detokenizer = models(toys.byte_level(), tmp_path)
    truncate(tokenizer)
    without_switch(tokenizer)
    assert len(run(tokenizer.clone(), toys.TEXT)) == 1 + 2
    assert TokenizerIR(tokenizer, detokenizer).encode(toys.TEXT, True) == toys.byte_level().encode(toys.TEXT)


def run(tokenizer: ov.Model, text: str) -> Sequence[int]:
    ids: list[int] = ov.Core().compile_model(tokenizer, "CPU")([text])[0][0].tolist()
    return ids


def test_threads_take_turns(tmp_path: Path) -> None:
    compiled = compile_tokenizer(toys.write_ir(tmp_path, toys.byte_level()))
    texts = [f"the sea and {number} fishes" * (number % 7) for number in range(60)]
    with ThreadPoolExecutor(4) as pool:
        ids = list(pool.map(lambda text: compiled.encode(text, True), texts))
        decoded = list(pool.map(lambda each: compiled.decode(each, True), ids))
    assert ids == [toys.byte_level().encode(text) for text in texts]
    assert decoded == texts


@pytest.mark.parametrize("name", ["openvino_tokenizer.xml", "openvino_detokenizer.xml", "openvino_tokenizer.bin"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    (toys.write_ir(tmp_path, toys.byte_level()) / name).unlink()
    with pytest.raises(TokenizerError, match=rf"{name.split('.')[0]}\.xml .*put the tokenizer\.json"):
        compile_tokenizer(tmp_path)


@pytest.mark.parametrize("name", ["openvino_tokenizer", "openvino_detokenizer"])
@pytest.mark.parametrize("suffix", ["xml", "bin"])
def test_a_truncated_file_is_named(tmp_path: Path, name: str, suffix: str) -> None:
    path = toys.write_ir(tmp_path, toys.byte_level()) / f"{name}.{suffix}"
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(TokenizerError, match=f"{name}.xml cannot be read"):
        compile_tokenizer(tmp_path)


def test_a_detokenizer_without_a_vocabulary_is_refused(tmp_path: Path) -> None:
    text = ops.parameter([-1], ov.Type.string)
    toys.write_ir(tmp_path, toys.byte_level())
    ov.save_model(ov.Model([text], [text], "echo"), tmp_path / "openvino_detokenizer.xml")
    with pytest.raises(TokenizerError, match=r"refused \(the detokenizer has no vocabulary that is known\)"):
        compile_tokenizer(tmp_path)


def test_a_tokenizer_of_pairs_is_refused(tmp_path: Path) -> None:
    tokenizer, detokenizer = models(toys.byte_level(), tmp_path)
    tokenizer.add_parameters([ops.parameter([-1], ov.Type.string)])
    with pytest.raises(ValueError, match="3 inputs, of which 2 are known"):
        TokenizerIR(tokenizer, detokenizer)


def test_the_package_may_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> ModuleSpec | None:
        assert name == "openvino_tokenizers"
        return None

    toys.write_ir(tmp_path, toys.byte_level())
    monkeypatch.setattr(tokenizer_ir, "find_spec", absent)
    tokenizer_ir._core_with_tokenizers.cache_clear()
    with pytest.raises(TokenizerError, match="openvino-tokenizers is not installed"):
        compile_tokenizer(tmp_path)
