"""Strategies, one file each: they decide where Gaussians are.

A strategy is a `Strategy`: which statistics it wants accumulated, and a function that is called after every step and
changes the population through `splat.training.population`, and only through it. It keeps no state of its own: all it
needs is in the population, its config and the `StepContext`, so that a resumed run goes on exactly. What is independent
of the choice of a strategy is a `splat.training.hooks.hook.TrainingHook` (see `splat.training.methods`).
"""
