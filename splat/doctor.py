"""What this machine can do, found by trying it: processor, graphics card, rendering backends, optional packages."""

import importlib.metadata
import io
import math
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from splat.errors import InputError
from splat.machine import usable_cores

State = Literal["ok", "absent", "broken"]

PACKAGES = ("numpy", "torch", "pillow", "opencv-python-headless", "pycolmap", "scipy", "tyro", "rich", "zstandard")


@dataclass(frozen=True)
class Finding:
    """One fact about the machine.

    Attributes:
        name: what was looked at.
        state: ok, absent (optional and not there), or broken (there, but gives wrong or no results).
        detail: what was found, one line.
        remedy: what to do about it; None where nothing is needed.
    """

    name: str
    state: State
    detail: str
    remedy: str | None = None


def examine() -> dict[str, list[Finding]]:
    """All findings, by section."""
    return {
        "Machine": machine(),
        "CPU core": core(),
        "Graphics card": graphics(),
        "Rendering backends": backends(),
        "Packages": [*packages(), *optional()],
        "Priors for few photos": priors(),
    }


# ---- machine ----


def machine() -> list[Finding]:
    """System, Python, processor, memory, and room on the disk of the current folder."""
    cores = usable_cores()
    total, free = memory()
    disk = shutil.disk_usage(Path.cwd()).free
    findings = [
        Finding("system", "ok", f"{platform.system()} {platform.release()} {platform.machine()}"),
        Finding("Python", "ok", f"{platform.python_version()} ({sys.executable})"),
        Finding("processor", "ok", f"{processor_name()}, {cores} core{'s' if cores > 1 else ''} for this process"),
    ]
    if total:
        findings.append(Finding("memory", "ok", f"{total / 1e9:.1f} GB, {free / 1e9:.1f} GB free"))
    few = "less than 1 GB is tight for a training run; free some space" if disk < 1e9 else None
    findings.append(Finding("disk", "ok", f"{disk / 1e9:.1f} GB free in {Path.cwd()}", few))
    return findings


def processor_name() -> str:
    """The processor's model, as the operating system calls it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux: the platform module knows
    return platform.processor() or platform.machine()


def memory() -> tuple[int, int]:
    """Total and available main memory, bytes; zeros where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 0, 0
    sizes = {line.partition(":")[0]: int(line.split()[1]) * 1024 for line in lines}
    return sizes.get("MemTotal", 0), sizes.get("MemAvailable", 0)


def core() -> list[Finding]:
    """The compiled CPU core: which instruction-set variants run here, and which one is used."""
    from splat.native import cpu_library as library

    runnable = library.variants()
    try:
        used = library.variant()
        threads = library.threads()
    except InputError as error:
        return [Finding("variant", "broken", str(error))]
    others = ", ".join(name for name in runnable if name != used)
    also = f"; also runs {others} (SPLAT_CPU_VARIANT={runnable[0]} would choose that one)" if others else ""
    return [Finding("variant", "ok", f"{used}{also}"), Finding("threads", "ok", str(threads))]


# ---- graphics card ----


def graphics() -> list[Finding]:
    """NVIDIA cards and their driver, and whether PyTorch was built for them."""
    import torch

    cards = nvidia_cards()
    if not cards:
        return [Finding("NVIDIA GPU", "absent", "none (training runs on the processor)")]
    findings = [Finding("NVIDIA GPU", "ok", card) for card in cards]
    if torch.version.cuda is None:
        remedy = "pip install --force-reinstall torch"
        findings.append(Finding("PyTorch", "broken", f"{torch.__version__} is built without CUDA", remedy))
    elif not torch.cuda.is_available():
        detail = f"{torch.__version__} (CUDA {torch.version.cuda}) does not reach the card"
        findings.append(Finding("PyTorch", "broken", detail, "update the NVIDIA driver"))
    else:
        findings.append(Finding("PyTorch", "ok", f"{torch.__version__} (CUDA {torch.version.cuda})"))
    return findings


def nvidia_cards() -> list[str]:
    """Name, memory and driver of each card that ``nvidia-smi`` lists."""
    command = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [[cell.strip() for cell in line.split(",")] for line in result.stdout.splitlines() if line.strip()]
    return [f"{name}, {size}, driver {driver}" for name, size, driver in (row for row in rows if len(row) == 3)]


# ---- backends ----


def backends() -> list[Finding]:
    """Every rendering backend, judged by the picture it draws of a known cloud."""
    from splat.rendering.backends import BACKENDS

    return [*(backend(name) for name in BACKENDS), *sorting()]


def sorting() -> list[Finding]:
    """How the cuda backend sorts, where it works."""
    if check_cuda() is not None:
        return []
    import torch

    from splat.native.cuda_sort import choice

    return [Finding("sorting on the GPU", "ok", str(choice(torch.cuda.current_device())))]


def check_cuda() -> str | None:
    """What the cuda backend lacks; None if it works."""
    from splat.rendering import check_backend

    return check_backend("cuda")


def backend(name: str) -> Finding:
    """Draw two Gaussians whose picture is known in closed form with backend ``name`` and compare."""
    from splat.rendering import check_backend

    reason = check_backend(name)
    if reason is not None:
        return Finding(name, "absent", reason)
    try:
        error = picture_error(name)
    except Exception as failure:  # whatever an optional backend throws is its finding
        return Finding(name, "broken", f"fails to draw a test picture: {type(failure).__name__}: {failure}")
    if error > 1e-3:
        return Finding(name, "broken", f"draws a wrong test picture (largest error {error:.3g})")
    return Finding(name, "ok", f"draws the test picture right (largest error {error:.1e})")


