"""What one training step is about: the view it compares, and where in the run it is."""

from dataclasses import dataclass

from torch import Tensor

from splat.camera import Camera
from splat.rendering.types import BLUR
from splat.scene.images import Photo


@dataclass(frozen=True)
class Shot:
    """One photo and what it takes to compare a rendering with it.

    Attributes:
        index: of the photo among the training photos; None for a picture that is none of them, and is not corrected.
        photo: its pixels.
        camera: through which the rendering was made.
        background: behind the rendering.
        points, pixels: (M, 3) sparse points and (M, 2) where the photo shows them, for the depth term; else None.
        weight: of this picture in the loss.
        blur: of the rendering, px².
    """

    index: int | None
    photo: Photo
    camera: Camera
    background: tuple[float, float, float]
    points: Tensor | None = None
    pixels: Tensor | None = None
    weight: float = 1.0
    blur: float = BLUR


@dataclass(frozen=True)
class When:
    """Step number (from 0), share of the run done, and size of the scene in world units."""

    step: int
    fraction: float
    extent: float
