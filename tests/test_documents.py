"""The documents tell the truth: their links, files, commands, options and settings exist."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from splat.cli import COMMANDS
from splat.training.config.config import TrainConfig, flatten

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*.md")])
OLD = {"--adc.gradient", "--fusion"}  # named as old or gone, in docs/training.md and CHANGELOG.md
OPTION = r"(?<![\w-])--[a-z][a-z0-9-]*(?:\.[a-z][a-z-]*)?"

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@pytest.fixture(scope="module")
def helps() -> dict[str, set[str]]:
    """The options of every command, by its name."""
    return {command: set(re.findall(OPTION, _help(command))) | {"--help", "--help-all"} for command in COMMANDS}


def _help(command: str) -> str:
    arguments = [command, "--help-all" if command == "train" else "--help"]
    program = [sys.executable, "-m", "splat", *arguments]
    return subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def tool_has(source: str, option: str) -> bool:
    """Whether the program with the text ``source`` has ``option``, as an argument of argparse or a field for tyro."""
    field = option.strip("-").replace("-", "_")
    return f'"{option}"' in source or re.search(rf"^    {field}: ", source, re.M) is not None


def lines_of(page: Path) -> list[str]:
    """The lines of ``page``, continued ones (with a backslash) as one."""
    return page.read_text(encoding="utf-8").replace("\\\n", " ").splitlines()


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert target.startswith(("http://", "https://")) or (page.parent / target).exists(), target


@each_page
def test_tools_and_their_options_exist(page: Path) -> None:
    for line in lines_of(page):
        for script in re.findall(r"\btools/[\w/]+\.(?:py|sh)\b", line):
            assert (ROOT / script).is_file(), script
        for script, arguments in re.findall(r"python (tools/\w+\.py)([^`(#]*)", line):
            source = (ROOT / script).read_text(encoding="utf-8")
            for option in re.findall(OPTION, arguments):
                assert tool_has(source, option), (script, option)


@each_page
def test_commands_have_these_options(page: Path, helps: dict[str, set[str]]) -> None:
    for line in lines_of(page):
        for command, arguments in re.findall(r"(?:^ {4}|`|^)splat ([a-z][a-z-]+)\b([^`#|]*)", line):
            assert command in COMMANDS or command == "COMMAND", line
            for option in re.findall(OPTION, arguments):
                assert option in helps[command] | OLD, (command, option)


@each_page
def test_every_option_and_setting_is_one(page: Path, helps: dict[str, set[str]]) -> None:
    text = page.read_text(encoding="utf-8")
    tools = [path.read_text(encoding="utf-8") for path in (ROOT / "tools").glob("*.py")]
    settings = flatten(TrainConfig())
    sections = {name.split(".")[0] for name in settings if "." in name}
    for option in re.findall(rf"`({OPTION})[ `]", text):
        assert (
            any(tool_has(source, option) for source in tools)
            or option in OLD
            or any(option in known for known in helps.values())
        ), option
    for name in re.findall(r"`([a-z]+\.[a-z_]+)`", text):
        if name.split(".")[0] in sections and page.name in ("training.md", "sparse.md"):
            assert name in settings or name in {"prune.share", "priors.points", "priors.views", "priors.wild"}, name


def test_the_readme_is_short_and_has_one_table_of_results() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(readme.splitlines()) <= 130
    (measured,) = re.findall(r"^## Measured\n(.*?)^## ", readme, re.M | re.S)
    assert measured.count("|---|") == 1
    measurements = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "measurements").glob("*.md"))
    for number in re.findall(r"\d+\.\d+(?= dB| s\b| times| ms)", measured):
        assert number in measurements.replace("**", ""), number
