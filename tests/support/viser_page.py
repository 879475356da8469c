"""A server as its users start it, and hands for the controls of its page."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from support.chromium import Tab
from support.patience import wait_for

_FIND = """(() => {
  const labels = [...document.querySelectorAll('label')].filter(l => l.innerText.trim() === %s);
  const label = labels[%d];
  const row = label && label.parentElement.parentElement.parentElement;
  const e = label && (document.getElementById(label.htmlFor) || row);
  return e && (%s)(e, row);
})()"""
_TYPE = """(e, row) => {
  const i = [...row.querySelectorAll('input')].filter(i => i.type !== 'hidden')[%d];
  if (!i) return false;
  i.focus();
  Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').set.call(i, %s);
  i.dispatchEvent(new Event('input', { bubbles: true }));
  i.blur();
  return true;
}"""
# A list opens on a click, closes on another, and may take a moment to do either.
_CHOOSE = """(e) => {
  if (e.value === %s && e.getAttribute('aria-expanded') !== 'true') return true;
  if (e.getAttribute('aria-expanded') !== 'true') { e.click(); return false; }
  const list = document.getElementById(e.getAttribute('aria-controls'));
  const option = list && [...list.querySelectorAll('[role=option]')].find(o => o.textContent.trim() === %s);
  if (option) option.click();
  return false;
}"""


_CHECK = "(e) => { if (e.checked !== %s) e.click(); return e.checked === %s; }"
_VALUE = "(e, row) => [...row.querySelectorAll('input')].filter(i => i.type !== 'hidden')[%d]?.value"
_NO_NOTICES = "document.querySelectorAll('[class*=Notification-root]').forEach(n => n.style.display = 'none')"


@contextmanager
def served(*arguments: str | Path) -> Iterator[tuple[str, subprocess.Popen]]:
    """``splat`` with ``arguments``; yields the address that it prints, and the process."""
    process = subprocess.Popen(
        [sys.executable, "-m", "splat", *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        # A test run in the background of a shell ignores Ctrl-C, and so would the server.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        url = next((word for line in process.stdout for word in line.split() if word.startswith("http://")), None)
        assert url, "no address was printed"
        yield url, process
    finally:
        process.kill()
        process.wait()


def enter(tab: Tab, label: str, text: object, nth: int = 0, field: int = 0) -> None:
    """Type into the field (of several: number ``field``) of the ``nth`` control named ``label``."""
    script = _FIND % (json.dumps(label), nth, _TYPE % (field, json.dumps(str(text))))
    wait_for(lambda: tab.evaluate(script), what=f"the control '{label}'")
    tab.settle()


def choose(tab: Tab, label: str, option: str, nth: int = 0) -> None:
    """Choose from a list."""
    words = json.dumps(option, ensure_ascii=False)
    script = _FIND % (json.dumps(label), nth, _CHOOSE % (words, words))
    wait_for(lambda: tab.evaluate(script), what=f"'{option}' in the list '{label}'")


def tick(tab: Tab, label: str, on: bool) -> None:
    """Switch a check box on or off."""
    state = json.dumps(on)
    wait_for(lambda: tab.evaluate(_FIND % (json.dumps(label), 0, _CHECK % (state, state))), what=f"the box '{label}'")
    tab.settle()


class Controls:
    """The controls of a page; remembers what they said before it changed them, and what was done last."""

    def __init__(self, tab: Tab) -> None:
        self.tab = tab
        self.last = "opening the page"
        self._before: list[Callable[[], None]] = []

    def enter(self, label: str, text: object, nth: int = 0, field: int = 0) -> None:
        """As `enter`."""
        script = _FIND % (json.dumps(label), nth, _VALUE % field)
        wait_for(lambda: self.tab.evaluate(script) is not None, what=f"the control '{label}'")
        before = self.tab.evaluate(script)
        self._before.append(lambda: enter(self.tab, label, before, nth, field))
        self.last = f"'{label}' = {text}"
        enter(self.tab, label, text, nth, field)

    def choose(self, label: str, option: str, nth: int = 0) -> None:
        """As `choose`."""
        script = _FIND % (json.dumps(label), nth, "(e) => e.value")
        wait_for(lambda: self.tab.evaluate(script), what=f"the list '{label}'")
        before = self.tab.evaluate(script)
        self._before.append(lambda: choose(self.tab, label, before, nth))
        self.last = f"'{label}' = {option}"
        choose(self.tab, label, option, nth)

    def tick(self, label: str, on: bool) -> None:
        """As `tick`."""
        self._before.append(lambda: tick(self.tab, label, not on))
        self.last = f"'{label}' {'on' if on else 'off'}"
        tick(self.tab, label, on)

    def click(self, text: str, after: str | None = None) -> None:
        """Press a button; ``after``: the button that `restore` presses for it."""
        if after is not None:
            self._before.append(lambda: self.tab.click(after))
        self.last = f"the button '{text}'"
        self.tab.click(text)

    def shows(self, expected: np.ndarray, limit: float = 4.0) -> None:
        """As `shows`; an error names what was done last."""
        try:
            shows(self.tab, expected, limit)
        except AssertionError as error:
            raise AssertionError(f"after {self.last}: {error}") from None

    def says(self, text: str) -> None:
        """Wait until the page says ``text``."""
        wait_for(lambda: text in self.tab.text, what=f"'{text}' after {self.last}")

    def wrote(self, file: Path) -> Path:
        """``file``, once it is there."""
        wait_for(file.exists, what=f"{file.name} after {self.last}")
        return file

    def restore(self) -> None:
        """Put everything back, the last first."""
        while self._before:
            self._before.pop()()


def unfold(tab: Tab, folder: str) -> None:
    """Open a folder of controls."""
    script = (
        "(() => { const e = [...document.querySelectorAll('div, p, span')].find(e => !e.children.length"
        " && e.textContent.trim() === %s || e.firstChild?.nodeType === 3 && e.firstChild.data.trim() === %s);"
        " if (e) e.click(); return !!e; })()"
    )
    wait_for(lambda: tab.evaluate(script % (json.dumps(folder), json.dumps(folder))), what=f"the folder '{folder}'")


def shows(tab: Tab, expected: np.ndarray, limit: float = 4.0) -> None:
    """Wait until the page shows ``expected``, where neither panels nor notices cover it."""
    last = []

    def same() -> bool:
        tab.evaluate(_NO_NOTICES)
        shot = tab.picture()
        if shot.shape == expected.shape:
            last.append(np.abs(_free(shot) - _free(expected)).mean())
        if folder := os.environ.get("VIEWER_SHOTS"):
            Image.fromarray(shot).save(Path(folder) / "page.png")
            Image.fromarray(expected).save(Path(folder) / "expected.png")
        return bool(last) and last[-1] < limit

    try:
        wait_for(same)
    except AssertionError:
        raise AssertionError(f"mean differences to the expected picture: {last[-3:]}") from None


def _free(shot: np.ndarray) -> np.ndarray:
    return shot[60:360, 20:420].astype(float)
