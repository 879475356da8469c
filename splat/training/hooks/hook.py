"""`TrainingHook`: a method that plugs into training beside the strategy, such as a prior for scenes of few photos.

The trainer and its `Fitter` call each hook at the same places of every step; without hooks, nothing is called. Hooks
draw all randomness from (seed, step) and keep what they learn in `state`, so that a resumed run goes on exactly.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from splat.cloud import GaussianCloud
from splat.rendering.types import ImageGradients, Rendering
from splat.training.losses.image import PictureLoss
from splat.training.per_photo.parameters import PerPhoto
from splat.training.population import Population
from splat.training.step_context import StepContext
from splat.training.training_view import TrainingView


@dataclass(frozen=True)
class TrainingHook:
    """Every hook is optional; None (or empty) means it is not used. In the order in which a step calls them:

    Attributes:
        name: in messages and checkpoints.
        initialize: changes the first Gaussians, within the cap on their number.
        extra_view: a view to train on in this step instead of a photo, or None for the photo. Is given the cloud.
        transform_view: the view as it is to be rendered and compared, for example smaller.
        dropout: fraction of the Gaussians, drawn at random, that this step does not show.
        deform: the cloud as ``view`` shows it; with None for the view, as it is written at the end. Differentiable in
            the cloud's floating-point tensors and in ``view.photo_parameters``; returns the same object where it
            changes nothing.
        per_photo: what is learned of each photo for ``deform``, by a name of its own in ``view.photo_parameters``.
        rates: learning rates of the extras that ``deform`` reads.
        needs: images it needs beside the colours: "depth", "normal", "square_depth".
        refine_target: the view as it should be compared, for example with more of the photo masked. Is given the
            rendered (H, W, 3) colours after the photo's colour corrections.
        penalty: what it minimises beside the comparison with the photo, and its gradients by the rendering.
        regularize: gradients by the cloud's tensors, by name, of what it minimises of the cloud itself.
        refine: changes the population after a step, as a strategy does.
        state, restore: what it has learned, as plain data for a checkpoint, and the way back.
    """

    name: str
    initialize: Callable[[GaussianCloud], GaussianCloud] | None = None
    extra_view: Callable[[GaussianCloud, StepContext], TrainingView | None] | None = None
    transform_view: Callable[[TrainingView, StepContext], TrainingView] | None = None
    dropout: Callable[[StepContext], float] | None = None
    deform: Callable[[GaussianCloud, TrainingView | None], GaussianCloud] | None = None
    per_photo: Mapping[str, PerPhoto] = field(default_factory=dict)
    rates: Mapping[str, float] = field(default_factory=dict)
    needs: frozenset[str] = frozenset()
    refine_target: Callable[[Tensor, TrainingView, StepContext], TrainingView] | None = None
    penalty: Callable[[Rendering, TrainingView, StepContext], tuple[float, ImageGradients]] | None = None
    regularize: Callable[[GaussianCloud, StepContext], Mapping[str, Tensor]] | None = None
    refine: Callable[[Population, StepContext], None] | None = None
    state: Callable[[], dict[str, Any]] | None = None
    restore: Callable[[dict[str, Any]], None] | None = None


def needs(hooks: Sequence[TrainingHook], image: str) -> bool:
    """Whether any hook needs ``image``."""
    return any(image in hook.needs for hook in hooks)


def transform_view(hooks: Sequence[TrainingHook], view: TrainingView, context: StepContext) -> TrainingView:
    """``view`` as the hooks want it rendered and compared."""
    for hook in hooks:
        view = view if hook.transform_view is None else hook.transform_view(view, context)
    return view


def add_penalties(
    hooks: Sequence[TrainingHook], loss: PictureLoss, rendering: Rendering, view: TrainingView, context: StepContext
) -> PictureLoss:
    """``loss`` with the view's weight applied and the hooks' penalties added."""
    if view.weight != 1.0:
        photo = {name: gradient * view.weight for name, gradient in loss.photo_gradients.items()}
        loss = replace(loss, gradients=_scaled(loss.gradients, view.weight), photo_gradients=photo)
    for hook in hooks:
        if hook.penalty is not None:
            penalty, gradients = hook.penalty(rendering, view, context)
            loss = replace(loss, penalties=loss.penalties + penalty, gradients=_sum(loss.gradients, gradients))
    return loss


def _scaled(gradients: ImageGradients, weight: float) -> ImageGradients:
    return ImageGradients(**{name: None if each is None else each * weight for name, each in vars(gradients).items()})


def _sum(a: ImageGradients, b: ImageGradients) -> ImageGradients:
    pairs = {name: (each, getattr(b, name)) for name, each in vars(a).items()}
    return ImageGradients(**{name: x if y is None else y if x is None else x + y for name, (x, y) in pairs.items()})
