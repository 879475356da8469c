"""The registry of rendering backends: which exist, which work here, and which one "auto" means."""

import functools
import warnings

import torch

from splat.cloud import GaussianCloud
from splat.errors import BackendError
from splat.rendering import cpu, cuda, gsplat, reference
from splat.rendering.backend import Backend

REGISTRY: dict[str, Backend] = {module.BACKEND.name: module.BACKEND for module in (reference, cpu, cuda, gsplat)}
BACKENDS = tuple(REGISTRY)


@functools.cache
def check_backend(name: str) -> str | None:
    """None when backend ``name`` can render here, else the sentence saying what is missing.

    Found by rendering, once per process.
    """
    if name not in REGISTRY:
        return f"there is no rendering backend '{name}'; choose one of: auto, {', '.join(BACKENDS)}"
    return REGISTRY[name].check()


def available_backends() -> list[str]:
    """Names of the backends that work on this machine."""
    return [name for name in BACKENDS if check_backend(name) is None]


def get_backend(name: str) -> Backend:
    """The backend ``name``. Raises BackendError with what is missing if it cannot render here."""
    reason = check_backend(name)
    if reason is not None:
        raise BackendError(reason)
    return REGISTRY[name]


def choose_backend(cloud: GaussianCloud) -> Backend:
    """What "auto" means for ``cloud``: `cuda` on a GPU, `cpu` in main memory, `reference` for double precision.

    Where the first two are missing it is `reference` too, with a warning.
    """
    if cloud.dtype == torch.float64:  # only the reference computes in it
        return get_backend("reference")
    name = "cuda" if cloud.device.type == "cuda" else "cpu"
    reason = check_backend(name)
    if reason is None:
        return get_backend(name)
    _warn_once(f"rendering with the slow reference backend, because {reason}")
    return get_backend("reference")


@functools.cache
def _warn_once(sentence: str) -> None:
    warnings.warn(sentence, stacklevel=4)
