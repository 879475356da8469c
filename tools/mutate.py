"""Change one operator, number, comparison or branch of a core module at a time; see whether the tests near it notice.

    python tools/mutate.py --seed 0 --count 200 --results mutants.jsonl
    python tools/mutate.py --modules splat/training/schedules.py cpu/mcmc.cpp --count 20
    python tools/mutate.py --again --results mutants.jsonl      # the survivors, with the tests of today

Works in a copy of the tree (the tree itself is never changed), one mutant at a time. Results are appended to a JSON
lines file; mutants that stand there already are not run again. Prints the survivors at the end. A folder ``shared`` of
real data beside the tree is used by the tests that ask for it.

The tests run in forked children of this process, which has imported PyTorch already, on one thread. A mutant counts as
caught if the test that fails passes without it. A mutant of the C++ core that compiles to the same bytes is the same
program, and is called "invalid" like one that does not compile.
"""

import argparse
import ast
import importlib
import json
import multiprocessing
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import near_tests
import pytest

ROOT = Path(__file__).resolve().parent.parent
TESTS = near_tests.TESTS
_MEMORY = 16 << 30  # bytes of address space a mutant may take
_HANGS = 1800.0  # seconds, for mutants that wait instead of computing
# Imported before the forks, to be there in each.
_LIBRARIES = ("torch", "numpy", "scipy.spatial", "PIL.Image", "pycolmap", "skimage.metrics", "pytest_timeout")

_OPERATORS = {ast.Add: "-", ast.Sub: "+", ast.Mult: "/", ast.Div: "*", ast.Pow: "*", ast.FloorDiv: "/", ast.Mod: "//"}
_COMPARISONS = {
    ast.Lt: ("<", "<="), ast.LtE: ("<=", "<"), ast.Gt: (">", ">="), ast.GtE: (">=", ">"), ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="), ast.Is: (" is ", " is not "), ast.IsNot: (" is not ", " is "),
}  # fmt: skip
_CPP = {
    " + ": " - ", " - ": " + ", " * ": " / ", " / ": " * ", " < ": " <= ", " <= ": " < ", " > ": " >= ", " >= ": " > ",
    " == ": " != ", " != ": " == ", " && ": " || ", " || ": " && ", "min(": "max(", "max(": "min(",
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """One change: in ``module``, ``length`` characters from ``start`` become ``new``; ``line`` is for people."""

    module: str
    line: int
    start: int
    length: int
    old: str
    new: str

    @property
    def key(self) -> str:
        """Names the mutant in the file of results, whatever else moves in the module."""
        return f"{self.module}:{self.line}:{self.start}:{self.old}→{self.new}"


def python_mutants(module: str, text: str) -> Iterator[Mutant]:
    """Every change of one operator, comparison, number, `and`/`or` or condition of a Python module."""
    lines = [0]
    for line in text.splitlines(keepends=True):
        lines.append(lines[-1] + len(line))

    def place(line: int, column: int) -> int:
        whole = text[lines[line - 1] : lines[line]]
        return lines[line - 1] + len(whole.encode()[:column].decode())

    def begin(node: ast.AST) -> int:
        return place(node.lineno, node.col_offset)

    def end(node: ast.AST) -> int:
        return place(node.end_lineno, node.end_col_offset)

    def between(left: ast.AST, right: ast.AST, old: str, new: str) -> Iterator[Mutant]:
        found = text.find(old, end(left), begin(right))
        if found >= 0:
            yield Mutant(module, left.end_lineno, found, len(old), old, new)

    signs = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Pow: "**", ast.FloorDiv: "//", ast.Mod: "%"}
    tree = ast.parse(text)
    # Places inside f-strings are wrong before Python 3.12.
    inside = {id(part) for each in ast.walk(tree) if isinstance(each, ast.JoinedStr) for part in ast.walk(each)}
    for node in ast.walk(tree):
        if id(node) in inside:
            continue
        if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            yield from between(node.left, node.right, signs[type(node.op)], _OPERATORS[type(node.op)])
        elif isinstance(node, ast.Compare) and type(node.ops[0]) in _COMPARISONS:
            yield from between(node.left, node.comparators[0], *_COMPARISONS[type(node.ops[0])])
        elif isinstance(node, ast.BoolOp):
            words = (" and ", " or ") if isinstance(node.op, ast.And) else (" or ", " and ")
            yield from between(node.values[0], node.values[1], *words)
        elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
            old = text[begin(node) : end(node)]
            new = repr(node.value + 1) if isinstance(node.value, int) else repr(node.value * 1.5 + (node.value == 0))
            yield Mutant(module, node.lineno, begin(node), len(old), old, new)
        elif isinstance(node, ast.If | ast.IfExp):
            old = text[begin(node.test) : end(node.test)]
            yield Mutant(module, node.lineno, begin(node.test), len(old), old, f"not ({old})")


