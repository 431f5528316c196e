"""Contrastive decoding, as a logits processor that asks a second, smaller model.

python scripts/examples/processor.py
python scripts/examples/processor.py "One day, a fox" --strength 1.0 --plausible 0.5

One shows the text that the model finds likeliest, and the one that it finds likeliest *compared with a weaker model*.
What the weak model would say as well (a repetition, a commonplace) loses; tokens that the strong one finds implausible
stay out. After Li et al., https://arxiv.org/abs/2210.15097, in the form of https://arxiv.org/abs/2309.09117.
"""

import argparse
import sys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

import ovgen


class Contrast:
    """Takes off what a weaker model with the same tokens finds likely, too.

    Args:
        weak: that model. It is another `LLM`: a processor cannot run the model that it is called from.
        strength: how much of the weak model's logits is taken off.
        plausible: tokens below this share of the likeliest one's probability are never chosen.
    """

    def __init__(self, weak: ovgen.LLM, strength: float, plausible: float) -> None:
        self.session = weak.session()
        self.strength, self.plausible = strength, plausible

    def __call__(self, token_ids: Sequence[int], logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits ``(vocab,)`` of the strong model in, the contrast ``(vocab,)`` out."""
        # The session is a cache and no state: what it has in common with these ids is kept, so that the processor may
        # serve several requests at once.
        pairs = enumerate(zip(self.session.token_ids, token_ids, strict=False))
        common = next((i for i, (ours, theirs) in pairs if ours != theirs), min(len(self.session), len(token_ids)))
        self.session.trim(min(common, len(token_ids) - 1))  # one token at least is computed, to have its logits
        weak = self.session.forward(token_ids[len(self.session) :], rows=1)[0]
        contrast: NDArray[np.float32] = (1 + self.strength) * logits - self.strength * weak
        contrast[logits < logits.max() + np.log(self.plausible)] = -np.inf
        return contrast


def main() -> None:
    """Show the plain text and the contrastive one."""
    parser = argparse.ArgumentParser(description="Contrast a model with a weaker one.")
    parser.add_argument("prompt", nargs="?", default="Once upon a time, there was a little fox who")
    parser.add_argument("--model", default=ovgen.bundled_model(), help="Hugging Face folder, IR folder or .gguf")
    parser.add_argument("--weak", default=ovgen.bundled_model("storyteller-draft"), help="one with the same tokenizer")
    parser.add_argument("--strength", type=float, default=0.5)
    parser.add_argument("--plausible", type=float, default=0.3)
    parser.add_argument("--max-new-tokens", type=int, default=60)
    options = parser.parse_args()

    llm, weak = ovgen.LLM(options.model), ovgen.LLM(options.weak)
    contrast = Contrast(weak, options.strength, options.plausible)
    greedy = ovgen.SamplingParams(max_new_tokens=options.max_new_tokens)
    print("plain:", llm.generate(options.prompt, greedy).text.strip())
    print("contrastive:", llm.generate(options.prompt, greedy, logits_processors=[contrast]).text.strip())


if __name__ == "__main__":
    try:
        main()
    except ovgen.OvgenError as error:
        sys.exit(f"processor.py: {error}")
