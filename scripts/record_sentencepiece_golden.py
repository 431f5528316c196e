"""Record how sentencepiece itself tokenizes, with tiny models of each kind, which tests compare ours with.

    pip install sentencepiece==0.2.*
    python scripts/record_sentencepiece_golden.py

The models are trained on the text below and recorded along with their answers.
"""

from __future__ import annotations

import base64
import io
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import sentencepiece  # type: ignore[import-not-found,import-untyped,unused-ignore]

OUT = Path(__file__).resolve().parents[1] / "tests" / "golden" / "sentencepiece.json"

TEXT = """Once upon a time, in a small house by the sea, there lived a fisherman and his daughter.
Every morning the fisherman went out to the sea, and every evening he came home with his boat full of fish.
One day the daughter said: "Father, let me come with you to the sea."
"The sea is wide," said the father, "and the boat is small. But come, if you will."
So they went out together, further and further, until the house on the shore was no larger than a shell.
    There they saw 3 whales, 15 dolphins and 127 herrings, all of them singing the same old song.
"""
STRINGS = [
    "",
    " ",
    "   ",
    "a",
    " the sea",
    "the  sea   and the boat ",
    "the sea\nand\n\nthe shore\n the house",
    "\tthere  they\t\twere",
    "Once upon a time, there was a SEA of 1271 fishes!!!!!",
    "aaaaaaa eeeeeee ooooo sssssss",
    "zebra & quux <sep> fisherman<sep>",
    "Ünïcödé — 你好, мир 🦙🦙",
    "ﬁsh ½ ①",
    "therewithin togetherness",
]
IDENTITY = {"normalization_rule_name": "identity", "remove_extra_whitespaces": False}
MODELS: dict[str, dict[str, Any]] = {
    "as Llama": {**IDENTITY, "byte_fallback": True},
    "no space before a text, pieces of its own": {
        **IDENTITY,
        "byte_fallback": True,
        "add_dummy_prefix": False,
        "user_defined_symbols": ["<sep>", "▁▁", "\n\n"],
    },
    "extra spaces removed": {"normalization_rule_name": "identity", "byte_fallback": True},
    "characters normalised": {"byte_fallback": True},  # by a rule of its own, see `train`
    "no byte fallback": IDENTITY,
}
# what sentencepiece calls a normalisation rule: code points -> code points
RULE = "FB01\t66 69\nBD\t31 2F 32\n9\t20\n"


def train(options: dict[str, Any]) -> bytes:
    """A BPE model of 400 tokens, of 140 without those for bytes."""
    model = io.BytesIO()
    if "normalization_rule_name" not in options:
        Path("rule.tsv").write_text(RULE, encoding="utf-8")
        options = {**options, "normalization_rule_tsv": "rule.tsv"}  # the model records this path
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT.splitlines()),
        model_writer=model,
        model_type="bpe",
        vocab_size=400 if options.get("byte_fallback") else 140,
        minloglevel=2,
        **options,
    )
    return model.getvalue()


def main() -> None:
    """Train, ask, and write down."""
    recorded = {}
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for name, options in MODELS.items():
            model = train(options)
            processor = sentencepiece.SentencePieceProcessor(model_proto=model)
            ids = [processor.encode(string) for string in STRINGS]
            recorded[name] = {
                "model": base64.b64encode(model).decode(),
                "ids": ids,
                "texts": [processor.decode(each) for each in ids],
            }
        os.chdir(OUT.parent)
    content = {"strings": STRINGS, "models": recorded}
    OUT.write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
