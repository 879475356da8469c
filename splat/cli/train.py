"""``splat train``: turns photos or a COLMAP scene into a Gaussian cloud."""

import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from splat.cli import help, peer_flags, sfm_only, train_help
from splat.cli.console import parse, registry, require, say
from splat.cli.inputs import of_scene
from splat.cli.train_result import show_result, what_now
from splat.errors import InputError, Interrupted
from splat.training import budget
from splat.training.config import config as settings
from splat.training.config import old_names
from splat.training.config.config import SceneConfig, TrainConfig

if TYPE_CHECKING:
    from splat.runs.train import TrainResult
    from splat.scene import Scene, load_scene
    from splat.training.start import Start


# Photos to train on, up to which these presets are measured to be the better ones (docs/sparse.md).
SPARSE_UP_TO, FEW_UP_TO = 8, 12
LONGEST_SIDE = 1600  # pixels of photos unless another size is asked for, as in Inria's 3DGS
_OF_THE_SCENE = ("downscale", "max_side", "hold_out", "masks", "alpha", "depth_unit", "views", "cache_megabytes")


@registry.struct_rule
def _scene_settings(type_info: tyro.constructors.StructTypeInfo) -> tyro.constructors.StructConstructorSpec | None:
    """The scene's settings are options of `Train` itself (--downscale …), not a group of their own."""
    if type_info.type is not SceneConfig:
        return None
    default = type_info.default if isinstance(type_info.default, SceneConfig) else SceneConfig()
    return tyro.constructors.StructConstructorSpec(instantiate=lambda: default, fields=())


@dataclass(frozen=True)
class Train:
    """Turn photos or a COLMAP scene into a Gaussian cloud; every 8th photo is held out to measure the result, unless
    --hold-out says otherwise."""

    scene: tyro.conf.Positional[Path | None] = None
    """Folder with a COLMAP model, transforms.json or photos; or a video file. Not needed with --resume."""
    out: Path | None = None
    """Folder for all results; by default runs/ and the name of the scene."""
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Resume an interrupted run from its last checkpoint."""
    preset: str | None = None
    """Start from the settings of this preset; other options override it."""
    downscale: float | None = None
    """Divide the photos' width and height by this factor."""
    max_side: int | None = None
    """Shrink photos so that no side is longer than this, pixels; none keeps their size. 1600 unless --downscale is
    given."""
    hold_out: str | None = None
    """Photos kept from training to measure the result on: auto (the test set that the scene names, else every 8th),
    none, a number n (every n-th), a fraction, or a file with a name on each line. [auto]"""
    masks: Literal["object", "ignore", "none"] | None = None
    """What is white in the masks beside the photos: the object to keep, or what to ignore; none uses no masks.
    [object]"""
    alpha: Literal["auto", "mask", "composite", "none"] | None = None
    """Transparency of photos: mask (left out), composite (the background shows through) or none; auto is composite for
    Blender and instant-ngp scenes, else mask. [auto]"""
    depth_unit: float | None = None
    """World units per value of the depth maps in depths/ beside the photos; by default the scene's points tell it."""
    views: int | None = None
    """Train on so many photos, picked evenly; the held-out ones stay the same."""
    cache_megabytes: int | None = None
    """Memory for decoded photos, MiB; the rest stays on disk."""
    sfm_only: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Find the cameras of bare photos or a video, keep them beside the photos, and stop."""
    points: Path | None = None
    """Begin with the points of this file instead of the scene's, in the frame of the cameras: .las, .laz, .e57, .pcd,
    .ply, .xyz, .pts or .csv."""
    init: Path | None = None
    """Begin with the Gaussians of this cloud or run instead of points, in the frame of the cameras."""
    add: Annotated[tuple[Path, ...], tyro.conf.UseAppendAction] = ()
    """Begin with the Gaussians of this cloud or run too; may be given several times."""
    freeze: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Leave the Gaussians of --add as they are, bit for bit, and train the others."""
    view: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Show the run on a web page while it goes on: pictures, curves, pause, stop and save."""
    host: str = "127.0.0.1"
    """Address of that page; 0.0.0.0 lets other machines see it."""
    port: int = 8080
    """Port of that page; if it is taken, the next free one."""
    token: str | None = None
    """Secret that browsers must bring to that page; "new" makes one up."""
    json: Path | None = None
    """Write the metrics (as metrics.json, without the history) to this file; - is standard output, and all else goes to
    standard error."""
    origin: str | None = None
    """Where browsers see that page behind a proxy, such as https://hub.example.org."""
    config: Annotated[TrainConfig, tyro.conf.arg(name="")] = field(default_factory=TrainConfig)


