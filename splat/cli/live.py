"""``splat train --view``: a training run beside its page."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from splat.cli.console import say
from splat.cli.train_result import save_stopped

if TYPE_CHECKING:
    from splat.runs.train import TrainResult
    from splat.scene import Scene
    from splat.training.config.config import TrainConfig
    from splat.training.progress import Progress
    from splat.training.start import Start


def train_watched(
    scene: "Scene",
    config: "TrainConfig",
    out: Path,
    resume: bool,
    where: dict[str, Any],
    spent: float,
    json: Path | None = None,
    start: "Start | None" = None,
) -> "TrainResult":
    """Train on ``scene`` and show it on the page that ``where`` (host, port, token) asks for; ``spent``,
    ``json`` and ``start`` as of `train_and_show`.

    On a terminal the page stays when the run is over, until Ctrl-C; elsewhere it ends with the run. A run that the
    reader of the page stopped leaves cloud, report and a checkpoint to resume from.
    """
    from splat.cli.progress import training_display
    from splat.cli.train_result import show_result, what_now
    from splat.cli.view import address, serve
    from splat.rendering.types import near_plane
    from splat.runs.train import train
    from splat.viewer import Look
    from splat.viewer.training_page import Live

    near = near_plane(scene.extent)
    look = Look(background=config.background, antialiased=config.antialiased, near=near)
    live = Live(scene, look, out, **where)
    try:
        say(f"watch it at {address(live.page, where['token'])}")
        with training_display() as progress:

            def update(now: "Progress") -> None:
                progress(now)
                live.update(now)

            result = train(
                scene, config, out, start=start, resume=resume, progress=update, stop=live.stop, clock=live.clock,
                spent=spent,
            )  # fmt: skip
        live.finish(result.cloud)
        if result.finished:
            show_result(result, json)
        else:
            save_stopped(result, scene)
            say(f"stopped; {what_now(Path(config.scene.path), out)}")
        if sys.stdout.isatty():
            serve(live.page, where["token"])
        return result
    finally:
        live.close()
