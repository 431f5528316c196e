"""A story as it is told, and what it took.

python scripts/examples/stream.py
python scripts/examples/stream.py "One day, an old owl" --temperature 1.1 --seed 3
python scripts/examples/stream.py --model path/to/model --max-new-tokens 50

The text grows on standard output. The last lines, on standard error, say why it ended, and how fast it was. The same
seed tells the same story.
"""

import argparse
import sys

import ovgen


def main() -> None:
    """Tell a story."""
    parser = argparse.ArgumentParser(description="Tell a story, piece by piece.")
    parser.add_argument("prompt", nargs="?", default="Once upon a time")
    parser.add_argument("--model", default=ovgen.bundled_model(), help="Hugging Face folder, IR folder or .gguf")
    parser.add_argument("--max-new-tokens", type=int, default=200)
    parser.add_argument("--temperature", type=float, default=0.8)
    parser.add_argument("--top-p", type=float, default=0.95)
    parser.add_argument("--seed", type=int, help="the same seed gives the same text")
    options = parser.parse_args()

    llm = ovgen.LLM(options.model)
    params = ovgen.SamplingParams(
        temperature=options.temperature,
        top_p=options.top_p,
        seed=options.seed,
        max_new_tokens=options.max_new_tokens,
        repetition_penalty=1.05,
    )
    print(options.prompt, end="", flush=True)
    for piece in llm.stream(options.prompt, params):
        print(piece.text, end="", flush=True)  # the next token is computed meanwhile
    print()

    metrics = piece.metrics  # one object for all pieces of a request
    print(f"ended by {piece.finish_reason} after {metrics.generated_tokens} tokens", file=sys.stderr)
    print(f"first token after {1000 * (metrics.time_to_first_token or 0):.0f} ms", file=sys.stderr)
    if metrics.tokens_per_second:  # None where there was one token only
        print(f"then {metrics.tokens_per_second:.0f} tokens a second", file=sys.stderr)


if __name__ == "__main__":
    try:
        main()
    except ovgen.OvgenError as error:  # its text names the cause and the way out
        sys.exit(f"stream.py: {error}")