def run(arguments: Sequence[str]) -> None:
    """Run ``splat train``."""
    began = time.monotonic()
    if wanted := {"-h", "--help", "--help-all"} & set(arguments):
        return help.show(train_help.everything(Train) if "--help-all" in wanted else train_help.usual(Train))
    peer_flags.check(arguments)
    arguments = _with_full_size(arguments)
    first = parse("train", Train, old_names.arguments(arguments, strategy=None))
    if first.sfm_only:
        return sfm_only.run(with_scene(first), first.resume, first.json)
    out = first.out or Path("runs") / (first.scene.resolve().stem if first.scene else "")
    import splat.training.trainer  # noqa: F401  takes longer, with PyTorch, than reading most scenes

    scene, reading = None, 0.0
    if first.preset is not None:
        base = settings.preset(first.preset)
    elif first.resume:
        from splat.runs import folder

        folder.check_place(out, resume=True)
        base = folder.stored_settings(out, named=first.config)
    else:
        scene, reading = _timed_scene(with_scene(first))
        base = _preset_for(scene)
    given = {word.split("=")[0].replace("_", "-") for word in arguments}
    strategy = first.config.strategy if "--strategy" in given else base.strategy
    options = parse("train", Train, old_names.arguments(arguments, strategy), default=Train(config=base))
    if options.config.size is not None and "--gaussians" not in given:
        options = replace(options, config=budget.use_whole_size(options.config))
    elif "--gaussians" in given and "--gaussians-per-root-step" not in given:  # who names a number wants it used
        options = replace(options, config=replace(options.config, gaussians_per_root_step=0.0))
    options, refined = _with_pose_refinement(options, given)
    page = watching(options)
    if scene is None:
        scene, reading = _timed_scene(with_scene(options))
    scene = replace(scene, notes=(*scene.notes, *refined))
    # A run by time counts from when the command was given, but not finding the cameras of bare photos.
    spent = 0.0 if options.config.minutes is None else time.monotonic() - began - reading
    from splat.cli.train_start import read_start

    start = read_start(scene, options.points, options.init, options.add, options.freeze, options.config.antialiased)
    train_and_show(with_scene(options), out, options.resume, scene, page, spent, options.json, start)


def _with_pose_refinement(options: Train, given: set[str]) -> tuple[Train, list[str]]:
    """Pose refinement switched on, with a note, where a network gives the poses and nothing else was said."""
    named = given & {"--pose.refine", "--pose.no-refine"}
    if not options.config.priors.reconstruct or options.config.pose.refine or options.resume or named:
        return options, []
    config = replace(options.config, pose=replace(options.config.pose, refine=True))
    said = "the poses of the training photos are refined while training, as a network gave them"
    return replace(options, config=config), [f"{said}; --pose.no-refine keeps them"]


def _timed_scene(config: TrainConfig) -> "tuple[Scene, float]":
    """The scene of ``config``, and the seconds that reading it took."""
    start = time.monotonic()
    return load_scene(config), time.monotonic() - start


def watching(options: Train) -> dict[str, Any] | None:
    """Host, port and token of the live page that was asked for."""
    if not options.view:
        return None
    from splat.cli.view import check_port, secret

    return {
        "host": options.host,
        "port": check_port(options.port),
        "token": secret(options.token),
        "origin": options.origin,
    }


def _preset_for(scene: "Scene") -> TrainConfig:
    """The defaults; for few photos the preset `sparse` or `few`, which is said."""
    from splat.scene.scene import photo_count

    count = photo_count(scene.train_views)
    if not 0 < count <= FEW_UP_TO:
        return TrainConfig()
    name = "sparse" if count <= SPARSE_UP_TO else "few"
    say(f"{count} photos to train on are few, so the preset {name} is used; --preset default keeps the usual settings")
    return settings.preset(name)


