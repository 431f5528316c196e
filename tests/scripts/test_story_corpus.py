import random
import re
import sys
from itertools import islice
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

import story_corpus as stories

MARKS = re.compile(r"<\|(?:bos|eos|user|assistant)\|>")


@pytest.fixture(scope="module")
def told() -> list[stories.Story]:
    rng = random.Random(11)
    return [stories.tell(rng) for _ in range(600)]


@pytest.fixture(scope="module")
def chats() -> list[list[stories.Message]]:
    rng = random.Random(12)
    return [stories.chat(rng) for _ in range(300)]


def test_the_same_seed_gives_the_same_documents_and_another_seed_others() -> None:
    assert stories.corpus(3, 40) == stories.corpus(3, 40)
    assert stories.corpus(3, 40) != stories.corpus(4, 40)
    assert stories.corpus(3, 40)[:10] == stories.corpus(3, 10)


def test_every_wording_of_every_plot_can_be_filled() -> None:
    for plot in stories.PLOTS:
        rng = random.Random(plot.name)
        teller = stories.Teller(rng, stories.cast(rng, plot))
        wordings = [wording for beat in plot.beats for wording in beat]
        for template in (*wordings, *plot.asks, *plot.lessons, *sum(plot.questions, ())):
            assert not re.search(r"[{}\[\]|]", teller.fill(template)), template


def test_no_braces_brackets_or_marks_are_left_in_a_story(told: list[stories.Story]) -> None:
    for story in told:
        assert not re.search(r"[{}\[\]|<>@#?]{2}|[{}\[\]|<>@#]|---", story.text), story.text


def test_there_are_many_plots_with_several_wordings_each() -> None:
    assert len(stories.PLOTS) >= 15
    assert len({plot.name for plot in stories.PLOTS}) == len(stories.PLOTS)
    for plot in stories.PLOTS:
        told_beats = [beat for beat in plot.beats if beat != ("---",)]
        assert len(told_beats) >= 7, plot.name
        assert sum(len(beat) >= 2 for beat in told_beats) >= len(told_beats) - 1, plot.name
        assert len(plot.asks) >= 2, plot.name
        assert len(plot.lessons) >= 3, plot.name
        assert len(plot.questions) >= 2, plot.name


def test_articles_fit_the_words_that_follow(told: list[stories.Story]) -> None:
    text = "\n".join(story.text for story in told)
    assert set(re.findall(r"\b[Aa] ([aeiou]\w+)", text)) <= {"unicorn"}
    wrong = re.findall(r"\b[Aa]n ((?:[^aeiouAEIOU\W]|uni|use|one)\w*)", text)
    assert set(wrong) <= {"honest", "hour", "hourglass"}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a owl", "an owl"),
        ("A elephant and a honest fox", "An elephant and an honest fox"),
        ("a unicorn with a hat", "a unicorn with a hat"),
        ("a used umbrella, a hourglass", "a used umbrella, an hourglass"),
        ("Emma ate", "Emma ate"),
    ],
)
def test_with_articles(before: str, after: str) -> None:
    assert stories.with_articles(before) == after


@pytest.mark.parametrize(
    ("one", "many"),
    [
        ("fox", "foxes"),
        ("butterfly", "butterflies"),
        ("monkey", "monkeys"),
        ("goose", "geese"),
        ("wolf cub", "wolf cubs"),
        ("slice of cake", "slices of cake"),
        ("rocking horse", "rocking horses"),
    ],
)
def test_plural(one: str, many: str) -> None:
    assert stories.plural(one) == many


