"""Clouds as hooks present them, and gradients back through what the hooks did."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from splat.cloud import FIELDS, GaussianCloud
from splat.ops.adam import parameters
from splat.training.hooks.hook import Part

Slopes = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]


def presented(parts: Sequence[Part], cloud: GaussianCloud) -> GaussianCloud:
    """``cloud`` as it is drawn."""
    for part in parts:
        cloud = cloud if part.drawn is None else part.drawn(cloud)
    return cloud


def presented_with_slopes(
    parts: Sequence[Part], cloud: GaussianCloud, photo: int | None = None, fraction: float = 0.0
) -> tuple[GaussianCloud, Slopes | None]:
    """``cloud`` as it is drawn, and the function from gradients of what is drawn to those of ``cloud`` (by name).

    With the number of a ``photo``, as that shows it; its rows then make a step of their own, at ``fraction`` of the
    run, when the function is called. The same cloud and None where no part changes it.
    """
    looks = [part for part in parts if part.look is not None and photo is not None]
    if not looks and all(part.drawn is None for part in parts):
        return cloud, None
    with torch.enable_grad():
        leaves = {name: tensor.detach().requires_grad_() for name, tensor in parameters(cloud).items()}
        extras = {name: leaves.get(name, tensor) for name, tensor in cloud.extras.items()}
        shown = presented(parts, GaussianCloud(**{name: leaves[name] for name in FIELDS}, extras=extras))
        rows = [part.rows.row(photo) for part in looks]
        for part, row in zip(looks, rows, strict=True):
            shown = part.look(shown, row)
    changed = [name for name in FIELDS if getattr(shown, name) is not leaves[name]]
    names = [name for name in leaves if name != "sh" or "sh" in changed]

    def slopes(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
        outputs = [getattr(shown, name) for name in changed]
        through = torch.autograd.grad(
            outputs,
            [leaves[name] for name in names] + rows,
            [found[name] for name in changed],
            retain_graph=True,
            allow_unused=True,
        )
        result = {name: found[name] for name in FIELDS if name not in changed}
        for name, gradient in zip(names, through[: len(names)], strict=True):
            if gradient is not None:
                result[name] = result[name] + gradient if name in result else gradient
        for part, row, gradient in zip(looks, rows, through[len(names) :], strict=True):
            if gradient is not None and bool(gradient.isfinite().all()):
                row.grad = gradient
                part.rows.step(photo, row, part.rows_rate * 0.1**fraction)
        return result

    return shown.detach(), slopes