def with_scene(options: Train) -> TrainConfig:
    """The settings with what `Train` says of the scene."""
    changes = {name: getattr(options, name) for name in _OF_THE_SCENE}
    before = options.config.scene
    if options.max_side is None and not options.resume and (options.downscale, before.max_side) == (None, None):
        changes["max_side"] = None if before.downscale else LONGEST_SIDE
    if options.hold_out is not None and Path(options.hold_out).is_file():
        changes["hold_out"] = str(Path(options.hold_out).resolve())
    if options.scene is not None:
        changes["path"] = str(options.scene.resolve())
    elif not options.config.scene.path:
        raise InputError("no scene was given; name the folder of one: splat train SCENE --out RUN")
    known = {name: value for name, value in changes.items() if value is not None}
    if known.get("max_side") == 0:
        known["max_side"] = None
    return replace(options.config, scene=replace(before, **known))


def _with_full_size(arguments: Sequence[str]) -> list[str]:
    """``arguments`` with 0 for the word none behind --max-side, which is a number to the parser."""
    words = list(arguments)
    for index, word in enumerate(words):
        flag, equals, value = word.partition("=")
        if flag.replace("_", "-") != "--max-side":
            continue
        if equals and value.lower() == "none":
            words[index] = "--max-side=0"
        elif not equals and index + 1 < len(words) and words[index + 1].lower() == "none":
            words[index + 1] = "0"
    return words


def load_scene(config: TrainConfig) -> "Scene":
    """The scene that ``config`` names, at its size and with its number of photos."""
    from splat.scene import load_scene
    from splat.scene.subset import keep_views

    path = require(Path(config.scene.path), "scene")
    if config.priors.reconstruct:
        from splat.priors.points import feed_forward
        from splat.scene.load import check_options

        options = check_options(**of_scene(config.scene))
        scene = feed_forward.load(path, feed_forward.load_function(config.priors.reconstruct), options)
    else:
        scene = load_scene(path, **of_scene(config.scene), depth_unit=config.scene.depth_unit)
    if config.scene.max_side == LONGEST_SIDE:
        scene = replace(scene, notes=(*scene.notes, *_shrunk(scene)))
    return scene if config.scene.views is None else keep_views(scene, config.scene.views)


def _shrunk(scene: "Scene") -> list[str]:
    """A note on photos that were made smaller to `LONGEST_SIDE`."""
    from splat.scene.images import read_header

    view = max(scene.views, key=lambda view: max(view.camera.width, view.camera.height))
    header = read_header(view.source.path)
    width, height = header.turned if view.source.turn else (header.width, header.height)
    if max(view.camera.width, view.camera.height) != LONGEST_SIDE or max(width, height) <= LONGEST_SIDE:
        return []
    return [
        f"photos of {width}×{height} pixels are shrunk to {view.camera.width}×{view.camera.height}; --max-side none "
        "keeps their size"
    ]


def train_and_show(
    config: TrainConfig,
    out: Path,
    resume: bool = False,
    scene: "Scene | None" = None,
    page: "dict[str, Any] | None" = None,
    spent: float = 0.0,
    json: Path | None = None,
    start: "Start | None" = None,
) -> "TrainResult":
    """Train on ``scene``, by default the one ``config`` names, show how it goes, and print what came out.

    Args:
        page: where to show it live (see `watching`); None shows no page.
        spent: seconds that count as part of the run already.
        json: where the metrics are written for programs, too (see `present`).
        start: clouds and points to begin with.

    Raises KeyboardInterrupt, with the command that goes on, when Ctrl-C was pressed.
    """
    from splat.cli.progress import training_display
    from splat.runs.train import train
    from splat.scene.scene import photo_count

    path = Path(config.scene.path)
    scene = scene or load_scene(config)
    camera = scene.views[0].camera
    say(
        f"{scene.name}: {photo_count(scene.train_views)} photos to train on, {photo_count(scene.test_views)} held out,"
        f" {camera.width}×{camera.height}, {len(scene.points):,} points"
    )
    for note in scene.notes:
        say(f"note: {note}", "dim")
    if not scene.test_views:
        say("note: all photos are trained on, so no scores are computed", "dim")
    try:
        if page is not None:
            from splat.cli.live import train_watched

            return train_watched(scene, config, out, resume, page, spent, json, start)
        with training_display() as progress:
            result = train(scene, config, out, start=start, resume=resume, progress=progress, spent=spent)
    except KeyboardInterrupt as interrupt:
        raise Interrupted(getattr(interrupt, "number", signal.SIGINT), what_now(path, out)) from None
    show_result(result, json)
    return result
