"""From a path to everything that running its model takes: graph, configuration, tokenizer, defaults."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import openvino as ov

from ovgen.config import SamplingParams, nearest
from ovgen.errors import (
    ConfigError,
    CorruptFileError,
    ModelError,
    ModelNotFoundError,
    RequestError,
    TokenizerError,
    UnsupportedModelError,
)
from ovgen.graph import COMPANIONS, IR_WEIGHTS, IR_XML, build_model, estimate_size, read_config, read_ir
from ovgen.graph.passes import add_adapters, compress_model, compressed_size, to_stateful
from ovgen.runtime.tokenizer_ir import compile_tokenizer
from ovgen.text import ChatTemplate, Tokenizer, find_chat_template, load_tokenizer
from ovgen.weights import (
    Checkpoint,
    Compression,
    MergedCheckpoint,
    Progress,
    Statistics,
    open_checkpoint,
    read_adapter,
    read_json,
)
from ovgen.weights.gguf import gguf_checkpoint, gguf_config, gguf_files, read_gguf

__all__ = ["Adapters", "Source", "digest", "load", "locate"]

_CONTEXT_KEYS = ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length")
_SAMPLE = 1 << 16  # bytes read from each of a file's sampled places


@dataclass(frozen=True, slots=True)
class Source:
    """A model as it was found on disk, before its graph is made.

    Attributes:
        path: its folder, or GGUF file.
        checkpoint: its weights; None where the folder holds a graph with the weights in it.
        config: ``config.json``, or what Hugging Face has there for the model of a GGUF file; empty if there is none.
        context_length: the longest sequence that the model takes; None where ``config.json`` does not say.
        eos_token_ids: tokens that end a text.
        params: sampling defaults from ``generation_config.json``, else greedy.
        tokenizer: None where the folder has none: token ids go in and come out then.
        chat_template: None where the model has none.
    """

    path: Path
    checkpoint: Checkpoint | None
    config: Mapping[str, Any]
    context_length: int | None
    eos_token_ids: frozenset[int]
    params: SamplingParams
    tokenizer: Tokenizer | None
    chat_template: ChatTemplate | None

    def build(
        self,
        compression: Compression | None = None,
        *,
        statistics: Statistics | None = None,
        progress: Progress | None = None,
    ) -> ov.Model:
        """The causal LM form, stateful: an IR as it is, a checkpoint by building its graph.

        Args:
            compression: what to store the weights in; None for what they are stored in.
            statistics: of the inputs of linear layers, for better INT4.
            progress: told each tensor of a compression.

        Raises:
            ModelError: the model is damaged or not supported.
        """
        if self.checkpoint is not None:
            return build_model(self.config, self.checkpoint, compression, statistics=statistics, progress=progress)
        model = read_ir(self.path)
        try:
            to_stateful(model)
        except UnsupportedModelError as error:
            raise UnsupportedModelError(f"{self.path / IR_XML}: {error}") from error
        if compression is not None:
            compress_model(model, compression, statistics=statistics, progress=progress)
        return model

    def estimate(self, compression: Compression | None = None) -> int:
        """About how many bytes the weights take, or will take."""
        if self.checkpoint is not None:
            return estimate_size(self.checkpoint, compression)
        if compression is not None:
            return compressed_size(self.build(), compression)
        return (self.path / IR_WEIGHTS).stat().st_size

    def merged(self, adapter: str | os.PathLike[str]) -> Source:
        """The same model with a LoRA adapter, as PEFT saves one in a folder, added to its weights when they are read.

        Raises:
            ModelError: the adapter is missing, damaged or not supported, or it is for another model.
            UnsupportedModelError: the model's weights are in a graph: only a checkpoint's can be added to.
        """
        if self.checkpoint is None:
            raise UnsupportedModelError(
                f"{self.path} holds a graph with its weights, and an adapter is merged into a checkpoint: give the "
                "folder that it was converted from"
            )
        return replace(self, checkpoint=MergedCheckpoint(self.checkpoint, read_adapter(_folder(adapter))))

    def identity(self) -> str:
        """A digest that tells this model from another: names, sizes and samples of its files."""
        return digest(self.path)


class Adapters:
    """LoRA adapters by the names that requests choose them by.

    They are read, and checked, here and again for each graph: their matrices are only kept there.

    Args:
        folders: of each, as PEFT saves it.

    Attributes:
        folders: as absolute paths.

    Raises:
        ConfigError: a name is empty, or a folder is not a path.
        ModelError: an adapter is missing, damaged or not supported.
    """

    def __init__(self, folders: Mapping[str, str | os.PathLike[str]]) -> None:
        if not isinstance(folders, Mapping) or not all(isinstance(name, str) and name for name in folders):
            raise ConfigError(f"adapters must be a mapping of names to folders, got {folders!r:.80}")
        self.folders = {name: _folder(path) for name, path in folders.items()}
        self._digests = {name: read_adapter(folder).digest for name, folder in self.folders.items()}

    @property
    def names(self) -> tuple[str, ...]:
        """All of them, in the order in which they were given."""
        return tuple(self.folders)

    def number(self, name: str | None) -> int:
        """What ``Chunk.adapter`` is for a name; 0 for None.

        Raises:
            RequestError: there is no such adapter.
        """
        if name is None:
            return 0
        if name not in self.folders:
            known = nearest(name, self.names) if self.names else "; the model was loaded with none"
            raise RequestError(f"there is no adapter {name!r}{known}")
        return self.names.index(name) + 1

    def add_to(self, model: ov.Model) -> None:
        """Put them all beside the layers of a model in the causal LM form, before anything else is done to it.

        Raises:
            ModelError: one is for another model, or has changed meanwhile.
        """
        adapters = [read_adapter(folder) for folder in self.folders.values()]
        for adapter, digest in zip(adapters, self._digests.values(), strict=True):
            if adapter.digest != digest:
                raise CorruptFileError(f"{adapter.source} has changed since it was loaded: load the model again")
        add_adapters(model, adapters)

    def digest(self, name: str) -> str:
        """Tells the files of one from others."""
        return self._digests[name]

    def identity(self) -> str:
        """A digest of all: what is compiled with these serves no others."""
        return hashlib.sha256(" ".join(self._digests.values()).encode()).hexdigest()


def _folder(path: str | os.PathLike[str]) -> Path:
    if not isinstance(path, str | os.PathLike):
        raise ConfigError(f"the path of an adapter must be a string or a Path, got {path!r:.80}")
    if not os.fspath(path):
        raise ConfigError("the path of an adapter is empty")
    return Path(path).expanduser().absolute()


def digest(path: Path, *, times: bool = False) -> str:
    """A digest of what is at ``path``, a model folder or a GGUF file: names, sizes and samples of its files.

    Args:
        path: as `load` takes it.
        times: include when each file was last changed, which tells a change that the samples miss, and the files
            beside the weights: tokenizer and generation settings.

    Raises:
        ModelNotFoundError: there is nothing at ``path``.
        UnsupportedModelError: it is a file of another kind.
    """
    result = hashlib.sha256()
    for file in _files(path, all_kinds=times):
        if not file.is_file():
            raise ModelNotFoundError(f"{file} is missing: fetch all parts of the model")
        stat = file.stat()
        result.update(f"{file.name} {stat.st_size} {stat.st_mtime_ns if times else ''}\n".encode())
        with file.open("rb") as stream:
            for place in range(0, stat.st_size, max(_SAMPLE, stat.st_size // 16)):
                stream.seek(place)
                result.update(stream.read(_SAMPLE))
    return result.hexdigest()


def _files(path: Path, *, all_kinds: bool) -> list[Path]:
    path = locate(path)
    if _is_gguf(path):
        return gguf_files(path)
    names = ("config.json", IR_XML, IR_WEIGHTS, *(COMPANIONS if all_kinds else ()))
    return sorted(f for f in path.iterdir() if f.name in names or f.suffix == ".safetensors")


def load(path: str | Path) -> Source:
    """Read what a model folder or a GGUF file says, and map its weights.

    A folder with a GGUF model, in one file or in several parts, and none of another kind stands for that model.

    Raises:
        ModelNotFoundError: there is nothing at ``path``, or no model in it.
        ModelError: the model is damaged or not supported.
        TokenizerError: its tokenizer or chat template is damaged.
    """
    folder = locate(Path(path).expanduser().absolute())  # it is read again when a session is saved
    if _is_gguf(folder):
        return _load_gguf(folder)
    checkpoint, config = _read(folder)
    generation = _optional_json(folder / "generation_config.json")
    tokenizer = load_tokenizer(folder, compile_tokenizer)
    special = tokenizer.special_tokens if tokenizer else {}
    template = find_chat_template(folder)
    return Source(
        path=folder,
        checkpoint=checkpoint,
        config=config,
        context_length=_context_length(config),
        eos_token_ids=_eos(generation, config, tokenizer),
        params=_default_params(generation),
        tokenizer=tokenizer,
        chat_template=None if template is None else ChatTemplate(template, special),
    )


def _load_gguf(path: Path) -> Source:
    from ovgen.text.gguf import end_token_ids, from_gguf  # imports tokenizers

    gguf = read_gguf(path)
    metadata, source = gguf.metadata, str(gguf.path)
    tokenizer = from_gguf(metadata, source)
    template = metadata.get("tokenizer.chat_template")
    if not isinstance(template, (str, type(None))):
        raise TokenizerError(f"{path}: tokenizer.chat_template must be a string, got {template!r:.40}")
    special = tokenizer.special_tokens if tokenizer else {}
    config = gguf_config(gguf)
    config["eos_token_id"] = end_token_ids(metadata, source)
    return Source(
        path=gguf.path,
        checkpoint=gguf_checkpoint(gguf),
        config=config,
        context_length=_context_length(config),
        eos_token_ids=frozenset(config["eos_token_id"]),
        params=SamplingParams(),
        tokenizer=tokenizer,
        chat_template=None if template is None else ChatTemplate(template, special),
    )


def _is_gguf(path: Path) -> bool:
    return path.suffix.lower() == ".gguf" and not path.is_dir()


def locate(path: Path) -> Path:
    """The model at ``path``: a folder, or a GGUF file, which may be the only model in the folder ``path``.

    Raises:
        ModelNotFoundError: there is nothing at ``path``, or no model in it.
        UnsupportedModelError: it is a file of another kind.
    """
    if _is_gguf(path):
        return path
    if not path.exists():
        raise ModelNotFoundError(
            f"there is no model at {path}: give the path of a model folder (nothing is downloaded)"
        )
    if path.is_file():
        raise UnsupportedModelError(
            f"{path} is a file: give a .gguf, or a folder with OpenVINO IR or Hugging Face safetensors: "
            f"{path.parent}, maybe"
        )
    if (path / IR_XML).is_file() or _has_safetensors(path):
        return path
    models = sorted({gguf_files(file)[0] for file in path.iterdir() if _is_gguf(file)})
    if len(models) > 1:
        names = ", ".join(model.name for model in models[:10])
        raise ModelNotFoundError(f"{path} has {len(models)} GGUF models: give the path of one of {names}")
    if models:
        return models[0]
    if any(path.glob("*.bin")) and (path / "config.json").is_file():
        raise UnsupportedModelError(f"{path} has its weights as a pickle: save them as safetensors first")
    found = ", ".join(sorted(f.name for f in path.iterdir())[:10]) or "nothing"
    raise ModelNotFoundError(f"{path} has neither {IR_XML} nor safetensors nor .gguf; it holds: {found}")


def _has_safetensors(folder: Path) -> bool:
    return any(folder.glob("*.safetensors")) or any(folder.glob("*.safetensors.index.json"))


def _read(folder: Path) -> tuple[Checkpoint | None, Mapping[str, Any]]:
    """Weights, unless they are in a graph, and ``config.json``."""
    if (folder / IR_XML).is_file():
        return None, _optional_json(folder / "config.json")
    return open_checkpoint(folder), read_config(folder)


def _optional_json(path: Path) -> Mapping[str, Any]:
    return read_json(path) if path.is_file() else {}


def _context_length(config: Mapping[str, Any]) -> int | None:
    for key in _CONTEXT_KEYS:
        if isinstance(config.get(key), int) and config[key] > 0:
            return int(config[key])
    return None


def _eos(generation: Mapping[str, Any], config: Mapping[str, Any], tokenizer: Tokenizer | None) -> frozenset[int]:
    """``eos_token_id`` of generation_config.json, else config.json, else the tokenizer: a number or a list."""
    own = None if tokenizer is None else tokenizer.eos_token_id
    for found in (generation.get("eos_token_id"), config.get("eos_token_id"), own):
        if found is not None:
            ids = found if isinstance(found, list) else [found]
            if not all(isinstance(token, int) for token in ids):
                raise ModelError(f"eos_token_id must be a token id or a list of them, got {found!r:.80}")
            return frozenset(ids)
    return frozenset()


_GREEDY_KEYS = (
    "max_new_tokens",
    "min_new_tokens",
    "repetition_penalty",
    "no_repeat_ngram_size",
    "suppress_tokens",
    "begin_suppress_tokens",
    "forced_bos_token_id",
    "forced_eos_token_id",
)
_SAMPLING_KEYS = ("temperature", "top_k", "top_p", "min_p", "typical_p")


def _default_params(generation: Mapping[str, Any]) -> SamplingParams:
    """What generation_config.json sets, and no more (HF adds ``top_k=50``); greedy, as in HF, without ``do_sample``."""
    keys = _GREEDY_KEYS + (_SAMPLING_KEYS if generation.get("do_sample") else ())
    options = {key: generation[key] for key in keys if generation.get(key) is not None}
    if generation.get("do_sample"):
        options.setdefault("temperature", 1.0)
    if generation.get("bad_words_ids"):
        options["bad_words"] = generation["bad_words_ids"]
    try:
        return SamplingParams(**options)
    except ValueError as error:
        raise ModelError(f"generation_config.json: {error}") from error
