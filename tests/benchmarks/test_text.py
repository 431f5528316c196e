"""What text costs the host: a token on its way out, a prompt on its way in, a conversation.

``pytest tests/benchmarks/test_text.py --benchmark-only --benchmark-columns=median,iqr``
"""

from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from ovgen.text import ChatTemplate, Detokenizer, Tokenizer
from ovgen.text.fast import FastTokenizer, from_tokenizer_json
from ovgen.text.settings import TokenizerSettings
from tests.shared_data import SHARED
from tests.text import toys
from tests.text.test_chat import TEMPLATE

TOKENS = 1000
CHAT = [{"role": role, "content": toys.TEXT} for _ in range(5) for role in ("user", "assistant")]


@pytest.fixture(scope="module")
def tokenizer() -> FastTokenizer:
    """GPT-2's where it is at hand, since a real vocabulary misses the processor's caches; else a small one."""
    path = SHARED / "tokenizers" / "gpt2" / "tokenizer.json"
    return from_tokenizer_json(path, TokenizerSettings()) if path.is_file() else toys.byte_level()


@pytest.fixture(scope="module", params=["tokenizer.json", "OpenVINO", "OpenVINO, inferring", "other decoders"])
def route(
    request: pytest.FixtureRequest, tokenizer: FastTokenizer, tmp_path_factory: pytest.TempPathFactory
) -> Tokenizer:
    """The same tokenizer, its tokens' bytes known, or to be decoded in windows."""
    if request.param.startswith("OpenVINO"):
        inferring = request.param.endswith("inferring")
        return toys.ir(tmp_path_factory.mktemp("ir"), tokenizer, inferring=inferring)
    if request.param == "other decoders":
        return toys.Doubled(tokenizer.backend.decode)
    return tokenizer


def prompt(size: int) -> str:
    """Prose of some characters."""
    return (toys.TEXT * (size // len(toys.TEXT) + 1))[:size]


def test_detokenize_a_thousand_tokens_one_by_one(
    benchmark: BenchmarkFixture, tokenizer: FastTokenizer, route: Tokenizer
) -> None:
    ids = tokenizer.encode(prompt(10_000))[:TOKENS]

    def stream() -> str:
        detokenizer = Detokenizer(route)
        return "".join([detokenizer.push((token,)) for token in ids]) + detokenizer.flush()

    assert benchmark(stream) == route.decode(ids)


def test_begin_to_detokenize(benchmark: BenchmarkFixture, tokenizer: FastTokenizer) -> None:
    """What each request pays before its first token."""
    assert benchmark(Detokenizer, tokenizer).push([]) == ""


@pytest.mark.parametrize("size", [1_000, 50_000])
def test_encode(benchmark: BenchmarkFixture, tokenizer: FastTokenizer, size: int) -> None:
    text = prompt(size)
    assert tokenizer.decode(benchmark(tokenizer.encode, text)) == text


def test_encode_1_kb_by_openvino(benchmark: BenchmarkFixture, tokenizer: FastTokenizer, tmp_path: Path) -> None:
    compiled = toys.ir(tmp_path, tokenizer)
    assert benchmark(compiled.encode, prompt(1_000)) == tokenizer.encode(prompt(1_000))


def test_decode_a_thousand_tokens(benchmark: BenchmarkFixture, tokenizer: FastTokenizer) -> None:
    ids = tokenizer.encode(prompt(10_000))[:TOKENS]
    assert benchmark(tokenizer.decode, ids) == tokenizer.backend.decode(ids)


def test_render_a_chat(benchmark: BenchmarkFixture) -> None:
    template = ChatTemplate(TEMPLATE, {"bos_token": "<s>"})
    assert benchmark(template.render, CHAT).count("</assistant>") == 5


def test_compile_a_chat_template(benchmark: BenchmarkFixture) -> None:
    assert benchmark(lambda: ChatTemplate(TEMPLATE, {"bos_token": ""}).render(CHAT[:1])).startswith("<user>")


def test_load_tokenizer_json(benchmark: BenchmarkFixture, tokenizer: FastTokenizer, tmp_path: Path) -> None:
    tokenizer.backend.save(str(tmp_path / "tokenizer.json"))
    loaded = benchmark(from_tokenizer_json, tmp_path / "tokenizer.json", TokenizerSettings())
    assert loaded.vocab_size == tokenizer.vocab_size
