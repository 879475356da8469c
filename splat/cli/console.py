"""What all commands print with: one console, tables of one look, and the parser."""

import sys
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import tyro
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from splat.cli import help
from splat.cli.checks import NAMES, READERS, require, whole_number
from splat.cli.results import to_stdout
from splat.text import amount, duration, printable

__all__ = [
    "amount", "console", "counter", "duration", "grid", "heading", "literal", "parse", "registry", "require", "say",
    "table", "whole_number",
]  # fmt: skip

T = TypeVar("T")

console = Console(highlight=False, soft_wrap=False)

registry = tyro.constructors.ConstructorRegistry()


@registry.primitive_rule
def _choice(type_info: tyro.constructors.PrimitiveTypeInfo) -> tyro.constructors.PrimitiveConstructorSpec | None:
    """A choice of words that may be left out is shown without "None"."""
    kinds = [option for option in typing.get_args(type_info.type) if option is not types.NoneType]
    if len(kinds) != 1 or typing.get_origin(kinds[0]) is not typing.Literal or type_info.type == kinds[0]:
        return None
    words = typing.get_args(kinds[0])
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="{" + ",".join(words) + "}",
        instance_from_str=lambda texts: texts[0],
        is_instance=lambda value: value is None or value in words,
        str_from_instance=lambda value: ["none" if value is None else value],
        choices=words,
    )


@registry.primitive_rule
def _values(type_info: tyro.constructors.PrimitiveTypeInfo) -> tyro.constructors.PrimitiveConstructorSpec | None:
    """Whole numbers may be written as 300k or 1.5M, and options that may be left out are shown without "None"."""
    union = typing.get_origin(type_info.type) in (typing.Union, types.UnionType)
    options = typing.get_args(type_info.type) if union else (type_info.type,)
    kinds = [option for option in options if option is not types.NoneType]
    if len(kinds) != 1:
        return None
    items = typing.get_args(kinds[0]) if typing.get_origin(kinds[0]) is tuple else (kinds[0],)
    if not all(item in READERS for item in items):
        return None
    several = typing.get_origin(kinds[0]) is tuple

    def from_texts(texts: list[str]) -> Any:
        values = tuple(READERS[item](text) for item, text in zip(items, texts, strict=True))
        return values if several else values[0]

    def to_texts(value: Any) -> list[str]:
        if value is None:
            return ["none"]
        return [f"{item:g}" if isinstance(item, float) else str(item) for item in (value if several else (value,))]

    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=len(items),
        metavar=" ".join(NAMES[item] for item in items),
        instance_from_str=from_texts,
        is_instance=lambda value: value is None or _fits(value if several else (value,), items),
        str_from_instance=to_texts,
    )


def _fits(values: Any, items: Sequence[type]) -> bool:
    """Whether ``values`` are one of each type in ``items``; whole numbers pass for fractions."""
    return len(values) == len(items) and all(
        isinstance(value, (int, float) if item is float else item) for value, item in zip(values, items, strict=True)
    )


def parse(command: str, into: Callable[..., T], arguments: Sequence[str], **options: Any) -> T:
    """Parse ``arguments`` of ``splat command`` into the dataclass ``into``; exits with 2 if they do not fit.

    With ``--json -`` the console prints on standard error from now on: standard output is for the JSON alone.
    """
    if {"-h", "--help"} & set(arguments):
        help.show(help.of_command(command, into))
        raise SystemExit(0)
    try:
        with registry:
            result = tyro.cli(into, prog=f"splat {command}", args=list(arguments), **options)
    except SystemExit:
        if command == "train":
            print("splat train --help has the usual options, splat train --help-all every option", file=sys.stderr)
        raise
    console.stderr = to_stdout(getattr(result, "json", None))
    return result


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], numeric: Iterable[int] = ()) -> Table:
    """A table in the common look; the columns in ``numeric`` are flushed right."""
    result = Table(box=SIMPLE_HEAD, pad_edge=False)
    right = set(numeric)
    for index, column in enumerate(columns):
        result.add_column(column, justify="right" if index in right else "left", overflow="fold")
    for row in rows:
        result.add_row(*row)
    return result


def grid(rows: Iterable[Sequence[str]]) -> Table:
    """Rows without a heading; the last column takes the room that is left and folds."""
    rows = list(rows)
    result = Table(box=None, show_header=False, pad_edge=False)
    for index in range(len(rows[0]) if rows else 0):
        last = index == len(rows[0]) - 1
        result.add_column(style=None if last else "cyan", no_wrap=not last, overflow="fold")
    for row in rows:
        result.add_row(*row)
    return result


def literal(text: str) -> str:
    """``text`` of a file, or a file's name, as rich is to print it: no markup, and no codes for the terminal."""
    return escape(printable(text))


def say(text: str, style: str = "none") -> None:
    """Print one line, which may hold anything and is not broken."""
    console.print(literal(text), style=style, soft_wrap=True)


def heading(text: str) -> None:
    """Print ``text`` in bold."""
    say(text, "bold")


@contextmanager
def counter(label: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on standard error; the function that it yields takes (done, total)."""
    with narrated_counter(label) as (progress, _):
        yield progress


@contextmanager
def narrated_counter(label: str) -> Iterator[tuple[Callable[[int, int], None], Callable[[str], None]]]:
    """A progress bar on standard error, and a function that prints a line above it."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(label, total=None)
        yield (
            lambda done, total: progress.update(task, completed=done, total=total),
            lambda text: progress.console.print(literal(text), style="dim", soft_wrap=True, highlight=False),
        )
