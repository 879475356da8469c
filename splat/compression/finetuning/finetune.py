"""Fine-tuning on photos, or distilling from a better cloud, in one call: rows stay, learning rates fall to nearly 0."""

from collections.abc import Sequence

from splat.camera import Camera
from splat.cloud import GaussianCloud
from splat.compression.finetuning.fine_tuner import FineTuner, photo_targets, render_targets, usual_rates
from splat.compression.finetuning.straight_through import Rounding
from splat.rendering import RenderOptions
from splat.scene import Scene
from splat.training.schedules import Rates

PACE = (1.0, 0.02)  # from the usual learning rates down to these
JITTER = 0.05  # of the distance between neighbouring pseudo views, as LightGaussian's noise in scene units
COLOUR_RATES = Rates(0.0, 0.04, 0.02, 0.0, 0.0, 0.0)  # of distillation, which moves colours only


def finetune(
    cloud: GaussianCloud,
    scene: Scene,
    steps: int = 300,
    options: RenderOptions | None = None,
    seed: int = 0,
    pace: tuple[float, float] = PACE,
    rounding: Rounding | None = None,
) -> GaussianCloud:
    """``cloud`` after ``steps`` of training on the scene's training photos with its rows unchanged.

    Args:
        pace: learning rates at the first and last step, of those in the middle of a training run.
        rounding: train what this makes of the cloud; the result is what was behind it. Give a cloud
            `with_ordered_axes`.

    Raises InputError when the scene has no training photos.
    """
    options = options or RenderOptions()
    targets = photo_targets(scene, options)
    if len(cloud) == 0 or steps == 0:
        return cloud
    tuner = FineTuner(cloud, targets, usual_rates(scene.extent), options, seed)
    tuner.run(steps, pace, rounding)
    return tuner.cloud


def distill(
    cloud: GaussianCloud,
    degree: int,
    cameras: Sequence[Camera],
    steps: int = 100,
    options: RenderOptions | None = None,
    seed: int = 0,
) -> GaussianCloud:
    """``cloud`` with SH of ``degree`` only, its colours fitted to renders of the whole ``cloud``; geometry stays.

    LightGaussian's distillation (Fan et al. 2024, §3.3): two of three steps look from a pseudo view, a camera moved by
    noise. Needs no photos.
    """
    student = cloud.with_sh_degree(min(degree, cloud.sh_degree))
    if student.sh_degree == cloud.sh_degree or len(cloud) == 0 or not cameras or steps == 0:
        return student
    options = options or RenderOptions()
    tuner = FineTuner(student, render_targets(cloud, cameras, options, JITTER, seed), COLOUR_RATES, options, seed)
    tuner.run(steps, (1.0, 0.1))
    return tuner.cloud