def picture_error(name: str) -> float:
    """Largest difference, over pixels and channels, between backend ``name`` and the closed form."""
    import torch

    from splat.camera import Camera
    from splat.cloud import GaussianCloud
    from splat.rendering import get_backend, render
    from splat.sh import C0

    camera = Camera(32.0, 32.0, 16.5, 16.5, 33, 33, torch.eye(4, dtype=torch.float64))
    depths, deviations, opacities = (4.0, 8.0), (0.25, 0.75), (0.8, 0.5)  # 2 px and 3 px before the blur
    colours = torch.tensor([[0.9, 0.3, 0.1], [0.1, 0.4, 0.8]])
    cloud = GaussianCloud(
        means=torch.tensor([[0.0, 0.0, depth] for depth in depths]),
        log_scales=torch.tensor([[math.log(deviation)] * 3 for deviation in deviations]),
        quats=torch.tensor([[1.0, 0.0, 0.0, 0.0]] * 2),
        logit_opacities=torch.tensor([math.log(opacity / (1 - opacity)) for opacity in opacities]),
        sh=((colours - 0.5) / C0)[:, None, :],
    ).to(get_backend(name).device)
    drawn = render(cloud, camera, backend=name).rgb.double().cpu()
    return float((drawn - expected_picture(depths, deviations, opacities, colours.double())).abs().max())


def expected_picture(depths, deviations, opacities, colours):
    """Front-to-back blend of round Gaussians on the optical axis of the camera above, (33, 33, 3) float64."""
    import torch

    offset = torch.arange(33, dtype=torch.float64) - 16
    squared = offset[:, None] ** 2 + offset[None, :] ** 2
    picture = torch.zeros(33, 33, 3, dtype=torch.float64)
    transmittance = torch.ones(33, 33, dtype=torch.float64)
    for depth, deviation, opacity, colour in zip(depths, deviations, opacities, colours, strict=True):
        variance = (32.0 * deviation / depth) ** 2 + 0.3  # on the axis the projection is a plain magnification
        alpha = opacity * torch.exp(-0.5 * squared / variance)
        alpha = torch.where(alpha < 1 / 255, 0, alpha)
        picture += (transmittance * alpha)[..., None] * colour
        transmittance = transmittance * (1 - alpha)
    return picture


# ---- packages ----


def packages() -> list[Finding]:
    """Versions of the packages that splat always needs: those found in one line, each missing one by itself."""
    present, missing = [], []
    for name in PACKAGES:
        try:
            present.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(Finding(name, "broken", "not installed", f"pip install {name}"))
    return [Finding("required", "ok", ", ".join(present)), *missing]


def optional() -> list[Finding]:
    """What widens splat: each is tried, not just imported."""
    return [
        tried("MP4 video", write_test_video, "pip install av"),
        tried("HEIC photos", read_test_heic, "pip install pillow-heif"),
        tried("OpenEXR photos", read_test_exr, "pip install openexr"),
        tried("raw photos", raw_library, "pip install rawpy"),
        lpips(),
    ]


def priors() -> list[Finding]:
    """What can help where photos are few; a run goes on without what is absent."""
    from splat.priors.availability import priors as known

    return [
        Finding(each.name, "ok" if each.ready else "absent", f"{each.detail} ({each.setting})", each.remedy)
        for each in known()
    ]


def tried(name: str, trial: Callable[[], str], install: str) -> Finding:
    """The finding of ``trial``, which returns what it found or raises."""
    try:
        return Finding(name, "ok", trial())
    except ImportError as error:
        return Finding(name, "absent", f"not installed ({error})", install)
    except Exception as error:  # an optional package may fail in any way; that is what is to be said
        return Finding(name, "broken", f"{type(error).__name__}: {error}", f"{install} --force-reinstall")


def write_test_video() -> str:
    """Encode two pictures as H.264 in memory."""
    import av
    import numpy as np

    target = io.BytesIO()
    with av.open(target, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for shade in (0, 200):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), shade, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    if target.tell() < 100:
        raise RuntimeError("the encoder wrote an empty file")
    return f"av {av.__version__} encodes H.264"


def read_test_heic() -> str:
    """Encode a picture as HEIC in memory, and read it back."""
    import pillow_heif
    from PIL import Image

    pillow_heif.register_heif_opener()
    target = io.BytesIO()
    Image.new("RGB", (64, 64), (200, 100, 50)).save(target, "HEIF")
    with Image.open(target, formats=["HEIF"]) as image:
        seen = image.convert("RGB").getpixel((32, 32))
    if max(abs(a - b) for a, b in zip(seen, (200, 100, 50), strict=True)) > 10:
        raise RuntimeError(f"it reads {seen}, not what was written")
    return f"pillow-heif {pillow_heif.__version__}"


def read_test_exr() -> str:
    """Write a picture as OpenEXR, and read it back."""
    import numpy as np
    import OpenEXR

    from splat.scene.pictures import exr

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.exr"
        facts = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
        with OpenEXR.File(facts, {"RGB": np.full((8, 8, 3), 0.5, np.float32)}) as file:
            file.write(str(path))
        if not (exr.read(path, 64) == 0.5).all():
            raise RuntimeError("it does not read what was written")
    return f"openexr {importlib.metadata.version('openexr')}"


def raw_library() -> str:
    """Which LibRaw develops raw photos."""
    import rawpy

    return f"rawpy {rawpy.__version__} with LibRaw {'.'.join(map(str, rawpy.libraw_version))}"


def lpips() -> Finding:
    """Whether the LPIPS metric and its weights are here."""
    from splat.metrics import lpips_missing

    missing = lpips_missing()
    if missing:
        return Finding("LPIPS metric", "absent", "not computed by splat eval", missing)
    return Finding("LPIPS metric", "ok", "network and weights are here")
