"""Takes the Gaussians out of a USD stage: ``python -m splat.formats.usd.reader_process STAGE OUT.npz``.

A process of its own, because usd-core follows the offsets and counts of a damaged file into memory that is not there,
which would end the process that asked. It needs neither PyTorch nor the rest of the package, and so starts quickly.
"""

import math
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

SCHEMA = "ParticleField3DGaussianSplat"
ARRAYS = {"positions": 3, "scales": 3, "opacities": 1, "radiance:sphericalHarmonicsCoefficients": 3}
# Bytes that the process may take beyond what it holds once usd-core is loaded: usd-core's own, and so many times the
# size of each file of the stage. Its parser of text holds each number as an object (measured: up to 20 times the text).
MEMORY, BINARY, TEXT = 24 << 20, 4, 21
# Seconds of work, and how many bytes more each further second is for: usd-core reads text at several times that.
SECONDS, BYTES_PER_SECOND = 9, 500_000


def main(stage: str, out: str) -> int:
    """Write the arrays of all Gaussian prims to ``out``; on failure print one line and return 1."""
    from pxr import Usd, UsdGeom, UsdUtils, UsdVol  # noqa: F401  the libraries are not the file's fault

    # While it lives, usd-core's messages go there and not to the terminal, thousands of lines for a damaged file.
    silence = UsdUtils.CoalescingDiagnosticDelegate()
    try:
        admit(stage)
        np.savez(out, **extract(stage))
    except Exception as error:  # usd-core raises many kinds; all mean that the file cannot be read
        try:
            text = str(error).strip()
        except UnicodeDecodeError:  # it quotes the damaged bytes
            text = ""
        print((text.splitlines() or [type(error).__name__])[-1].strip()[:200])
        return 1
    finally:
        silence.TakeUncoalescedDiagnostics()
    return 0


def admit(stage: str) -> None:
    """Limit this process's memory to what the files of ``stage`` may take, each counted before it is opened."""
    from pxr import Sdf

    held = _held()
    if held is None:
        return
    limit, seconds, seen, waiting = held + MEMORY, float(SECONDS), set(), [stage]
    while waiting:
        name = waiting.pop()
        if Path(name).exists() and not Path(name).is_file():
            raise ValueError(f"it refers to {name}, which is no ordinary file")
        if name in seen or not Path(name).is_file():  # a layer inside a .usdz was counted with it
            continue
        seen.add(name)
        seconds += Path(name).stat().st_size / BYTES_PER_SECOND
        _limit_time(math.ceil(seconds))
        limit += times(Path(name)) * Path(name).stat().st_size
        _limit_memory(limit)
        layer = Sdf.Layer.FindOrOpen(name)
        if layer is not None:
            waiting += [layer.ComputeAbsolutePath(asset) for asset in layer.GetCompositionAssetDependencies()]


def times(path: Path) -> int:
    """How many times its size the USD file ``path`` may take in memory."""
    with open(path, "rb") as file:
        start = file.read(8)
    if not start.startswith(b"PK"):
        return TEXT if start.startswith(b"#usda") else BINARY
    try:
        with zipfile.ZipFile(path) as archive:
            return max((TEXT for name in archive.namelist() if name.endswith((".usda", ".usd"))), default=BINARY)
    except (OSError, ValueError, zipfile.BadZipFile):
        return BINARY


def _held() -> int | None:
    """Bytes that are mapped and may be written, which leaves out a file's own mapping. None where Linux is not."""
    try:
        return int(Path("/proc/self/status").read_text().partition("VmData:")[2].split()[0]) << 10
    except (OSError, IndexError):
        return None


def _limit_memory(limit: int) -> None:
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (limit, resource.getrlimit(resource.RLIMIT_DATA)[1]))
    except (ImportError, ValueError):
        return  # a stricter limit holds already


def _limit_time(seconds: int) -> None:
    """End this process after so much work of its own; the system ends it, whatever a library is doing."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.getrlimit(resource.RLIMIT_CPU)[1]))
    except (ImportError, ValueError):
        return  # a stricter limit holds already


def extract(path: str) -> dict[str, np.ndarray]:
    """Arrays by "<prim number>/<name>", and the stage's up axis."""
    from pxr import Usd, UsdGeom

    stage = Usd.Stage.Open(path)
    prims = [prim for prim in stage.Traverse() if prim.GetTypeName() == SCHEMA]
    arrays: dict[str, np.ndarray] = {"up": np.array(str(UsdGeom.GetStageUpAxis(stage)).upper())}
    for number, prim in enumerate(prims):
        arrays |= {f"{number}/{name}": _array(prim, name, width) for name, width in ARRAYS.items()}
        if prim.GetAttribute("orientations").Get() or prim.GetAttribute("orientationsh").Get():
            arrays[f"{number}/orientations"] = _array(prim, "orientations", 4)  # x y z w
        arrays[f"{number}/degree"] = np.array(int(prim.GetAttribute("radiance:sphericalHarmonicsDegree").Get()))
        pose = UsdGeom.Xformable(prim).ComputeLocalToWorldTransform(Usd.TimeCode.Default())
        arrays[f"{number}/pose"] = np.array(pose).T
    return arrays


def _array(prim: Any, name: str, width: int) -> np.ndarray:
    """(N, width) float32 of an attribute, or of its half-precision twin."""
    for candidate in (name, name + "h"):
        values = prim.GetAttribute(candidate).Get()
        if values is not None:
            return np.array(values, np.float32).reshape(-1, width)
    raise ValueError(f"'{prim.GetPath()}' has no {name}")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