def test_the_hero_is_there_throughout_and_the_friend_comes_in(told: list[stories.Story]) -> None:
    for story in told:
        hero, friend = story.teller.fixed["hero"], story.teller.fixed["friend"]
        assert hero in story.text.split("\n\n")[0]
        assert story.text.count(hero) >= 2, story.text
        assert friend != hero
    assert sum(story.text.count(story.teller.fixed["hero"]) for story in told) > 6 * len(told)
    to_the_end = sum(story.teller.fixed["hero"] in story.text[len(story.text) // 2 :] for story in told)
    assert to_the_end > 0.97 * len(told)
    named = sum(story.teller.fixed["friend"] in story.text for story in told)
    assert named > 0.97 * len(told)


def test_pronouns_agree_with_the_cast() -> None:
    rng = random.Random(5)
    for _ in range(100):
        fixed = stories.cast(rng, stories.PLOTS[0])
        for prefix in ("", "f", "e"):
            three = tuple(fixed[prefix + word] for word in ("he", "him", "his"))
            assert three in {("he", "him", "his"), ("she", "her", "her")}
        assert fixed["himself"].startswith(fixed["him"])


def test_sentences_are_well_formed(told: list[stories.Story]) -> None:
    for story in told:
        assert not re.search(r" {2}| [,.!?]|[,.!?][,.]|\n{3}|\b(?:a|the) (?:a|the)\b", story.text), story.text
        for paragraph in story.text.split("\n\n"):
            assert re.match(r'["A-Z]', paragraph), paragraph
            assert re.search(r'[.!?]"?$', paragraph), paragraph
            assert paragraph.count('"') % 2 == 0, paragraph


def test_stories_are_short_and_all_different(told: list[stories.Story]) -> None:
    lengths = sorted(len(story.text.split()) for story in told)
    assert lengths[0] >= 70
    assert lengths[-1] <= 280
    assert len({story.text for story in told}) == len(told)
    assert len({story.text[:120] for story in told}) > 0.97 * len(told)


def test_held_out_stories_repeat_few_paragraphs_of_the_training_stories() -> None:
    def paragraphs(seed: int) -> set[str]:
        rng = random.Random(seed)
        return {part for _ in range(400) for part in stories.tell(rng).text.split("\n\n") if len(part.split()) > 20}

    training, held_out = paragraphs(1), paragraphs(1_000_004)
    assert len(training & held_out) < 0.005 * len(held_out)


def test_the_vocabulary_is_rich() -> None:
    words = set(re.findall(r"[a-z]+", " ".join(stories.corpus(2, 1200)).lower()))
    assert len(words) > 2500


def test_about_a_quarter_of_the_documents_are_chats() -> None:
    documents = list(islice(stories.documents(9), 1000))
    assert 200 < sum(isinstance(document, list) for document in documents) < 300
    assert all(isinstance(document, str) for document in islice(stories.documents(9, chats=0), 50))


def test_chats_take_turns_and_hold_a_story(chats: list[list[stories.Message]]) -> None:
    for chat in chats:
        assert [message["role"] for message in chat] == ["user", "assistant"] * (len(chat) // 2)
        assert all(message["content"] == message["content"].strip() != "" for message in chat)
        assert max(len(message["content"].split()) for message in chat if message["role"] == "assistant") >= 70
        assert not any(re.search(r"[{}\[\]|<>]", message["content"]) for message in chat)


def test_a_story_is_about_the_name_that_was_asked_for(chats: list[list[stories.Message]]) -> None:
    asked = 0
    for chat in chats:
        for request, answer in zip(chat[::2], chat[1::2], strict=True):
            if match := re.search(r"(?:named|called) ([A-Z]\w+)", request["content"]):
                asked += 1
                assert match[1] in answer["content"].split("\n\n")[0]
    assert asked > 30


def test_rendering_marks_every_turn(chats: list[list[stories.Message]]) -> None:
    assert stories.render("One day.") == "<|bos|>One day.<|eos|>"
    chat = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello!"}]
    assert stories.render(chat) == "<|bos|><|user|>Hi.<|assistant|>Hello!<|eos|>"
    turn = ["<|user|>", "<|assistant|>", "<|eos|>"]
    for chat in chats:
        assert MARKS.findall(stories.render(chat)) == ["<|bos|>", *turn * (len(chat) // 2)]
