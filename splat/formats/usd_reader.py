"""Takes the Gaussians out of a USD stage: ``python -m splat.formats.usd_reader STAGE OUT.npz``.

A process of its own, because usd-core follows the offsets and counts of a damaged file into memory that is not there,
which would end the process that asked. It needs neither PyTorch nor the rest of the package, and so starts quickly.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np

SCHEMA = "ParticleField3DGaussianSplat"
ARRAYS = {"positions": 3, "scales": 3, "opacities": 1, "radiance:sphericalHarmonicsCoefficients": 3}
MEMORY = 192 << 20  # bytes beyond 16 times the file's size; text takes about that much while it is parsed


def main(stage: str, out: str) -> int:
    """Write the arrays of all Gaussian prims to ``out``; on failure print one line and return 1."""
    _limit_memory(Path(stage).stat().st_size)
    try:
        np.savez(out, **extract(stage))
    except Exception as error:  # usd-core raises many kinds; all mean that the file cannot be read
        try:
            text = str(error).strip()
        except UnicodeDecodeError:  # it quotes the damaged bytes
            text = ""
        print((text.splitlines() or [type(error).__name__])[-1].strip()[:200])
        return 1
    return 0


def _limit_memory(size: int) -> None:
    try:
        import resource

        from pxr import Usd, UsdGeom, UsdUtils, UsdVol  # noqa: F401  the libraries are not the file's fault

        # What is mapped and may be written, not what the file's own mapping takes.
        held = int(Path("/proc/self/status").read_text().partition("VmData:")[2].split()[0]) << 10
        limit = held + 16 * size + MEMORY
        resource.setrlimit(resource.RLIMIT_DATA, (limit, resource.getrlimit(resource.RLIMIT_DATA)[1]))
    except (ImportError, OSError, ValueError, IndexError):
        return  # not Linux, or a stricter limit holds already


def extract(path: str) -> dict[str, np.ndarray]:
    """Arrays by "<prim number>/<name>", and the stage's up axis."""
    from pxr import Usd, UsdGeom, UsdUtils

    # While it lives, usd-core's messages go there and not to the terminal, thousands of lines for a damaged file.
    silence = UsdUtils.CoalescingDiagnosticDelegate()
    stage = Usd.Stage.Open(path)
    prims = [prim for prim in stage.Traverse() if prim.GetTypeName() == SCHEMA]
    found: dict[str, np.ndarray] = {"up": np.array(str(UsdGeom.GetStageUpAxis(stage)).upper())}
    for number, prim in enumerate(prims):
        found |= {f"{number}/{name}": _array(prim, name, width) for name, width in ARRAYS.items()}
        if prim.GetAttribute("orientations").Get() or prim.GetAttribute("orientationsh").Get():
            found[f"{number}/orientations"] = _array(prim, "orientations", 4)  # x y z w
        found[f"{number}/degree"] = np.array(int(prim.GetAttribute("radiance:sphericalHarmonicsDegree").Get()))
        pose = UsdGeom.Xformable(prim).ComputeLocalToWorldTransform(Usd.TimeCode.Default())
        found[f"{number}/pose"] = np.array(pose).T
    silence.TakeUncoalescedDiagnostics()
    return found


def _array(prim: Any, name: str, width: int) -> np.ndarray:
    """(N, width) float32 of an attribute, or of its half-precision twin."""
    for candidate in (name, name + "h"):
        values = prim.GetAttribute(candidate).Get()
        if values is not None:
            return np.array(values, np.float32).reshape(-1, width)
    raise ValueError(f"'{prim.GetPath()}' has no {name}")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
