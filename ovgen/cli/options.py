"""Command-line options that commands share; those of `SamplingParams` and `EngineConfig` come from their fields."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from ovgen.cli.terminal import status
from ovgen.config import EngineConfig, Kernels, SamplingParams, StructuredOutputs
from ovgen.errors import ConfigError, RequestError
from ovgen.resources import bundled_model
from ovgen.runtime.forms import Form
from ovgen.text.structured import check_structure
from ovgen.weights import Compression, Precision

if TYPE_CHECKING:
    from ovgen.llm import LLM

__all__ = [
    "add_compression_options",
    "add_model_options",
    "add_sampling_options",
    "asks_several",
    "compression",
    "load_model",
    "model_options",
    "model_path",
    "parse_properties",
    "sampling_options",
    "to_json",
]

# Fields that a command line cannot say well, or should not.
_PYTHON_ONLY = {"logit_bias", "logits_processors", "logprobs", "prompt_logprobs", "structured_outputs"}

_EARLY = {"true": True, "false": False, "never": "never"}


def add_model_options(parser: argparse.ArgumentParser, *, positional: bool = False) -> None:
    """Which model runs where; ``positional`` has its path as an argument, where commands are about the model."""
    group = parser.add_argument_group("model")
    text = "model folder or .gguf file (default: the bundled storyteller)"
    if positional:
        parser.add_argument("model", metavar="MODEL", nargs="?", help=text)
    else:
        group.add_argument("--model", "-m", metavar="PATH", help=text)
    group.add_argument(
        "--draft-model", metavar="PATH", help="a smaller model with the same tokenizer that proposes tokens"
    )
    group.add_argument(
        "--device",
        default="CPU",
        help="OpenVINO device, as `ovgen devices` lists it; AUTO or NPU,GPU,CPU for several to try (default: CPU)",
    )
    group.add_argument(
        "--device-config",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="OpenVINO property for compiling, such as KV_CACHE_PRECISION=f16, or for one device, as in "
        "NPU:NPU_TURBO=YES; may be given several times",
    )
    group.add_argument(
        "--form",
        default="auto",
        choices=get_args(Form),
        help="how the model runs (default: auto)",
    )
    group.add_argument(
        "--lora",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="LoRA adapter, the folder that PEFT saved, for --adapter NAME to choose; may be given several times",
    )
    group.add_argument(
        "--verbose",
        "-v",
        action="store_true",
        help="say which device, form, kernels and precision were chosen, and why",
    )
    _add_fields(parser.add_argument_group("engine"), EngineConfig)
    add_compression_options(parser)


def add_compression_options(parser: argparse.ArgumentParser) -> None:
    """What to store the weights in."""
    group = parser.add_argument_group("compression of the weights (default: as they are stored)")
    group.add_argument(
        "--weights",
        choices=get_args(Precision),
        help="what to store them in; loading keeps the result in OVGEN_HOME (your cache folder if not set)",
    )
    group.add_argument(
        "--group-size",
        type=int,
        metavar="N",
        help="weights that share a scale: 16, 32, 64, ... or -1 for a whole row (default: 128 in int4, -1 in int8)",
    )
    either = group.add_mutually_exclusive_group()
    either.add_argument("--sym", dest="symmetric", action="store_true", default=None, help="without zero points")
    either.add_argument("--asym", dest="symmetric", action="store_false", help="with zero points (the default)")
    group.add_argument(
        "--embeddings", choices=get_args(Precision), help="embeddings and head (default: int8, or f16 with that)"
    )


def compression(options: argparse.Namespace) -> Compression | None:
    """What the options of `add_compression_options` ask for.

    Raises:
        ConfigError: a value is not allowed, or there is one without --weights.
    """
    if options.weights is not None:
        return Compression(
            weights=options.weights,
            group_size=options.group_size,
            symmetric=options.symmetric,
            embeddings=options.embeddings,
        )
    if (options.group_size, options.symmetric, options.embeddings) != (None, None, None):
        raise ConfigError("--group-size, --sym, --asym and --embeddings say more about --weights: give that, too")
    return None


def load_model(options: argparse.Namespace) -> LLM:
    """The model that the options name."""
    from ovgen.llm import LLM  # brings the engine with it, which `ovgen convert` has no use for

    path = model_path(options)
    with nullcontext() if options.verbose else status(f"Loading {path.name}"):  # whose line others would break
        return LLM(path, **model_options(options))


def model_path(options: argparse.Namespace) -> Path:
    """Where the model is.

    Raises:
        ConfigError: the path is empty.
    """
    if options.model == "":
        raise ConfigError("the path of the model is empty; leave it out for the bundled storyteller")
    return bundled_model() if options.model is None else Path(options.model)


def model_options(options: argparse.Namespace) -> dict[str, Any]:
    """What else `LLM` takes.

    Raises:
        ConfigError: an option has no such value.
    """
    return {
        "device": options.device,
        "device_config": parse_properties(options.device_config),
        "form": options.form,
        "weights": compression(options),
        "draft_model": options.draft_model,
        "adapters": _adapters(options.lora),
        **_given(options, EngineConfig),
    }


def _adapters(pairs: Sequence[str]) -> dict[str, str]:
    adapters: dict[str, str] = {}
    for pair in pairs:
        name, _, path = pair.partition("=")
        if not name or not path or name in adapters:
            raise ConfigError(f"--lora takes NAME=PATH, each name once, got {' and '.join(pairs)!r}")
        adapters[name] = path
    return adapters


def parse_properties(pairs: Sequence[str]) -> dict[str, Any]:
    """``NAME=VALUE``, and ``DEVICE:NAME=VALUE`` under the device's name.

    Raises:
        ConfigError: one is neither.
    """
    config: dict[str, Any] = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator:
            raise ConfigError(f"--device-config takes NAME=VALUE, got {pair!r}")
        device, _, name = key.rpartition(":")
        section = config.setdefault(device, {}) if device else config
        if not name or not isinstance(section, dict) or isinstance(section.get(name), dict):
            raise ConfigError(f"--device-config takes NAME=VALUE or DEVICE:NAME=VALUE, got {' and '.join(pairs)!r}")
        section[name] = value
    return config


def add_sampling_options(parser: argparse.ArgumentParser) -> None:
    """One option per field of `SamplingParams`; those not given stay as the model's defaults are."""
    group = parser.add_argument_group("sampling (defaults: the model's generation_config.json, else greedy)")
    _add_fields(group, SamplingParams)
    _add_structured_options(parser)


