"""OpenUSD with `UsdVol.ParticleField3DGaussianSplat` (schema of OpenUSD 26.03), through the optional package usd-core.

Attributes: positions, orientations (unit), linear scales, opacities, and SH with the base colour first. Stages are
written y-up: x right, y up, z back. Reading honours the stage's up axis and the prims' transforms.
"""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from splat.cloud import GaussianCloud
from splat.errors import InputError
from splat.files import atomic_path
from splat.formats import frames
from splat.formats.limits import check_claim
from splat.formats.quantize import alphas, logits, prepare, unit_quats
from splat.formats.usd_reader import ARRAYS, SCHEMA

FRAMES = {"Y": "RUB", "Z": "RFU"}  # by the stage's up axis
PRIM = "/World/Gaussians"
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
    _usd()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "arrays.npz"
        command = [sys.executable, "-m", "splat.formats.usd_reader", str(path.resolve()), str(out)]
        # The working folder is where this package lies, so that the module is found however splat was started.
        home = Path(__file__).parents[2]
        done = subprocess.run(command, cwd=home, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        if done.returncode:
            said = done.stdout.decode("utf-8", "replace").strip() or f"usd-core ended with code {done.returncode}"
            raise InputError(f"{path}: the USD stage cannot be read ({said}); make or copy it again")
        with np.load(out) as arrays:
            found = dict(arrays)
    clouds = [_cloud(found, number, path) for number in range(sum(name.endswith("/pose") for name in found))]
    if not clouds:
        raise InputError(f"{path}: the USD stage holds no {SCHEMA}, so no Gaussians; check the file")
    return frames.convert(GaussianCloud.concat(clouds), FRAMES.get(str(found["up"]), FRAMES["Y"]), frames.HOME)


def _cloud(found: dict[str, np.ndarray], number: int, path: Path) -> GaussianCloud:
    means, scales, opacity, sh = (found[f"{number}/{name}"] for name in ARRAYS)
    n, degree = len(means), int(found[f"{number}/degree"])
    check_claim(path, n, degree, 0, 0)
    quats = found.get(f"{number}/orientations", np.tile(np.float32([0, 0, 0, 1]), (n, 1)))[:, [3, 0, 1, 2]]
    coefficients = (degree + 1) ** 2
    if len(scales) != n or len(opacity) != n or len(quats) != n or len(sh) != n * coefficients:
        raise InputError(f"{path}: the attributes of a Gaussian prim have unequal lengths; make the file again")
    quats = np.where((quats == 0).all(1, keepdims=True), np.float32([1, 0, 0, 0]), quats)
    with np.errstate(invalid="ignore"):
        log_scales = np.log(np.maximum(scales, MIN_SCALE))
        arrays = (means, log_scales, quats, logits(opacity[:, 0]), sh.reshape(n, coefficients, 3))
    cloud = GaussianCloud(*(torch.from_numpy(np.ascontiguousarray(array, np.float32)) for array in arrays))
    return _placed(cloud, found[f"{number}/pose"], path)


def _placed(cloud: GaussianCloud, pose: np.ndarray, path: Path) -> GaussianCloud:
    if np.allclose(pose, np.eye(4), rtol=0, atol=1e-9):
        return cloud
    scale = np.linalg.norm(pose[:3, :3], axis=0)
    if not np.isfinite(pose).all() or scale.min() <= 0 or scale.max() > scale.min() * (1 + 1e-4):
        raise InputError(
            f"{path}: a prim scales its axes unequally, which Gaussians cannot follow exactly; apply it first"
        )
    rotation, translation = torch.from_numpy(pose[:3, :3] / scale), torch.from_numpy(pose[:3, 3])
    try:
        return cloud.transform(rotation, translation, float(scale.mean()))
    except ValueError as error:
        raise InputError(f"{path}: a prim is sheared or mirrored, which Gaussians cannot follow; apply it") from error


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
