"""Clouds as hooks deform them, and gradients back through the deformation."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from splat.cloud import FIELDS, GaussianCloud
from splat.ops.adam import parameters
from splat.training.hooks.hook import TrainingHook
from splat.training.training_view import TrainingView

Pullback = Callable[[Mapping[str, Tensor]], tuple[dict[str, Tensor], dict[str, Tensor]]]
"""From gradients of the deformed cloud (by field) to gradients of the cloud's parameters, and to those of the view's
photo parameters that the deformation used (both by name). Pure: it changes nothing, and may be called again."""


def deform(hooks: Sequence[TrainingHook], cloud: GaussianCloud, view: TrainingView | None = None) -> GaussianCloud:
    """``cloud`` as ``view`` shows it; without a view, as it is written."""
    for hook in hooks:
        cloud = cloud if hook.deform is None else hook.deform(cloud, view)
    return cloud


def deform_with_pullback(
    hooks: Sequence[TrainingHook], cloud: GaussianCloud, view: TrainingView | None = None
) -> tuple[GaussianCloud, Pullback | None]:
    """``cloud`` as ``view`` shows it, and the pullback; the same cloud and None where no hook changes it."""
    if all(hook.deform is None for hook in hooks):
        return cloud, None
    with torch.enable_grad():
        leaves = {name: tensor.detach().requires_grad_() for name, tensor in parameters(cloud).items()}
        extras = {name: leaves.get(name, tensor) for name, tensor in cloud.extras.items()}
        plain = GaussianCloud(**{name: leaves[name] for name in FIELDS}, extras=extras)
        shown = deform(hooks, plain, view)
    if shown is plain:
        return cloud, None
    changed = [name for name in FIELDS if getattr(shown, name) is not leaves[name]]
    names = [name for name in leaves if name != "sh" or "sh" in changed]
    photo = {} if view is None else view.photo_parameters

    def pullback(gradients: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        through = torch.autograd.grad(
            [getattr(shown, name) for name in changed],
            [leaves[name] for name in names] + list(photo.values()),
            [gradients[name] for name in changed],
            retain_graph=True,
            allow_unused=True,
        )
        result = {name: gradients[name] for name in FIELDS if name not in changed}
        for name, gradient in zip(names, through[: len(names)], strict=True):
            if gradient is not None:
                result[name] = result[name] + gradient if name in result else gradient
        of_photo = zip(photo, through[len(names) :], strict=True)
        return result, {name: gradient for name, gradient in of_photo if gradient is not None}

    return shown.detach(), pullback
