"""``splat convert``: writes clouds in another file format."""

import inspect
import os
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from splat.cli.checks import require, whole_number
from splat.cli.inputs import cloud_file, open_cloud
from splat.cli.plain_parser import parse
from splat.cli.results import present, to_stdout
from splat.cli.spinner import waiting
from splat.errors import InputError
from splat.text import amount, printable

if TYPE_CHECKING:
    from splat.cloud_arrays import GaussianArrays
    from splat.formats import Format

Vector = tuple[float, float, float]
LOOSE = ("meta.json", "lod-meta.json")  # in a folder: an unbundled or a streamed SOG


@dataclass(frozen=True)
class Convert:
    """Write one cloud, or several joined into one, in the file format that OUT's ending names.

    When IN is a folder of cloud files, each of them is converted into the folder OUT (name the format with --format).
    Of a folder of another trainer's results, such as point_cloud/iteration_*, OUT gets the newest cloud.
    Gaussians with NaN or infinite values are left out, and their number is printed.

      splat convert runs/garden garden.spz
      splat convert a.ply b.ply both.sog --max-sh 1
    """

    paths: tuple[Path, ...] = field(metadata={"name": "IN … OUT"})
    """One or more clouds, runs or folders to read, and last the file or folder to write."""
    format: str | None = None
    """Format to write, where the ending of OUT does not tell, such as spz or sog."""
    max_sh: int | None = None
    """Highest SH degree to keep, 0 to 4 (also --sh-degree); by default all that the format can hold."""
    transform: Path | None = None
    """Text file with a 4×4 similarity matrix (rotation, translation, one scale) to apply first."""
    scale: float | None = None
    """Then scale the cloud by this factor."""
    rotate: Vector | None = None
    """Then rotate about x, then y, then z, degrees."""
    translate: Vector | None = None
    """Then translate by this vector, world units."""
    axes: str | None = None
    """Then change the axis convention, FROM:TO; RDF:RUB is right-down-front (OpenCV) to right-up-back (OpenGL)."""
    georeference: Literal["keep", "local"] | None = None
    """How to write clouds in map coordinates, such as UTM: keep writes them (as doubles in .ply), local writes them
    relative to an origin that .ply, .sog, .splatz, .glb and .usd name; by default as they are."""
    crop: tuple[float, float, float, float, float, float] | None = None
    """Keep the Gaussians whose centres lie in the box X0 Y0 Z0 X1 Y1 Z1, world units after the transforms."""
    decimate: str | None = None
    """Merge similar neighbours down to this many Gaussians: a number such as 200k, or a percentage such as 25%."""
    spz_version: int | None = None
    """Version of .spz to write: 2, 3 or 4; by default 3, which most viewers read."""
    option: tuple[str, ...] = ()
    """NAME=VALUE, an option of the format to write; may be given several times."""
    json: Path | None = None
    """Write what was written (count, SH degree, bytes) to this file; - is standard output."""


def run(arguments: Sequence[str]) -> None:
    """Run ``splat convert``."""
    if "numpy" not in sys.modules:  # pieces of the work are shared among threads already
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    options = parse("convert", Convert, arguments, {"--sh-degree": "--max-sh"})
    if len(options.paths) < 2:
        raise InputError("convert got one path; give what to read and then the file to write: splat convert IN OUT")
    from splat import formats

    *sources, target = options.paths
    if options.format is None and formats.ending(target):
        sources = [newest_of(source) for source in sources]
    if any(is_folder_of_clouds(source) for source in sources):
        convert_folders(options, sources, target)
        return
    chosen = formats.find(options.format) if options.format else formats.by_suffix(target)
    facts = convert(options, sources, target, chosen)
    present(facts, options.json, lambda: show(facts))


def newest_of(path: Path) -> Path:
    """``path``, or the newest cloud in it if it is a folder of a trainer's results."""
    from splat.formats.output_folders import newest_cloud

    return cloud_file(path) if is_folder_of_clouds(path) and newest_cloud(path) is not None else path


def is_folder_of_clouds(path: Path) -> bool:
    """Whether ``path`` is a folder that is neither a run nor an unbundled SOG."""
    return path.is_dir() and not any((path / name).is_file() for name in ("config.toml", *LOOSE))


