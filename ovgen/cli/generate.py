"""``ovgen generate``: continue a text."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ovgen.cli.options import (
    add_model_options,
    add_sampling_options,
    asks_several,
    load_model,
    sampling_options,
    to_json,
)
from ovgen.errors import RequestError
from ovgen.outputs import GenerationOutput, Piece

if TYPE_CHECKING:
    from ovgen.llm import LLM

__all__ = ["EXAMPLE", "HELP", "add_arguments", "run"]

HELP = "continue a text, streaming"
EXAMPLE = """examples:
  ovgen generate "Once upon a time" --temperature 0.8 --seed 1
  ovgen generate --model path/to/model --max-new-tokens 100 "The capital of France is"
  ovgen generate --file prompts.txt --json > outputs.jsonl
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("prompt", nargs="?", default="Once upon a time", help="text to go on from, or - for stdin")
    parser.add_argument("--file", metavar="FILE", help="one prompt per line, generated together")
    parser.add_argument("--json", action="store_true", help="one JSON object per prompt, instead of the text")
    add_model_options(parser)
    add_sampling_options(parser)


def run(options: argparse.Namespace) -> int:
    """Generate, and print text and timings, or JSON."""
    sampling = sampling_options(options)
    prompts = _prompts(options)
    llm = load_model(options)
    if len(prompts) == 1 and not options.json and not asks_several(sampling):
        _stream(llm, prompts[0], sampling)
        return 0
    outputs = llm.generate(prompts, progress=sys.stderr.isatty(), **sampling)
    for prompt, output in zip(prompts, outputs, strict=True):
        if options.json:
            print(to_json(_record(llm, prompt, output)))
        else:
            print(*(f"{prompt}{text.text}\n" for text in output.outputs), sep="\n")
    return 0


def _prompts(options: argparse.Namespace) -> list[str]:
    if options.file is None:
        return [sys.stdin.read().rstrip("\r\n") if options.prompt == "-" else options.prompt]
    try:
        lines = Path(options.file).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"cannot read prompts from {options.file}: {error}") from error
    prompts = [line for line in lines if line.strip()]
    if not prompts:
        raise RequestError(f"{options.file} holds no prompt: write one per line")
    return prompts


def _stream(llm: LLM, prompt: str, sampling: dict[str, Any]) -> None:
    stream = llm.stream(prompt, **sampling)  # which refuses what cannot be, before anything is shown
    print(prompt, end="", flush=True)
    piece = None
    try:
        for piece in stream:
            print(piece.text, end="", flush=True)
    finally:  # on Ctrl-C too: what was written stays, and so do its timings
        print(flush=True)
        if piece is not None:
            print(_summary(llm, piece), file=sys.stderr)


def _summary(llm: LLM, last: Piece) -> str:
    metrics = last.metrics
    speed = f" at {metrics.tokens_per_second:.1f} tokens/s" if metrics.tokens_per_second else ""
    first = f"{1000 * (metrics.time_to_first_token or 0):.0f} ms"
    ended = {"stop": "", "length": "; ended by length", "abort": "; aborted", None: "; interrupted"}[last.finish_reason]
    return (
        f"[{metrics.generated_tokens} token{'' if metrics.generated_tokens == 1 else 's'}{speed}; "
        f"first token after {first}; model loaded in {llm.load_time:.2f} s{ended}]"
    )


def _record(llm: LLM, prompt: str, output: GenerationOutput) -> dict[str, object]:
    metrics = output.metrics
    return {
        "prompt": prompt,
        "text": output.text,
        "token_ids": output.token_ids,
        "finish_reason": output.finish_reason,
        "prompt_tokens": metrics.prompt_tokens,
        "generated_tokens": metrics.generated_tokens,
        "cached_tokens": metrics.cached_tokens,
        "time_to_first_token": metrics.time_to_first_token,
        "tokens_per_second": metrics.tokens_per_second,
        "load_time": llm.load_time,
        "score": output.score,
        "others": [
            {"text": o.text, "token_ids": o.token_ids, "finish_reason": o.finish_reason, "score": o.score}
            for o in output.others
        ],
        "device": llm.device,
        "form": llm.form,
        "kernels": llm.kernels.name,
        "kernels_reason": llm.kernels.reason,
    }
