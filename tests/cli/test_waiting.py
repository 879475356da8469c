"""The spinner of long work: on a terminal and after a moment only, and gone when the work is over."""

import io
import sys
import time

import pytest

from splat.cli import spinner


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(seconds: float, screen: io.StringIO, monkeypatch) -> str:
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(spinner, "PATIENCE", 0.05)
    with spinner.waiting("reading [a].ply"):
        time.sleep(seconds)
    return screen.getvalue()


def test_long_work_is_shown_on_a_terminal_and_erased(monkeypatch):
    text = shown(0.8, Screen(), monkeypatch)
    assert "reading [a].ply" in text and text.endswith("\x1b[2K")


def test_quick_work_and_files_see_nothing(monkeypatch):
    assert shown(0.0, Screen(), monkeypatch) == ""
    assert shown(0.3, io.StringIO(), monkeypatch) == ""


def test_an_error_ends_it(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Screen())
    with pytest.raises(ValueError), spinner.waiting("x"):
        raise ValueError
