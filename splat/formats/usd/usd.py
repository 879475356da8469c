"""OpenUSD with `UsdVol.ParticleField3DGaussianSplat` (schema of OpenUSD 26.03), through the optional package usd-core.

Attributes: positions, orientations (unit), linear scales, opacities, and SH with the base colour first. Stages are
written y-up: x right, y up, z back. Reading honours the stage's up axis and the prims' transforms.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from splat.cloud_arrays import GaussianArrays
from splat.coding.attributes import alphas, logits, prepare, scales, unit_quats
from splat.coding.limits import check_claim
from splat.coordinates import AT_ZERO
from splat.errors import InputError
from splat.files import atomic_path
from splat.formats import axes
from splat.formats.usd.reader_process import ARRAYS, SCHEMA

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


def read(path: Path) -> GaussianArrays:
    """Read all Gaussian prims of the stage at its default time, joined into one cloud."""
    _usd()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "arrays.npz"
        code, said = extract(path.resolve(), out)
        if code:
            said = said or f"usd-core ended with code {code}"
            raise InputError(f"{path}: the USD stage cannot be read ({said}); make or copy it again")
        with np.load(out) as arrays:
            content = dict(arrays)
    tables = [_table(content, number, path) for number in range(sum(name.endswith("/pose") for name in content))]
    if not tables:
        raise InputError(f"{path}: the USD stage holds no {SCHEMA}, so no Gaussians; check the file")
    return axes.convert(GaussianArrays.concat(tables), FRAMES.get(str(content["up"]), FRAMES["Y"]), axes.HOME)


def extract(path: Path, out: Path) -> tuple[int, str]:
    """Run `reader_process` in a process of its own; its exit code and what it said."""
    command = [sys.executable, "-m", "splat.formats.usd.reader_process", str(path), str(out)]
    # The working folder is where this package lies, so that the module is found however splat was started.
    home = Path(__file__).parents[3]
    # With one thread, what usd-core reserves does not grow with the machine.
    environment = os.environ | {"PXR_WORK_THREAD_LIMIT": "1"}
    done = subprocess.run(command, cwd=home, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return done.returncode, done.stdout.decode("utf-8", "replace").strip()


def _table(content: dict[str, np.ndarray], number: int, path: Path) -> GaussianArrays:
    means, linear, opacity, sh = (content[f"{number}/{name}"] for name in ARRAYS)
    n, degree = len(means), int(content[f"{number}/degree"])
    check_claim(path, n, degree, 0, means.nbytes + sh.nbytes)
    quats = content.get(f"{number}/orientations", np.tile(np.float32([0, 0, 0, 1]), (n, 1)))[:, [3, 0, 1, 2]]
    coefficients = (degree + 1) ** 2
    if len(linear) != n or len(opacity) != n or len(quats) != n or len(sh) != n * coefficients:
        raise InputError(f"{path}: the attributes of a Gaussian prim have unequal lengths; make the file again")
    quats = np.where((quats == 0).all(1, keepdims=True), np.float32([1, 0, 0, 0]), quats)
    with np.errstate(invalid="ignore"):
        log_scales = np.log(np.maximum(linear, MIN_SCALE))
        arrays = (means, log_scales, quats, logits(opacity[:, 0]), sh.reshape(n, coefficients, 3))
    table = GaussianArrays(*(np.ascontiguousarray(array, np.float32) for array in arrays))
    return _placed(table, content[f"{number}/pose"], path)


def _placed(table: GaussianArrays, pose: np.ndarray, path: Path) -> GaussianArrays:
    if np.allclose(pose, np.eye(4), rtol=0, atol=1e-9):
        return table
    scale = np.linalg.norm(pose[:3, :3], axis=0)
    if not np.isfinite(pose).all() or scale.min() <= 0 or scale.max() > scale.min() * (1 + 1e-4):
        raise InputError(
            f"{path}: a prim scales its axes unequally, which Gaussians cannot follow exactly; apply it first"
        )
    try:
        return table.transform(pose[:3, :3] / scale, pose[:3, 3], float(scale.mean()))
    except ValueError as error:
        raise InputError(f"{path}: a prim is sheared or mirrored, which Gaussians cannot follow; apply it") from error


def write(table: GaussianArrays, path: Path) -> None:
    """Write ``table`` as one prim on a y-up stage: binary `.usd` and `.usdc`, text `.usda`, zipped `.usdz`."""
    usd = _usd()
    origin = axes.change(axes.HOME, FRAMES["Y"]) @ table.georeference.origin
    table = axes.convert(prepare(table.replace(georeference=AT_ZERO), path), axes.HOME, FRAMES["Y"])
    stage = usd.Usd.Stage.CreateInMemory()
    usd.UsdGeom.SetStageUpAxis(stage, usd.UsdGeom.Tokens.y)
    usd.UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    stage.SetDefaultPrim(usd.UsdGeom.Xform.Define(stage, "/World").GetPrim())
    prim = usd.UsdVol.ParticleField3DGaussianSplat.Define(stage, PRIM).GetPrim()
    _fill(usd, prim, table)
    if origin.any():
        usd.UsdGeom.Xformable(prim).AddTranslateOp().Set(usd.Gf.Vec3d(*origin.tolist()))
    layer = stage.GetRootLayer()
    with atomic_path(path) as temporary:
        if path.suffix.lower() != ".usdz":
            _export(usd, layer, temporary, path)
            return
        inner = temporary.with_suffix(".usdc")
        try:
            _export(usd, layer, inner, path)
            if not usd.UsdUtils.CreateNewUsdzPackage(usd.Sdf.AssetPath(str(inner)), str(temporary)):
                raise InputError(f"{path}: usd-core could not make the .usdz; write .usdc instead")
        finally:
            inner.unlink(missing_ok=True)


def _export(usd: Any, layer: Any, target: Path, path: Path) -> None:
    """Write ``layer`` to ``target``. Raises InputError, naming ``path``."""
    try:
        written = layer.Export(str(target))
    except usd.Tf.ErrorException as error:  # it hides the system's reason
        raise InputError(f"cannot write {path}, perhaps the disk is full; free some space") from error
    if not written:
        raise InputError(f"cannot write {path}, perhaps the disk is full; free some space")


def _fill(usd: Any, prim: Any, table: GaussianArrays) -> None:
    quats, sizes, means = unit_quats(table), scales(table), np.ascontiguousarray(table.means)
    extent = np.zeros((2, 3))
    if len(table):
        reach, most = 3 * sizes.max(1, keepdims=True).astype(np.float64), float(np.finfo(np.float32).max)
        extent = np.clip([(means - reach).min(0), (means + reach).max(0)], -most, most)
    array = usd.Vt
    attributes = {
        "positions": array.Vec3fArray.FromNumpy(means),
        "orientations": array.QuatfArray.FromNumpy(np.ascontiguousarray(quats[:, [1, 2, 3, 0]])),
        "scales": array.Vec3fArray.FromNumpy(sizes),
        "opacities": array.FloatArray.FromNumpy(alphas(table)),
        "radiance:sphericalHarmonicsDegree": table.sh_degree,
        "radiance:sphericalHarmonicsCoefficients": array.Vec3fArray.FromNumpy(table.sh.reshape(-1, 3)),
        "extent": array.Vec3fArray.FromNumpy(extent.astype(np.float32)),
    }
    for name, value in attributes.items():
        prim.GetAttribute(name).Set(value)


def antialiased(path: Path) -> bool:
    """The schema has no such mark."""
    return False
