"""``splat convert``: writes clouds in another file format."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from splat.cli.console import amount, parse, say
from splat.cli.inputs import open_subject
from splat.errors import InputError


@dataclass(frozen=True)
class Convert:
    """Write one cloud, or several joined into one, in the file format that OUT's ending names."""

    paths: tyro.conf.Positional[tuple[Path, ...]]
    """IN… OUT: one or more clouds or runs to read, and last the file to write."""
    format: str | None = None
    """Format to write, where the ending of OUT does not tell."""
    sh_degree: int | None = None
    """Cut the view-dependent colour to this band, 0 to 4."""
    option: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """NAME=VALUE, an option of the format to write; may be given several times."""


def run(arguments: Sequence[str]) -> None:
    """Run ``splat convert``."""
    options = parse("convert", Convert, arguments)
    if len(options.paths) < 2:
        raise InputError("convert got one path; give what to read and then the file to write: splat convert IN OUT")
    from splat import formats
    from splat.cloud import GaussianCloud

    *sources, target = options.paths
    chosen = formats.find(options.format) if options.format else formats.by_suffix(target)
    values = dict(format_option(chosen, text) for text in options.option)
    clouds = [open_subject(source).cloud for source in sources]
    cloud = clouds[0] if len(clouds) == 1 else GaussianCloud.concat(clouds)
    if options.sh_degree is not None:
        if not 0 <= options.sh_degree <= 4:
            raise InputError(f"--sh-degree is {options.sh_degree}, expected 0 to 4")
        cloud = cloud.with_sh_degree(min(options.sh_degree, cloud.sh_degree))
    formats.write(cloud, target, format=options.format, **values)
    size = sum(file.stat().st_size for file in target.rglob("*")) if target.is_dir() else target.stat().st_size
    say(f"{target}: {len(cloud):,} Gaussians, SH degree {cloud.sh_degree}, {amount(size)}")


def format_option(chosen: Any, text: str) -> tuple[str, Any]:
    """The ``NAME=VALUE`` of the command line as the type that the format's writer declares."""
    name, equals, value = text.partition("=")
    name = name.replace("-", "_")
    if not equals or name not in chosen.options:
        known = ", ".join(chosen.options) or "none"
        raise InputError(
            f"--option '{text}' does not fit the format '{chosen.name}'; write NAME=VALUE with one of: {known}"
        )
    default = inspect.signature(chosen.write).parameters[name].default
    if isinstance(default, bool):
        words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        if value.lower() not in words:
            raise InputError(f"--option {name} is '{value}', expected yes or no")
        return name, words[value.lower()]
    for kind in (int, float):
        try:
            return name, kind(value)
        except ValueError:
            continue  # not a number of this kind: try the next, at last keep the text
    return name, value
