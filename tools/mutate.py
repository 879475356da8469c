"""Change one operator, number, comparison or branch of a core module at a time; see whether the tests near it notice.

    python tools/mutate.py --seed 0 --count 200 --results mutants.jsonl
    python tools/mutate.py --modules splat/training/schedules.py cpu/mcmc.cpp --count 20

Works in a copy of the tree (the tree itself is never changed), one mutant at a time. Results are appended to a JSON
lines file; mutants that stand there already are not run again. Prints the survivors at the end.
"""

import argparse
import ast
import json
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_FORMULAS, _CALLS = "tests/test_formulas.py", "tests/rendering/test_odd_calls.py"
_STRATEGIES, _HOOKS = "tests/training/strategies", "tests/training/hooks"
_RENDERING = ("tests/rendering/test_agreement.py", "tests/rendering/test_cpu.py", _FORMULAS, _CALLS)

# Which tests are near which module.
TESTS: dict[str, tuple[str, ...]] = {
    "splat/cloud.py": ("tests/test_cloud.py", _CALLS),
    "splat/camera.py": ("tests/test_camera.py", _CALLS),
    "splat/metrics.py": ("tests/test_metrics.py", _FORMULAS),
    "splat/formats/ply/ply.py": ("tests/formats/test_formats_round_trip.py", "tests/formats/test_formats_shared.py"),
    "splat/formats/spz/quantizer.py": (
        "tests/formats/test_formats_round_trip.py",
        "tests/formats/test_formats_shared.py",
    ),
    "splat/training/schedules.py": ("tests/training/test_schedules.py", _FORMULAS, _CALLS),
    "splat/training/population.py": ("tests/training/test_population.py", _CALLS),
    "splat/training/update.py": (_FORMULAS, "tests/training/test_fitter.py"),
    "splat/training/weight_averaging.py": ("tests/training/test_weight_averaging.py",),
    "splat/training/strategies/taming.py": (_STRATEGIES, _FORMULAS),
    "splat/training/strategies/turbo.py": (_STRATEGIES,),
    "splat/training/strategies/splitting.py": (_STRATEGIES, _FORMULAS),
    "splat/training/strategies/mcmc.py": (_STRATEGIES,),
    "splat/training/hooks/ges.py": (_HOOKS, _FORMULAS),
    "splat/training/hooks/mip_filter.py": (_HOOKS, _FORMULAS),
    "splat/training/hooks/dropout.py": ("tests/priors/test_few_photos.py", _FORMULAS),
    "splat/training/losses/surface.py": (_HOOKS, _FORMULAS),
    "splat/training/losses/sparse_depth.py": (_FORMULAS, "tests/training/test_pose_depth.py"),
    "splat/compression/methods/significance.py": (_FORMULAS, "tests/compression/test_methods.py"),
    "splat/ops/adam.py": ("tests/ops/test_adam.py", _FORMULAS, _CALLS),
    "splat/ops/mcmc_noise.py": ("tests/ops/test_mcmc.py", _CALLS),
    "splat/ops/mcmc_relocation.py": ("tests/ops/test_mcmc.py", _CALLS),
    "splat/ops/photometric_loss.py": ("tests/ops/test_photometric_loss.py", _CALLS),
    "splat/native/cpu_library.py": ("tests/native/test_cpu_library.py", _CALLS),
    "splat/rendering/cpu.py": _RENDERING,
    "cpu/adam.cpp": ("tests/ops/test_adam.py", _FORMULAS, _CALLS),
    "cpu/mcmc.cpp": ("tests/ops/test_mcmc.py", _CALLS),
    "cpu/image_loss.cpp": ("tests/ops/test_photometric_loss.py", _CALLS),
    "cpu/rasterizer.cpp": _RENDERING,
    "cpu/projection.cpp": _RENDERING,
    "cpu/blending.cpp": _RENDERING,
    "cpu/gaussian_backward.cpp": _RENDERING,
    "cpu/grid_sort.cpp": ("tests/compression/test_self_organizing_grid.py", _CALLS),
}

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
    for node in ast.walk(ast.parse(text)):
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
    found = cpp_mutants(module, text) if module.endswith(".cpp") else python_mutants(module, text)
    return sorted(set(found), key=lambda each: (each.start, each.new))


