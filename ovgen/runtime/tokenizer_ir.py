"""Running openvino_tokenizer.xml and openvino_detokenizer.xml, the tokenizers that openvino-tokenizers writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset15 as ops

from ovgen.errors import RequestError, TokenizerError
from ovgen.graph.messages import cause
from ovgen.runtime.device import core, device_errors

__all__ = ["Spelling", "TokenizerIR", "compile_tokenizer"]

_UNLIMITED = 2**30  # tokens; i32 throughout, and the runtime rounds numbers nearer to its end
# A few tokens are worked on at a time: more threads would cost more than they bring.
_CONFIG = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": 1}
_WAY_OUT = "put the tokenizer.json of the model into the folder, or convert the tokenizer again"

# The operations of a detokenizer whose texts are its tokens' bytes in a row, without what feeds them.
_BYTE_LEVEL = ["VocabDecoder", "FuzeRagged", "UTF8Validate", "StringTensorPack"]
_SENTENCEPIECE = ["VocabDecoder", "RegexNormalization", "ByteFallback", "FuzeRagged"]
_FEEDING = ("Parameter", "Constant", "Convert", "Slice", "Result")
_SPACES = ("▁".encode(), b" ")  # pattern and replacement
_LEADING_SPACE = (b"^ ", b"")


@dataclass(frozen=True)
class Spelling:
    """The bytes of each token, read out of a detokenizer."""

    begins: NDArray[np.int32]  # (vocab,): where in `characters` each token begins
    ends: NDArray[np.int32]  # (vocab,): where it ends
    characters: bytes
    is_sentencepiece: bool  # "▁" stands for a space and "<0x0A>" for a byte
    special_ids: frozenset[int]
    strips_leading_space: bool  # a text that begins with a space loses that one

    def spell(self, token_id: int) -> bytes:
        """The bytes of a token; none for an id beyond the vocabulary."""
        if token_id >= len(self.begins):
            return b""
        token = self.characters[self.begins[token_id] : self.ends[token_id]]
        if not self.is_sentencepiece:
            return token
        if len(token) == 6 and token.startswith(b"<0x") and token.endswith(b">"):
            return bytes.fromhex(token[3:5].decode())
        return token.replace(*_SPACES)


class TokenizerIR:
    """A compiled tokenizer and its detokenizer. Calls from several threads take turns.

    Args:
        tokenizer: the model in openvino_tokenizer.xml; it is changed.
        detokenizer: the model in openvino_detokenizer.xml; it is changed.

    Attributes:
        vocab_size: how many tokens the detokenizer knows.
        bos_token_id: from the metadata of the tokenizer, as is eos_token_id; None if they lack it.
        spelling: the bytes of each token; None where only decoding tells.
    """

    def __init__(self, tokenizer: ov.Model, detokenizer: ov.Model) -> None:
        self.bos_token_id = _token_id(tokenizer, "bos_token_id")
        self.eos_token_id = _token_id(tokenizer, "eos_token_id")
        self.vocab_size = _vocab_size(detokenizer)
        self._id_type = detokenizer.input(0).get_element_type().to_dtype()
        _never_truncate(tokenizer)
        self._encoder = _Switched(tokenizer, _switch_added(tokenizer))
        self.spelling = _spelling(detokenizer)
        self._detokenizer = detokenizer
        if self.spelling is None:
            _ = self._decoder  # compiled now: what is wrong with it is told now
        self._prefix, self._suffix = (0, 0) if self._encoder.has_switch else self._measure_added()

    @cached_property
    def _decoder(self) -> _Switched:
        return _Switched(self._detokenizer, _switch_skipped(self._detokenizer))

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        """The tokens of ``text``.

        Raises:
            DeviceError: the model fails.
        """
        ids: list[int] = self._encoder.run(ov.Tensor([text]), add_special_tokens)
        return ids if add_special_tokens else ids[self._prefix : len(ids) - self._suffix]

    def decode(self, token_ids: Sequence[int], skip_special_tokens: bool) -> str:
        """The text of some tokens, all of them within the vocabulary.

        Raises:
            DeviceError: the model fails.
            RequestError: special tokens are to be shown, and the detokenizer always leaves them out.
        """
        if not (skip_special_tokens or self._decoder.has_switch):
            raise RequestError(
                "skip_special_tokens=False: the openvino_detokenizer.xml of this model always leaves special "
                f"tokens out; {_WAY_OUT} with openvino-tokenizers 2024.5 or later"
            )
        ids = np.asarray([token_ids], dtype=self._id_type)  # (1, tokens)
        return str(self._decoder.run(ov.Tensor(ids), skip_special_tokens))

    def _measure_added(self) -> tuple[int, int]:
        """How many special tokens the tokenizer puts before and after a text, if it cannot be told not to."""
        around, letter = self.encode("", True), self.encode("a", True)
        differ = (at for at, (a, b) in enumerate(zip(around, letter, strict=False)) if a != b)
        prefix = next(differ, min(len(around), len(letter)))
        return prefix, len(around) - prefix


def compile_tokenizer(folder: Path) -> TokenizerIR:
    """Compile the two models of a folder on the CPU.

    Raises:
        TokenizerError: one of them is missing, damaged, or of a kind that is not supported.
    """
    models = []
    for path in (folder / "openvino_tokenizer.xml", folder / "openvino_detokenizer.xml"):
        if not path.is_file():
            raise TokenizerError(f"{path} is missing beside the other of the pair: {_WAY_OUT}")
        try:
            models.append(_core_with_tokenizers().read_model(path))
        except RuntimeError as error:
            raise TokenizerError(f"{path} cannot be read ({cause(error)}): {_WAY_OUT}") from error
    try:
        return TokenizerIR(*models)
    except (RuntimeError, ValueError) as error:
        raise TokenizerError(f"{folder}: OpenVINO tokenizer refused ({cause(error)}): {_WAY_OUT}") from error


class _Switched:
    """A compiled model whose second input, where it has one, is a switch."""

    def __init__(self, model: ov.Model, has_switch: bool) -> None:
        if len(model.inputs) != (known := 1 + has_switch):
            raise ValueError(f"a model with {len(model.inputs)} inputs, of which {known} are known")
        self.has_switch = has_switch
        self._request = _core_with_tokenizers().compile_model(model, "CPU", _CONFIG).create_infer_request()
        self._lock = Lock()

    def run(self, value: ov.Tensor, switch: bool) -> Any:
        """The first row of the first output: a list of ids, or a text."""
        with self._lock, device_errors("CPU"):
            self._request.set_input_tensor(0, value)
            if self.has_switch:
                self._request.set_input_tensor(1, ov.Tensor(np.array(switch)))
            self._request.infer()
            output = self._request.get_output_tensor(0)
            if output.get_element_type() == ov.Type.string:
                return output.str_data[0]
            return output.data[0].tolist()  # copied: the request writes into the same memory next time


@lru_cache(maxsize=1)
def _core_with_tokenizers() -> ov.Core:
    """The process's core, once it knows the operations of openvino-tokenizers.

    Its library is loaded as it lies there: importing the package itself would change `ov.Core` for everyone.
    """
    package = find_spec("openvino_tokenizers")
    folders = (package.submodule_search_locations if package else None) or []
    for library in (f for folder in folders for f in sorted((Path(folder) / "lib").glob("*openvino_tokenizers*"))):
        core().add_extension(library)
        return core()
    raise TokenizerError("the package openvino-tokenizers is not installed: pip install openvino-tokenizers")


def _token_id(tokenizer: ov.Model, name: str) -> int | None:
    return int(tokenizer.get_rt_info(name).value) if tokenizer.has_rt_info(name) else None


def _operations(model: ov.Model, *kinds: str) -> list[ov.Node]:
    return [node for node in model.get_ops() if node.get_type_name() in kinds]


def _source(node: ov.Node, index: int) -> ov.Node:
    return node.input_value(index).get_node()


def _is_constant(node: ov.Node) -> bool:
    return bool(node.get_type_name() == "Constant")


def _vocab_size(detokenizer: ov.Model) -> int:
    for node in _operations(detokenizer, "VocabDecoder"):
        return int(node.get_input_shape(1)[0])
    for node in _operations(detokenizer, "SentencepieceDetokenizer"):
        return _count_pieces(_bytes(node, 0))
    raise ValueError("the detokenizer has no vocabulary that is known")


def _spelling(detokenizer: ov.Model) -> Spelling | None:
    """How the tokens are spelt, if the detokenizer is of one of the two common kinds."""
    nodes = [node for node in detokenizer.get_ordered_ops() if node.get_type_name() not in _FEEDING]
    kinds = [node.get_type_name() for node in nodes]
    regexes = [(_bytes(node, 3), _bytes(node, 4)) for node in nodes if node.get_type_name() == "RegexNormalization"]
    strips = regexes == [_SPACES, _LEADING_SPACE]
    is_sentencepiece = strips or regexes == [_SPACES]
    sentencepiece = _SENTENCEPIECE + ["RegexNormalization"] * strips + _BYTE_LEVEL[-2:]
    if kinds != (sentencepiece if is_sentencepiece else _BYTE_LEVEL):
        return None
    if not nodes[-2].get_attributes()["replace_mode"]:  # leaves out bytes that are not UTF-8
        return None
    vocabulary, skipped = nodes[0], _skip_list(nodes[0])
    ids = vocabulary.get_attributes()["skip_tokens"] if skipped is None else skipped.get_node().get_data().tolist()
    begins, ends = (np.array(_source(vocabulary, at).get_data()) for at in (1, 2))
    return Spelling(begins, ends, _bytes(vocabulary, 3), is_sentencepiece, frozenset(ids), strips)


def _skip_list(vocabulary: ov.Node) -> ov.Output | None:
    """The special tokens of a VocabDecoder; None before 2024.5, when an attribute had them."""
    if vocabulary.get_input_size() < 5:
        return None
    source = vocabulary.input_value(4)
    if source.get_node().get_type_name() == "Slice":  # all of them or none, as chosen on conversion
        return source.get_node().input_value(0)
    return source


def _bytes(node: ov.Node, index: int) -> bytes:
    return bytes(_source(node, index).get_data())


def _count_pieces(model: bytes) -> int:
    """How many pieces a sentencepiece model has: fields numbered 1 of a protocol buffer, which come first."""
    count = at = 0
    while at < len(model) and model[at] == 0x0A:
        size = shift = 0
        more = True
        while more:  # a number in groups of seven bits
            at += 1
            size |= (model[at] & 0x7F) << shift
            more, shift = model[at] >= 0x80, shift + 7
        at += size + 1
        count += 1
    return count


def _never_truncate(tokenizer: ov.Model) -> None:
    """A prompt is not cut: whether it is too long is for the engine to say."""
    limits = []
    for truncate in _operations(tokenizer, "Truncate"):
        at = truncate.get_input_size() - 3  # begins, ends, data; limit, side, mode
        limit = _source(truncate, at)
        limits.append(limit.input(1) if limit.get_type_name() == "Select" else truncate.input(at))
    for minimum in _operations(tokenizer, "Minimum"):  # before 2025.1 it was min(length, limit)
        limits += [minimum.input(at) for at in (0, 1) if _is_constant(_source(minimum, at))]
    for limit in limits:
        wide = np.full(list(limit.get_shape()), _UNLIMITED)
        limit.replace_source_output(ops.constant(wide, dtype=limit.get_element_type()).output(0))


def _switch_added(tokenizer: ov.Model) -> bool:
    """Give the tokenizer an input that says whether to add special tokens; False if it adds none in a known way."""
    for combine in _operations(tokenizer, "CombineSegments"):
        segments = range(0, combine.get_input_size() - 1, 3)  # begin, end, data each; then their types
        # The text is computed; what surrounds it is constant.
        added = [at for at in segments if _is_constant(_source(combine, at)) and _is_constant(_source(combine, at + 1))]
        if added:
            switch = ops.parameter([], ov.Type.boolean, name="add_special_tokens")
            for at in added:
                end = ops.select(switch, combine.input_value(at + 1), _constant(0))
                combine.input(at + 1).replace_source_output(end.output(0))
            tokenizer.add_parameters([switch])
            return True
    return False


def _switch_skipped(detokenizer: ov.Model) -> bool:
    """Give the detokenizer an input that says whether to skip special tokens; False if it has no list of them."""
    for decoder in _operations(detokenizer, "VocabDecoder"):
        if (skipped := _skip_list(decoder)) is None:
            break
        switch = ops.parameter([], ov.Type.boolean, name="skip_special_tokens")
        stop = ops.select(switch, _constant([_UNLIMITED]), _constant([0]))
        chosen = ops.slice(skipped, _constant([0]), stop, _constant([1]))
        decoder.input(4).replace_source_output(chosen.output(0))
        detokenizer.add_parameters([switch])
        return True
    return False


def _constant(value: int | list[int]) -> ov.Node:
    return ops.constant(value, dtype=ov.Type.i32)
