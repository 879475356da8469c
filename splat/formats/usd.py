"""OpenUSD with `UsdVol.ParticleField3DGaussianSplat` (schema of OpenUSD 26.03), through the optional package usd-core.

Attributes: positions, orientations (unit), linear scales, opacities, and SH with the base colour first. Stages are
written y-up: x right, y up, z back. Reading honours the stage's up axis and the prims' transforms.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from splat.cloud import GaussianCloud
from splat.errors import InputError
from splat.files import atomic_path
from splat.formats import frames
from splat.formats.limits import check_claim, memory_limit
from splat.formats.quantize import alphas, logits, prepare, unit_quats

FRAMES = {"Y": "RUB", "Z": "RFU"}  # by the stage's up axis
PRIM = "/World/Gaussians"
SCHEMA = "ParticleField3DGaussianSplat"
MIN_SCALE = 1e-30  # linear scales of 0 have no logarithm


def _usd() -> Any:
    """The modules of usd-core. Raises InputError saying what to install."""
    try:
        from pxr import Gf, Sdf, Tf, Usd, UsdGeom, UsdUtils, UsdVol, Vt
    except ImportError as error:
        raise InputError(
            f"USD files need the package usd-core ({error}); install it: pip install 'usd-core>=26.3'"
        ) from error
    if not hasattr(UsdVol, SCHEMA):
        raise InputError(
            "the installed usd-core has no Gaussian schema; install 26.3 or newer: pip install 'usd-core>=26.3'"
        )
    from types import SimpleNamespace

    modules = {
        "Gf": Gf,
        "Sdf": Sdf,
        "Tf": Tf,
        "Usd": Usd,
        "UsdGeom": UsdGeom,
        "UsdUtils": UsdUtils,
        "UsdVol": UsdVol,
        "Vt": Vt,
    }
    return SimpleNamespace(**modules)


def read(path: Path) -> GaussianCloud:
    """Read all Gaussian prims of the stage at its default time, joined into one cloud."""
    usd = _usd()
    # While it lives, usd-core's own messages go there and not to the terminal, thousands of lines for a damaged file.
    silence = usd.UsdUtils.CoalescingDiagnosticDelegate()
    try:
        # usd-core believes the counts in a file; a damaged one could make it ask for all memory there is.
        with memory_limit(16 * path.stat().st_size + (128 << 20)):
            stage = usd.Usd.Stage.Open(str(path))
            prims = [prim for prim in stage.Traverse() if prim.GetTypeName() == SCHEMA]
            up = str(usd.UsdGeom.GetStageUpAxis(stage)).upper()
            clouds = [_prim(usd, prim, path) for prim in prims]
    except (usd.Tf.ErrorException, RuntimeError, ValueError, TypeError, MemoryError) as error:
        raise InputError(
            f"{path}: the USD stage cannot be read ({_first_line(error)}); make or copy it again"
        ) from error
    finally:
        silence.TakeUncoalescedDiagnostics()
    if not prims:
        raise InputError(f"{path}: the USD stage holds no {SCHEMA}, so no Gaussians; check the file")
    return frames.convert(GaussianCloud.concat(clouds), FRAMES.get(up, FRAMES["Y"]), frames.HOME)


def _first_line(error: BaseException) -> str:
    try:
        text = str(error).strip()
    except UnicodeDecodeError:  # usd-core quotes the damaged bytes
        text = ""
    return (text.splitlines() or [type(error).__name__])[-1].strip()[:200]


def _prim(usd: Any, prim: Any, path: Path) -> GaussianCloud:
    def values(name: str, width: int) -> np.ndarray:
        """(N, width) float32 of an attribute, or of its half-precision twin."""
        for candidate in (name, name + "h"):
            array = prim.GetAttribute(candidate).Get()
            if array is not None:
                return np.array(array, np.float32).reshape(-1, width)
        raise ValueError(f"'{prim.GetPath()}' has no {name}")

    means, scales = values("positions", 3), values("scales", 3)
    opacity = values("opacities", 1)[:, 0]
    n = len(means)
    quats = _quaternions(prim, n)
    degree = int(prim.GetAttribute("radiance:sphericalHarmonicsDegree").Get())
    check_claim(path, n, degree, 0, 0)
    sh = values("radiance:sphericalHarmonicsCoefficients", 3)
    coefficients = (degree + 1) ** 2
    if len(scales) != n or len(opacity) != n or len(quats) != n or len(sh) != n * coefficients:
        raise ValueError(f"'{prim.GetPath()}' has attributes of unequal lengths")
    with np.errstate(invalid="ignore"):
        arrays = (means, np.log(np.maximum(scales, MIN_SCALE)), quats, logits(opacity), sh.reshape(n, coefficients, 3))
    cloud = GaussianCloud(*(torch.from_numpy(np.ascontiguousarray(array, np.float32)) for array in arrays))
    return _placed(usd, prim, cloud)


def _quaternions(prim: Any, count: int) -> np.ndarray:
    """(N, 4) w x y z; numpy sees USD quaternions as x y z w."""
    for name in ("orientations", "orientationsh"):
        array = prim.GetAttribute(name).Get()
        if array is not None:
            quats = np.array(array, np.float32).reshape(-1, 4)[:, [3, 0, 1, 2]]
            return np.where((quats == 0).all(1, keepdims=True), np.float32([1, 0, 0, 0]), quats)
    return np.tile(np.float32([1, 0, 0, 0]), (count, 1))


def _placed(usd: Any, prim: Any, cloud: GaussianCloud) -> GaussianCloud:
    pose = np.array(usd.UsdGeom.Xformable(prim).ComputeLocalToWorldTransform(usd.Usd.TimeCode.Default())).T
    if np.allclose(pose, np.eye(4), rtol=0, atol=1e-9):
        return cloud
    scale = np.linalg.norm(pose[:3, :3], axis=0)
    if not np.isfinite(pose).all() or scale.min() <= 0 or scale.max() > scale.min() * (1 + 1e-4):
        raise ValueError(
            f"'{prim.GetPath()}' scales its axes unequally, which Gaussians cannot follow exactly; apply it first"
        )
    rotation = torch.from_numpy(pose[:3, :3] / scale)
    return cloud.transform(rotation, torch.from_numpy(pose[:3, 3]), float(scale.mean()))


def write(cloud: GaussianCloud, path: Path) -> None:
    """Write ``cloud`` as one prim on a y-up stage: binary `.usd` and `.usdc`, text `.usda`, zipped `.usdz`."""
    usd = _usd()
    cloud = frames.convert(prepare(cloud, path), frames.HOME, FRAMES["Y"])
    stage = usd.Usd.Stage.CreateInMemory()
    usd.UsdGeom.SetStageUpAxis(stage, usd.UsdGeom.Tokens.y)
    usd.UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    stage.SetDefaultPrim(usd.UsdGeom.Xform.Define(stage, "/World").GetPrim())
    _fill(usd, usd.UsdVol.ParticleField3DGaussianSplat.Define(stage, PRIM).GetPrim(), cloud)
    layer = stage.GetRootLayer()
    with atomic_path(path) as temporary:
        if path.suffix.lower() != ".usdz":
            layer.Export(str(temporary))
            return
        inner = temporary.with_suffix(".usdc")
        try:
            layer.Export(str(inner))
            if not usd.UsdUtils.CreateNewUsdzPackage(usd.Sdf.AssetPath(str(inner)), str(temporary)):
                raise InputError(f"{path}: usd-core could not make the .usdz; write .usdc instead")
        finally:
            inner.unlink(missing_ok=True)


def _fill(usd: Any, prim: Any, cloud: GaussianCloud) -> None:
    quats = unit_quats(cloud)
    with np.errstate(over="ignore"):
        scales = np.minimum(np.exp(cloud.log_scales.numpy()), np.finfo(np.float32).max)
    reach = 3 * scales.max(1, keepdims=True) if len(cloud) else scales[:, :1]
    means = cloud.means.numpy()
    extent = np.stack([(means - reach).min(0), (means + reach).max(0)]) if len(cloud) else np.zeros((2, 3), np.float32)
    array = usd.Vt
    attributes = {
        "positions": array.Vec3fArray.FromNumpy(means),
        "orientations": array.QuatfArray.FromNumpy(np.ascontiguousarray(quats[:, [1, 2, 3, 0]])),
        "scales": array.Vec3fArray.FromNumpy(scales),
        "opacities": array.FloatArray.FromNumpy(alphas(cloud)),
        "radiance:sphericalHarmonicsDegree": cloud.sh_degree,
        "radiance:sphericalHarmonicsCoefficients": array.Vec3fArray.FromNumpy(cloud.sh.reshape(-1, 3).numpy()),
        "extent": array.Vec3fArray.FromNumpy(extent.astype(np.float32)),
    }
    for name, value in attributes.items():
        prim.GetAttribute(name).Set(value)


def antialiased(path: Path) -> bool:
    """The schema has no such mark."""
    return False
