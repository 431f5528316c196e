"""A conversation that remembers what was said, and computes none of it twice.

python scripts/examples/chat.py
echo "Tell me a story about a fox." | python scripts/examples/chat.py --temperature 0

Every line of the input is a message; the end of the input (Ctrl-D) ends the program. After each answer, standard error
says how many of the prompt's tokens lay in the KV cache already: the whole conversation goes in each time, and what it
begins with is found there, in blocks of 32 tokens on a CPU.
"""

import argparse
import sys

import ovgen


def answer(llm: ovgen.LLM, messages: list[dict[str, str]], params: ovgen.SamplingParams) -> str:
    """Stream the next message, and return it; what no longer fits the context is taken out of ``messages``."""
    while True:
        try:
            stream = llm.stream_chat(messages, params)
            break
        except ovgen.ContextLengthError:
            if len(messages) == 1:  # nothing is left to forget
                raise
            del messages[:2]  # the oldest question and its answer
            print("[the oldest messages are forgotten: the context is full]", file=sys.stderr)
    text = ""
    for piece in stream:
        print(piece.text, end="", flush=True)
        text += piece.text
    print(flush=True)
    metrics = piece.metrics
    print(f"[{metrics.cached_tokens} of {metrics.prompt_tokens} tokens were in the cache]", file=sys.stderr)
    return text


def main() -> None:
    """Read messages until the input ends."""
    parser = argparse.ArgumentParser(description="Hold a conversation over standard input.")
    parser.add_argument("--model", default=ovgen.bundled_model(), help="Hugging Face folder, IR folder or .gguf")
    parser.add_argument("--max-new-tokens", type=int, default=200)
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument("--seed", type=int)
    options = parser.parse_args()

    llm = ovgen.LLM(options.model)
    params = ovgen.SamplingParams(
        temperature=options.temperature, seed=options.seed, max_new_tokens=options.max_new_tokens
    )
    messages: list[dict[str, str]] = []
    while True:
        if sys.stdin.isatty():
            print("> ", end="", flush=True)
        line = sys.stdin.readline()
        if not line:
            break
        if line.strip():
            messages.append({"role": "user", "content": line.strip()})
            messages.append({"role": "assistant", "content": answer(llm, messages, params)})


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
    except ovgen.OvgenError as error:
        sys.exit(f"chat.py: {error}")
