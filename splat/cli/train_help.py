"""What ``splat train --help`` and ``--help-all`` print: the settings by section, in the width of the terminal."""

import dataclasses
import inspect
from collections.abc import Iterator

from rich.text import Text

from splat.cli.help import Option, descriptions, entries, options_of, paragraphs, words
from splat.training.config.config import TrainConfig, presets
from splat.training.config.densify import STRATEGY_DEFAULTS, DensifyConfig
from splat.training.config.photos import SceneConfig

USUAL = (
    *(
        "scene",
        "out",
        "preset",
        "steps",
        "minutes",
        "gaussians",
        "size",
        "strategy",
        "max_side",
        "downscale",
        "hold_out",
    ),
    *("masks", "resume", "view", "backend", "seed"),
)
"""The options that most runs need no more than."""
_CLOSING = (
    "Presets: {presets}. Whole numbers may be written as 60k or 1.5M. "
    "`splat train --help-all` lists every option, by method; docs/training.md explains them."
)
_FLAGS = "A flag that a preset sets is switched off with no- before its name, such as --pose.no-refine."


def usual(command: type) -> list[Text]:
    """The lines of ``splat train --help``; ``command`` is the dataclass of the command line."""
    options = {option.name: option for kind in (command, TrainConfig) for option in options_of(kind)}
    closing = paragraphs(_CLOSING.format(presets=", ".join(presets())))
    return [*_head(command), *entries([options[name] for name in USUAL]), Text(), *closing]


def everything(command: type) -> list[Text]:
    """The lines of ``splat train --help-all``."""
    lines = [*_head(command), Text("The run", "bold")]
    lines += entries([*options_of(command), *options_of(TrainConfig)])
    titles = descriptions(TrainConfig)
    for item in dataclasses.fields(TrainConfig):
        kind = item.default_factory
        if dataclasses.is_dataclass(kind) and kind is not SceneConfig:  # the scene's are options of the command itself
            lines += [Text(), Text(titles[item.name], "bold"), *paragraphs(inspect.getdoc(kind), 2)]
            lines += entries(_with_strategies(kind, options_of(kind, f"{item.name}.")))
    return [*lines, Text(), *paragraphs(_FLAGS)]


def _head(command: type) -> list[Text]:
    usage = Text("usage: splat train SCENE [--out RUN] [OPTIONS]")
    return [usage, Text(), *paragraphs(inspect.getdoc(command)), Text()]


def _with_strategies(kind: type, options: Iterator[Option]) -> Iterator[Option]:
    """``options``; the defaults of `DensifyConfig` are those of each strategy."""
    for option in options:
        if kind is not DensifyConfig:
            yield option
            continue
        defaults = {name: getattr(values, option.name) for name, values in STRATEGY_DEFAULTS.items()}
        if len(set(defaults.values())) == 1:
            text = words(defaults["mcmc"])
        else:
            text = ", ".join(f"{name} {words(value)}" for name, value in defaults.items() if value is not None)
        yield dataclasses.replace(option, default=text)