def copy_tree(folder: Path) -> None:
    """What the tests need of the tree, into ``folder``."""
    skip = shutil.ignore_patterns(".git", ".venv", "build", "__pycache__", ".pytest_cache", "node_modules")
    shutil.copytree(ROOT, folder, ignore=skip, symlinks=True)


def build(folder: Path, variant: str, seconds: float) -> bool:
    """Compile the core of ``folder`` for one variant; whether it compiled."""
    configure = [
        "cmake",
        "-S",
        ".",
        "-B",
        "build",
        "-G",
        "Ninja",
        "-DCMAKE_INSTALL_PREFIX=.",
        f"-DSPLAT_VARIANTS={variant}",
    ]
    for command in (configure, ["cmake", "--build", "build"], ["cmake", "--install", "build"]):
        try:
            done = subprocess.run(command, cwd=folder, capture_output=True, timeout=seconds, check=False)
        except subprocess.TimeoutExpired:
            return False
        if done.returncode:
            return False
    return True


def verdict(folder: Path, mutant: Mutant, seconds: float, variant: str) -> str:
    """ "caught", "survived", "timeout" (caught: it hangs) or "invalid" (does not compile) for one mutant."""
    path = folder / mutant.module
    text = (ROOT / mutant.module).read_text()
    path.write_text(text[: mutant.start] + mutant.new + text[mutant.start + mutant.length :])
    try:
        if mutant.module.endswith(".cpp") and not build(folder, variant, seconds):
            return "invalid"
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *TESTS[mutant.module]]
        done = subprocess.run(command, cwd=folder, capture_output=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return "timeout"
    finally:
        path.write_text(text)
    return "caught" if done.returncode else "survived"


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
    return drawn


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--modules", nargs="+", default=list(TESTS), choices=list(TESTS), metavar="MODULE")
    parser.add_argument("--results", type=Path, default=Path("mutants.jsonl"))
    parser.add_argument("--seconds", type=float, default=180.0, help="for the tests of one mutant")
    parser.add_argument("--minutes", type=float, default=600.0, help="for all of them")
    parser.add_argument("--variant", default="avx2", help="of the core, which is compiled for mutants in C++")
    arguments = parser.parse_args()
    lines = arguments.results.read_text().splitlines() if arguments.results.exists() else []
    done = {entry["key"]: entry["verdict"] for entry in map(json.loads, lines)}
    until = time.monotonic() + 60 * arguments.minutes
    drawn = chosen(arguments.modules, arguments.count, arguments.seed)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "tree"
        copy_tree(folder)
        stale = False  # whether the copy's core is that of a mutant
        for mutant in drawn:
            if mutant.key in done or time.monotonic() > until:
                continue
            if stale and not mutant.module.endswith(".cpp"):
                build(folder, arguments.variant, 600)
            stale = mutant.module.endswith(".cpp")
            done[mutant.key] = verdict(folder, mutant, arguments.seconds, arguments.variant)
            with arguments.results.open("a") as file:
                file.write(json.dumps({"key": mutant.key, "verdict": done[mutant.key], **asdict(mutant)}) + "\n")
            print(f"{done[mutant.key]:9} {mutant.module}:{mutant.line} {mutant.old!r} → {mutant.new!r}", flush=True)
    verdicts = [done[mutant.key] for mutant in drawn if mutant.key in done]
    valid = [each for each in verdicts if each != "invalid"]
    caught = sum(each in ("caught", "timeout") for each in valid)
    print(f"\n{caught} of {len(valid)} caught ({100 * caught / max(len(valid), 1):.0f} %)\n\nSurvivors:")
    for mutant in drawn:
        if done.get(mutant.key) == "survived":
            print(f"  {mutant.module}:{mutant.line} {mutant.old!r} → {mutant.new!r}")


if __name__ == "__main__":
    main()
