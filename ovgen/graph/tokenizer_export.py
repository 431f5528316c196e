"""A tokenizer as OpenVINO models, made without the transformers package.

`openvino_tokenizers.convert_tokenizer` wants a tokenizer of transformers. The steps that it composes need none, so they
are composed here from what tokenizer.json says. That covers byte-level BPE and sentencepiece BPE; a tokenizer that
would not come out with the same tokens is refused. This module depends on nothing of ovgen but its errors.

Importing it imports `openvino_tokenizers`, which makes every later ``ov.Core`` load its operations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import openvino as ov
from openvino_tokenizers import __version__ as tokenizers_version
from openvino_tokenizers import tokenizer_pipeline as steps
from openvino_tokenizers.constants import UTF8ReplaceMode
from openvino_tokenizers.utils import change_inputs_type, change_outputs_type, quote_meta

from ovgen.errors import TokenizerError

__all__ = ["tokenizer_models"]

_LIMIT = 2**30  # tokens; the models cut nothing unless they are asked to
_BEHAVIOURS = {
    "Isolated": "isolate",
    "Removed": "remove",
    "MergedWithPrevious": "mergedwithprevious",
    "MergedWithNext": "mergedwithnext",
    "Contiguous": "contiguous",
}
_DECODERS: dict[str, Callable[[], Any]] = {
    "ByteLevel": steps.CharsToBytesStep,
    "Replace": lambda: steps.RegexDecodingStep("▁", " "),
    "ByteFallback": steps.ByteFallbackStep,
    "Fuse": steps.FuseStep,
    "Strip": steps.RegexDecodingStep.strip_forward_space,
}


def tokenizer_models(
    description: Mapping[str, Any],
    *,
    bos_token_id: int | None,
    eos_token_id: int | None,
    pad_token_id: int | None,
    chat_template: str | None,
) -> tuple[ov.Model, ov.Model]:
    """What goes into openvino_tokenizer.xml and openvino_detokenizer.xml.

    Args:
        description: the tokenizer.json, as `tokenizers` writes it.
        bos_token_id: recorded in the models' metadata, as are the next three.
        eos_token_id: the token that ends a text.
        pad_token_id: the token that fills up a batch.
        chat_template: where openvino.genai looks for it.

    Raises:
        TokenizerError: openvino-tokenizers has no operation for something that the tokenizer does.
    """
    pipeline = steps.TokenizerPipeline()
    pipeline.add_steps(_special_tokens(description))
    for normalizer in _flat(description["normalizer"], "normalizers"):
        pipeline.add_steps(_normalization(normalizer))
    for splitter in _flat(description["pre_tokenizer"], "pretokenizers"):
        _add_splitting(pipeline, splitter)
    pipeline.add_steps(_model(description))
    pipeline.vocab = pipeline[-1].vocab
    # openvino.genai tells the text from special tokens by this step before them.
    pipeline.add_steps(steps.TruncationStep(max_length=_LIMIT))
    pipeline.add_steps(_surroundings(description))
    pipeline.add_steps(steps.PaddingStep(_token_id=pad_token_id, pad_right=False))
    pipeline.add_steps(_decoding(description, pipeline))
    tokenizer = _tokenizer(pipeline)  # first: it makes the constants that the other shares
    models = tokenizer, change_inputs_type(pipeline.get_detokenizer_ov_subgraph(), ov.Type.i64)
    _annotate(models, {"bos_token_id": bos_token_id, "eos_token_id": eos_token_id, "pad_token_id": pad_token_id})
    _annotate(models, {"chat_template": chat_template, "openvino_tokenizers_version": tokenizers_version})
    return models


def _annotate(models: Sequence[ov.Model], metadata: Mapping[str, int | str | None]) -> None:
    """openvino.genai reads these; without a version it takes the models for old ones that cannot be switched."""
    for model in models:
        for name, value in metadata.items():
            if value is not None:
                model.set_rt_info(value, name)


def _refuse(what: str) -> TokenizerError:
    return TokenizerError(
        f"cannot write this tokenizer as an OpenVINO model: {what} has no equivalent there; "
        "tokenizer.json serves ovgen as well"
    )


def _flat(component: Any, of: str) -> list[dict[str, Any]]:
    """A component of tokenizer.json as the sequence that it stands for."""
    if component is None:
        return []
    if component["type"] == "Sequence":
        return [flat for each in component[of] for flat in _flat(each, of)]
    return [component]


def _special_tokens(description: Mapping[str, Any]) -> Any:
    for token in description["added_tokens"]:
        if token["single_word"] or (token["normalized"] and description["normalizer"] is not None):
            raise _refuse(f"the added token {token['content']!r}, which is matched after normalisation,")
    return steps.SpecialTokensSplit(
        [steps.SpecialToken(t["content"], t["lstrip"], t["rstrip"]) for t in description["added_tokens"]]
    )


def _normalization(normalizer: Mapping[str, Any]) -> Any:
    kind = normalizer["type"]
    if kind in ("NFC", "NFD", "NFKC", "NFKD"):
        return steps.NormalizeUnicode(kind)
    if kind == "Prepend":
        return steps.RegexNormalizationStep.prepend_regex(normalizer["prepend"])
    if kind == "Replace":
        return steps.RegexNormalizationStep(_regex(normalizer["pattern"]), normalizer["content"])
    raise _refuse(f"the normalizer {kind}")


def _regex(pattern: Mapping[str, str]) -> str:
    return pattern["Regex"] if "Regex" in pattern else str(quote_meta(pattern["String"]))


def _add_splitting(pipeline: Any, splitter: Mapping[str, Any]) -> None:
    """Each splits what those before have left whole, which merging their patterns would not do."""
    kind = splitter["type"]
    if kind == "ByteLevel":
        if splitter["add_prefix_space"]:
            pipeline.add_steps(steps.RegexNormalizationStep.add_prefix_whitespace_to_not_whitespace_regex())
        if splitter["use_regex"]:
            pattern = steps.RegexSplitStep.byte_level_splitter().split_pattern
            pipeline.add_steps(steps.RegexSplitStep(pattern, behaviour="isolate", mergeable=False))
        pipeline.add_steps(steps.BytesToCharsStep())
    elif kind == "Split":
        behaviour = _BEHAVIOURS[splitter["behavior"]]
        pattern = _regex(splitter["pattern"])
        pipeline.add_steps(steps.RegexSplitStep(pattern, splitter["invert"], behaviour, mergeable=False))
    elif kind == "Digits":
        behaviour = "isolate" if splitter["individual_digits"] else "contiguous"
        pipeline.add_steps(steps.RegexSplitStep(r"\p{N}", behaviour=behaviour, mergeable=False))
    elif kind == "Metaspace" and not splitter["split"]:
        _add_metaspace(pipeline, splitter["replacement"], splitter["prepend_scheme"])
    else:
        raise _refuse(f"the pre-tokenizer {kind}")


def _add_metaspace(pipeline: Any, mark: str, scheme: str) -> None:
    normalize = steps.RegexNormalizationStep
    pipeline.add_steps(normalize.replace_spaces_metaspace(mark))
    if scheme == "always":
        pipeline.add_steps(normalize.prepend_with_check_regex(mark, mark))
    elif scheme == "first":  # only at the start of a text, so before special tokens split it
        first = normalize.prepend_with_check_regex(mark, " ")
        first.set_pipeline(pipeline)
        pipeline.steps.insert(0, first)


def _model(description: Mapping[str, Any]) -> Any:
    model = description["model"]
    if model["type"] != "BPE" or model["continuing_subword_prefix"] or model["end_of_word_suffix"]:
        raise _refuse(f"a {model['type']} model of this kind")
    byte_level = any(s["type"] == "ByteLevel" for s in _flat(description["pre_tokenizer"], "pretokenizers"))
    if not byte_level and not model["byte_fallback"]:  # characters that are not known are counted differently
        raise _refuse("a BPE model with an unknown token")
    return steps.BPETokenizationStep.from_hf_json(description)


def _surroundings(description: Mapping[str, Any]) -> Any:
    """The special tokens before and after a text."""
    parts: list[Any] = [steps.Sequence()]
    for processor in _flat(description["post_processor"], "processors"):
        if processor["type"] == "TemplateProcessing":
            parts = []
            for part in processor["single"]:
                if "Sequence" in part:
                    parts.append(steps.Sequence())
                else:
                    ids = processor["special_tokens"][part["SpecialToken"]["id"]]["ids"]
                    parts += [steps.AddToken(_token_id=token_id) for token_id in ids]
        elif processor["type"] != "ByteLevel":  # which changes offsets, not tokens
            raise _refuse(f"the post-processor {processor['type']}")
    return steps.CombineSegmentsStep(parts)


def _decoding(description: Mapping[str, Any], pipeline: Any) -> list[Any]:
    decoders = _flat(description["decoder"], "decoders")
    kinds = [decoder["type"] for decoder in decoders]
    if kinds != ["ByteLevel"] and kinds[:3] != ["Replace", "ByteFallback", "Fuse"]:
        raise _refuse(f"the decoder {', '.join(kinds) or 'None'}")
    vocabulary = steps.VocabDecoderStep.from_hf_json(
        description,
        pipeline.vocab,
        added_tokens={token["id"]: token["content"] for token in description["added_tokens"]},
        skip_tokens=[token["id"] for token in description["added_tokens"] if token["special"]],
        is_byte_level=pipeline.is_byte_level,
    )
    return [vocabulary, *(_DECODERS[kind]() for kind in kinds), steps.UTF8ValidateStep(UTF8ReplaceMode.REPLACE)]


def _tokenizer(pipeline: Any) -> ov.Model:
    whole = pipeline.get_tokenizer_ov_subgraph()
    outputs = [whole.output("input_ids"), whole.output("attention_mask")]  # not the types of the tokens
    model = ov.Model(outputs, whole.get_parameters(), "tokenizer")
    model.add_sinks(whole.get_sinks())
    return change_outputs_type(model, ov.Type.i64)
