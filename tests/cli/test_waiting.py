"""The spinner of long work: on a terminal and after a moment only, and gone when the work is over."""

import io
import sys
import time
from collections.abc import Callable

import pytest
from support.patience import wait_for

from splat.cli import spinner


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(work: Callable[[], object], screen: io.StringIO, monkeypatch, patience: float = 0.05) -> str:
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(spinner, "PATIENCE", patience)
    with spinner.waiting("reading [a].ply"):
        work()
    return screen.getvalue()


def test_long_work_is_shown_on_a_terminal_and_erased(monkeypatch):
    screen = Screen()
    text = shown(lambda: wait_for(screen.getvalue), screen, monkeypatch)
    assert "reading [a].ply" in text and text.endswith("\x1b[2K")


def test_quick_work_and_files_see_nothing(monkeypatch):
    assert shown(lambda: None, Screen(), monkeypatch, patience=3600) == ""
    assert shown(lambda: time.sleep(0.3), io.StringIO(), monkeypatch) == ""


def test_an_error_ends_it(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Screen())
    with pytest.raises(ValueError), spinner.waiting("x"):
        raise ValueError
