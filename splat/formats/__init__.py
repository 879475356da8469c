"""Gaussian clouds in the file formats of the ecosystem: one registry, ``read(path)`` and ``write(cloud, path)``."""

import inspect
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from splat.errors import InputError
from splat.reading import guarded, require_file

if TYPE_CHECKING:
    from splat.cloud import GaussianCloud
    from splat.cloud_arrays import GaussianArrays


@dataclass(frozen=True)
class Format:
    """One file format.

    Attributes:
        name: what ``--format`` and messages call it.
        suffixes: file name endings, the longest match wins; the first is the usual one.
        module: module of this package with ``read(path)``, ``write(table, path, **options)`` and ``antialiased(path)``.
        description: one line for people.
        max_sh: highest SH degree that it can hold.
        cuts_sh: its reader takes ``max_degree`` and spares itself the SH that is not wanted.
        method: what ``splat compress --method`` must be to write it; None for formats with a ``write``.
        read_only: it has no ``write``.
        has_notes: the module has ``notes(path)`` too: sentences about a file that its reader should hear.
        holds_origin: a `Georeference` stands in the file.
        holds_doubles: its coordinates may be float64.
        has_quality: it is rounded more coarsely at a lower quality; others have a fixed precision.
    """

    name: str
    suffixes: tuple[str, ...]
    module: str
    description: str
    max_sh: int = 4
    cuts_sh: bool = False
    has_quality: bool = False
    has_notes: bool = False
    holds_origin: bool = False
    holds_doubles: bool = False
    method: str | None = None
    read_only: bool = False

    def function(self, name: str) -> Callable:
        """The function ``name`` of the format's module, loaded on first use."""
        return getattr(import_module(f"splat.formats.{self.module}"), name)

    @property
    def read(self) -> Callable[[Path], "GaussianArrays"]:
        return self.function("read")

    @property
    def write(self) -> Callable[..., None]:
        """Raises InputError for a format that is only read, or that only a compression method writes."""
        if self.read_only:
            written = ", ".join(known.suffixes[0] for known in FORMATS if not (known.read_only or known.method))
            endings = ", ".join(self.suffixes)
            raise InputError(f"{self.name} files ({endings}) are only read, not written; use one of {written}")
        if self.method is not None:
            raise InputError(
                f"'{self.name}' files are written by: splat compress IN OUT{self.suffixes[0]} --method {self.method}"
            )
        return self.function("write")

    @property
    def options(self) -> tuple[str, ...]:
        """Names of the options that ``write`` takes."""
        parameters = inspect.signature(self.write).parameters.values()
        return tuple(parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY)


FORMATS = (
    Format(
        "ply",
        (".ply",),
        "ply.ply",
        "original 3DGS .ply: lossless, any SH degree, extra properties kept",
        cuts_sh=True,
        has_notes=True,
        holds_origin=True,
        holds_doubles=True,
    ),
    Format(
        "points",
        (".points.ply",),
        "ply.points",
        "point cloud .ply: centres and colours only",
        max_sh=0,
        has_notes=True,
        holds_origin=True,
        holds_doubles=True,
    ),
    Format(
        "compressed-ply",
        (".compressed.ply",),
        "ply.compressed",
        "PlayCanvas compressed .ply: 16 bytes a Gaussian, SH 3",
        max_sh=3,
        cuts_sh=True,
        holds_origin=True,
    ),
    Format("splat", (".splat",), "dotsplat", "antimatter15 .splat: 32 bytes a Gaussian, no SH", 0),
    Format("ksplat", (".ksplat",), "ksplat", "mkkellogg .ksplat: levels 0, 1 and 2, SH 2", 2),
    Format(
        "sog",
        (".sog", "meta.json"),
        "sog.read",
        "PlayCanvas SOG: bundle or folder; versions 1 and 2 read, 2 written, SH 3",
        max_sh=3,
        cuts_sh=True,
        has_quality=True,
        holds_origin=True,
    ),
    Format(
        "streamed-sog",
        ("lod-meta.json",),
        "sog.streamed",
        "PlayCanvas streamed SOG: levels of detail, the finest read, SH 3",
        3,
    ),
    Format("spz", (".spz",), "spz.spz", "Niantic .spz: versions 1 to 4 read, 2 to 4 written, SH 4", cuts_sh=True),
    Format(
        "splatz",
        (".splatz",),
        "splatz.container",
        "splat's own container: smallest, checksummed, coarse to fine, SH 4",
        has_quality=True,
        holds_origin=True,
    ),
    Format(
        "gltf",
        (".glb", ".gltf"),
        "gltf.write",
        "glTF with KHR_gaussian_splatting, or SPZ inside it, SH 3",
        max_sh=3,
        holds_origin=True,
    ),
    Format(
        "usd",
        (".usdc", ".usda", ".usdz", ".usd"),
        "usd.usd",
        "OpenUSD ParticleField3DGaussianSplat, SH 4",
        holds_origin=True,
    ),
    Format("vectree", (".vectree",), "vectree", "LightGaussian's VecTree: octree and codebook, SH 4", method="vectree"),
    Format(
        "codebooks",
        (".codebooks",),
        "codebooks",
        "vector quantization as in Compact3D and OMG, SH 4",
        method="compact3d",
    ),
    Format("neuralgs", (".neuralgs",), "neuralgs", "NeuralGS: a network per cluster, SH 4", method="neuralgs"),
    Format("las", (".las", ".laz"), "survey.cloud", "LAS or LAZ points", 0, has_notes=True, read_only=True),
    Format("e57", (".e57",), "survey.cloud", "E57 scans", 0, has_notes=True, read_only=True),
    Format(
        "pcd", (".pcd",), "survey.cloud", "PCD points of the Point Cloud Library", 0, has_notes=True, read_only=True
    ),
    Format(
        "text",
        (".xyz", ".pts", ".csv", ".asc"),
        "survey.cloud",
        "points as text, one a line",
        0,
        has_notes=True,
        read_only=True,
    ),
    Format(
        "checkpoint",
        (".pt", ".pth", ".ckpt"),
        "checkpoints",
        "PyTorch checkpoint of gsplat, nerfstudio or the original 3DGS code, SH 4",
        has_notes=True,
        read_only=True,
    ),
)

