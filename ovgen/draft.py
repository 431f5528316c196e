"""Loading the draft model of a model."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from ovgen.config import EngineConfig, override
from ovgen.engine.draft_model import DraftModel
from ovgen.errors import ConfigError
from ovgen.graph.passes import settle_longrope
from ovgen.loader import Source, load
from ovgen.runtime.forms import Runners
from ovgen.text import Tokenizer

__all__ = ["load_draft"]

_SAMPLE = 500  # tokens of a vocabulary that are compared


def load_draft(
    path: str | os.PathLike[str],
    target: Source,
    vocab_size: int,
    devices: Sequence[str],
    device_config: Mapping[str, Any],
    config: EngineConfig,
    length: int,
) -> DraftModel:
    """Load and compile a draft model for the devices of the model that it guesses for.

    Args:
        path: as `ovgen.loader.load` takes it.
        target: the model.
        vocab_size: of the model, in logits.
        devices: tried in order.
        device_config: OpenVINO properties.
        config: its budgets hold for the draft model, too.
        length: the longest sequence of the model.

    Raises:
        ConfigError: the two have different vocabularies.
        ModelError: there is no such model, or it is damaged.
        DeviceError: the devices refuse it.
    """
    source = load(os.fspath(path))
    if source.tokenizer is not None and target.tokenizer is not None:
        _compare(source.tokenizer, target.tokenizer, vocab_size)
    length = min(length, source.context_length or length)
    model = source.build()
    settle_longrope(model, length)
    if config.kernels == "require":  # that is about the model; where they can be, they are taken
        config = override(config, {"kernels": "auto"})
    runner = Runners(model, devices, device_config, "auto", config, length).make()
    return DraftModel(runner, config, length, vocab_size, source.estimate() / target.estimate())


def _compare(draft: Tokenizer, target: Tokenizer, vocab_size: int) -> None:
    for token in range(0, vocab_size, max(1, vocab_size // _SAMPLE)):
        if draft.decode([token]) != target.decode([token]):
            raise ConfigError(
                f"token {token} is {draft.decode([token])!r} to the draft model and {target.decode([token])!r} to the "
                "model: take one with the same tokenizer"
            )