def convert_folders(options: Convert, sources: Sequence[Path], target: Path) -> None:
    """Convert every cloud file below the folders ``sources`` to the same path below ``target``."""
    from splat import formats

    if options.format is None:
        raise InputError(f"{target}: a folder of clouds is to be converted; name the format to write with --format")
    chosen = formats.find(options.format)
    failures, done, taken = [], [], set()
    for source in sources:
        for file, relative in clouds_below(source):
            name = relative.name[: -len(formats.ending(relative))] + chosen.suffixes[0]
            if relative.parent / name in taken:  # a.ply and a.splat in one folder
                name = relative.name + chosen.suffixes[0]
            taken.add(relative.parent / name)
            try:
                done.append(convert(options, [file], target / relative.parent / name, chosen))
                if not to_stdout(options.json):
                    show(done[-1])
            except InputError as error:
                failures.append(str(error))
    present({"files": done, "failures": failures}, options.json, lambda: None)
    if failures:
        more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
        raise InputError(f"{len(done)} files were converted, {len(failures)} were not: {failures[0]}{more}")
    if not done:
        raise InputError(f"{sources[0]}: no cloud file lies in this folder; check the path")


def clouds_below(folder: Path) -> list[tuple[Path, Path]]:
    """(cloud file or SOG folder, its path relative to ``folder``), sorted."""
    from splat import formats

    if not is_folder_of_clouds(folder):
        return [(folder, Path(folder.name))]
    clouds = []
    for path in sorted(folder.rglob("*")):
        if path.is_file() and formats.ending(path) and not formats.by_suffix(path).read_only:
            if path.name == "meta.json" and (path.parents[1] / "lod-meta.json").is_file():
                continue  # a part of a streamed SOG
            unbundled = path.name in LOOSE
            source = path.parent if unbundled else path
            relative = source.relative_to(folder)
            clouds.append((source, relative.with_name(relative.name + ".sog") if unbundled else relative))
    return clouds


def convert(options: Convert, sources: Sequence[Path], target: Path, chosen: "Format") -> dict[str, Any]:
    """Read, join, edit and write one cloud; returns facts about what came out."""
    from splat import formats
    from splat.cloud_arrays import GaussianArrays

    values = dict(format_option(chosen, text) for text in options.option)
    if options.spz_version is not None:
        if "version" not in chosen.options:
            raise InputError(f"--spz-version is for .spz files, but {target} is to be written as '{chosen.name}'")
        values["version"] = options.spz_version
    most = chosen.max_sh if options.max_sh is None else min(chosen.max_sh, max(options.max_sh, 0))
    read, notes = [], []
    for source in sources:
        with waiting(f"reading {source.name}"):
            read.append(read_source(source, most))
            notes += [f"{source.name}: {note}" for note in notes_of(source)]
    for note in notes:
        warnings.warn(note, stacklevel=2)
    if "antialiased" in chosen.options and "antialiased" not in values:
        values["antialiased"] = any(antialiased for _, antialiased in read)
    if "normals" in chosen.options and "normals" not in values:
        from splat.formats.ply.ply import has_normals

        values["normals"] = any(source.suffix.lower() == ".ply" and has_normals(source) for source in sources)
    cloud = GaussianArrays.concat([cloud for cloud, _ in read])
    del read  # the parts of a joined cloud are needed no more
    with waiting(f"editing {len(cloud):,} Gaussians"):
        cloud, dropped = edit(cloud, options)
    with waiting(f"writing {len(cloud):,} Gaussians to {target.name}"):
        formats.write_table(cloud, target, chosen.name, options.georeference, **values)
    folder = target.parent if target.name in LOOSE else target
    size = sum(file.stat().st_size for file in folder.rglob("*")) if folder.is_dir() else target.stat().st_size
    return {
        "paths": [str(source) for source in sources],
        "out": str(target),
        "format": chosen.name,
        "gaussians": len(cloud),
        "sh_degree": cloud.sh_degree,
        "bytes": size,
        "not_finite": dropped,
        "notes": notes,
    }


def show(facts: dict[str, Any]) -> None:
    """Print what `convert` returns in one line."""
    left_out = f"; {facts['not_finite']:,} with NaN or infinite values left out" if facts["not_finite"] else ""
    size = amount(facts["bytes"])
    print(
        f"{printable(facts['out'])}: {facts['gaussians']:,} Gaussians, SH degree {facts['sh_degree']}, {size}{left_out}"
    )


def read_source(path: Path, max_degree: int) -> tuple["GaussianArrays", bool]:
    """A cloud with SH up to ``max_degree`` from a file, a folder or a run, and whether it has the antialiased mark."""
    from splat import formats
    from splat.cloud_arrays import GaussianArrays

    if path.is_dir() and not any((path / name).is_file() for name in LOOSE):
        source = open_cloud(path)
        return GaussianArrays.of(source.cloud), source.antialiased
    clouds = formats.recognise(require(path, "file or folder"))
    return formats.read_table(path, clouds.name, max_degree), formats.antialiased(path, clouds.name)


