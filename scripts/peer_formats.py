"""Write a Hugging Face folder in a format that only engines beside ours read, with their own tools.

    python scripts/peer_formats.py ctranslate2 path/to/hf-folder path/to/written int8

It runs in the Python of the engine. Tokens are called by their numbers, so that models without a tokenizer can be had.
"""

from __future__ import annotations

import json
import runpy
import shutil
import sys
import tempfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

__all__ = ["FORMATS"]


def onnx(source: Path, folder: Path, precision: str) -> None:
    """By optimum-onnx; INT8 by onnxruntime's quantisation of weights ahead and activations on the fly."""
    exported = folder / "exported"
    main_export = import_module("optimum.exporters.onnx").main_export
    main_export(str(source), exported, task="text-generation-with-past", do_validation=False)
    if precision == "int8":
        quantization: Any = import_module("onnxruntime.quantization")
        weights = quantization.QuantType.QInt8
        quantization.quantize_dynamic(exported / "model.onnx", folder / "model.onnx", weight_type=weights)
    else:
        for file in exported.iterdir():
            file.rename(folder / file.name)
    shutil.rmtree(exported)


def onnx_genai(source: Path, folder: Path, precision: str) -> None:
    """By onnxruntime-genai's model builder, for CPUs; INT4 and INT8 with activations in 8 bits, the fastest there."""
    options = ["-i", str(source), "-o", str(folder), "-e", "cpu", "-c", str(source / "cache")]
    options += ["-p", "fp32"] if precision == "f32" else ["-p", precision, "--extra_options", "accuracy_level=4"]
    sys.argv[1:] = options
    runpy.run_module("onnxruntime_genai.models.builder", run_name="__main__")


def ctranslate2(source: Path, folder: Path, precision: str) -> None:
    """By CTranslate2's converter."""
    converter: Any = import_module("ctranslate2.converters").TransformersConverter
    converter(str(source)).convert(str(folder), quantization={"f32": "float32", "int8": "int8"}[precision], force=True)


FORMATS: dict[str, tuple[Callable[[Path, Path, str], None], tuple[str, ...], tuple[str, ...]]] = {
    "onnx": (onnx, ("optimum.exporters.onnx", "onnxruntime"), ("f32", "int8")),
    "onnx-genai": (onnx_genai, ("onnxruntime_genai", "onnx_ir", "torch"), ("f32", "int8", "int4")),
    "ctranslate2": (ctranslate2, ("ctranslate2", "transformers"), ("f32", "int8")),
}
"""For each: what writes it, the packages that this takes, and the precisions that there are."""


def numbered(source: Path, folder: Path) -> Path:
    """The same model beside a tokenizer whose tokens are called by their numbers."""
    config = json.loads((source / "config.json").read_text())
    for file in source.iterdir():
        if file.suffix in (".safetensors", ".json") and not file.name.startswith(("tokenizer", "special_tokens")):
            (folder / file.name).symlink_to(file.absolute())
    vocabulary = {str(number): number for number in range(config["vocab_size"])}
    model = {"type": "WordLevel", "vocab": vocabulary, "unk_token": "0"}
    (folder / "tokenizer.json").write_text(json.dumps({"version": "1.0", "added_tokens": [], "model": model}))
    names = {"unk_token": "0", "bos_token": "1", "eos_token": "2"}
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **names}))
    return folder


def main() -> None:
    """Write what the command line says, whole or not at all."""
    name, source, target, precision = sys.argv[1:]
    part = Path(target).with_name(f"part-{Path(target).name}")
    part.mkdir(exist_ok=True)
    try:
        with tempfile.TemporaryDirectory() as folder:
            FORMATS[name][0](numbered(Path(source), Path(folder)), part, precision)
        part.rename(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)


if __name__ == "__main__":
    main()
