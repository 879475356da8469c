"""Reads nvdisasm's listing of a cubin, and works out how often each stretch of machine code runs from marker counts."""

import re
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

_SECTION = re.compile(r"^\t\.section\t\.text\.(\w+),")
_LABEL = re.compile(r"^([.$]\w[\w$.]*):")
_INSTRUCTION = re.compile(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@(!?U?P\w+)\s+)?([A-Z][\w.]*)\s*([^;]*);")
_TARGET = re.compile(r"`\(([^)]+)\)")


def disassembler() -> str:
    """Path of nvdisasm: of the package ``nvidia-cuda-nvdisasm``, or on the PATH. Raises FileNotFoundError."""
    for place in sys.path:
        for path in sorted((Path(place or ".") / "nvidia").glob("*/bin/nvdisasm")):
            return str(path)
    found = shutil.which("nvdisasm")
    if found is None:
        raise FileNotFoundError("nvdisasm is missing; install it with: pip install nvidia-cuda-nvdisasm")
    return found


@dataclass
class Block:
    """Instructions that run one after the other.

    Attributes:
        size: instructions, without markers and NOPs.
        markers: numbers of the markers that run whenever the block does.
        predicated: numbers of those that a predicate may switch off.
        after: blocks that may follow.
        slow: a block of the compiler's slow paths (division, square root, diverged exchanges), never taken here.
    """

    size: int = 0
    markers: list[int] = field(default_factory=list)
    predicated: list[int] = field(default_factory=list)
    after: set[int] = field(default_factory=set)
    slow: bool = False


