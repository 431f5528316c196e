"""What a model expects, token by token: raw logits as a table.

python scripts/examples/logits.py
python scripts/examples/logits.py "The fox went to the moon." --model path/to/model

For each token of a text: how surprising it was and how uncertain the model had been before (entropy), both in bits, and
what it would have said. The last line has the mean surprise, and the perplexity, which is two to the power of it.
"""

import argparse
import sys

import numpy as np
from numpy.typing import NDArray

import ovgen


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Natural log-probabilities of logits, both ``(rows, vocab)``."""
    shifted = (logits - logits.max(axis=-1, keepdims=True)).astype(np.float64)
    result: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Show how surprising each token of a text is.")
    parser.add_argument(
        "text", nargs="?", default="Once upon a time, there was a little fox named Finn. Finn ate a cloud."
    )
    parser.add_argument("--model", default=ovgen.bundled_model(), help="Hugging Face folder, IR folder or .gguf")
    options = parser.parse_args()

    llm = ovgen.LLM(options.model)
    if llm.tokenizer is None:
        sys.exit("logits.py: the model has no tokenizer: take one that has")
    ids = llm.tokenizer.encode(options.text)
    if len(ids) < 2:
        sys.exit("logits.py: the text is one token, and the first is never predicted: give a longer one")
    with llm.session() as session:
        logits = session.forward(ids)  # (len(ids), vocab) float32; row i is about what follows token i

    logprobs = log_softmax(logits[:-1])
    entropies = -(np.exp(logprobs) * logprobs).sum(axis=-1) / np.log(2)
    surprises = -logprobs[np.arange(len(ids) - 1), ids[1:]] / np.log(2)
    print(f"{'token':<16} {'surprise':>8} {'entropy':>8}  expected")
    for token, surprise, entropy, row in zip(ids[1:], surprises, entropies, logprobs, strict=True):
        best = int(row.argmax())
        expected = "the same" if best == token else f"{llm.tokenizer.decode([best])!r} ({np.exp(row[best]):.0%})"
        print(f"{llm.tokenizer.decode([token])!r:<16} {surprise:8.2f} {entropy:8.2f}  {expected}")
    print(f"mean surprise {surprises.mean():.3f} bits, perplexity {2 ** surprises.mean():.3f}")


if __name__ == "__main__":
    try:
        main()
    except ovgen.OvgenError as error:
        sys.exit(f"logits.py: {error}")
