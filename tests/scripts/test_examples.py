"""The programs of ``scripts/examples``, each run as a user runs it, and what they compute against another way to it."""

from __future__ import annotations

import http.client
import importlib.util
import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ovgen
from tests.conftest import F32

EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "scripts" / "examples").glob("*.py"))
NAMES = [path.stem for path in EXAMPLES]
FOLDER = EXAMPLES[0].parent
PROMPT = "Once upon a time"
WINDOWS = sys.platform == "win32"


@pytest.fixture(scope="module")
def llm() -> ovgen.LLM:
    """The bundled model as the programs load it."""
    return ovgen.LLM(ovgen.bundled_model())


def example(name: str) -> Any:
    """A program as a module."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(name: str, *arguments: str, given: str = "", folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """What a program says and writes; it has to end well."""
    command = [sys.executable, str(FOLDER / f"{name}.py"), *arguments]
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=120, cwd=folder, check=False)
    assert done.returncode == 0, done.stderr
    return done


def check_stream(llm: ovgen.LLM, folder: Path) -> None:
    done = run("stream", PROMPT, "--max-new-tokens", "12", "--seed", "3", "--temperature", "1.5")
    sampling: dict[str, Any] = {"temperature": 1.5, "top_p": 0.95, "seed": 3, "repetition_penalty": 1.05}
    assert done.stdout == PROMPT + llm.generate(PROMPT, max_new_tokens=12, **sampling).text + "\n"
    assert "ended by length after 12 tokens" in done.stderr
    assert re.search(r"first token after [1-9]\d* ms\nthen [1-9]\d* tokens a second", done.stderr)


def check_chat(llm: ovgen.LLM, folder: Path) -> None:
    messages = [{"role": "user", "content": "Tell me a story about a fox."}]
    first = llm.chat(messages, temperature=0, max_new_tokens=40)
    messages += [{"role": "assistant", "content": first.text}, {"role": "user", "content": "Who was in it?"}]
    second = llm.apply_chat_template(messages)
    long = "fox " * 600
    given = f"{messages[0]['content']}\n\n{messages[2]['content']}\n{long}\n{long}\n"  # an empty line is no message
    done = run("chat", "--temperature", "0", "--max-new-tokens", "40", given=given)
    assert done.stdout.startswith(first.text + "\n")
    counts = [tuple(map(int, each)) for each in re.findall(r"\[(\d+) of (\d+) tokens were in the cache\]", done.stderr)]
    alone = llm.apply_chat_template([{"role": "user", "content": long.strip()}])
    assert [prompt for _, prompt in counts][::3] == [len(first.prompt_token_ids), len(alone)]
    assert counts[1][1] == len(second)
    assert counts[1][0] == (len(first.prompt_token_ids) + len(first.token_ids)) // 32 * 32  # whole blocks
    assert done.stderr.count("the oldest messages are forgotten") == 3


def check_processor(llm: ovgen.LLM, folder: Path) -> None:
    plain, contrastive = run("processor", PROMPT, "--max-new-tokens", "24", "--strength", "1").stdout.splitlines()
    text = llm.generate(PROMPT, temperature=0, max_new_tokens=24).text.strip()
    assert plain == f"plain: {text}"
    assert contrastive.startswith("contrastive: ")
    assert contrastive != f"contrastive: {text}"


def check_logits(llm: ovgen.LLM, folder: Path) -> None:
    text = "The fox ate a cloud."
    _, *rows, last = run("logits", text).stdout.splitlines()
    known = llm.generate(text, prompt_logprobs=1, max_new_tokens=1).prompt_logprobs
    assert known is not None
    assert llm.tokenizer is not None
    bits = [-each.logprob / np.log(2) for each in known if each is not None]
    shown = [re.fullmatch(r"(?P<token>'.*?') +(?P<surprise>[\d.]+) +[\d.]+  (?P<expected>.*)", row) for row in rows]
    assert [float(row["surprise"]) for row in shown if row] == pytest.approx(bits, abs=0.02)
    for row, each in zip(shown, (each for each in known if each is not None), strict=True):
        assert row
        best = next(iter(each.top))
        assert row["token"] == repr(llm.tokenizer.decode([each.token_id]))
        assert row["expected"].startswith("the same" if best == each.token_id else repr(llm.tokenizer.decode([best])))
    mean, perplexity = map(float, re.findall(r"\d+\.\d+", last))
    assert mean == pytest.approx(np.mean(bits), abs=0.01)
    assert perplexity == pytest.approx(2 ** np.mean(bits), rel=0.01)


def check_system_prompt(llm: ovgen.LLM, folder: Path) -> None:
    arguments = ("One day, a fox", "One day, an owl", "--max-new-tokens", "8")
    first, second = (run("system_prompt", *arguments, folder=folder) for _ in range(2))
    assert llm.tokenizer is not None
    count = len(llm.tokenizer.encode(example("system_prompt").SYSTEM))
    assert "computing, since no saved session" in first.stderr
    assert f"computed {count} tokens in" in first.stderr
    assert re.fullmatch(rf"read {count} tokens in [\d.]+ ms\n", second.stderr)
    assert second.stdout == first.stdout
    assert first.stdout.startswith("One day, a fox ")
    assert "\nOne day, an owl" in first.stdout


def check_tree_of_thoughts(llm: ovgen.LLM, folder: Path) -> None:
    done = run("tree_of_thoughts", PROMPT, "--depth", "2", "--width", "3", "--keep", "2", "--longest", "12")
    *levels, last = done.stdout.strip().split("\n\n")
    tried = [[re.fullmatch(r"([* ]) +(-[\d.]+) (['\"].*['\"])", row) for row in level.split("\n")] for level in levels]
    assert [len(level) for level in tried] == [3, 6]
    for level in tried:
        scores = [float(row[2]) for row in level if row]
        assert scores == sorted(scores, reverse=True)
        assert "".join(row[1] for row in level if row) == "**".ljust(len(level))
    assert tried[1][0]
    kept = [row[3][1:-1] for row in tried[0][:2] if row]
    assert any(tried[1][0][3][1:-1].startswith(text) for text in kept)  # the best grew out of one that was kept
    assert last.startswith(PROMPT)
    assert repr(last.removeprefix(PROMPT).strip()) == tried[1][0][3]


CHECKS: dict[str, Callable[[ovgen.LLM, Path], None]] = {
    "chat": check_chat,
    "logits": check_logits,
    "processor": check_processor,
    "stream": check_stream,
    "system_prompt": check_system_prompt,
    "tree_of_thoughts": check_tree_of_thoughts,
}


@pytest.mark.parametrize("name", [name for name in NAMES if name != "serve"])
def test_an_example_does_what_it_says(name: str, llm: ovgen.LLM, tmp_path: Path) -> None:
    assert name in CHECKS, f"{name}.py is new: add a check"
    CHECKS[name](llm, tmp_path)


def test_what_cannot_be_loaded_is_said_in_a_line() -> None:
    commands = [[sys.executable, str(path), "--model", "no/such/model"] for path in EXAMPLES]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for command in commands]
    for path, each in zip(EXAMPLES, running, strict=True):
        _, said = each.communicate(timeout=120)
        assert each.returncode == 1
        assert said.startswith(f"{path.name}: there is no model at no/such/model"), said
        assert said.count("\n") == 1


def test_each_docstring_begins_with_commands_that_run_the_file() -> None:
    for path in EXAMPLES:
        text = path.read_text(encoding="utf-8")
        assert re.match(rf'""".+\n\npython scripts/examples/{path.name}', text), path.name


