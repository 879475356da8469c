"""What the scripts of this folder share: where results go, earlier scripts that others build on, and pictures."""

import runpy
import sys
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

HERE = Path(__file__).resolve().parent


def output_folder() -> Path:
    """The folder for all results: the script's first argument, or ``runs/examples`` in the source folder."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE.parent / "runs" / "examples"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def made_by(script: str, path: Path) -> Path:
    """``path``, which ``script`` writes; if it is not there yet, the script runs first."""
    if not path.exists():
        print(f"({path} is not there yet: running {script} first)")
        runpy.run_path(str(HERE / script), run_name="__main__")
    return path


def save_row(path: Path, *images: Tensor) -> None:
    """Write ``images``, (H, W, 3) or (H, W) of values from 0 to 1, beside each other as PNG."""
    coloured = [image if image.ndim == 3 else image[..., None].expand(-1, -1, 3) for image in images]
    row = torch.cat([image.detach().cpu() for image in coloured], dim=1)
    Image.fromarray((row.clamp(0, 1) * 255 + 0.5).to(torch.uint8).numpy()).save(path)
    print(f"wrote {path}")
