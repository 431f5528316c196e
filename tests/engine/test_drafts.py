"""Guesses from the text itself, what a guess costs, and when it pays."""

import random
from collections.abc import Callable, Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovgen.config import SamplingParams
from ovgen.engine.drafts import Drafts, Pace, PromptLookup, best_length, price
from ovgen.engine.request import NoText, Request, make_request
from ovgen.loader import load
from ovgen.resources import bundled_model

# Prompt lookup


def guess(text: Sequence[int], count: int, largest: int = 3) -> list[int]:
    lookup = PromptLookup(largest)
    lookup.follow(text)
    size, place = lookup.find()
    return lookup.copy(place, count) if size else []


def scanned(text: Sequence[int], largest: int) -> tuple[int, int]:
    """What `PromptLookup.find` gives, by looking through the whole text."""
    for size in range(min(largest, len(text)), 0, -1):
        for end in range(len(text) - 1, size - 1, -1):
            if text[end - size : end] == text[len(text) - size :]:
                return size, end
    return 0, 0


def test_what_followed_the_end_of_the_text_before_is_guessed() -> None:
    assert guess([1, 2, 3, 4, 5, 6, 9, 1, 2, 3], 3) == [4, 5, 6]


def test_a_longer_end_wins_over_a_later_place() -> None:
    assert guess([1, 2, 3, 7, 0, 3, 8, 1, 2, 3], 1) == [7]
    assert guess([1, 2, 3, 7, 0, 3, 8, 1, 2, 3], 1, largest=1) == [8]


def test_of_equal_ends_the_latest_place_wins() -> None:
    assert guess([1, 2, 7, 0, 1, 2, 8, 0, 1, 2], 1) == [8]


def test_nothing_is_guessed_where_nothing_repeats() -> None:
    assert guess([1, 2, 3, 4], 3) == []
    assert guess([5], 3) == []
    assert guess([], 3) == []


def test_a_text_that_repeats_itself_goes_on_repeating() -> None:
    assert guess([1, 2, 3, 1, 2, 3, 1], 8) == [2, 3, 1, 2, 3, 1, 2, 3]
    assert guess([9, 4, 4], 5) == [4, 4, 4, 4, 4]


@given(text=st.lists(st.integers(0, 2), max_size=30), largest=st.integers(1, 4), cuts=st.lists(st.integers(0, 30)))
def test_what_is_found_is_what_a_scan_of_the_whole_text_finds(text: list[int], largest: int, cuts: list[int]) -> None:
    lookup = PromptLookup(largest)
    for length in [*sorted(cuts), len(text)]:
        lookup.follow(text[:length])
    assert lookup.find() == scanned(text, largest)


@given(
    texts=st.lists(st.lists(st.integers(0, 2), max_size=12), min_size=1, max_size=4),
    kept=st.integers(0, 12),
)
def test_a_text_that_lost_tokens_is_read_again(texts: list[list[int]], kept: int) -> None:
    lookup = PromptLookup(3)
    text: list[int] = []
    for more in texts:
        lookup.follow(text + more)
        text = (text + more)[:kept]
    lookup.follow(text)
    assert lookup.find() == scanned(text, 3)


# The length


def test_a_guess_costs_little_alone_and_much_in_a_crowd() -> None:
    assert [price(batch) for batch in (1, 4, 16)] == [0.2, 0.5, 0.8]


@pytest.mark.parametrize(
    ("rate", "cost", "length"),
    [(0, 0.1, 0), (0.1, 0.1, 0), (0.3, 0.1, 1), (0.8, 0.1, 6), (0.8, 0.5, 2), (0.99, 0.1, 10), (1, 0.9, 10), (1, 1, 0)],
)
def test_the_length_that_brings_most_tokens_in_a_time(rate: float, cost: float, length: int) -> None:
    assert best_length(rate, cost, 10) == length
    speed = [sum(rate**i for i in range(k + 1)) / (1 + k * cost) for k in range(11)]
    assert speed[length] == max(speed)


def play(right: Callable[[int], bool], cost: float, chances: int) -> tuple[float, list[int]]:
    """Tokens in a plain step's time, and the lengths of the drafts, if token ``i`` is guessed where ``right(i)``."""
    pace, lengths, tokens, time = Pace(), [], 0, 0.0
    for _ in range(chances):
        lengths.append(pace.length(1, cost, 10))
        accepted = 0
        while accepted < lengths[-1] and right(tokens + accepted):
            accepted += 1
        pace.landed(lengths[-1], accepted)
        tokens += accepted + 1
        time += 1 + cost * lengths[-1]
    return tokens / time, lengths


