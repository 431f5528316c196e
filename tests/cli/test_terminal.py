from __future__ import annotations

import io
import sys
import time

import pytest

from ovgen.cli.terminal import status


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_long_work_shows_a_clock_that_is_gone_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with status("Loading x"):
        time.sleep(0.6)
    shown = terminal.getvalue().split("\r")
    assert shown[1].startswith("Loading x ... 0.")
    assert (shown[-2].strip(), shown[-1]) == ("", "")
    assert len(shown[-2]) == len(shown[-3])


def test_short_work_and_programs_see_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream, seconds in ((Terminal(), 0.0), (io.StringIO(), 0.5)):
        monkeypatch.setattr(sys, "stderr", stream)
        with status("Loading x"):
            time.sleep(seconds)
        assert stream.getvalue() == ""
