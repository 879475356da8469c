"""What ``splat COMMAND --help`` prints: usage, what the command does, and its options, in the terminal's width."""

import ast
import dataclasses
import inspect
import shutil
import textwrap
import types
import typing
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import tyro
from rich.console import Console
from rich.text import Text

from splat.cli.checks import NAMES

_WIDEST = 100  # columns; longer lines are hard to read
_INDENT = 26  # columns of the option's name
_POSITIONAL = typing.get_args(tyro.conf.Positional[int])[1]


@dataclass(frozen=True)
class Option:
    """One entry of the help: the field's name, what is typed, what it means, and what holds when it is not given."""

    name: str
    typed: str
    text: str
    default: str
    positional: bool = False


def of_command(command: str, into: type) -> list[Text]:
    """The lines of ``splat command --help``; the fields of the dataclass ``into`` are the options."""
    options = list(options_of(into))
    positional = [option for option in options if option.positional]
    words = " ".join(["usage: splat", command, *(option.typed for option in positional), "[OPTIONS]"])
    lines = [*paragraphs(words), Text(), *paragraphs(inspect.getdoc(into))]
    for title, group in (("Arguments", positional), ("Options", [each for each in options if not each.positional])):
        if group:
            lines += [Text(), Text(title, "bold"), *entries(group)]
    return lines


def show(lines: Iterable[Text]) -> None:
    """Print ``lines`` as they are."""
    console = Console(highlight=False)
    for line in lines:
        console.print(line, soft_wrap=True)


def descriptions(kind: type) -> dict[str, str]:
    """The text under each field of the dataclass ``kind``, by name; one line, and one for each list item ("- ")."""
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    pairs = zip(body.body, body.body[1:], strict=False)
    return {
        item.target.id: _joined(after.value.value)
        for item, after in pairs
        if isinstance(item, ast.AnnAssign) and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
    }


def _joined(text: str) -> str:
    """``text`` without the line breaks of its source; items of a list keep their lines."""
    lines: list[str] = []
    for line in map(str.strip, text.splitlines()):
        if not lines or line.startswith("- "):
            lines.append(line)
        else:
            lines[-1] = f"{lines[-1]} {line}".strip()
    return "\n".join(lines)


def paragraphs(text: str, indent: int = 0) -> list[Text]:
    """``text`` in the terminal's width: paragraphs are joined and wrapped, lines that are set in (examples) stay."""
    margin, lines = " " * indent, []
    for number, paragraph in enumerate(text.split("\n\n")):
        lines += [Text()] if number else []
        if paragraph.startswith("  "):
            lines += [Text(line) for line in paragraph.splitlines()]
        else:
            lines += [Text(margin + line) for line in _wrapped(_joined(paragraph), width() - indent)]
    return lines


def options_of(kind: type, prefix: str = "") -> Iterator[Option]:
    """The options of the fields of ``kind`` that are no sections, in their order."""
    texts, hints = descriptions(kind), typing.get_type_hints(kind, include_extras=True)
    for item in dataclasses.fields(kind):
        if item.name not in texts or dataclasses.is_dataclass(item.default_factory):
            continue
        flag = f"--{prefix}{item.name}".replace("_", "-")
        hint = hints[item.name]
        positional = item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
        if positional or (typing.get_origin(hint) is typing.Annotated and _POSITIONAL in hint.__metadata__):
            yield Option(item.name, item.metadata.get("name", item.name.upper()), texts[item.name], "", True)
        else:
            yield Option(item.name, f"{flag} {_value_name(hint)}".rstrip(), texts[item.name], default_words(item))


def _value_name(hint: Any) -> str:
    """How the value of an option is called: INT, PATH …; a flag has none."""
    kind = hint
    while typing.get_origin(kind) in (typing.Annotated, typing.Union, types.UnionType):
        kind = next(option for option in typing.get_args(kind) if option is not types.NoneType)
    if typing.get_origin(kind) is typing.Literal:
        return "{" + ",".join(typing.get_args(kind)) + "}"
    if typing.get_origin(kind) is tuple:
        return " ".join(NAMES[each] for each in typing.get_args(kind) if each is not ...)
    return "" if kind is bool else NAMES[kind]


def default_words(item: dataclasses.Field) -> str:
    """The default in words; empty where nothing is set or a flag is off."""
    return "" if item.default is None or item.default is False or item.default in ("", ()) else words(item.default)


def words(value: Any) -> str:
    """A value as it is typed."""
    if isinstance(value, tuple):
        return " ".join(words(each) for each in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def entries(options: Iterable[Option]) -> list[Text]:
    """The lines of ``options``: names on the left, wrapped texts on the right."""
    lines = []
    for option in options:
        wrapped = _wrapped(f"{option.text} [{option.default}]" if option.default else option.text, width() - _INDENT)
        name = _name_lines(f"  {option.typed}")
        if len(name[-1]) + 1 > _INDENT or len(name) > 1:
            lines += [Text(line, "cyan") for line in name]
            name = [""]
        lines.append(Text.assemble((f"{name[0]:<{_INDENT}}", "cyan"), wrapped[0]))
        lines += [Text(" " * _INDENT + line) for line in wrapped[1:]]
    return lines


def _name_lines(name: str) -> list[str]:
    """The name of an option, which is broken at the commas of its choices where the terminal is narrow."""
    if len(name) <= width():
        return [name]
    broken = textwrap.wrap(name.replace(",", ", "), width(), subsequent_indent=" " * 6, break_on_hyphens=False)
    return ["  " + line if number == 0 and not line.startswith("  ") else line for number, line in enumerate(broken)]


def _wrapped(text: str, columns: int) -> list[str]:
    """Lines of at most ``columns``; those of an item ("- ") are set in."""
    lines = []
    for line in text.splitlines():
        indent = "  " if line.startswith("- ") else ""
        lines += textwrap.wrap(line, columns, subsequent_indent=indent, break_on_hyphens=False)
    return lines


def width() -> int:
    """Columns to print in."""
    return min(shutil.get_terminal_size().columns, _WIDEST)
