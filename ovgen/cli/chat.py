"""``ovgen chat``: a conversation in the terminal."""

from __future__ import annotations

import argparse
import contextlib
import sys
from typing import TYPE_CHECKING, Any

from ovgen.cli.options import add_model_options, add_sampling_options, asks_several, load_model, sampling_options
from ovgen.errors import OvgenError

if TYPE_CHECKING:
    from ovgen.llm import LLM

__all__ = ["EXAMPLE", "HELP", "add_arguments", "run"]

HELP = "hold a conversation; Ctrl-C stops an answer, Ctrl-D ends the program"
EXAMPLE = """examples:
  ovgen chat
  ovgen chat --model path/to/model --system "You are terse." --temperature 0.7

in the conversation: /reset forgets what was said, /exit ends
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("--system", help="system message that the conversation begins with")
    add_model_options(parser)
    add_sampling_options(parser)


def run(options: argparse.Namespace) -> int:
    """Read messages until the input ends."""
    sampling = sampling_options(options)
    llm = load_model(options)
    opening = [{"role": "system", "content": options.system}] if options.system else []
    messages = list(opening)
    llm.apply_chat_template([*opening, {"role": "user", "content": "?"}])  # fail now if there is no template
    with contextlib.suppress(ImportError):  # not on Windows, whose console edits lines by itself
        import readline  # noqa: F401 - being imported is what gives input() its editing and history
    print("Ctrl-C stops an answer, /reset starts over, Ctrl-D ends.", file=sys.stderr)
    while (text := _read()) is not None:
        if text == "/reset":
            messages = list(opening)
        elif text:
            messages.append({"role": "user", "content": text})
            try:
                answer = _answer(llm, messages, sampling)
            except OvgenError as error:  # the conversation outgrew the context, say, or the template objects
                print(f"ovgen: {error} (/reset starts over)", file=sys.stderr)
                messages.pop()
            else:
                messages.append({"role": "assistant", "content": answer})
    return 0


def _read() -> str | None:
    """A line of the user's; None at the end."""
    while True:
        try:
            text = input("> ").strip()
        except EOFError:
            print()
            return None
        except KeyboardInterrupt:
            print()
            continue
        return None if text == "/exit" else text


def _answer(llm: LLM, messages: list[dict[str, str]], sampling: dict[str, Any]) -> str:
    """Stream an answer; what was said until Ctrl-C stays part of the conversation."""
    text = ""
    try:
        if asks_several(sampling):  # the first of them, which is the best if they were compared
            text = llm.chat(messages, **sampling).text
            print(text, end="")
        else:
            with contextlib.closing(llm.stream_chat(messages, **sampling)) as stream:
                for piece in stream:
                    print(piece.text, end="", flush=True)
                    text += piece.text
    except KeyboardInterrupt:
        print(" [stopped]", end="")
    print(flush=True)
    return text.strip()