def test_drafts_grow_where_they_are_right() -> None:
    assert play(lambda i: True, 0.1, 6)[1] == [2, 4, 10, 10, 10, 10]


def test_drafts_shrink_to_none_where_they_are_wrong_and_are_tried_again_now_and_then() -> None:
    lengths = play(lambda i: False, 0.1, 40)[1]
    assert lengths == [2, 2, 1, 1, 1, 1] + ([0] * 10 + [1]) * 3 + [0]


def test_a_try_that_was_right_is_followed_by_another_at_once() -> None:
    assert play(lambda i: i >= 50, 0.9, 100)[1] == [1] + [0] * 90 + [1] * 9


@pytest.mark.parametrize("cost", [0.02, 0.06, 0.12, 0.2, 0.3, 0.5, 0.7, 0.9, 1.0])
def test_never_3_percent_slower_where_all_guesses_are_wrong(cost: float) -> None:
    assert play(lambda i: False, cost, 50)[0] > 0.97
    assert play(lambda i: False, cost, 1000)[0] > 0.985


@pytest.mark.parametrize("cost", [0.06, 0.12, 0.2])  # of one sequence: float32, a small model, int8
@pytest.mark.parametrize("rate", [0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.97])
def test_speed_is_near_that_of_the_best_length(cost: float, rate: float) -> None:
    rng = random.Random(0)
    best = max(sum(rate**i for i in range(k + 1)) / (1 + k * cost) for k in range(11))
    assert play(lambda i: rng.random() < rate, cost, 2000)[0] > 0.88 * best


