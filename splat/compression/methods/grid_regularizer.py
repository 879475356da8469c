"""Training on a self-organizing grid: rows are sorted now and then, and neighbours drawn to each other in between.

Morgenstern et al. 2024, §4.2. The pull acts every few steps, as strong as all of them together, and outside Adam, so
that it costs next to nothing and needs no gradients of the trainer.
"""

from splat.compression.methods.self_organizing_grid import features, grid_order, smoothness
from splat.training.hooks.hook import TrainingHook
from splat.training.population import Population, permute
from splat.training.step_context import StepContext

EVERY = 25  # steps between two pulls; ten were a sixth of the time of training
SORT_EVERY = 1000  # steps between two sortings, as in the paper
SORT_ROUGH = {"decay": 0.7, "patience": 2e-3}  # a sorting that the next one refines need not be the best
# The paper's weights of the neighbour loss: rotation 10, opacity 1.
WEIGHTS = {"quats": 10.0, "logit_opacities": 1.0}
STRENGTH = 0.05  # part of the way to the blurred copy in one pull, where the loss is quadratic


def grid_hook(
    strength: float = STRENGTH, every: int = EVERY, sort_every: int = SORT_EVERY, seed: int = 0
) -> TrainingHook:
    """What makes `splat.training` train on a grid: one of the ``hooks`` of a run. 0 for ``sort_every`` never sorts."""

    def refine(population: Population, context: StepContext) -> None:
        if sort_every and context.step and context.step % sort_every == 0 and len(population) > 1:
            resort(population, seed + context.step)
        elif context.step % every == 0:
            pull(population, strength)

    return TrainingHook("grid", refine=refine)


def pull(population: Population, strength: float = STRENGTH, weights: dict[str, float] | None = None) -> float:
    """Move attributes towards their blurred copies; returns the neighbour loss before."""
    weights = weights or WEIGHTS
    loss, gradients = smoothness(population.cloud, weights)
    largest = max(weights.values()) / sum(weights.values())
    for name, gradient in gradients.items():
        getattr(population.cloud, name).sub_(gradient, alpha=strength * gradient.numel() / largest)
    return loss


def resort(population: Population, seed: int = 0) -> None:
    """Sort the rows under training, their optimiser state with them."""
    order = grid_order(features(population.cloud), seed, **SORT_ROUGH)
    permute(population, order.to(population.cloud.device))
