"""The rendering backends: which exist, which work here (tried by result), and which one "auto" means.

A backend is a module of this package with
`check() -> str | None`: None when it works here, else one sentence saying what is missing;
`forward(cloud, camera, options, pose=None, weights=True) -> (Rendering, context)`, without autograd; without
``weights`` the sums of blending weights per Gaussian are not made;
`backward(context, ImageGradients) -> CloudGradients`, likewise.
"""

import functools
import warnings
from importlib import import_module
from types import ModuleType

import torch

from splat.cloud import GaussianCloud
from splat.errors import BackendError

BACKENDS = ("reference", "cpu", "cuda", "gsplat")


@functools.cache
def check_backend(name: str) -> str | None:
    """None when backend ``name`` can render here, else the sentence saying what is missing.

    Found by rendering, once per process.
    """
    if name not in BACKENDS:
        return f"there is no rendering backend '{name}'; choose one of: auto, {', '.join(BACKENDS)}"
    try:
        return import_module(f"splat.rendering.{name}").check()
    except ImportError as error:
        remedy = "reinstall with: pip install --force-reinstall . (in the source folder)"
        return f"the backend '{name}' of this installation is incomplete ({error}); {remedy}"


def available_backends() -> list[str]:
    """Names of the backends that work on this machine."""
    return [name for name in BACKENDS if check_backend(name) is None]


def get_backend(name: str) -> ModuleType:
    """The module of backend ``name``. Raises BackendError with what is missing if it cannot render here."""
    reason = check_backend(name)
    if reason is not None:
        raise BackendError(reason)
    return import_module(f"splat.rendering.{name}")


def choose_backend(cloud: GaussianCloud) -> ModuleType:
    """What "auto" means for ``cloud``: `cuda` on a GPU, `cpu` in main memory, `reference` for double precision.

    Where the first two are missing it is `reference` too, with a warning.
    """
    if cloud.dtype == torch.float64:  # only the reference computes in it
        return get_backend("reference")
    name = "cuda" if cloud.device.type == "cuda" else "cpu"
    reason = check_backend(name)
    if reason is None:
        return get_backend(name)
    _say_once(f"rendering with the slow reference backend, because {reason}")
    return get_backend("reference")


@functools.cache
def _say_once(sentence: str) -> None:
    warnings.warn(sentence, stacklevel=4)


def probe(backend: ModuleType, device: str) -> str | None:
    """Render one Gaussian with ``backend``; None if the middle of the picture is right, else what was found there."""
    from splat.camera import Camera
    from splat.rendering.types import RenderOptions

    eye = torch.eye(4, dtype=torch.float64)
    camera = Camera(20.0, 20.0, 8.5, 8.5, 17, 17, eye)
    cloud = GaussianCloud(
        means=torch.tensor([[0.0, 0.0, 2.0]], device=device),
        log_scales=torch.full((1, 3), -1.0, device=device),
        quats=torch.tensor([[1.0, 0.0, 0.0, 0.0]], device=device),
        logit_opacities=torch.zeros(1, device=device),
        sh=torch.ones(1, 1, 3, device=device),
    )
    rendering, _ = backend.forward(cloud, camera, RenderOptions())
    found = float(rendering.alpha[8, 8])
    return None if abs(found - 0.5) < 1e-3 else f"it drew a test Gaussian with alpha {found:.4f}, expected 0.5"