# What the programs compute, against a slower way in f32.


@contextmanager
def computed(llm: ovgen.LLM, ids: list[int]) -> Iterator[tuple[ovgen.Session, Any]]:
    """A session of these ids, and its last row of logits."""
    with llm.session() as session:
        yield session, session.forward(ids, rows=1)[0]


def test_contrast_is_the_formula_whatever_was_asked_before(storyteller: ovgen.LLM) -> None:
    weak = ovgen.LLM(ovgen.bundled_model("storyteller-draft"), device_config=F32)
    contrast = example("processor").Contrast(weak, strength=0.5, plausible=0.1)
    for ids in ([0, 536, 564, 262], [0, 536, 564, 262, 437], [0, 536, 300], [0, 536], [7, 536, 564], [7, 536, 564]):
        with computed(storyteller, ids) as (_, strong_row), computed(weak, ids) as (_, weak_row):
            share = np.exp(strong_row.astype(np.float64))
            allowed = share >= 0.1 * share.max()
            expected = np.where(allowed, strong_row + 0.5 * (strong_row - weak_row), -np.inf)
            np.testing.assert_allclose(contrast(ids, strong_row.copy()), expected, atol=1e-3)
            assert 1 <= allowed.sum() < len(allowed)


def test_a_verdict_is_judged_by_its_tokens_and_leaves_no_trace(storyteller: ovgen.LLM) -> None:
    tree = example("tree_of_thoughts").Tree(storyteller, " In the end, all were happy.", 0.7, seed=0)
    root = tree.root(PROMPT)
    ids = list(root.session.token_ids)
    score = tree.judge(root.session, root.row)
    known = storyteller.generate([*ids, *tree.verdict], prompt_logprobs=0, max_new_tokens=1).prompt_logprobs
    assert known is not None
    assert score == pytest.approx(np.mean([each.logprob for each in known[len(ids) :] if each]), abs=1e-3)
    assert root.session.token_ids == tuple(ids)
    branch = tree.sprout(root, longest=6)
    assert branch.session.token_ids[: len(ids)] == tuple(ids)
    assert len(ids) < len(branch.session) <= len(ids) + 6
    branch.session.close()
    root.session.close()


