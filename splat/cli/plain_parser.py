"""The parser of commands that start quickly: plain command lines are read without loading tyro."""

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from splat.cli.checks import READERS

T = TypeVar("T")


def parse(command: str, into: Callable[..., T], arguments: Sequence[str], aliases: Mapping[str, str] = {}) -> T:
    """Parse ``arguments`` of ``splat command`` into the dataclass ``into``; exits with 2 if they do not fit.

    Fields without defaults are positional; tuples of any length are options that may be repeated. Plain command lines
    are read here in no time; where something does not fit, tyro is loaded and explains.

    Args:
        aliases: other names of options, each with the one that ``into`` has.
    """
    if {"-h", "--help"} & set(arguments):
        from splat.cli import help

        help.show(help.of_command(command, into))
        raise SystemExit(0)
    arguments = [aliases.get(argument, argument) for argument in arguments]
    try:
        return into(**_plain(into, list(arguments)))
    except (ValueError, IndexError, KeyError, TypeError):
        import tyro

        from splat.cli import console

        kinds = typing.get_type_hints(into)
        for field in dataclasses.fields(into):
            marker = {dataclasses.MISSING: tyro.conf.Positional, (): tyro.conf.UseAppendAction}.get(field.default)
            into.__annotations__[field.name] = marker[kinds[field.name]] if marker else kinds[field.name]
        return console.parse(command, into, arguments)


def _plain(into: Any, arguments: list[str]) -> dict[str, Any]:
    """Values by field name. Any exception means that the arguments are not plain."""
    kinds = {}
    for name, kind in typing.get_type_hints(into).items():
        options = [option for option in typing.get_args(kind) if option is not types.NoneType]
        kinds[name] = options[0] if typing.get_origin(kind) in (typing.Union, types.UnionType) else kind
    required = [field.name for field in dataclasses.fields(into) if field.default is dataclasses.MISSING]
    if len(required) != 1:
        raise ValueError(required)
    positional, values, at = [], {}, 0
    while at < len(arguments):
        text, at = arguments[at], at + 1
        if not text.startswith("-"):
            positional.append(text)
            continue
        flag, _, value = text.partition("=")
        name = flag.removeprefix("--").replace("-", "_")
        kind = kinds[name]
        items = [item for item in typing.get_args(kind) if item is not ...] or [kind]
        texts = [value] if value else arguments[at : at + len(items)]
        at += 0 if value else len(items)
        read = tuple(_value(item, text) for item, text in zip(items, texts, strict=True))
        if typing.get_args(kind)[1:] == (...,):
            values[name] = values.get(name, ()) + read
        elif name in values or name in required:
            raise ValueError(name)
        else:
            values[name] = read if typing.get_origin(kind) is tuple else read[0]
    kind = kinds[required[0]]
    many = typing.get_origin(kind) is tuple
    if not positional or (len(positional) > 1 and not many):
        raise ValueError(positional)
    read = tuple(_value(typing.get_args(kind)[0] if many else kind, text) for text in positional)
    return values | {required[0]: read if many else read[0]}


def _value(kind: type, text: str) -> Any:
    if text.lower() in ("none", "") or (kind in (str, Path) and text.startswith("-") and text != "-"):
        raise ValueError(text)
    return READERS[kind](text)