def _add_structured_options(parser: argparse.ArgumentParser) -> None:
    """What the text has to be, in one of these ways."""
    group = parser.add_argument_group('form of the text (takes llguidance: pip install "ovgen[structured]")')
    one = group.add_mutually_exclusive_group()
    one.add_argument("--json-schema", metavar="FILE", help="JSON that keeps to this schema")
    one.add_argument("--json-object", action="store_true", help="any JSON object")
    one.add_argument("--regex", metavar="PATTERN", help="the whole text matches this regular expression")
    one.add_argument("--choice", action="append", default=[], metavar="TEXT", help="one of these; repeatable")
    one.add_argument("--grammar", metavar="FILE", help="a grammar, as Lark or llama.cpp (root ::= ...) write it")


def sampling_options(options: argparse.Namespace) -> dict[str, Any]:
    """The sampling options that were given, checked before a model is loaded for them as far as that can be.

    Raises:
        ConfigError: a value is outside its range.
        RequestError: a file cannot be read, or no text can be made to have that form.
    """
    given = _given(options, SamplingParams)
    structured = _structured_outputs(options)
    if structured is not None:
        given["structured_outputs"] = structured
    SamplingParams(**given)
    return given


def _structured_outputs(options: argparse.Namespace) -> StructuredOutputs | None:
    ways = {
        "json": _read(options.json_schema),
        "json_object": options.json_object,
        "regex": options.regex,
        "choice": options.choice,
        "grammar": _read(options.grammar),
    }
    if all(way in (None, False, []) for way in ways.values()):
        return None
    structured = StructuredOutputs(**ways)
    check_structure(structured)
    return structured


def _read(file: str | None) -> str | None:
    try:
        return None if file is None else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"cannot read {file}: {error}") from error


def asks_several(sampling: Mapping[str, Any]) -> bool:
    """Whether several texts of a prompt are asked for, or compared, which do not come piece by piece."""
    return any((sampling.get(name) or 1) > 1 for name in ("n", "best_of", "num_beams"))


def _add_fields(group: argparse._ArgumentGroup, kind: type[SamplingParams] | type[EngineConfig]) -> None:
    for field in fields(kind):
        if field.name in _PYTHON_ONLY:
            continue
        flag = "--" + field.name.replace("_", "-")
        text = field.metadata["help"].replace("%", "%%")
        annotation = str(field.type)
        if annotation == "bool":
            group.add_argument(flag, action=argparse.BooleanOptionalAction, default=None, help=text)
        elif field.name == "early_stopping":
            group.add_argument(flag, choices=_EARLY, help=text)
        elif annotation == "str | None":
            group.add_argument(flag, metavar="NAME", help=text)
        elif field.name == "kernels":
            group.add_argument(flag, choices=get_args(Kernels), help=text)
        elif annotation.startswith("tuple"):
            item: Callable[[str], Any] = int if annotation == "tuple[int, ...]" else str
            group.add_argument(flag, action="append", type=item, metavar="VALUE", help=f"{text}; repeatable")
        else:
            group.add_argument(flag, type=float if annotation == "float" else int, metavar="N", help=text)


def _given(options: argparse.Namespace, kind: type[SamplingParams] | type[EngineConfig]) -> dict[str, Any]:
    names = [field.name for field in fields(kind)]
    given = {name: getattr(options, name) for name in names if getattr(options, name, None) is not None}
    if "early_stopping" in given:
        given["early_stopping"] = _EARLY[given["early_stopping"]]
    return given


def to_json(value: object) -> str:
    """One line of JSON."""
    return json.dumps(value, ensure_ascii=False)
