"""Stop strings against a search of the whole text."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovgen.sampling import StopStrings


def search(text: str, stops: list[str], include: bool) -> tuple[str, bool]:
    """The text up to the stop string that is complete first, the longest of those that end there."""
    for end in range(1, len(text) + 1):
        ending = [stop for stop in stops if text[:end].endswith(stop)]
        if ending:
            return text[: end if include else end - max(map(len, ending))], True
    return text, False


def held_back(text: str, stops: list[str]) -> int:
    """Length of the longest end of ``text`` that may become a stop string."""
    beginnings = {stop[:size] for stop in stops for size in range(1, len(stop))}
    return max((len(text) - i for i in range(len(text)) if text[i:] in beginnings), default=0)


def feed_all(watcher: StopStrings, pieces: list[str]) -> tuple[str, bool]:
    shown = ""
    for piece in pieces:
        text, hit = watcher.feed(piece)
        shown += text
        if hit:
            return shown, True
    return shown + watcher.flush(), False


_text = st.text("abc", max_size=4)
_stops = st.lists(st.text("abc", min_size=1, max_size=5), min_size=1, max_size=4)


@settings(max_examples=500, deadline=None)
@given(st.lists(_text, max_size=12), _stops, st.booleans())
def test_any_cutting_gives_what_a_search_of_the_whole_gives(pieces: list[str], stops: list[str], include: bool) -> None:
    expected = search("".join(pieces), stops, include)
    assert feed_all(StopStrings(stops, include), pieces) == expected
    assert feed_all(StopStrings(stops, include), list("".join(pieces))) == expected
    assert feed_all(StopStrings(stops, include), ["".join(pieces)]) == expected


@settings(max_examples=300, deadline=None)
@given(st.lists(_text, max_size=12), _stops)
def test_no_more_is_held_back_than_may_become_a_stop_string(pieces: list[str], stops: list[str]) -> None:
    watcher = StopStrings(stops, include=False)
    fed = shown = ""
    for piece in pieces:
        fed += piece
        if search(fed, stops, include=False)[1]:
            break
        text, hit = watcher.feed(piece)
        shown += text
        assert not hit
        assert shown == fed[: len(fed) - held_back(fed, stops)]


def test_overlapping_beginnings() -> None:
    watcher = StopStrings(["aab"], include=False)
    assert [watcher.feed(character) for character in "aaab"] == [
        ("", False),
        ("", False),
        ("a", False),  # the first of three cannot belong to it
        ("", True),
    ]


@pytest.mark.parametrize(("include", "expected"), [(False, "one "), (True, "one END")])
def test_a_stop_string_across_pieces(include: bool, expected: str) -> None:
    assert feed_all(StopStrings(["END"], include), ["one E", "N", "D two"]) == (expected, True)


def test_nothing_comes_after_a_hit() -> None:
    watcher = StopStrings(["x"], include=False)
    assert watcher.feed("axb") == ("a", True)
    assert watcher.feed("c") == ("", True)
    assert watcher.flush() == ""


def test_the_stop_string_complete_first_wins_and_the_longest_at_a_tie() -> None:
    assert StopStrings(["abcd", "b"], include=False).feed("abcd") == ("a", True)
    assert StopStrings(["b", "ab"], include=False).feed("xab") == ("x", True)
    assert StopStrings(["ab", "b"], include=True).feed("xabc") == ("xab", True)


def test_flush_gives_out_what_was_held_and_starts_anew() -> None:
    watcher = StopStrings(["abc"], include=False)
    assert watcher.feed("xab") == ("x", False)
    assert watcher.flush() == "ab"
    assert watcher.flush() == ""
    assert watcher.feed("c") == ("c", False)


def test_without_stops_text_passes_through() -> None:
    watcher = StopStrings([], include=False)
    text = "any text"
    shown, hit = watcher.feed(text)
    assert shown is text
    assert not hit
    assert watcher.flush() == ""


def test_beyond_ascii() -> None:
    assert feed_all(StopStrings(["終わり"], include=False), ["物語の終", "わ", "り。"]) == ("物語の", True)
