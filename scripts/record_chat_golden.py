"""Record how transformers renders conversations with real chat templates, which tests compare ours with.

The templates are not part of the project: give the folder in which they lie, as ``NAME.jinja``. The tests read the
recording, and the templates again from where they lie, without transformers.

    pip install -e .[golden]
    python scripts/record_chat_golden.py ../shared/data/chat_templates
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from tokenizers import Tokenizer
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast  # type: ignore[import-not-found,unused-ignore]

OUT = Path(__file__).resolve().parents[1] / "tests" / "golden" / "chat_templates.json"

SPECIAL_TOKENS = {"bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>", "pad_token": "<pad>"}
SYSTEM = {"role": "system", "content": "You are terse.  "}
HELLO = {"role": "user", "content": " Hello <b>& 'you'</b>\n\n"}
ANSWER = {"role": "assistant", "content": "Hi — 你好 🦙"}
MORE = {"role": "user", "content": "What is the weather in Paris?"}
CALL = {
    "role": "assistant",
    "content": "",
    "tool_calls": [
        {
            "type": "function",
            "id": "abcdef123",
            "function": {"name": "weather", "arguments": {"city": "Paris", "días": 2}},
        }
    ],
}
RESULT = {"role": "tool", "name": "weather", "tool_call_id": "abcdef123", "content": "20 °C"}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather in a city",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]
DATE = {"date_string": "26 Jul 2024"}  # Llama's template would name the day on which it runs

# what is asked -> (messages, variables)
CASES: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
    "one message": ([HELLO], DATE),
    "no generation prompt": ([HELLO, ANSWER], {**DATE, "add_generation_prompt": False}),
    "system": ([SYSTEM, HELLO], DATE),
    "several turns": ([HELLO, ANSWER, MORE], DATE),
    "system and several turns": ([SYSTEM, HELLO, ANSWER, MORE], DATE),
    "tools": ([MORE], {**DATE, "tools": TOOLS}),
    "tools, not in the user's message": ([SYSTEM, MORE], {**DATE, "tools": TOOLS, "tools_in_user_message": False}),
    "a call and its result": ([MORE, CALL, RESULT], {**DATE, "tools": TOOLS}),
    "roles that do not alternate": ([HELLO, MORE], DATE),
    "a role that is not known": ([{"role": "owner", "content": "Hello"}], DATE),
}


def main() -> None:
    """Render every case with every template of the folder and write what came out, or which error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("templates", type=Path, help="a folder of NAME.jinja")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    backend = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(BPE()), **SPECIAL_TOKENS)
    recorded: dict[str, dict[str, dict[str, str]]] = {}
    for path in sorted(options.templates.glob("*.jinja")):
        source = path.read_text(encoding="utf-8")
        recorded[path.stem] = {
            name: render(backend, source, messages, variables) for name, (messages, variables) in CASES.items()
        }
    inputs = {name: {"messages": messages, "variables": variables} for name, (messages, variables) in CASES.items()}
    content = {"special_tokens": SPECIAL_TOKENS, "cases": inputs, "expected": recorded}
    options.out.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def render(backend: Any, source: str, messages: list[dict[str, Any]], variables: dict[str, Any]) -> dict[str, str]:
    """What transformers makes of a conversation: its text, or the message of the template's error."""
    arguments = {"add_generation_prompt": True, **variables}
    try:
        text = backend.apply_chat_template(messages, chat_template=source, tokenize=False, **arguments)
    except TemplateError as error:
        return {"error": str(error)}
    return {"text": text}


if __name__ == "__main__":
    main()
