"""The mean of the Gaussians over the last part of a run, which is what such a run evaluates and writes.

With constant learning rates the parameters wander about a point better than any that they pass: averaging (Polyak &
Juditsky 1992; Izmailov et al. 2018, "Averaging Weights Leads to Wider Optima") finds it without the slow steps at the
end of a falling rate. Any change of rows begins the mean anew (`splat.training.population`).
"""

from splat.cloud import FIELDS, GaussianCloud
from splat.ops.adam import parameters
from splat.training.config.config import AverageConfig
from splat.training.population import Population

EVERY = 10  # steps between two that are averaged: neighbours are nearly the same


def update_running_mean(config: AverageConfig, population: Population, step: int, fraction: float) -> None:
    """Add the parameters after ``step`` steps, at ``fraction`` of the run, to the mean, where they belong to it."""
    if fraction <= config.start or step % EVERY:
        return
    population.averaged += 1
    for name, tensor in parameters(population.cloud).items():
        if population.averaged == 1:
            population.mean[name] = tensor.clone()
        else:
            population.mean[name].lerp_(tensor, 1 / population.averaged)


def averaged(population: Population) -> GaussianCloud:
    """The mean cloud; before the first step that counts, the cloud as it is. Shares memory with ``population``."""
    cloud, mean = population.cloud, population.mean
    if not mean:
        return cloud
    fields = {name: mean[name] for name in FIELDS}
    return cloud.replace(**fields, extras={name: mean.get(name, values) for name, values in cloud.extras.items()})
