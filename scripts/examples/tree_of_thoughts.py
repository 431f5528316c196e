"""A tree of thoughts: try several next sentences, judge each, keep the best, go on from those.

python scripts/examples/tree_of_thoughts.py
python scripts/examples/tree_of_thoughts.py "One day, a bear lost her hat." --verdict " Everybody laughed." --depth 3

Each branch is a fork of its parent's session, so that what branches share is computed once and held once. A branch is
judged by the model itself: how likely a verdict would be after it. The verdict is computed behind the branch and taken
off again by ``trim``. Every sentence that was tried is shown with its score, "*" before those that were kept; the last
line is the best text. Another judge (a rule, a classifier, a bigger model) goes where ``judge`` is.
"""

import argparse
import sys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

import ovgen


@dataclass
class Branch:
    """A text in the tree: its session, the logits ``(vocab,)`` behind it, what it adds to the prompt, its score."""

    session: ovgen.Session
    row: NDArray[np.float32]
    text: str = ""
    score: float = 0.0


def log_softmax(row: NDArray[np.float32]) -> NDArray[np.float64]:
    """Natural log-probabilities of logits; both ``(..., vocab)``."""
    shifted = (row - row.max(axis=-1, keepdims=True)).astype(np.float64)
    result: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result


class Tree:
    """Grows sentences with one model.

    Args:
        llm: the model.
        verdict: what a good branch makes likely.
        temperature: how much sentences differ.
        seed: of the draws.
    """

    def __init__(self, llm: ovgen.LLM, verdict: str, temperature: float, seed: int) -> None:
        if llm.tokenizer is None:
            raise ovgen.TokenizerError("the model has no tokenizer: take one that has")
        self.tokenizer, self.temperature, self.rng = llm.tokenizer, temperature, np.random.default_rng(seed)
        self.verdict = self.tokenizer.encode(verdict, add_special_tokens=False)
        self.session, self.ends = llm.session, llm.engine.eos_token_ids

    def root(self, prompt: str) -> Branch:
        """The tree before anything has grown."""
        session = self.session()
        return Branch(session, session.forward(self.tokenizer.encode(prompt), rows=1)[0])

    def sprout(self, parent: Branch, longest: int) -> Branch:
        """One more sentence behind a branch, drawn token by token and judged."""
        session, row, text = parent.session.fork(), parent.row, ""
        ids: list[int] = []
        while len(ids) < longest and not text.rstrip('"').endswith((".", "!", "?")):
            probabilities = np.exp(log_softmax(row / self.temperature))
            token = int(self.rng.choice(len(row), p=probabilities / probabilities.sum()))
            if token in self.ends:
                break
            ids.append(token)
            row = session.forward(ids[-1:], rows=1)[0]
            text = self.tokenizer.decode(ids)
        return Branch(session, row, parent.text + text, self.judge(session, row))

    def judge(self, session: ovgen.Session, row: NDArray[np.float32]) -> float:
        """Mean log-probability of the verdict's tokens behind a session, which stays as it is."""
        length = len(session)
        after = session.forward(self.verdict)  # (len(verdict), vocab): the last row is about what would follow
        session.trim(length)
        logprobs = log_softmax(np.concatenate([row[None], after[:-1]]))
        return float(logprobs[np.arange(len(self.verdict)), self.verdict].mean())


def main() -> None:
    """Grow a tree and show it."""
    parser = argparse.ArgumentParser(description="Search a tree of sentences for the one that leads somewhere.")
    parser.add_argument("prompt", nargs="?", default="Once upon a time, there was a little fox named Finn.")
    parser.add_argument("--model", default=ovgen.bundled_model(), help="Hugging Face folder, IR folder or .gguf")
    parser.add_argument("--verdict", default=" In the end, everybody was happy.", help="what a good story makes likely")
    parser.add_argument("--depth", type=int, default=3, help="sentences behind the prompt")
    parser.add_argument("--width", type=int, default=4, help="sentences that are tried behind each branch")
    parser.add_argument("--keep", type=int, default=2, help="branches that go on")
    parser.add_argument("--longest", type=int, default=40, help="most tokens of a sentence")
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if min(options.depth, options.width, options.keep, options.longest) < 1 or options.temperature <= 0:
        parser.error("depth, width, keep, longest and temperature must be above 0")

    tree = Tree(ovgen.LLM(options.model), options.verdict, options.temperature, options.seed)
    branches = [tree.root(options.prompt)]
    for _ in range(options.depth):
        grown = [tree.sprout(branch, options.longest) for branch in branches for _ in range(options.width)]
        for branch in branches:
            branch.session.close()
        grown.sort(key=lambda branch: branch.score, reverse=True)
        branches = grown[: options.keep]
        for place, branch in enumerate(grown):
            print(f"{'*' if place < options.keep else ' '} {branch.score:7.3f} {branch.text.strip()!r}")
            if place >= options.keep:
                branch.session.close()
        print()
    print(options.prompt + branches[0].text)


if __name__ == "__main__":
    try:
        main()
    except ovgen.OvgenError as error:
        sys.exit(f"tree_of_thoughts.py: {error}")
