"""A system prompt that is computed once, and read from a file ever after.

python scripts/examples/system_prompt.py --file system.kv     # computes the prompt, and writes the file
python scripts/examples/system_prompt.py --file system.kv     # reads the file: compare the times

The first run says how long the prompt took to compute, the next ones how long the file took to read, and go on with the
same text. What is saved is gained by every start of the program; within a run the prefix cache does it by itself.
"""

import argparse
import sys
import time
from pathlib import Path

import ovgen

SYSTEM = "You tell stories about animals for children who are not afraid of the dark. Every story ends well. " * 20


def begin(llm: ovgen.LLM, ids: list[int], file: Path) -> ovgen.Session:
    """A session that has computed ``ids``: from ``file``, or by computing them and writing it."""
    start = time.perf_counter()
    try:
        session = llm.session(file)
        if session.token_ids == tuple(ids):
            print(f"read {len(ids)} tokens in {1000 * (time.perf_counter() - start):.1f} ms", file=sys.stderr)
            return session
        session.close()
    except ovgen.CacheFileError as error:  # there is none yet, or it is of another model, precision or form
        print(f"computing, since {error}", file=sys.stderr)
    start = time.perf_counter()
    session = llm.session()
    session.forward(ids, rows=0)  # no logits are wanted, so the head is not computed
    print(f"computed {len(ids)} tokens in {1000 * (time.perf_counter() - start):.1f} ms", file=sys.stderr)
    session.save(file)
    return session


def go_on(llm: ovgen.LLM, session: ovgen.Session, ids: list[int], count: int) -> list[int]:
    """The likeliest ``count`` tokens after what is in the session and ``ids``."""
    tokens: list[int] = []
    while len(tokens) < count:
        row = session.forward(tokens[-1:] or ids, rows=1)[0]
        tokens.append(int(row.argmax()))
        if tokens[-1] in llm.engine.eos_token_ids:
            break
    return tokens


def main() -> None:
    """Continue several texts that begin with the same prompt."""
    parser = argparse.ArgumentParser(description="Keep a computed system prompt in a file.")
    parser.add_argument("texts", nargs="*", default=["One day, a fox", "One day, an owl"])
    parser.add_argument("--model", default=ovgen.bundled_model(), help="Hugging Face folder, IR folder or .gguf")
    parser.add_argument("--file", type=Path, default=Path("system.kv"))
    parser.add_argument("--max-new-tokens", type=int, default=40)
    options = parser.parse_args()

    llm = ovgen.LLM(options.model)
    if llm.tokenizer is None:
        sys.exit("system_prompt.py: the model has no tokenizer: take one that has")
    with begin(llm, list(llm.tokenizer.encode(SYSTEM)), options.file) as system:
        for text in options.texts:
            ids = llm.tokenizer.encode(text, add_special_tokens=False)
            with system.fork() as session:  # shares what is computed, and leaves it as it is
                print(text + llm.tokenizer.decode(go_on(llm, session, ids, options.max_new_tokens)))


if __name__ == "__main__":
    try:
        main()
    except ovgen.OvgenError as error:
        sys.exit(f"system_prompt.py: {error}")
