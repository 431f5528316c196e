"""Writing a model to disk as an OpenVINO IR folder."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import openvino as ov

from ovgen.errors import ConfigError
from ovgen.graph import COMPANIONS, check_destination, remove_leftovers, save_ir
from ovgen.loader import Source, load
from ovgen.runtime.calibration import Calibration
from ovgen.weights import Compression, Precision, Progress

__all__ = ["Conversion", "convert"]

_LEAST_CALIBRATION = 256  # tokens: fewer tell nothing of what goes into a layer
_GRAPH_BYTES = 500_000  # a graph and those of the tokenizer, as text
_log = logging.getLogger("ovgen")


class Conversion:
    """A model about to be written as an IR folder that ovgen, openvino.genai and optimum-intel load.

    The tokenizer goes along, as OpenVINO models too, which openvino.genai takes text by; where those cannot be made,
    a warning says why.

    Args:
        source: a Hugging Face folder, an IR folder, or a GGUF file.
        destination: the folder to write.
        weights: what to store the weights in, a `Compression` if there is more to say; None keeps their precision.
        calibration: text of the kind that the model will see, for INT4 weights that lose less.
        adapter: a LoRA adapter, as PEFT saves it in a folder, to be added to the weights.
        force: replace ``destination`` if it is an IR folder.

    Attributes:
        estimated_bytes: what the folder will take.

    Raises:
        ModelError: there is no model at ``source``, or no such adapter, it is damaged, or it is not supported.
        ConfigError: ``destination`` exists and is not an empty folder (with ``force``: nor an IR folder with nothing
            else in it), its disk has too little room, or ``calibration`` cannot be used.
    """

    def __init__(
        self,
        source: str | os.PathLike[str],
        destination: str | os.PathLike[str],
        weights: Precision | Compression | None = None,
        *,
        calibration: str | None = None,
        adapter: str | os.PathLike[str] | None = None,
        force: bool = False,
    ) -> None:
        if not os.fspath(source):
            raise ConfigError("the source must be the path of a model, got ''")
        if not os.fspath(destination):
            raise ConfigError("the destination must be the path of a folder to write, got ''")
        self._folder = Path(destination).expanduser().absolute()
        self._force = force
        self._compression = compression = Compression.of(weights)
        remove_leftovers(self._folder.resolve().parent)  # before the room is counted
        check_destination(self._folder, force=force)  # what can be refused is refused before anything long begins
        self._source = load(Path(source))
        if adapter is not None:
            self._source = self._source.merged(adapter)
        self._text = None if calibration is None else self._tokens(calibration)
        self._files = _companions(self._source)
        # OpenVINO's tokenizer takes about as much as the files that it is made from.
        others = 2 * sum(map(_size, self._files.values())) + _GRAPH_BYTES
        self.estimated_bytes = self._source.estimate(compression) + others
        _check_room(self._folder, self.estimated_bytes)

    def run(self, *, progress: bool = False) -> Path:
        """Write the folder, whole or not at all, and return its path.

        Args:
            progress: show a progress bar.

        Raises:
            ModelError: the model is damaged or not supported.
            OSError: the place cannot be written to.
        """
        with ExitStack() as bars:
            statistics = report = None
            if self._text is not None:
                statistics = Calibration(self._source.build(), [self._text])
                if progress:
                    statistics.progress = bars.enter_context(_bar("Calibrating", statistics.tokens, " tokens"))
            if progress and self._compression is not None:
                report = bars.enter_context(_bar("Compressing", self._source.estimate(), "B"))
            model = self._source.build(self._compression, statistics=statistics, progress=report)
        files = self._files | _tokenizer_models(self._source)
        return save_ir(model, self._folder, files, force=self._force)

    def _tokens(self, calibration: str) -> list[int]:
        if self._compression is None or self._compression.weights != "int4":
            raise ConfigError("calibration is for int4: ask for weights='int4', or leave the text out")
        if self._source.tokenizer is None:
            raise ConfigError(f"{self._source.path} has no tokenizer, which a calibration text needs")
        ids = self._source.tokenizer.encode(calibration)
        if len(ids) < _LEAST_CALIBRATION:
            raise ConfigError(f"the calibration text is too short: give {_LEAST_CALIBRATION} tokens, not {len(ids)}")
        return ids


def convert(
    source: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    weights: Precision | Compression | None = None,
    *,
    calibration: str | None = None,
    adapter: str | os.PathLike[str] | None = None,
    force: bool = False,
    progress: bool = False,
) -> Path:
    """Write the model at ``source`` as an IR folder, and return its path: a `Conversion` made and run.

    Raises:
        ModelError: there is no model at ``source``, it is damaged, or it is not supported.
        ConfigError: see `Conversion`.
        OSError: the place cannot be written to.
    """
    conversion = Conversion(source, destination, weights, calibration=calibration, adapter=adapter, force=force)
    return conversion.run(progress=progress)


def _check_room(folder: Path, needed: int) -> None:
    place = next(parent for parent in folder.parents if parent.exists())
    free = shutil.disk_usage(place).free
    if free < needed:
        raise ConfigError(
            f"{folder} will take about {needed / 1e6:.0f} MB, but {free / 1e6:.0f} MB are free on its disk: "
            "make room, or choose another place"
        )


@contextmanager
def _bar(title: str, total: int, unit: str) -> Iterator[Progress]:
    """A progress bar on stderr."""
    from tqdm import tqdm

    with tqdm(total=total, unit=unit, unit_scale=True, desc=title, leave=False) as bar:

        def report(what: str, size: int) -> None:
            bar.set_postfix_str(what, refresh=False)
            bar.update(size)

        yield report


def _companions(source: Source) -> dict[str, Path | str]:
    """What goes along with a model, by file name: files to copy and texts to write."""
    files: dict[str, Path | str] = {}
    if source.config:
        files["config.json"] = _json(source.config)
    if source.path.is_file():
        return files | _tokenizer_files(source)
    there = (source.path / name for name in COMPANIONS)
    return files | {file.name: file for file in there if file.is_file()}


def _size(content: Path | str) -> int:
    return content.stat().st_size if isinstance(content, Path) else len(content.encode())


def _tokenizer_files(source: Source) -> dict[str, str]:
    """What a GGUF file says about its tokenizer, as Hugging Face's files."""
    from ovgen.text.fast import FastTokenizer

    if not isinstance(source.tokenizer, FastTokenizer):
        return {}
    settings: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", **source.tokenizer.special_tokens}
    if source.chat_template is not None:
        settings["chat_template"] = source.chat_template.source
    return {"tokenizer.json": source.tokenizer.backend.to_str(), "tokenizer_config.json": _json(settings)}


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _tokenizer_models(source: Source) -> dict[str, ov.Model]:
    """The tokenizer as OpenVINO models, by file name; none if the folder has them, or they cannot be made."""
    if source.tokenizer is None:
        _log.warning("%s has no tokenizer: what is written will take and give token ids, not text", source.path)
        return {}
    if (source.path / "openvino_tokenizer.xml").exists():
        return {}
    from ovgen.graph.tokenizer_export import tokenizer_models  # imports openvino_tokenizers, only needed here
    from ovgen.text.fast import FastTokenizer

    if not isinstance(source.tokenizer, FastTokenizer):
        return {}
    try:
        tokenizer, detokenizer = tokenizer_models(
            json.loads(source.tokenizer.backend.to_str()),
            bos_token_id=source.tokenizer.bos_token_id,
            eos_token_id=source.tokenizer.eos_token_id,
            pad_token_id=source.tokenizer.eos_token_id,
            chat_template=None if source.chat_template is None else source.chat_template.source,
        )
    except Exception as error:  # openvino_tokenizers raises whatever goes wrong in it
        _log.warning("no openvino_tokenizer.xml is written, so openvino.genai will need token ids: %s", error)
        return {}
    return {"openvino_tokenizer.xml": tokenizer, "openvino_detokenizer.xml": detokenizer}
