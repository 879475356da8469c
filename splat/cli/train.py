"""``splat train``: turns photos or a COLMAP scene into a Gaussian cloud."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from splat.cli.console import registry
from splat.training.config import SceneConfig, TrainConfig

DEFAULT_PRESET = "default"


@registry.struct_rule
def _scene_settings(type_info: tyro.constructors.StructTypeInfo) -> tyro.constructors.StructConstructorSpec | None:
    """The scene's settings are options of `Train` itself (--downscale …), not a group of their own."""
    if type_info.type is not SceneConfig:
        return None
    default = type_info.default if isinstance(type_info.default, SceneConfig) else SceneConfig()
    return tyro.constructors.StructConstructorSpec(instantiate=lambda: default, fields=())


@dataclass(frozen=True)
class Train:
    """Turn photos or a COLMAP scene into a Gaussian cloud; every 8th photo is held out to measure the result."""

    scene: tyro.conf.Positional[Path | None] = None
    """Folder with a COLMAP model, transforms.json or photos; or a video file. Not needed with --resume."""
    out: Path | None = None
    """Folder of the run, for all results. By default runs/<name of the scene>."""
    resume: bool = False
    """Go on with an interrupted run where its last checkpoint was."""
    preset: str | None = None
    """Start from the settings of this file in configs/; other options override it."""
    downscale: float | None = None
    """Divide the photos' sides by this."""
    max_side: int | None = None
    """Shrink the photos so that no side is longer, pixels."""
    cache_megabytes: int | None = None
    """Memory for decoded photos; the rest stays on disk."""
    config: Annotated[TrainConfig, tyro.conf.arg(name="")] = field(default_factory=TrainConfig)