# First bytes that only one format has.
MAGIC = {
    b"\x1f\x8b": "spz",
    b"NGSP": "spz",
    b"PK\x03\x04": "sog",
    b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8": "checkpoint",
    b"SPLATZ\x1a\n": "splatz",
    b"glTF": "gltf",
    b"PXR-USDC": "usd",
    b"#usda": "usd",
    b"VECTREE\x01": "vectree",
    b"CODEBOOK\x01": "codebooks",
    b"NEURALGS\x01": "neuralgs",
    b"LASF": "las",
    b"ASTM-E57": "e57",
    b"# .PCD": "pcd",
}


def find(name: str) -> Format:
    """The format called ``name``. Raises InputError naming the known ones."""
    for candidate in FORMATS:
        if candidate.name == name:
            return candidate
    raise InputError(f"no format is called '{name}'; choose one of {', '.join(known.name for known in FORMATS)}")


def ending(path: str | Path) -> str:
    """The longest known ending of ``path``'s name, or ""."""
    name = Path(path).name.lower()
    return max((suffix for known in FORMATS for suffix in known.suffixes if name.endswith(suffix)), key=len, default="")


def by_suffix(path: str | Path) -> Format:
    """The format that the ending of ``path`` stands for. Raises InputError naming the known endings."""
    suffix = ending(path)
    if not suffix:
        endings = ", ".join(suffix for known in FORMATS if not known.read_only for suffix in known.suffixes)
        raise InputError(f"{path}: the file's ending is none that splat writes; use one of {endings}")
    return next(known for known in FORMATS if suffix in known.suffixes)


def recognise(path: str | Path) -> Format:
    """The format of the existing file or folder ``path``, by content where that can tell, else by suffix.

    Raises InputError when neither tells.
    """
    path = Path(path)
    if path.is_dir():
        for name in ("sog", "streamed-sog"):
            if (path / find(name).suffixes[-1]).is_file():
                return find(name)
        raise InputError(f"{path}: the folder holds no meta.json, so it is no SOG; give a file or another folder")
    require_file(path)
    with guarded(path, "the file"), open(path, "rb") as file:
        start = file.read(16)
    if start.startswith(b"ply"):
        from splat.formats.ply import compressed, ply
        from splat.formats.ply.header import read_header

        header = read_header(path)
        if compressed.is_compressed(header):
            return find("compressed-ply")
        return find("ply" if ply.is_cloud(header) else "points")
    for magic, name in MAGIC.items():
        if start.startswith(magic):
            return _in_zip(path) if name == "sog" else find(name)
    return by_suffix(path)


def _in_zip(path: Path) -> Format:
    """A zip may be a SOG, a .usdz or a checkpoint, whatever else it is called."""
    if path.suffix.lower() == ".usdz":
        return find("usd")
    from splat.formats.checkpoints import is_checkpoint

    return find("checkpoint" if is_checkpoint(path) else "sog")