def disassemble(cubin: bytes) -> dict[str, list[Block]]:
    """The blocks of every kernel; the first is where it begins."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        listing = subprocess.run([disassembler(), "-c", file.name], check=True, capture_output=True, text=True).stdout
    lines: dict[str, list[str]] = defaultdict(list)
    name = None
    for line in listing.splitlines():
        section = _SECTION.match(line)
        if section:
            name = section[1]
        elif line.startswith("\t.section"):
            name = None
        elif name is not None:
            lines[name].append(line)
    return {name: _blocks(body) for name, body in lines.items()}


def _blocks(lines: list[str]) -> list[Block]:
    blocks, labels, targets = [Block()], {}, []
    ended = falls = True  # a new block begins; the one before runs into it

    def begin() -> Block:
        if blocks[-1].size or blocks[-1].markers or blocks[-1].predicated or not falls:
            blocks.append(Block())
            if falls:
                blocks[-2].after.add(len(blocks) - 1)
        return blocks[-1]

    for line in lines:
        label, instruction = _LABEL.match(line), _INSTRUCTION.match(line)
        if label:
            begin()
            falls = ended = True
            labels[label[1]] = len(blocks) - 1
        if not instruction:
            continue
        predicate, operation, operands = instruction.groups()
        if operation == "NOP":
            continue
        if ended and not label:
            begin()
        block, ended, falls = blocks[-1], False, True
        if operation == "PMTRIG":
            (block.predicated if predicate else block.markers).append(int(operands.split()[0], 16))
            continue
        block.size += 1
        kind = operation.split(".")[0]
        target = _TARGET.search(operands)
        if kind == "CALL":
            block.slow = True
        elif kind in ("BRA", "BRX", "JMP", "EXIT", "RET"):
            always = predicate is None and not re.match(r"!?U?P\d", operands)
            if target and kind == "BRA" and ".DIV" not in operation:
                targets.append((len(blocks) - 1, target[1]))
            ended, falls = True, not always or ".DIV" in operation
    for index, name in targets:
        blocks[index].after.add(labels[name])
    return blocks


def dominators(blocks: list[Block]) -> list[int | None]:
    """Immediate dominator of each block, None where there is none or the block cannot be reached."""
    before = defaultdict(set)
    for index, block in enumerate(blocks):
        for after in block.after:
            before[after].add(index)
    order, seen = [], set()
    stack = [(0, iter(sorted(blocks[0].after)))]
    seen.add(0)
    while stack:
        index, rest = stack[-1]
        following = next((after for after in rest if after not in seen), None)
        if following is None:
            order.append(index)
            stack.pop()
        else:
            seen.add(following)
            stack.append((following, iter(sorted(blocks[following].after))))
    rank = {index: number for number, index in enumerate(order)}  # later ones first in reverse
    parent: dict[int, int] = {0: 0}
    changed = True
    while changed:
        changed = False
        for index in reversed(order):
            if index == 0:
                continue
            known = [other for other in before[index] if other in parent]
            common = known[0]
            for other in known[1:]:
                while common != other:
                    if rank[common] < rank[other]:
                        common = parent[common]
                    else:
                        other = parent[other]
            if parent.get(index) != common:
                parent[index] = common
                changed = True
    return [None if index == 0 else parent.get(index) for index in range(len(blocks))]


def loops(blocks: list[Block], parent: list[int | None]) -> list[frozenset[int]]:
    """The blocks of the innermost loop around each block; empty outside of loops."""
    before = defaultdict(set)
    for index, block in enumerate(blocks):
        for after in block.after:
            before[after].add(index)

    def dominates(one: int, other: int | None) -> bool:
        while other is not None and other != one:
            other = parent[other]
        return other == one

    bodies: dict[int, set[int]] = {}
    for index, block in enumerate(blocks):
        for head in block.after:
            if (parent[index] is None and index != 0) or not dominates(head, index):
                continue
            body, stack = bodies.setdefault(head, {head}), [index]
            while stack:
                at = stack.pop()
                if at not in body:
                    body.add(at)
                    stack.extend(before[at])
    inner: list[frozenset[int]] = [frozenset()] * len(blocks)
    for body in sorted(bodies.values(), key=len, reverse=True):
        for index in body:
            inner[index] = frozenset(body)
    return inner


@dataclass
class Executed:
    """Attributes:
    instructions: executed by all warps together.
    unmarked_loops: loops without a marker, taken to run one round.
    """

    instructions: float
    unmarked_loops: int


def execute(blocks: list[Block], warps: float, counts: dict[int, float]) -> Executed:
    """Instructions that ``warps`` warps execute, when they come to marker m ``counts[m]`` times.

    A marker with k copies in the machine code (unrolled loops, inlined functions) is taken to run counts[m] / k times
    at each. A block without markers runs as often as the nearest block of its loop that it cannot be reached without.
    """
    copies: dict[int, int] = defaultdict(int)
    for block in blocks:
        for number in block.markers + block.predicated:
            copies[number] += 1
    parent = dominators(blocks)
    inner = loops(blocks, parent)
    runs: list[float | None] = [None] * len(blocks)
    for index, block in enumerate(blocks):
        reached = index == 0 or parent[index] is not None
        if block.slow or not reached:
            runs[index] = 0.0
        elif index == 0 and not inner[0]:
            runs[index] = warps
        elif block.markers:
            runs[index] = min((copies[m], counts.get(m, 0.0) / copies[m]) for m in block.markers)[1]
    unmarked = set()

    def infer(index: int) -> float:
        value = runs[index]
        if value is not None:
            return value
        at = parent[index]
        while at is not None and (inner[at] != inner[index] or blocks[at].slow):
            at = parent[at]
        if at is not None and inner[at] == inner[index]:
            value = infer(at)
        else:  # the head of a loop
            known = [runs[other] for other in inner[index] if inner[other] == inner[index] and blocks[other].markers]
            if known:
                value = max(number for number in known if number is not None)
            else:
                unmarked.add(inner[index])
                outside = parent[index]
                while outside is not None and outside in inner[index]:
                    outside = parent[outside]
                value = warps if outside is None else infer(outside)
        runs[index] = value
        return value

    total = sum(infer(index) * block.size for index, block in enumerate(blocks))
    return Executed(total, len(unmarked))
