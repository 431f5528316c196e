"""What was chosen when a model was loaded, and why, in words: `LLM.explain` and ``--verbose``."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

from ovgen.runtime.forms import Runners
from ovgen.weights import Compression

if TYPE_CHECKING:
    from ovgen.llm import LLM

__all__ = ["explain"]


def explain(llm: LLM, compression: Compression | None, runners: Runners) -> dict[str, str]:
    """Lines of a table.

    Args:
        llm: the model.
        compression: that was asked for.
        runners: what made its runner.
    """
    kind = llm.config.get("model_type", "config.json does not say of which kind")
    tokenizer = "no tokenizer" if llm.tokenizer is None else "with its tokenizer"
    lines = {
        "model": f"{llm.path.name} ({kind}), {tokenizer}",
        "weights": "as stored" if compression is None else f"{_asked(compression)}, kept in {llm.path}",
        **runners.explain(llm.engine.runner),
        "KV cache": f"{llm.engine.cache} (cache_size)",
        "context": f"{llm.engine.max_model_len} tokens (max_model_len)",
        "adapters": ", ".join(llm.adapters.folders),
        "drafts": "by a draft model, and where requests ask for it" if llm.engine.has_draft_model else "",
        "not in use": "; ".join(map(str, llm.fallbacks)),
        "loaded in": f"{llm.load_time:.2f} s",
    }
    return {name: text for name, text in lines.items() if text}


def _asked(compression: Compression) -> str:
    """The options that were given."""
    given = ((field.name, getattr(compression, field.name)) for field in fields(compression))
    return ", ".join(f"{name}={value}" for name, value in given if value is not None).removeprefix("weights=")
