"""Training: photographs to Gaussians. `train` is the whole of it; every part of it can be imported alone."""

from importlib import import_module

_PUBLIC = {
    "train": "splat.runs.train",
    "TrainResult": "splat.runs.train",
    "Progress": "splat.runs.train",
    "TrainConfig": "splat.training.config.config",
    "evaluate": "splat.runs.evaluation",
}

__all__ = list(_PUBLIC)


def __getattr__(name: str):
    if name in _PUBLIC:
        value = getattr(import_module(_PUBLIC[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'splat.training' has no attribute '{name}'")