def read_table(path: str | Path, format: str | None = None, max_degree: int = 4) -> "GaussianArrays":
    """As `read`, but as NumPy arrays, which needs no PyTorch, and with SH up to ``max_degree``."""
    from splat.formats.infinities import without_infinities

    path = Path(path)
    chosen = find(format) if format else recognise(path)
    if not path.is_dir():
        require_file(path)
    with guarded(path, f"the {chosen.name} data"):
        table = without_infinities(chosen.read(path, **({"max_degree": max_degree} if chosen.cuts_sh else {})))
        return table if table.sh_degree <= max_degree else table.with_sh_degree(max_degree)


def antialiased(path: str | Path, format: str | None = None) -> bool:
    """Whether the file is marked as trained with the antialiased (mip) blur. Raises InputError as `read` does."""
    path = Path(path)
    chosen = find(format) if format else recognise(path)
    with guarded(path, f"the {chosen.name} data"):
        return bool(chosen.function("antialiased")(path))


def notes(path: str | Path, format: str | None = None) -> tuple[str, ...]:
    """What the user should know of the cloud in ``path``: what was worked in, made of it, or is not shown.

    Raises InputError as `read` does.
    """
    path = Path(path)
    chosen = find(format) if format else recognise(path)
    with guarded(path, f"the {chosen.name} data"):
        return chosen.function("notes")(path) if chosen.has_notes else ()


def write_table(
    table: "GaussianArrays",
    path: str | Path,
    format: str | None = None,
    georeference: str | None = None,
    **options: Any,
) -> None:
    """As `write`, from NumPy arrays."""
    path = Path(path)
    chosen = find(format) if format else by_suffix(path)
    unknown = [option for option in options if option not in chosen.options]
    if unknown:
        takes = ", ".join(chosen.options) or "none"
        raise InputError(f"{path}: the format '{chosen.name}' has no option '{unknown[0]}'; its options are: {takes}")
    chosen.write(_placed(table, chosen, path, georeference), path, **options)


def _placed(table: "GaussianArrays", chosen: Format, path: Path, georeference: str | None) -> "GaussianArrays":
    """``table`` with the coordinates that go into the file; what is lost is said."""
    if georeference == "keep":
        return _in_world(table.in_world(), chosen, path)
    if georeference == "local" or not chosen.holds_doubles:
        table = table.local()
    if table.georeference.placed and not chosen.holds_origin:
        warnings.warn(
            f"{path}: coordinates are relative to {table.georeference}, which {chosen.name} files cannot say; "
            ".ply, .sog, .splatz, .glb and .usd can",
            stacklevel=4,
        )
    return table


def _in_world(table: "GaussianArrays", chosen: Format, path: Path) -> "GaussianArrays":
    """``table``, whose means are world coordinates, in numbers that the format has."""
    from splat.coordinates import rounding_error

    if chosen.holds_doubles or not table.wide:
        return table
    error = rounding_error(table.means)
    warnings.warn(
        f"{path}: {chosen.name} files have float32 coordinates, which are wrong here by up to {error:.2g} m; "
        "without --georeference keep they would be relative to a stated origin",
        stacklevel=4,
    )
    return table.replace(means=table.means.astype("float32"))


def read(path: str | Path, format: str | None = None) -> "GaussianCloud":
    """Read a cloud from ``path`` (float32, CPU, frame of the training cameras).

    A cloud in map coordinates comes relative to an origin near it, see `GaussianCloud.georeference`.

    Args:
        path: file, or the folder of an unbundled SOG.
        format: name of the format; found from content and suffix if None.
    Warns of what `notes` says. Raises InputError when the file is missing, damaged or of no known format.
    """
    path = Path(path)
    chosen = format or recognise(path).name
    table = read_table(path, chosen)
    for note in notes(path, chosen):
        warnings.warn(f"{path.name}: {note}", stacklevel=2)
    return table.cloud()


def write(
    cloud: "GaussianCloud",
    path: str | Path,
    format: str | None = None,
    georeference: str | None = None,
    **options: Any,
) -> None:
    """Write ``cloud`` to ``path``, atomically, in the format its suffix (or ``format``) names.

    Args:
        georeference: of clouds with an origin; "local" writes coordinates relative to it, and the origin beside them
            where the format can, "keep" writes world coordinates, as float64 where the format can. By default as the
            numbers are. Warns of what the format loses.
        options: of the format.

    Raises InputError for an unknown suffix or option, or a cloud the format cannot hold.
    """
    from splat.cloud_arrays import GaussianArrays

    write_table(GaussianArrays.of(cloud), path, format, georeference, **options)
