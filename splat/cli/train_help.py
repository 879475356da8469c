"""What ``splat train --help`` and ``--help-all`` print: the settings by section, in the width of the terminal."""

import dataclasses
import inspect
import shutil
import textwrap
import types
import typing
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from rich.text import Text

from splat.cli.console import NAMES, console
from splat.cli.field_docs import descriptions
from splat.training.config.config import TrainConfig, presets
from splat.training.config.densify import STRATEGY_DEFAULTS, DensifyConfig
from splat.training.config.photos import SceneConfig

USUAL = (
    *("scene", "out", "preset", "steps", "minutes", "gaussians", "size", "strategy", "downscale", "resume", "view"),
    *("backend", "seed"),
)
"""The options that most runs need no more than."""
_WIDEST = 100  # columns; longer lines are hard to read
_INDENT = 26  # columns of the option's name
_CLOSING = (
    "Presets: {presets}. Whole numbers may be written as 60k or 1.5M. "
    "`splat train --help-all` lists every option, by method; docs/training.md explains them."
)
_FLAGS = "A flag that a preset sets is switched off with no- before its name, such as --pose.no-refine."


@dataclass(frozen=True)
class Option:
    """One entry of the help: the field's name, what is typed, what it means, and what holds when it is not given."""

    name: str
    typed: str
    text: str
    default: str


def usual(command: type) -> list[Text]:
    """The lines of ``splat train --help``; ``command`` is the dataclass of the command line."""
    options = {option.name: option for kind in (command, TrainConfig) for option in _options(kind, "")}
    closing = _paragraph(_CLOSING.format(presets=", ".join(presets())))
    return [*_head(command), *_entries([options[name] for name in USUAL]), Text(), *closing]


def everything(command: type) -> list[Text]:
    """The lines of ``splat train --help-all``."""
    lines = [*_head(command), Text("The run", "bold")]
    lines += _entries([*_options(command, ""), *_options(TrainConfig, "")])
    titles = descriptions(TrainConfig)
    for item in dataclasses.fields(TrainConfig):
        kind = item.default_factory
        if dataclasses.is_dataclass(kind) and kind is not SceneConfig:  # the scene's are options of the command itself
            lines += [Text(), Text(titles[item.name], "bold"), *_paragraph(inspect.getdoc(kind), 2)]
            lines += _entries(_options(kind, f"{item.name}."))
    return [*lines, Text(), *_paragraph(_FLAGS)]


def show(lines: Iterable[Text]) -> None:
    """Print ``lines`` as they are."""
    for line in lines:
        console.print(line, soft_wrap=True)


def _head(command: type) -> list[Text]:
    usage = Text("usage: splat train SCENE [--out RUN] [OPTIONS]")
    return [usage, Text(), *_paragraph(inspect.getdoc(command)), Text()]


def _paragraph(text: str, indent: int = 0) -> list[Text]:
    margin = " " * indent
    return [Text(line) for line in textwrap.wrap(text, _width(), initial_indent=margin, subsequent_indent=margin)]


def _options(kind: type, prefix: str) -> Iterator[Option]:
    """The options of the fields of ``kind`` that are no sections, in their order."""
    texts, hints = descriptions(kind), typing.get_type_hints(kind)
    for item in dataclasses.fields(kind):
        if item.name in texts and not dataclasses.is_dataclass(item.default_factory):
            flag = f"--{prefix}{item.name}".replace("_", "-")
            typed = "SCENE" if item.name == "scene" else f"{flag} {_value_name(hints[item.name])}".rstrip()
            yield Option(item.name, typed, texts[item.name], _default(kind, item))


def _value_name(hint: Any) -> str:
    """How the value of an option is called: INT, PATH …; a flag has none."""
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    kind = next(option for option in options if option is not types.NoneType)
    if typing.get_origin(kind) is typing.Annotated:
        kind = typing.get_args(kind)[0]
    if typing.get_origin(kind) is typing.Literal:
        return "{" + ",".join(typing.get_args(kind)) + "}"
    if typing.get_origin(kind) is tuple:
        return " ".join(NAMES[each] for each in typing.get_args(kind))
    return "" if kind is bool else NAMES[kind]


def _default(kind: type, item: dataclasses.Field) -> str:
    """The default in words; empty where nothing is set or a flag is off."""
    if kind is not DensifyConfig:
        return "" if item.default is None or item.default is False or item.default == "" else _words(item.default)
    own = {name: getattr(values, item.name) for name, values in STRATEGY_DEFAULTS.items()}
    if len(set(own.values())) == 1:
        return _words(own["mcmc"])
    return ", ".join(f"{name} {_words(value)}" for name, value in own.items() if value is not None)


def _words(value: Any) -> str:
    if isinstance(value, tuple):
        return " ".join(_words(each) for each in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _entries(options: Iterable[Option]) -> list[Text]:
    """The lines of ``options``: names on the left, wrapped texts on the right."""
    lines = []
    for option in options:
        text = f"{option.text} [{option.default}]" if option.default else option.text
        wrapped = textwrap.wrap(text, _width() - _INDENT, break_on_hyphens=False)
        name = f"  {option.typed}"
        if len(name) + 1 > _INDENT:
            lines.append(Text(name, "cyan"))
            name = ""
        lines.append(Text.assemble((f"{name:<{_INDENT}}", "cyan"), wrapped[0]))
        lines += [Text(" " * _INDENT + line) for line in wrapped[1:]]
    return lines


def _width() -> int:
    return min(shutil.get_terminal_size().columns, _WIDEST)
