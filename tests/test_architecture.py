"""The floors of docs/architecture.md, held against every import of the package: none runs up, none in a circle.

Dependencies too are imports inside functions, those for type annotations alone (TYPE_CHECKING), and modules that are
named in a string to be imported when needed.
"""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def floors_of(document: str) -> dict[str, int]:
    """Floor of each folder and file directly in the package, from the rows ``| floor | `name`, … |`` of the table."""
    floors: dict[str, int] = {}
    for floor, names in re.findall(r"^\| (\d+) \| ([^|]+) \|", document, re.MULTILINE):
        for name in re.findall(r"`([\w.]+)/?`", names):
            floors[name.removesuffix(".py")] = int(floor)
    return floors


def modules_in(package: Path) -> dict[str, Path]:
    """All modules below ``package`` by dotted name."""
    modules = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return modules


def imports_of(modules: dict[str, Path]) -> dict[str, dict[str, int]]:
    """For each module, the modules of the package that it imports, with the line of the first import."""
    found: dict[str, dict[str, int]] = {}
    for name, path in modules.items():
        own = found.setdefault(name, {})
        for node in ast.walk(ast.parse(path.read_text())):
            targets: list[str] = []
            if isinstance(node, ast.Import):
                targets = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}:{node.lineno}: a relative import; write the full name"
                full = [f"{node.module}.{alias.name}" for alias in node.names]
                targets = [each if each in modules else str(node.module) for each in full]
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                targets = [node.value]  # a module that is imported by its name
            for target in targets:
                # The package itself holds the version and lazy public names, and imports nothing.
                if target in modules and "." in target and target != name:
                    own[target] = min(node.lineno, own.get(target, node.lineno))
    return found


def arrows_up(package: Path, floors: dict[str, int]) -> list[str]:
    """Each import from a higher floor, as ``file:line: importer → imported``."""
    modules = modules_in(package)
    wrong = []
    for name, targets in imports_of(modules).items():
        for target, line in targets.items():
            if "." in name and floors[target.split(".")[1]] > floors[name.split(".")[1]]:
                wrong.append(f"{modules[name]}:{line}: {name} → {target}")
    return wrong


def circles(package: Path) -> list[str]:
    """Each import through which a module comes back to itself, as ``file:line: importer → imported``."""
    modules = modules_in(package)
    imports = imports_of(modules)

    def reaches(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            new = set(imports[waiting.pop()]) - seen
            seen |= new
            waiting += new
        return seen

    reached = {name: reaches(name) for name in modules}
    return [
        f"{modules[name]}:{line}: {name} → {target}"
        for name, targets in imports.items()
        for target, line in targets.items()
        if name in reached[target]
    ]


@pytest.fixture(scope="module")
def floors() -> dict[str, int]:
    return floors_of((ROOT / "docs" / "architecture.md").read_text())


def test_every_module_has_a_floor(floors: dict[str, int]) -> None:
    names = {name.split(".")[1] for name in modules_in(ROOT / "splat") if "." in name}
    assert names == set(floors)


def test_no_import_runs_up(floors: dict[str, int]) -> None:
    assert not (wrong := arrows_up(ROOT / "splat", floors)), "\n".join(wrong)


def test_no_circle() -> None:
    assert not (wrong := circles(ROOT / "splat")), "\n".join(wrong)


PLANTED = {
    "by name": (
        "low/a.py",
        "from importlib import import_module\n\nb = import_module('splat.high.b')\n",
        "a.py:3: splat.low.a → splat.high.b",
    ),
    "up": (
        "low/a.py",
        "def late():\n    from splat.high import b\n\n    return b\n",
        "a.py:2: splat.low.a → splat.high.b",
    ),
    "typing": ("low/a.py", "if TYPE_CHECKING:\n    from splat.high.b import B\n", "a.py:2: splat.low.a → splat.high.b"),
    "circle": ("low/c.py", "import splat.low.a\n", "c.py:1: splat.low.c → splat.low.a"),
}


@pytest.mark.parametrize("fault", [None, *PLANTED])
def test_the_check_finds_what_is_planted(tmp_path: Path, fault: str | None) -> None:
    package = tmp_path / "splat"
    tree = {"low/a.py": "import splat.low.c\n", "low/c.py": "", "high/b.py": "from splat.low import a\n"}
    if fault is not None:
        tree[PLANTED[fault][0]] = PLANTED[fault][1]
    for name, text in ({"__init__.py": "", "low/__init__.py": "", "high/__init__.py": ""} | tree).items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text)
    up = arrows_up(package, floors_of("| floor |\n| 2 | `high/` | |\n| 1 | `low/`, `x.py` | |\n"))
    round_about = circles(package)
    if fault is None:
        assert not up and not round_about
    else:
        assert any(line.endswith(PLANTED[fault][2]) for line in (round_about if fault == "circle" else up))