@pytest.mark.parametrize(("cost", "speed"), [(0.06, 1.5), (0.12, 1.35), (0.2, 1.3), (0.5, 1.05), (1.0, 0.98)])
def test_stretches_that_repeat_pay_for_those_that_do_not(cost: float, speed: float) -> None:
    assert play(lambda i: i // 40 % 2 == 0, cost, 400)[0] > speed


def test_kinds_of_guesses_are_judged_apart() -> None:
    pace = Pace()
    for _ in range(20):
        pace.landed(pace.length(1, 0.1, 10), 0)
        count = pace.length(3, 0.1, 10)
        pace.landed(count, count)
    assert (pace.length(1, 0.1, 10), pace.length(3, 0.1, 10)) == (0, 10)


# All together


class Known:
    """A draft model that knows what comes."""

    def __init__(self, cost: float = 0.0) -> None:
        self.asked: list[dict[Request, int]] = []
        self.forgotten: list[Request] = []
        self.cost = cost

    def propose(self, wanted: Mapping[Request, int]) -> dict[Request, list[int]]:
        self.asked.append(dict(wanted))
        return {request: [7] * count for request, count in wanted.items()}

    def forget(self, request: Request) -> None:
        self.forgotten.append(request)


def make(prompt: Sequence[int], lookup: int = 0, model: int = 5) -> Request:
    params = SamplingParams(prompt_lookup_num_tokens=lookup, num_assistant_tokens=model)
    return make_request(prompt, params, NoText, 100, frozenset())


def test_a_draft_comes_from_the_text_if_it_can_and_else_from_the_model() -> None:
    model = Known()
    drafts = Drafts(model)
    repeating, other, both = make([1, 2, 3, 1, 2], lookup=5), make([1, 2, 3]), make([1, 2, 3], lookup=5)
    drafts.propose([repeating, other, both])
    assert [list(request.draft) for request in (repeating, other, both)] == [[3], [7], [7]]
    assert model.asked == [{other: 1, both: 1}]


def test_no_draft_without_a_wish_or_a_source() -> None:
    quiet, mute = make([1, 1, 1], model=0), make([1, 1, 1])
    Drafts(Known()).propose([quiet])
    Drafts().propose([mute])
    assert not quiet.draft
    assert not mute.draft


def test_a_draft_that_is_there_already_is_kept_and_says_nothing_about_guesses() -> None:
    drafts = Drafts()
    request = make([1, 1, 1], lookup=10)
    for _ in range(10):
        request.draft = [4, 4, 4]
        drafts.propose([request])
        assert request.draft == [4, 4, 4]
        drafts.landed(request, 3, 3)
    request.draft = ()
    drafts.propose([request])
    assert list(request.draft) == [1]  # as long as a first guess is


def right_lengths(drafts: Drafts, request: Request, others: Sequence[Request] = (), count: int = 5) -> list[int]:
    """How long the drafts of a request are while all of them are right."""
    lengths = []
    for _ in range(count):
        drafts.propose([request, *others])
        lengths.append(len(request.draft))
        drafts.landed(request, len(request.draft), len(request.draft))
        request.draft = ()
    return lengths


def test_what_was_accepted_decides_how_it_goes_on_and_ends_with_the_request() -> None:
    model = Known()
    drafts = Drafts(model)
    request = make([1, 2, 3], model=10)
    assert right_lengths(drafts, request) == [1, 2, 4, 9, 10]
    drafts.forget(request)
    assert model.forgotten == [request]
    assert right_lengths(drafts, request) == [1, 2, 4, 9, 10]


def test_a_draft_model_that_takes_long_makes_shorter_drafts() -> None:
    assert right_lengths(Drafts(Known(cost=0.3)), make([1, 2, 3], model=10)) == [1, 1, 1, 2, 3]


def test_in_a_large_batch_drafts_are_shorter() -> None:
    others = [make([1, 2, 3], model=0) for _ in range(15)]
    assert right_lengths(Drafts(Known()), make([1, 2, 3], model=10), others) == [1, 1, 1, 1, 1]


def test_a_draft_that_found_no_room_in_the_step_counts_for_nothing() -> None:
    drafts = Drafts(Known())
    request = make([1, 2, 3])
    for _ in range(5):
        drafts.propose([request])
        drafts.landed(request, 0, 0)
        assert len(request.draft) == 1
        request.draft = ()


# On texts


def replay(prompt: Sequence[int], output: Sequence[int], most: int = 10) -> tuple[float, float]:
    """Tokens a pass, and tokens in a plain step's time, by `price`, where ``output`` is what the model says."""
    drafts, request, passes, drafted = Drafts(), make(prompt, lookup=most), 0, 0
    tokens = request.sequence.tokens
    while (done := len(tokens) - len(prompt)) < len(output):
        drafts.propose([request])
        draft, ahead = list(request.draft), list(output[done:])
        right = 0
        while right < min(len(draft), len(ahead)) and draft[right] == ahead[right]:
            right += 1
        drafts.landed(request, len(draft), right)
        request.draft = ()
        tokens += ahead[: right + 1]
        passes += 1
        drafted += len(draft)
    return len(output) / passes, len(output) / (passes + price(1) * drafted)


def article() -> tuple[list[int], list[str]]:
    """A text of a thousand tokens, and its words."""
    text = (bundled_model().parent / "README.md").read_text("utf-8")
    return encode(text), text.split()


def encode(text: str) -> list[int]:
    tokenizer = load(bundled_model()).tokenizer
    assert tokenizer is not None
    return list(tokenizer.encode(text))


@pytest.mark.parametrize(("every", "tokens_a_pass", "speed"), [(10, 1.8, 1.3), (25, 2.5, 1.6), (10_000, 3, 1.8)])
def test_a_text_that_quotes_its_prompt_takes_few_passes(every: int, tokens_a_pass: float, speed: float) -> None:
    """The lines run together, and each so many words one is another."""
    prompt, words = article()
    changed = [word[::-1] if i % every == every - 1 else word for i, word in enumerate(words)]
    measured = replay(prompt, encode(" ".join(changed)))
    assert measured[0] > tokens_a_pass
    assert measured[1] > speed


def test_a_text_in_which_little_repeats_is_not_slowed_down() -> None:
    prompt, _ = article()
    assert replay(prompt[:50], prompt[50:])[1] > 1


@given(seed=st.integers(0, 1000), vocabulary=st.sampled_from([50, 500, 5000]))
def test_a_random_text_is_not_3_percent_slower(seed: int, vocabulary: int) -> None:
    rng = random.Random(seed)
    tokens = [rng.randrange(vocabulary) for _ in range(300)]
    assert replay(tokens[:100], tokens[100:])[1] > 0.97
