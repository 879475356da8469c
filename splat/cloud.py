"""`GaussianCloud`: the one container on which every method of this package works."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from splat import sh as spherical
from splat.coordinates import AT_ZERO, Georeference

FIELDS = ("means", "log_scales", "quats", "logit_opacities", "sh")


@dataclass(frozen=True)
class GaussianCloud:
    """N anisotropic 3D Gaussians in the parametrisation of the Inria `.ply`.

    Attributes:
        means: (N, 3) centres, world units.
        log_scales: (N, 3) natural logarithm of the standard deviation along each own axis, world units.
        quats: (N, 4) rotation from own axes to world, w x y z, not necessarily normalised.
        logit_opacities: (N,) opacity before the sigmoid.
        sh: (N, K, 3) spherical-harmonic colour, K = (degree + 1)², DC first; RGB = 0.5 + Σ Yₖ shₖ, clamped at 0.
        extras: named tensors with leading dimension N that a single method needs.
        georeference: what to add to ``means`` for world coordinates; zero but for clouds in map coordinates, which
            float32 does not hold.

    All tensors share one device, and the five main ones share one float dtype. Operations return new clouds.
    """

    means: Tensor
    log_scales: Tensor
    quats: Tensor
    logit_opacities: Tensor
    sh: Tensor
    extras: Mapping[str, Tensor] = field(default_factory=dict)
    georeference: Georeference = AT_ZERO

    def __post_init__(self) -> None:
        for name in FIELDS:
            tensor = getattr(self, name)
            if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
                kind = f"a tensor of {tensor.dtype}" if isinstance(tensor, Tensor) else f"a {type(tensor).__name__}"
                raise ValueError(f"{name} is {kind}, expected a tensor of floating-point numbers")
        if self.means.ndim != 2:
            raise ValueError(f"means has shape {tuple(self.means.shape)}, expected (N, 3)")
        n = self.means.shape[0]
        expected = {"means": (n, 3), "log_scales": (n, 3), "quats": (n, 4), "logit_opacities": (n,)}
        for name, shape in expected.items():
            if tuple(getattr(self, name).shape) != shape:
                raise ValueError(f"{name} has shape {tuple(getattr(self, name).shape)}, expected {shape}")
        if self.sh.ndim != 3 or self.sh.shape[0] != n or self.sh.shape[2] != 3:
            raise ValueError(f"sh has shape {tuple(self.sh.shape)}, expected ({n}, K, 3)")
        spherical.degree_of(self.sh.shape[1])
        for name, tensor in self.extras.items():
            if tensor.ndim == 0 or tensor.shape[0] != n:
                raise ValueError(f"extras['{name}'] has shape {tuple(tensor.shape)}, expected leading dimension {n}")
        for name in FIELDS[1:]:
            tensor = getattr(self, name)
            if tensor.device != self.means.device or tensor.dtype != self.means.dtype:
                raise ValueError(
                    f"{name} is {tensor.dtype} on {tensor.device}, means is {self.means.dtype} on {self.means.device}"
                )

    # ---- facts ----

    def __len__(self) -> int:
        return self.means.shape[0]

    @property
    def sh_degree(self) -> int:
        """Highest SH band stored, 0 to 4."""
        return spherical.degree_of(self.sh.shape[1])

    @property
    def device(self) -> torch.device:
        return self.means.device

    @property
    def dtype(self) -> torch.dtype:
        return self.means.dtype

    @property
    def nbytes(self) -> int:
        """Bytes held by all tensors, extras included."""
        tensors = [getattr(self, name) for name in FIELDS] + list(self.extras.values())
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def bounds(self) -> tuple[Tensor, Tensor]:
        """Smallest and largest centre coordinates, (3,) each. Raises ValueError on an empty cloud."""
        if len(self) == 0:
            raise ValueError("an empty cloud has no bounds")
        return self.means.amin(0), self.means.amax(0)

    # ---- activations ----

    @property
    def scales(self) -> Tensor:
        """(N, 3) standard deviations, world units."""
        return self.log_scales.exp()

    @property
    def opacities(self) -> Tensor:
        """(N,) opacity in (0, 1)."""
        return self.logit_opacities.sigmoid()

    @property
    def rotations(self) -> Tensor:
        """(N, 3, 3) rotation matrices, own axes to world."""
        return quaternion_to_matrix(self.quats)

    @property
    def covariances(self) -> Tensor:
        """(N, 3, 3) world covariance Σ = R diag(s²) Rᵀ."""
        factor = self.rotations * self.scales[:, None, :]
        return factor @ factor.transpose(1, 2)

    # ---- rows ----

    def select(self, rows: Tensor | slice) -> "GaussianCloud":
        """The rows named by a boolean mask (N,), an index tensor or a slice, in that order.

        Raises ValueError for rows that do not exist.
        """
        if isinstance(rows, Tensor):
            _check_rows(rows, len(self))
        return self.map(lambda tensor: tensor[rows])

    def permute(self, order: Tensor) -> "GaussianCloud":
        """The same Gaussians in the order of the permutation ``order`` (N,)."""
        if order.shape != (len(self),) or order.dtype not in (torch.int64, torch.int32):
            raise ValueError(f"order is {order.dtype} {tuple(order.shape)}, expected int64 ({len(self)},)")
        return self.select(order)

    @staticmethod
    def concat(clouds: Sequence["GaussianCloud"]) -> "GaussianCloud":
        """All rows of ``clouds``, about the origin of the first.

        Lower SH degrees are padded with zeros; extras must be common to all to survive.
        """
        if not clouds:
            raise ValueError("nothing to concatenate")
        place = clouds[0].georeference
        clouds = [cloud.about(place) for cloud in clouds]
        degree = max(cloud.sh_degree for cloud in clouds)
        clouds = [cloud.with_sh_degree(degree) for cloud in clouds]
        common = set.intersection(*(set(cloud.extras) for cloud in clouds))
        fields = {name: torch.cat([getattr(cloud, name) for cloud in clouds]) for name in FIELDS}
        extras = {
            name: torch.cat([cloud.extras[name] for cloud in clouds]) for name in clouds[0].extras if name in common
        }
        return GaussianCloud(**fields, extras=extras, georeference=place)

    def replace(self, **changes) -> "GaussianCloud":
        """A copy with some attributes exchanged."""
        return dataclasses.replace(self, **changes)

    def with_sh_degree(self, degree: int) -> "GaussianCloud":
        """Cut or zero-pad the SH to ``degree``, 0 to 4."""
        _check_degree(degree)
        k = (degree + 1) ** 2
        if k <= self.sh.shape[1]:
            return self.replace(sh=self.sh[:, :k].contiguous())
        pad = self.sh.new_zeros(len(self), k - self.sh.shape[1], 3)
        return self.replace(sh=torch.cat([self.sh, pad], 1))

    # ---- tensors ----

    def map(self, function) -> "GaussianCloud":
        """Apply ``function`` (Tensor → Tensor) to every tensor, extras included."""
        fields = {name: function(getattr(self, name)) for name in FIELDS}
        extras = {name: function(tensor) for name, tensor in self.extras.items()}
        return GaussianCloud(**fields, extras=extras, georeference=self.georeference)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "GaussianCloud":
        """Move and convert; ``dtype`` applies to floating-point tensors only."""
        return self.map(
            lambda t: t.to(device=device or t.device, dtype=dtype if dtype and t.is_floating_point() else t.dtype)
        )

    def detach(self) -> "GaussianCloud":
        return self.map(Tensor.detach)

    def clone(self) -> "GaussianCloud":
        return self.map(Tensor.clone)

    def finite(self) -> Tensor:
        """(N,) mask of rows without NaN or infinity in any main tensor."""
        good = torch.ones(len(self), dtype=torch.bool, device=self.device)
        for name in FIELDS:
            finite = getattr(self, name).isfinite()
            good &= finite if finite.ndim == 1 else finite.flatten(1).all(1)
        return good

    # ---- geometry ----

    def transform(self, rotation: Tensor, translation: Tensor | None = None, scale: float = 1.0) -> "GaussianCloud":
        """Apply the similarity x → scale · R x + t to centres, axes and view-dependent colour.

        A cloud with an origin takes it along; centres are moved about it.

        Args:
            rotation: (3, 3) proper rotation matrix.
            translation: (3,) world units after scaling; zero if None.
            scale: positive factor.
        """
        if not 0 < scale < math.inf:
            raise ValueError(f"scale is {scale}, expected a positive number")
        if rotation.shape != (3, 3) or (translation is not None and translation.shape != (3,)):
            shapes = [tuple(tensor.shape) for tensor in (rotation, translation) if tensor is not None]
            raise ValueError(f"rotation and translation have shapes {shapes}, expected (3, 3) and (3,)")
        exact = rotation.to(self.device, torch.float64)
        if (
            not torch.allclose(exact @ exact.T, torch.eye(3, dtype=exact.dtype, device=exact.device), atol=1e-5)
            or torch.linalg.det(exact) < 0
        ):
            raise ValueError("rotation is not a proper rotation matrix")
        rotation = exact.to(self.dtype)
        means, place = scale * self.means @ rotation.T, self.georeference
        if place.placed:
            origin = scale * exact.cpu() @ torch.tensor(place.origin, dtype=torch.float64)
            origin = origin if translation is None else origin + translation.to(origin)
            place = Georeference(tuple(origin.tolist()), place.epsg)
        elif translation is not None:
            means = means + translation.to(means)
        quats = quaternion_multiply(matrix_to_quaternion(exact).to(self.dtype), self.quats)
        log_scales = self.log_scales + torch.log(torch.tensor(scale, dtype=torch.float64)).to(self.dtype)
        return self.replace(
            means=means, quats=quats, log_scales=log_scales, sh=spherical.rotate(self.sh, exact), georeference=place
        )

    def about(self, place: Georeference) -> "GaussianCloud":
        """The same Gaussians relative to the origin of ``place``."""
        if self.georeference.origin == place.origin:
            return self.replace(georeference=place)
        difference = [mine - new for mine, new in zip(self.georeference.origin, place.origin, strict=True)]
        means = self.means.double() + torch.tensor(difference, dtype=torch.float64, device=self.device)
        return self.replace(means=means.to(self.dtype), georeference=place)

    # ---- construction ----

    @staticmethod
    def empty(
        sh_degree: int = 0, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ) -> "GaussianCloud":
        """A cloud of no Gaussians."""
        _check_degree(sh_degree)
        shapes = {
            "means": (0, 3),
            "log_scales": (0, 3),
            "quats": (0, 4),
            "logit_opacities": (0,),
            "sh": (0, (sh_degree + 1) ** 2, 3),
        }
        return GaussianCloud(**{name: torch.zeros(shape, device=device, dtype=dtype) for name, shape in shapes.items()})


def _check_rows(rows: Tensor, n: int) -> None:
    if rows.dtype == torch.bool:
        if rows.shape != (n,):
            raise ValueError(f"the mask of rows has shape {tuple(rows.shape)}, expected ({n},)")
    elif rows.is_floating_point() or rows.is_complex() or rows.ndim != 1:
        raise ValueError(f"rows are {rows.dtype} {tuple(rows.shape)}, expected a mask or a list of whole numbers")
    elif rows.is_cpu and rows.numel() and not (-n <= int(rows.min()) and int(rows.max()) < n):
        raise ValueError(f"rows from {int(rows.min())} to {int(rows.max())} were asked for, there are {n}")


def _check_degree(degree: int) -> None:
    if not isinstance(degree, int) or not 0 <= degree <= spherical.MAX_DEGREE:
        raise ValueError(f"the SH degree is {degree!r}, expected a whole number from 0 to {spherical.MAX_DEGREE}")


def quaternion_to_matrix(quats: Tensor) -> Tensor:
    """Rotation matrices (..., 3, 3) of quaternions (..., 4) w x y z; normalised here."""
    w, x, y, z = torch.nn.functional.normalize(quats, dim=-1).unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, -1).reshape(*quats.shape[:-1], 3, 3)


def matrix_to_quaternion(matrix: Tensor) -> Tensor:
    """Unit quaternion (4,) w x y z of one rotation matrix (3, 3); largest component first, for stability."""
    m = matrix
    squares = torch.stack([
        1 + m[0, 0] + m[1, 1] + m[2, 2], 1 + m[0, 0] - m[1, 1] - m[2, 2],
        1 - m[0, 0] + m[1, 1] - m[2, 2], 1 - m[0, 0] - m[1, 1] + m[2, 2],
    ])  # fmt: skip
    products = [
        [squares[0], m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]],
        [m[2, 1] - m[1, 2], squares[1], m[0, 1] + m[1, 0], m[0, 2] + m[2, 0]],
        [m[0, 2] - m[2, 0], m[0, 1] + m[1, 0], squares[2], m[1, 2] + m[2, 1]],
        [m[1, 0] - m[0, 1], m[0, 2] + m[2, 0], m[1, 2] + m[2, 1], squares[3]],
    ]
    return torch.nn.functional.normalize(torch.stack(products[int(squares.argmax())]), dim=0)


def quaternion_multiply(a: Tensor, b: Tensor) -> Tensor:
    """Hamilton product a·b of quaternions (..., 4) w x y z: the rotation b followed by a."""
    aw, ax, ay, az = a.unbind(-1)
    bw, bx, by, bz = b.unbind(-1)
    return torch.stack([
        aw * bw - ax * bx - ay * by - az * bz,
        aw * bx + ax * bw + ay * bz - az * by,
        aw * by - ax * bz + ay * bw + az * bx,
        aw * bz + ax * by - ay * bx + az * bw,
    ], -1)  # fmt: skip