def notes_of(path: Path) -> tuple[str, ...]:
    """What the user should know of a file that was read; `open_cloud` says it itself of a run."""
    from splat import formats

    return () if path.is_dir() and not any((path / name).is_file() for name in LOOSE) else formats.notes(path)


def edit(cloud: "GaussianArrays", options: Convert) -> tuple["GaussianArrays", int]:
    """Apply what the command line asks for; returns the cloud and how many broken Gaussians were left out."""
    import numpy as np

    from splat.coding.attributes import broken
    from splat.formats import axes as frames

    if options.max_sh is not None:
        if not 0 <= options.max_sh <= 4:
            raise InputError(f"--max-sh is {options.max_sh}, expected 0 to 4")
        cloud = cloud.with_sh_degree(min(options.max_sh, cloud.sh_degree))
    bad = broken(cloud)
    dropped = int(bad.sum())
    if dropped:
        cloud = cloud.select(~bad)
    cloud = move(cloud, options)
    if options.axes is not None:
        source, _, target = options.axes.upper().partition(":")
        if not (frames.is_frame(source) and frames.is_frame(target)):
            raise InputError(f"--axes is '{options.axes}', expected FROM:TO such as RDF:RUB, of the letters LR UD FB")
        cloud = frames.convert(cloud, source, target)
    if options.crop is not None:
        corners = np.float64(options.crop).reshape(2, 3) - cloud.georeference.origin
        low, high = corners.astype(cloud.means.dtype)
        cloud = cloud.select(((cloud.means >= low) & (cloud.means <= high)).all(1))
    if options.decimate is not None:
        from splat.coding.decimate import decimate

        cloud = decimate(cloud, wanted_count(options.decimate, len(cloud)))
    return cloud, dropped


def move(cloud: "GaussianArrays", options: Convert) -> "GaussianArrays":
    """Apply --transform, --scale, --rotate and --translate, in this order, as one similarity."""
    if all(value is None for value in (options.transform, options.scale, options.rotate, options.translate)):
        return cloud
    import numpy as np

    pose = np.eye(4)
    if options.transform is not None:
        try:
            pose = np.loadtxt(options.transform, delimiter=None).reshape(4, 4)
        except (OSError, ValueError) as error:
            raise InputError(
                f"{options.transform}: no 4×4 matrix of numbers could be read ({error}); write four lines of four"
            ) from error
    if options.scale is not None:
        pose = np.diag([options.scale] * 3 + [1.0]) @ pose
    if options.rotate is not None:
        for axis, degrees in enumerate(options.rotate):
            turn, (a, b) = np.eye(4), ((1, 2), (2, 0), (0, 1))[axis]
            turn[a, a] = turn[b, b] = np.cos(np.radians(degrees))
            turn[b, a] = np.sin(np.radians(degrees))
            turn[a, b] = -turn[b, a]
            pose = turn @ pose
    if options.translate is not None:
        pose[:3, 3] += options.translate
    scale = np.cbrt(np.linalg.det(pose[:3, :3]))
    if not np.isfinite(pose).all() or scale <= 0 or not np.allclose(pose[3], (0, 0, 0, 1)):
        raise InputError("the transform is no similarity: its scale must be positive and its last row 0 0 0 1")
    try:
        return cloud.transform(pose[:3, :3] / scale, pose[:3, 3], float(scale))
    except ValueError as error:
        raise InputError(
            f"the transform is no rotation with one scale ({error}); Gaussians cannot follow it"
        ) from error


def wanted_count(text: str, count: int) -> int:
    """The number of Gaussians that ``--decimate`` asks for: '200k', or '25%' of ``count``."""
    try:
        if text.endswith("%"):
            part = float(text[:-1]) / 100
            if not 0 < part <= 1:
                raise ValueError(text)
            return max(1, round(part * count)) if count else 1
        wanted = whole_number(text)
        if wanted < 1:
            raise ValueError(text)
        return wanted
    except ValueError as error:
        raise InputError(f"--decimate is '{text}', expected a number such as 200k or a part such as 25%") from error


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
    if isinstance(default, str):
        return name, value
    number = float if isinstance(default, float) else int
    try:
        return name, number(value)
    except ValueError as error:
        wanted = "a number" if number is float else "a whole number"
        raise InputError(f"--option {name} is '{value}', expected {wanted}") from error
