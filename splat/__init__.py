"""splat: train, compress, convert, mesh and view 3D Gaussian scenes on any machine.

The public names below load their modules (and PyTorch) on first use, so that
``import splat`` and ``splat --help`` stay fast.
"""

from importlib import import_module

__version__ = "0.1.0"

_PUBLIC = {
    "GaussianCloud": "splat.cloud",
    "Camera": "splat.camera",
    "Scene": "splat.scene",
    "load_scene": "splat.scene",
    "InputError": "splat.errors",
    "Rendering": "splat.rendering",
    "render": "splat.rendering",
    "train": "splat.runs.train",
    "TrainConfig": "splat.training.config.config",
    "evaluate": "splat.runs.evaluation",
    "compress": "splat.compression",
    "read": "splat.formats",
    "write": "splat.formats",
}

__all__ = list(_PUBLIC) + ["__version__"]


def __getattr__(name: str):
    if name in _PUBLIC:
        value = getattr(import_module(_PUBLIC[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'splat' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_PUBLIC))
