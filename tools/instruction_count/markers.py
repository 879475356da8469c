"""Puts numbered markers into CUDA sources: where a loop's body, a longer branch, or the code behind an early exit
begins.

For NVRTC a marker is ``pmevent.mask N``, which survives every optimisation as one instruction ``PMTRIG N`` and
is copied when a loop is unrolled; for the emulation it is a call (``cuda/emulation/marks.h``).
"""

import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path

HEADER = """#pragma once
#include "device.h"
#if defined(__CUDACC__)
#define MARK(number) asm volatile("pmevent.mask " #number ";")
#define MARK_LOOP(number) MARK(number)
#define MARK_CALL(number)
#else
#include "emulation/marks.h"
#define MARK(number) ::emulation::mark(number)
#define MARK_LOOP(number) ::emulation::Nested nested##number(number, true)
#define MARK_CALL(number) ::emulation::Nested nested##number(number, false)
#endif
"""
LIMIT = 512  # markers, as in cuda/emulation/marks.h
SHORT = 3  # statements of a branch that the compiler may turn into predicated instructions: no marker there
_JUMP = re.compile(r"\b(return|continue|break)\b")
_BLANK = re.compile(r"(?:\s|//[^\n]*|/\*.*?\*/|^[ \t]*#(?:[^\n\\]|\\\n|\\.)*\n)+", re.DOTALL | re.MULTILINE)
_WORD = re.compile(r"[A-Za-z_]\w*")


@dataclass
class _Marker:
    """Walks over one source text and collects what to insert where."""

    text: str
    next: int  # number of the next marker
    inserted: list[tuple[int, str]] = field(default_factory=list)

    def blank(self, at: int) -> int:
        found = _BLANK.match(self.text, at)
        return found.end() if found else at

    def word(self, at: int) -> str:
        found = _WORD.match(self.text, at)
        return found[0] if found else ""

    def close(self, at: int) -> int:
        """One past the bracket that closes the one at ``at``."""
        depth = 0
        while True:
            at = self.blank(at)
            depth += (self.text[at] in "([{") - (self.text[at] in ")]}")
            at += 1
            if depth == 0:
                return at

    def put(self, at: int, kind: str = "MARK", before: str = " ") -> None:
        self.inserted.append((at, f"{before}{kind}({self.next});"))
        self.next += 1

    def function(self, body: int) -> int:
        """One past a function's body; within it, a call counts as a place of its own."""
        before = len(self.inserted)
        end = self.block(body)
        if len(self.inserted) > before:
            self.put(body + 1, "MARK_CALL")
        return end

    def top(self) -> None:
        """All functions of the file."""
        at = 0
        while (at := self.blank(at)) < len(self.text):
            if self.text[at] == "(":
                at = self.close(at)
                body = self.blank(at)
                if self.word(body) == "const":
                    body = self.blank(body + 5)
                if self.text[body : body + 1] == "{":
                    at = self.function(body)
            else:
                at += 1

    def block(self, at: int) -> int:
        at = self.blank(at + 1)
        while self.text[at] != "}":
            at = self.blank(self.statement(at))
        return at + 1

    def statement(self, at: int) -> int:
        """One past the statement that begins at ``at``."""
        word = self.word(at)
        if self.text[at] == "{":
            return self.block(at)
        if word in ("for", "while"):
            body = self.blank(self.close(self.blank(at + len(word))))
            if self.text[body] == "{":
                self.put(body + 1, "MARK_LOOP")
                return self.block(body)
            self.put(body, "MARK_LOOP", before="{ ")
            end = self.statement(body)
            self.inserted.append((end, " }"))
            return end
        if word == "if":
            return self.branch(at)
        return self.expression(at)

    def branch(self, at: int) -> int:
        condition = self.text.index("(", at)
        constant = "constexpr" in self.text[at:condition]
        body = self.blank(self.close(condition))
        end = self.body(body, not constant)
        after = self.blank(end)
        if self.word(after) == "else":
            return self.body(self.blank(after + 4), not constant)
        if not constant and _JUMP.search(self.text, body, end):
            self.put(end)
        return end

    def body(self, at: int, marked: bool) -> int:
        if self.text[at] == "{":
            content = self.text[at : self.close(at)]
            if marked and (content.count(";") > SHORT or re.search(r"\bfor\b|_sync|__sync|atomic", content)):
                self.put(at + 1)
        return self.statement(at)

    def expression(self, at: int) -> int:
        """Up to the semicolon; the bodies of lambdas on the way are functions of their own."""
        depth, before = 0, ""
        while True:
            at = self.blank(at)
            letter = self.text[at]
            if letter == ";" and depth == 0:
                return at + 1
            if letter == "{" and before == ")":
                at = self.function(at)
            else:
                depth += (letter in "([{") - (letter in ")]}")
                at += 1
            before = letter


def mark_folder(source: Path, target: Path) -> int:
    """Copy the kernels of ``source`` to ``target`` with markers; returns the number of markers.

    ``device.h`` and ``math/`` have only loops that are unrolled away, and stay without.
    """
    shutil.copytree(source, target)
    (target / "marked.h").write_text(HEADER)
    number = 1
    for path in sorted([*target.glob("*.cu"), *target.glob("*.h")]):
        if path.name in ("device.h", "marked.h"):
            continue
        marker = _Marker(path.read_text(), number)
        marker.top()
        number = marker.next
        text, done = "", 0
        for at, inserted in sorted(marker.inserted, key=lambda item: item[0]):
            text += marker.text[done:at] + inserted
            done = at
        text += marker.text[done:]
        path.write_text(f'#include "marked.h"\n{text}' if path.suffix == ".cu" else text)
    return number
