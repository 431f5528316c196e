"""Sentencepiece BPE models (tokenizer.model), run by the `tokenizers` package.

Such a model holds pieces with scores and no merges: two neighbours are joined if their joint piece exists, the best
score first. Ranking every way to split a piece in two by that piece's score gives `tokenizers` the same order, so
one engine serves tokenizer.json and tokenizer.model alike. (OpenVINO's sentencepiece operations would need an
inference request per call.)

What cannot be expressed exactly is refused: Unigram models, in which the two libraries break ties differently, and
user-defined pieces in a model that puts a space before a text, since `tokenizers` would put one after each of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers
from tokenizers.models import BPE

from ovgen.errors import TokenizerError
from ovgen.text.bpe_files import surround
from ovgen.text.fast import FastTokenizer
from ovgen.text.settings import TokenizerSettings, TokenSpec
from ovgen.text.spm_file import PieceType, SentencePieces, read_pieces

__all__ = ["from_sentencepiece", "from_tokenizer_model"]

_BPE = 2
_WAY_OUT = "load the tokenizer with transformers and save it, which writes tokenizer.json"


def from_sentencepiece(
    pieces: Sequence[str],
    scores: Sequence[float],
    types: Sequence[int],
    *,
    charsmap: bytes = b"",
    add_dummy_prefix: bool = True,
    remove_extra_whitespaces: bool = False,
) -> Tokenizer:
    """Build the tokenizer of a sentencepiece BPE model. Arguments are as in `SentencePieces`.

    Control pieces (``<s>``) are recognised in text, which sentencepiece itself leaves to its callers; text after
    one gets a space before it as if it stood alone.

    Raises:
        TokenizerError: the model cannot be expressed exactly.
    """
    unknown, control, user_defined, of_bytes = (
        [piece for piece, its in zip(pieces, types, strict=True) if its == wanted]
        for wanted in (PieceType.UNKNOWN, PieceType.CONTROL, PieceType.USER_DEFINED, PieceType.BYTE)
    )
    if add_dummy_prefix and user_defined:
        raise TokenizerError(
            f"the sentencepiece model puts a space before a text and has user-defined pieces such as "
            f"{user_defined[0]!r}, which together cannot be reproduced exactly: {_WAY_OUT}"
        )
    backend = Tokenizer(
        BPE(
            vocab={piece: index for index, piece in reversed(list(enumerate(pieces)))},  # of equals the first
            merges=_merges(pieces, scores, types),
            unk_token=unknown[0] if unknown else None,
            fuse_unk=True,
            byte_fallback=bool(of_bytes),
        )
    )
    backend.normalizer = _normalizer(charsmap, add_dummy_prefix, remove_extra_whitespaces)
    strip = [decoders.Strip(content=" ", left=1, right=0)] if add_dummy_prefix else []
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip])
    backend.add_special_tokens([AddedToken(piece, normalized=False) for piece in unknown + control])
    # Normalised, as sentencepiece looks for these after normalisation: "▁▁" is two spaces.
    backend.add_tokens([AddedToken(piece, normalized=True) for piece in user_defined])
    return backend


def from_tokenizer_model(path: Path, settings: TokenizerSettings) -> FastTokenizer:
    """Read a tokenizer.model. BOS precedes a text unless the folder's configuration says otherwise, as for Llama.

    Raises:
        TokenizerError: the file is damaged, or its model cannot be expressed exactly.
    """
    model = read_pieces(path)
    if model.model_type != _BPE:
        kind = "Unigram" if model.model_type == 1 else f"type {model.model_type}"
        raise TokenizerError(f"{path} is a sentencepiece model of {kind}, and only BPE is supported: {_WAY_OUT}")
    try:
        backend = from_sentencepiece(
            model.pieces,
            model.scores,
            model.types,
            charsmap=model.charsmap,
            add_dummy_prefix=model.add_dummy_prefix,
            remove_extra_whitespaces=model.remove_extra_whitespaces,
        )
    except TokenizerError as error:
        raise TokenizerError(f"{path}: {error}") from error
    named = {**_named(model), **settings.named}
    tokenizer = FastTokenizer(backend, TokenizerSettings(named=named, unnamed=settings.unnamed, added=settings.added))
    surround(tokenizer, add_bos=settings.add_bos_token is not False, add_eos=bool(settings.add_eos_token))
    return tokenizer


def _named(model: SentencePieces) -> dict[str, TokenSpec | None]:
    ids = {"bos_token": model.bos_id, "eos_token": model.eos_id}
    if PieceType.UNKNOWN in model.types:
        ids["unk_token"] = model.types.index(PieceType.UNKNOWN)
    return {name: TokenSpec(model.pieces[i]) for name, i in ids.items() if 0 <= i < len(model.pieces)}


def _merges(pieces: Sequence[str], scores: Sequence[float], types: Sequence[int]) -> list[tuple[str, str]]:
    """Every way to make a piece of two others, in the order in which sentencepiece would join them."""
    normal = {piece for piece, its in zip(pieces, types, strict=True) if its == PieceType.NORMAL}
    ranked = sorted((i for i, its in enumerate(types) if its == PieceType.NORMAL), key=lambda i: -scores[i])
    return [
        (pieces[i][:at], pieces[i][at:])
        for i in ranked
        for at in range(1, len(pieces[i]))
        if pieces[i][:at] in normal and pieces[i][at:] in normal
    ]


def _normalizer(charsmap: bytes, add_dummy_prefix: bool, remove_extra_whitespaces: bool) -> normalizers.Normalizer:
    steps: list[normalizers.Normalizer] = []
    if charsmap:
        steps.append(normalizers.Precompiled(charsmap))
    if remove_extra_whitespaces:
        steps.append(normalizers.Replace(Regex(r"\A +| +\z"), ""))
        steps.append(normalizers.Replace(Regex(" {2,}"), " "))
    if add_dummy_prefix:
        steps.append(normalizers.Prepend("▁"))
    steps.append(normalizers.Replace(" ", "▁"))
    return normalizers.Sequence(steps)
