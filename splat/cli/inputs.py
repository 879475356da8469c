"""What a path given on the command line is: a run, a scene, or a cloud in any file format."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from splat.cli.checks import require
from splat.errors import InputError
from splat.reading import parse_json, read_bytes

if TYPE_CHECKING:
    from splat.cloud import GaussianCloud
    from splat.rendering import RenderOptions
    from splat.scene import Scene
    from splat.training.config.config import SceneConfig, TrainConfig


MAX_META = 12 << 20  # bytes of a SOG's meta.json


def kind_of(path: Path) -> Literal["run", "scene", "cloud"]:
    """Tell runs, scenes and clouds apart. Raises InputError when ``path`` does not exist or is none of them."""
    require(path, "file or folder")
    if path.is_dir():
        if (path / "config.toml").is_file():
            return "run"
        if path.resolve() == path.resolve().parent:
            raise InputError(f"{path} is the root of a file system, expected a run, a scene or a cloud")
        if _is_unbundled_sog(path):
            return "cloud"
        from splat.formats.output_folders import newest_cloud

        newest = newest_cloud(path)
        return "scene" if newest is None or _has_cameras(newest.path) else "cloud"
    from splat import formats

    if path.name.startswith("transforms"):
        return "scene"
    if path.suffix.lower() in (".zip", ".r3d"):
        from splat.scene.readers.archive import is_cloud

        return "cloud" if is_cloud(path) else "scene"
    if _has_cameras(path):
        return "scene"
    if not formats.ending(path):
        from splat.scene.readers.model_places import FILES
        from splat.scene.readers.sources import SUFFIXES
        from splat.scene.readers.video import VIDEO_SUFFIXES

        if path.suffix.lower() in {".json", *SUFFIXES, *VIDEO_SUFFIXES} or path.name in FILES:
            return "scene"
    formats.recognise(path)
    return "cloud"


def _has_cameras(path: Path) -> bool:
    """Whether a table, which may be of points, is one of cameras."""
    if path.suffix.lower() != ".csv":
        return False
    from splat.scene.readers.sources import source_of

    return source_of(path) is not None


def cloud_file(path: Path) -> Path:
    """``path`` if it is a cloud itself; of a folder of results, its newest cloud, which is said."""
    if not path.is_dir() or _is_unbundled_sog(path):
        return path
    from splat.formats.output_folders import newest_cloud

    newest = newest_cloud(path)
    if newest is None:
        raise InputError(f"{path} holds no cloud that could be told from others; name the file")
    warnings.warn(f"{path}: {newest.reason}", stacklevel=2)
    return newest.path


def _is_unbundled_sog(folder: Path) -> bool:
    """Whether ``folder`` holds the loose files of a SOG; scenes may have a meta.json too."""
    if (folder / "lod-meta.json").is_file():
        return True
    try:
        return "means" in parse_json(read_bytes(folder / "meta.json", MAX_META), folder, "meta.json")
    except InputError:
        return False


@dataclass(frozen=True)
class LoadedCloud:
    """A cloud that a command was given, and how it wants to be rendered.

    Attributes:
        cloud: the Gaussians.
        file: where they were read from.
        run: folder of the training run that made them, or None.
        config: settings of that run, or None.
        antialiased: whether the cloud was trained with the anti-aliased opacity factor.
        background: RGB it was trained on.
    """

    cloud: "GaussianCloud"
    file: Path
    run: Path | None
    config: "TrainConfig | None"
    antialiased: bool
    background: tuple[float, float, float]

    @property
    def render_options(self) -> "RenderOptions":
        """How the cloud is to be drawn: as it was trained, and however small its units are."""
        from splat.rendering import RenderOptions
        from splat.rendering.types import near_plane_of

        return RenderOptions(background=self.background, antialiased=self.antialiased, near=near_plane_of(self.cloud))


def open_cloud(path: Path) -> LoadedCloud:
    """The cloud of a run, or of a file. Raises InputError when ``path`` is neither."""
    from splat import formats

    kind = kind_of(path)
    if kind == "scene":
        raise InputError(
            f"{path} is neither a run (no config.toml) nor a cloud; train first: splat train {path} --out RUN"
        )
    if kind == "cloud":
        path = cloud_file(path)
        antialiased = formats.antialiased(path)
        return LoadedCloud(formats.read(path), path, None, None, antialiased, (0.0, 0.0, 0.0))
    from splat.training.config import config as settings

    file = path / "cloud.ply"
    if not file.is_file():
        raise InputError(f"{path} has no cloud.ply yet; finish the run with: splat train --out {path} --resume")
    config = settings.read_to_show(path / "config.toml")
    return LoadedCloud(formats.read(file), file, path, config, config.antialiased, config.background)


def open_scene(source: LoadedCloud, scene: Path | None, downscale: float | None, max_side: int | None) -> "Scene":
    """The scene named on the command line, or the one that the run was trained on, at the run's size unless told.

    It is in the coordinates of the cloud.
    """
    from splat.scene import load_scene

    trained = source.config.scene if source.config is not None else None
    if scene is None and (trained is None or not trained.path):
        raise InputError(f"{source.file} does not say which photos it belongs to; name them with --scene FOLDER")
    if trained is not None and downscale is None and max_side is None:
        downscale, max_side = trained.downscale, trained.max_side
    path = require(scene if scene is not None else Path(trained.path), "scene")
    chosen = {} if trained is None else of_scene(trained)
    return load_scene(path, **chosen | {"downscale": downscale, "max_side": max_side}).beside(source.cloud)


def of_scene(config: "SceneConfig") -> dict[str, Any]:
    """What `load_scene` is to be told of the settings of a run's scene."""
    return {name: getattr(config, name) for name in ("downscale", "max_side", "hold_out", "alpha", "masks")}


def on_device(cloud: "GaussianCloud", backend: str) -> "GaussianCloud":
    """``cloud`` where ``backend`` renders it: on the GPU if that works here and was not ruled out."""
    from splat.rendering import check_backend, get_backend

    wanted = "cuda" if backend == "auto" else backend
    return cloud.to(get_backend(wanted).device) if check_backend(wanted) is None else cloud
