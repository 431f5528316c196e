"""Perplexity and divergence, held against Hugging Face's loop and against numpy in float64."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ovgen
from ovgen.errors import ConfigError, RequestError
from ovgen.quality import Perplexity, compare, perplexity
from ovgen.runtime.forms import Form
from tests.tiny_models import make

EXACT = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32"}
GOLDEN = json.loads((Path(__file__).parent / "golden" / "perplexity.json").read_text("utf-8"))["records"]
TEXT = "One day, a fox went into the garden. She saw a café and a red ball."


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ovgen.LLM]:
    folder = tmp_path_factory.mktemp("models")
    return {variant: ovgen.LLM(make(variant, folder / variant), device_config=EXACT) for variant in ("llama", "gpt2")}


@pytest.fixture(scope="module")
def story() -> ovgen.LLM:
    return ovgen.LLM(ovgen.bundled_model(), device_config=EXACT)


@pytest.mark.parametrize("record", GOLDEN, ids=lambda r: f"{r['variant']}-{r['window']}-{r['stride']}")
def test_equal_to_hugging_face(models: dict[str, ovgen.LLM], record: dict[str, Any]) -> None:
    found = perplexity(models[record["variant"]], record["ids"], window=record["window"], stride=record["stride"])
    assert found.tokens == len(record["ids"]) - 1
    assert found.nats == pytest.approx(record["nats"], abs=1e-5)
    assert found.text_bytes is None
    assert found.bits_per_byte is None


@pytest.mark.parametrize("form", ["stateful", "static"])
def test_equal_in_all_forms(models: dict[str, ovgen.LLM], form: Form) -> None:
    record = GOLDEN[0]
    llm = ovgen.LLM(models[record["variant"]].path, form=form, device_config=EXACT)
    found = perplexity(llm, record["ids"], window=record["window"], stride=record["stride"])
    assert found.nats == pytest.approx(record["nats"], abs=1e-5)


def nats_by_hand(llm: ovgen.LLM, ids: list[int], window: int, stride: int) -> list[float]:
    """Each window computed at once, in float64."""
    losses: list[float] = []
    begin = 0
    while len(losses) + 1 < len(ids):
        part = ids[begin : begin + window]
        with llm.session() as session:
            logits = session.forward(part).astype(np.float64)
        for position in range(1 + len(losses) - begin, len(part)):
            row = logits[position - 1]
            losses.append(float(np.log(np.exp(row).sum()) - row[part[position]]))
        begin += stride
    return losses


@pytest.mark.parametrize(
    ("length", "window", "stride"), [(2, 2, 1), (2, 8, 4), (8, 8, 4), (9, 8, 4), (9, 8, 7), (20, 8, 3), (13, 8, 4)]
)
def test_edges_of_windows(models: dict[str, ovgen.LLM], length: int, window: int, stride: int) -> None:
    ids = [(5 * i * i + 11) % 290 + 3 for i in range(length)]
    found = perplexity(models["gpt2"], ids, window=window, stride=stride)
    losses = nats_by_hand(models["gpt2"], ids, window, stride)
    assert found.tokens == len(losses) == length - 1
    assert found.nats == pytest.approx(np.mean(losses), abs=1e-5)
    if length == 2:
        assert math.isnan(found.nats_error)
    else:
        assert found.nats_error == pytest.approx(np.std(losses, ddof=1) / math.sqrt(len(losses)), abs=1e-5)


def test_logits_asked_for_in_pieces(models: dict[str, ovgen.LLM], monkeypatch: pytest.MonkeyPatch) -> None:
    ids = GOLDEN[0]["ids"]
    whole = compare(models["llama"], models["llama"], ids, window=32)
    monkeypatch.setattr("ovgen.quality._AT_ONCE", 7 * models["llama"].engine.runner.vocab_size)
    monkeypatch.setattr("ovgen.quality._FLOAT64", 2 * models["llama"].engine.runner.vocab_size)
    pieces = compare(models["llama"], models["llama"], ids, window=32)
    assert pieces.this.nats == pytest.approx(whole.this.nats, abs=1e-6)
    assert pieces.this.tokens == whole.this.tokens


def test_divergence_by_hand(models: dict[str, ovgen.LLM]) -> None:
    ids = GOLDEN[0]["ids"][:20]
    one = models["llama"]
    two = ovgen.LLM(one.path, weights="int8", kernels="off", device_config=EXACT)
    found = compare(one, two, ids, window=20)
    logs = []
    for llm in (one, two):
        with llm.session() as session:
            rows = session.forward(ids[:-1]).astype(np.float64)
        logs.append(rows - np.log(np.exp(rows).sum(-1, keepdims=True)))
    ours, theirs = logs
    divergences = (np.exp(theirs) * (theirs - ours)).sum(-1)
    assert found.divergence == pytest.approx(divergences.mean(), rel=1e-3)
    assert found.divergence_median == pytest.approx(np.median(divergences), rel=1e-3)
    assert found.divergence_99 == pytest.approx(np.quantile(divergences, 0.99), rel=1e-3)
    assert found.divergence_max == pytest.approx(divergences.max(), rel=1e-3)
    assert found.divergence_max > found.divergence > 0
    chosen = [log[np.arange(19), ids[1:]] for log in logs]
    assert found.ratio == pytest.approx(math.exp((chosen[1] - chosen[0]).mean()), abs=1e-6)
    spread = np.std(chosen[1] - chosen[0], ddof=1) / math.sqrt(19)
    assert found.ratio_error == pytest.approx(found.ratio * spread, rel=1e-2)
    assert found.same_top == pytest.approx(np.mean(ours.argmax(-1) == theirs.argmax(-1)))


def test_a_model_does_not_differ_from_itself(story: ovgen.LLM) -> None:
    found = compare(story, story, TEXT)
    assert found.ratio == 1
    assert found.divergence_max == pytest.approx(0, abs=1e-9)
    assert (found.same_top, found.same_top_error) == (1, 0)
    assert found.this == found.other


def test_bits_per_byte(story: ovgen.LLM) -> None:
    found = perplexity(story, TEXT)
    assert story.tokenizer is not None
    ids = story.tokenizer.encode(TEXT)
    assert ids[0] == story.tokenizer.bos_token_id  # which is no part of the text
    assert found.tokens == len(ids) - 1
    assert found.text_bytes == len(TEXT) + 1  # the accent takes two bytes
    assert found.bits_per_byte == pytest.approx(found.nats / math.log(2) * found.tokens / (len(TEXT) + 1))
    by_hand = Perplexity(10, 20, math.log(4), 0.5, 8, 4)
    assert by_hand.bits_per_byte == pytest.approx(1)  # two bits for each of ten tokens, over twenty bytes
    assert by_hand.perplexity == pytest.approx(4)
    assert by_hand.perplexity_error == pytest.approx(2)


def test_a_story_is_likelier_than_its_words_backwards(story: ovgen.LLM) -> None:
    told = perplexity(story, TEXT).perplexity
    assert perplexity(story, " ".join(reversed(TEXT.split()))).perplexity > 2 * told


def test_nothing_stays_in_the_cache(story: ovgen.LLM) -> None:
    with pytest.raises(RequestError):
        perplexity(story, [1, 2, 10**9])
    perplexity(story, TEXT, window=8)
    assert story.engine.pool.used == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 1}, "window must be from 2 to the 1024 tokens"),
        ({"window": 1025}, "got 1025"),
        ({"window": 8, "stride": 8}, "stride must be from 1 to 7, less than the window"),
        ({"stride": 0}, "got 0"),
    ],
)
def test_windows_that_cannot_be(story: ovgen.LLM, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        perplexity(story, TEXT, **options)


def test_texts_that_cannot_be_measured(story: ovgen.LLM, models: dict[str, ovgen.LLM]) -> None:
    with pytest.raises(RequestError, match="no tokens: nothing can be predicted"):
        perplexity(story, [])
    with pytest.raises(RequestError, match="one token: nothing can be predicted"):
        perplexity(story, [5])
    with pytest.raises(RequestError, match=r"has no tokenizer: put its tokenizer\.json there"):
        perplexity(models["llama"], TEXT)
    with pytest.raises(RequestError, match=r"vocabularies of 4096 and \d+ tokens"):
        compare(story, models["llama"], [5, 6, 7])
