"""`TrainingView`: one picture to compare a rendering with, and the camera that took it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from splat.camera import Camera
from splat.rendering.types import BLUR
from splat.scene.faces import Face
from splat.scene.images import Photo


@dataclass(frozen=True)
class TrainingView:
    """What one step compares: a photo or a pseudo view, its camera, and what counts.

    Attributes:
        index: of the photo among the training photos; None for a picture that is none of them.
        photo: its pixels, mask and alpha.
        camera: through which the rendering is made.
        background: behind the rendering.
        points, pixels: (M, 3) sparse points and (M, 2) where the photo shows them, for the depth loss; else None.
        weight: of this view in the loss.
        blur: of the rendering, px².
        row: of what is learned of its photo; the faces of a wide photo share one. None takes the index.
        face: which part of a wide photo it shows; None for a whole photo.
        photo_parameters: what is learned of this photo, by name, as leaves of autograd; the `Fitter` puts them in.
    """

    index: int | None
    photo: Photo
    camera: Camera
    background: tuple[float, float, float]
    points: Tensor | None = None
    pixels: Tensor | None = None
    weight: float = 1.0
    blur: float = BLUR
    row: int | None = None
    face: Face | None = None
    photo_parameters: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def parameter_row(self) -> int | None:
        """Which row of what is learned of each photo belongs to this one; None for a picture that is no photo."""
        return self.index if self.row is None else self.row
