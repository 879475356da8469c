"""Settings of meshing."""

from dataclasses import dataclass

from splat.depth.stereo_matcher import Matcher, semiglobal
from splat.errors import InputError

METHODS = ("stereo", "median", "expected", "plane")


@dataclass(frozen=True)
class MeshOptions:
    """Attributes:
    method: where depth comes from: ``stereo`` between renderings, or the rasterizer's ``median``, ``expected`` or
        ``plane`` depth.
    matcher: from a rectified pair to disparity (see `splat.depth.stereo_matcher`).
    pairs: stereo pairs per view, 1 to 4.
    baseline: of the pairs, as a fraction of the cameras' median distance from what they look at.
    fill: where stereo finds nothing, take the rendered median depth, with a small weight.
    resolution: voxels along the diameter of the region that the cameras look at.
    voxel: world size of a voxel there, instead of ``resolution``.
    truncation: truncation distance of the TSDF, voxels: larger closes holes where depth is noisy, smaller keeps thin
        structures. None means 4; with object masks, which bound what it may close, it follows from how far the views'
        depths lie apart (`splat.surface.fusion.truncation`), 4 to 20.
    unbounded: contract space outside that region; None does so where much lies outside.
    box: smallest and largest x, y, z to mesh, world units; None means everything.
    masks: what False in a mask means: ``ignore`` (nothing is known there) or ``object`` (nothing is there).
    least_piece: connected components with less area than a square of this side are dropped; in widths of the region.
    most_pieces: number of connected components kept, or None.
    faces: simplify to about this many, or None.
    texture: side of a texture painted on the mesh, texels, or None.
    max_side: views are rendered at most this large, pixels.
    megabytes: memory for the TSDF.
    backend: rendering backend.
    """

    method: str = "stereo"
    matcher: Matcher = semiglobal
    pairs: int = 1
    baseline: float = 0.07
    fill: bool = True
    resolution: int = 512
    voxel: float | None = None
    truncation: float | None = None
    unbounded: bool | None = None
    box: tuple[float, float, float, float, float, float] | None = None
    masks: str = "ignore"
    least_piece: float = 0.04
    most_pieces: int | None = None
    faces: int | None = None
    texture: int | None = None
    max_side: int = 800
    megabytes: int = 2048
    backend: str = "auto"

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InputError(f"the method is '{self.method}', expected one of {', '.join(METHODS)}")
        if not 1 <= self.pairs <= 4:
            raise InputError(f"{self.pairs} stereo pairs were asked for, expected 1 to 4")
        if not 0 < self.baseline < 1:
            raise InputError(f"the baseline is {self.baseline}, expected a fraction of the distance, such as 0.07")
        if not 16 <= self.resolution <= 8192:
            raise InputError(f"the resolution is {self.resolution} voxels, expected 16 to 8192; give for example 512")
        if self.voxel is not None and not self.voxel > 0:
            raise InputError(f"the voxel size is {self.voxel}, expected more than 0")
        if self.truncation is not None and not 1 <= self.truncation <= 64:
            raise InputError(f"the truncation is {self.truncation} voxels, expected 1 to 64; give for example 4")
        if self.box is not None and not all(low < high for low, high in zip(self.box[:3], self.box[3:], strict=True)):
            raise InputError(f"the crop box is {self.box}, expected x y z of its lower and then of its upper corner")
        if self.masks not in ("ignore", "object"):
            raise InputError(f"masks are to mean '{self.masks}', expected ignore or object")
        if self.faces is not None and self.faces < 4:
            raise InputError(f"{self.faces} faces were asked for, expected at least 4")
        if self.texture is not None and not 16 <= self.texture <= 16384:
            raise InputError(f"a texture of {self.texture} texels was asked for, expected 16 to 16384; 2048 is usual")
        if self.max_side < 64:
            raise InputError(f"views of at most {self.max_side} pixels were asked for, expected at least 64")