def cpp_mutants(module: str, text: str) -> Iterator[Mutant]:
    """Every change of one operator, comparison or decimal number of a C++ source, comments and directives left out."""
    at = 0
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        code = line.split("//")[0]
        if not code.lstrip().startswith("#") and "static_assert" not in code and "template" not in code:
            for old, new in _CPP.items():
                for found in re.finditer(re.escape(old), code):
                    yield Mutant(module, number, at + found.start(), len(old), old, new)
            for found in re.finditer(r"(?<![\w.])\d+\.\d+f?", code):
                old = found.group()
                value = float(old.rstrip("f"))
                new = f"{value * 1.5 + (value == 0)!r}{'f' if old.endswith('f') else ''}"
                yield Mutant(module, number, at + found.start(), len(old), old, new)
        at += len(line)


def mutants(module: str) -> list[Mutant]:
    """All mutants of a module, in the order of their places."""
    text = (ROOT / module).read_text()
    found = python_mutants(module, text) if module.endswith(".py") else cpp_mutants(module, text)
    return sorted(set(found), key=lambda each: (each.start, each.new))


class Copy:
    """A copy of the tree, in which mutants are made and tested, with the C++ core of one instruction set."""

    def __init__(self, folder: Path, variant: str) -> None:
        self.tree, self.pristine, self.variant = folder / "tree", folder / "pristine", variant
        self.last = folder / "last"  # the test that was begun last
        self.sound: set[str] = set()  # tests that pass without any mutant
        skip = shutil.ignore_patterns(".git", ".venv", "build", "_lib", "__pycache__", ".pytest_cache", "node_modules")
        shutil.copytree(ROOT, self.tree, ignore=skip, symlinks=True)
        if (ROOT.parent / "shared").is_dir():
            (folder / "shared").symlink_to(ROOT.parent / "shared")
        configure = ["cmake", "-S", ".", "-B", "build", "-G", "Ninja", "-DCMAKE_INSTALL_PREFIX=."]
        subprocess.run([*configure, f"-DSPLAT_VARIANTS={variant}"], cwd=self.tree, check=True, capture_output=True)
        if not self.build(900):
            raise SystemExit("the core does not compile")
        for name in ("build", "splat/_lib"):
            shutil.copytree(self.tree / name, self.pristine / name, symlinks=True)

    def build(self, seconds: float) -> bool:
        """Compile the core and put it in its place; whether it compiled."""
        for command in (["cmake", "--build", "build"], ["cmake", "--install", "build"]):
            try:
                done = subprocess.run(command, cwd=self.tree, capture_output=True, timeout=seconds, check=False)
            except subprocess.TimeoutExpired:
                return False
            if done.returncode:
                return False
        return True

    def unbuild(self) -> None:
        """Put the core back as it was, with the times that tell ninja so."""
        for name in ("build", "splat/_lib"):
            shutil.rmtree(self.tree / name)
            shutil.copytree(self.pristine / name, self.tree / name, symlinks=True)

    def same_core(self) -> bool:
        """Whether the mutant compiled to the same bytes."""
        name = f"splat/_lib/libsplat_{self.variant}.so"
        return (self.tree / name).read_bytes() == (self.pristine / name).read_bytes()

    def verdict(self, mutant: Mutant, seconds: float) -> str:
        """ "caught", "survived", "timeout" (caught: it hangs) or "invalid" (no other program) for one mutant."""
        path = self.tree / mutant.module
        text, times = path.read_text(), path.stat()
        path.write_text(text[: mutant.start] + mutant.new + text[mutant.start + mutant.length :])
        native = path.suffix != ".py"
        try:
            if native and (not self.build(_HANGS) or self.same_core()):
                return "invalid"
            found = self.tested(TESTS[mutant.module], seconds)
        finally:
            path.write_text(text)
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
            if native:
                self.unbuild()
        if found != "survived":
            self.check(self.last.read_text(), TESTS[mutant.module])
        return found

    def check(self, test: str, tests: Sequence[str]) -> None:
        """Stop unless ``test`` passes without any mutant; of a file that cannot be imported there is no test."""
        if test not in self.sound and self.tested([test] if test else ["--collect-only", *tests], _HANGS) != "survived":
            raise SystemExit(f"without any mutant there fails {test or tests}")
        self.sound.add(test)

    def tested(self, tests: Sequence[str], seconds: float) -> str:
        """ "survived" when the tests pass, else "caught", or "timeout" after so many seconds of the processor."""
        self.last.write_text("")
        child = multiprocessing.get_context("fork").Process(target=self._run_tests, args=(tests, seconds))
        child.start()
        child.join(_HANGS)
        if child.exitcode is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.join()
            return "timeout"
        if child.exitcode == -signal.SIGXCPU:
            return "timeout"
        return "caught" if child.exitcode else "survived"

    def _run_tests(self, tests: Sequence[str], seconds: float) -> None:
        os.setpgid(0, 0)  # not a session of its own, which would not be as nice as this process
        os.chdir(self.tree)
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
        resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), int(seconds) + 10))
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nothing, stream)
        sys.path.insert(0, str(self.tree))
        os.environ["PYTHONPATH"] = str(self.tree)  # for processes that the tests start
        os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
        deselected = [f"--deselect={test}" for test in near_tests.SLOW]
        options = ["-q", "-x", "-p", "no:cacheprovider", "-p", "pytest_timeout", *deselected]
        sys.exit(int(pytest.main([*options, *tests], plugins=[self])))

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Called by pytest before each test."""
        self.last.write_text(nodeid)


def chosen(modules: list[str], count: int, seed: int) -> list[Mutant]:
    """``count`` mutants drawn evenly over the modules, the same for the same seed."""
    source = random.Random(seed)
    pools = {module: mutants(module) for module in modules}
    for pool in pools.values():
        source.shuffle(pool)
    drawn: list[Mutant] = []
    while len(drawn) < count and any(pools.values()):
        for pool in pools.values():
            if pool and len(drawn) < count:
                drawn.append(pool.pop())
    source.shuffle(drawn)
    return drawn


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--modules", nargs="+", default=list(TESTS), choices=list(TESTS), metavar="MODULE")
    parser.add_argument("--results", type=Path, default=Path("mutants.jsonl"))
    parser.add_argument("--seconds", type=float, default=180.0, help="of the processor, for the tests of one mutant")
    parser.add_argument("--minutes", type=float, default=600.0, help="for all of them")
    parser.add_argument("--again", action="store_true", help="run the survivors in the results once more")
    parser.add_argument("--variant", default="avx2", help="of the core, which is compiled for mutants in C++")
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    for name in _LIBRARIES:
        importlib.import_module(name)
    lines = arguments.results.read_text().splitlines() if arguments.results.exists() else []
    done = {entry["key"]: entry["verdict"] for entry in map(json.loads, lines)}
    drawn = chosen(arguments.modules, arguments.count, arguments.seed)
    waiting = [each for each in drawn if each.key not in done or arguments.again and done[each.key] == "survived"]
    until = time.monotonic() + 60 * arguments.minutes
    with tempfile.TemporaryDirectory() as temporary:
        copy = Copy(Path(temporary), arguments.variant)
        for mutant in waiting:
            if time.monotonic() > until:
                break
            start = time.monotonic()
            done[mutant.key] = copy.verdict(mutant, arguments.seconds)
            entry = {"key": mutant.key, "verdict": done[mutant.key], **asdict(mutant)}
            with arguments.results.open("a") as file:
                file.write(json.dumps(entry | {"seconds": round(time.monotonic() - start, 1)}) + "\n")
            print(f"{done[mutant.key]:9} {mutant.module}:{mutant.line} {mutant.old!r} → {mutant.new!r}", flush=True)
    report(drawn, done)


def report(drawn: list[Mutant], done: dict[str, str]) -> None:
    """Print how many were caught, and the survivors."""
    valid = [done[mutant.key] for mutant in drawn if done.get(mutant.key, "invalid") != "invalid"]
    caught = sum(each in ("caught", "timeout") for each in valid)
    print(f"\n{caught} of {len(valid)} caught ({100 * caught / max(len(valid), 1):.0f} %)\n\nSurvivors:")
    for mutant in drawn:
        if done.get(mutant.key) == "survived":
            print(f"  {mutant.module}:{mutant.line} {mutant.old!r} → {mutant.new!r}")


if __name__ == "__main__":
    main()