def test_a_saved_prompt_goes_on_as_generate_does(storyteller: ovgen.LLM, tmp_path: Path) -> None:
    program = example("system_prompt")
    beginning, ids = [0, 536, 564, 262, 437], [15, 380]
    expected = storyteller.generate([*beginning, *ids], temperature=0, max_new_tokens=12).token_ids
    for _ in range(2):  # computed, and read
        with program.begin(storyteller, beginning, tmp_path / "cache.kv") as session:
            assert tuple(program.go_on(storyteller, session, ids, 12)) == expected
    for damage in (False, True):  # the file is of another prompt, or is none
        if damage:
            (tmp_path / "cache.kv").write_bytes(b"damaged")
        with program.begin(storyteller, [0, 536], tmp_path / "cache.kv") as session:
            assert session.token_ids == (0, 536)


# The server.


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The example server, which takes two requests at a time, and its port."""
    process = subprocess.Popen(
        [sys.executable, str(FOLDER / "serve.py"), "--port", "0", "--most", "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Tests that run in the background ignore Ctrl-C, and so would the server.
        preexec_fn=None if WINDOWS else lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    try:
        yield process, int(process.stdout.readline().rpartition(":")[2])
    finally:
        process.kill()
        process.communicate()


def ask(port: int, count: int, prompt: str = PROMPT) -> http.client.HTTPResponse:
    """The beginning of an answer of so many tokens; closing it closes the connection."""
    options = {"prompt": prompt, "max_new_tokens": count, "temperature": 0, "ignore_eos": True}
    return post(port, json.dumps(options))


def post(port: int, body: str, path: str = "/generate") -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", path, body)
    return connection.getresponse()


def metrics(port: int) -> dict[str, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/metrics")
    with closing(connection.getresponse()) as response:
        assert response.status == 200
        counters: dict[str, Any] = json.loads(response.read())
    return counters


def test_clients_are_computed_together(server: tuple[Any, int], llm: ovgen.LLM) -> None:
    before = metrics(server[1])
    with closing(ask(server[1], 400)) as long, closing(ask(server[1], 12, "One day, a fox")) as short:
        lines = [json.loads(line) for line in short.read().splitlines()]
        assert (
            "".join(line["text"] for line in lines)
            == llm.generate("One day, a fox", temperature=0, max_new_tokens=12).text
        )
        assert [line["finish_reason"] for line in lines] == [None] * 11 + ["length"]
        assert len(long.read().splitlines()) == 400
    after = metrics(server[1])
    assert after["generated_tokens"] - before["generated_tokens"] == 412
    assert after["steps"] - before["steps"] <= 402  # the twelve cost none of their own
    assert after["open"] == 0


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("{", "Expecting property name"),
        ("[" * 100_000, "nested too deep"),
        ("[]", 'a JSON object with a "prompt"'),
        ('{"text": "Once"}', 'a JSON object with a "prompt"'),
        ('{"prompt": "Once", "temprature": 1}', "did you mean 'temperature'"),
        ('{"prompt": "Once", "params": {}}', "give the options themselves"),
        ('{"prompt": "Once", "top_p": 2}', "top_p must be above 0 and at most 1, got 2"),
        ('{"prompt": []}', "the prompt is empty"),
        ('{"prompt": 5}', "a prompt is text or a list of token ids"),
    ],
)
def test_what_is_wrong_with_a_request_is_said(server: tuple[Any, int], body: str, says: str) -> None:
    with closing(post(server[1], body)) as response:
        assert response.status == 400
        assert says in json.loads(response.read())["error"]


@pytest.mark.parametrize(
    "sent", [b"hello\r\n\r\n", b"POST /generate HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"x" * 100_000 + b"\r\n\r\n"]
)
def test_what_is_no_request_is_refused(server: tuple[Any, int], sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server[1]), timeout=60) as connection:
        connection.sendall(sent)
        assert connection.recv(100).startswith(b"HTTP/1.1 400 Bad Request\r\n")


def test_other_paths_are_not_found(server: tuple[Any, int]) -> None:
    with closing(post(server[1], "{}", "/other")) as response:
        assert response.status == 404


def test_a_client_that_leaves_ends_its_request(server: tuple[Any, int]) -> None:
    before = metrics(server[1])
    with closing(ask(server[1], 900)) as long, closing(ask(server[1], 900)) as other:
        assert json.loads(long.readline())["text"]
        assert metrics(server[1])["open"] == 2
        with closing(ask(server[1], 1)) as refused:
            assert refused.status == 503
            assert "2 requests are open" in json.loads(refused.read())["error"]
        assert json.loads(other.readline())["text"]
    deadline = time.monotonic() + 30
    while (after := metrics(server[1]))["requests"] < before["requests"] + 2:
        assert time.monotonic() < deadline, after
        time.sleep(0.01)
    assert (after["open"], after["left"] - before["left"], after["refused"] - before["refused"]) == (0, 2, 1)
    assert 2 <= after["generated_tokens"] - before["generated_tokens"] < 1800


@pytest.mark.skipif(WINDOWS, reason="sends SIGINT as a POSIX terminal does")
def test_ctrl_c_ends_the_server_and_what_it_does(server: tuple[subprocess.Popen[str], int]) -> None:
    process, port = server
    texts = metrics(port)["requests"]
    with closing(ask(port, 900)) as response, socket.create_connection(("127.0.0.1", port)):  # one that says nothing
        assert response.readline()
        process.send_signal(signal.SIGINT)
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):  # cut off, and no whole text
            response.read()
        _, said = process.communicate(timeout=30)
    assert process.returncode == 0
    assert re.fullmatch(rf"stopped after ({texts}|{texts + 1}) texts\n", said), said
