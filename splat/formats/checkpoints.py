"""PyTorch checkpoints of other trainers, as data alone: gsplat, nerfstudio's splatfacto, the original 3DGS code.

Layouts (released code of each): gsplat ``{"step", "splats": {means, scales, quats, opacities, sh0, shN}}`` (``means3d``
of old), one file for each GPU; nerfstudio ``{"pipeline": {"_model.gauss_params.means", …}}`` (``_model.means`` of old);
3DGS ``(capture of the model, iteration)``. All store log scales, w x y z quaternions and logit opacities.
"""

import re
import zipfile
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from splat.cloud_arrays import GaussianArrays
from splat.coding.limits import memory_bytes
from splat.errors import InputError
from splat.reading import guarded
from splat.sh_basis import MAX_DEGREE

MAX_PICKLE = 1 << 26  # bytes of the description of a checkpoint, without its tensors
MAX_LEGACY = 1 << 32  # bytes of a checkpoint from before PyTorch 1.6, which is read as a whole
_EXPORT = "export a .ply and give that: gsplat's --save-ply, ns-export gaussian-splat, or point_cloud/iteration_*"
_NAMED = re.compile(r"(?:GLOBAL|global:?) ([\w.]+\.\w+)")
_RANK = re.compile(r"(.*_rank)(\d+)(\.\w+)")
# Names in each layout: means, log scales, quaternions, opacities, base colours, other bands.
_GSPLAT = ("means", "scales", "quats", "opacities", "sh0", "shN")
_NERFSTUDIO = ("means", "scales", "quats", "opacities", "features_dc", "features_rest")
_INRIA = 12  # entries of the original code's capture of a model
_FIELDS = 6


def is_checkpoint(path: Path) -> bool:
    """Whether the zip ``path`` is a file of ``torch.save``."""
    with guarded(path, "the list of the zip's members"), zipfile.ZipFile(path) as archive:
        return any(name.endswith("/data.pkl") for name in archive.namelist())


def read(path: Path) -> GaussianArrays:
    """The Gaussians in ``path``. Nothing in the file is run. Raises InputError for other checkpoints."""
    import torch

    content = _content(path)
    tensors = _tensors(path, content)
    means, log_scales, quats, logits, base, rest = tensors
    n = len(means)
    shapes = ((3,), (3,), (4,), (), (3,))
    fields = [_array(path, tensor, n, shape) for tensor, shape in zip(tensors[:5], shapes, strict=True)]
    bands = _array(path, rest, n, None) if isinstance(rest, torch.Tensor) else np.zeros((n, 0, 3), np.float32)
    if bands.size % max(3 * n, 1) or bands.shape[1:2] not in ((degree**2 + 2 * degree,) for degree in range(5)):
        raise InputError(f"{path}: {bands.shape} spherical harmonics do not fit {n:,} Gaussians; {_EXPORT}")
    return GaussianArrays(*fields[:4], np.concatenate([fields[4][:, None], bands], 1))


def antialiased(path: Path) -> bool:
    """Checkpoints have no such mark."""
    return False


def notes(path: Path) -> tuple[str, ...]:
    """Says where a checkpoint is one part of several, or in a frame of its own."""
    sentences = []
    if match := _RANK.fullmatch(path.name):
        parts = [part for part in path.parent.glob(f"*{match[3]}") if part.name.startswith(match[1])]
        if len(parts) > 1:
            sentences.append(
                f"one of {len(parts)} parts, of one GPU each; join them with: splat convert PART PART … OUT"
            )
    if path.suffix == ".ckpt":
        sentences.append("in the frame of nerfstudio, which moves and scales scenes (dataparser_transforms.json)")
    return tuple(sentences)


def _content(path: Path) -> Any:
    """What was saved, its tensors left in the file as far as that can be."""
    import torch

    zipped = zipfile.is_zipfile(path)
    if zipped:
        _check_members(path)
    elif path.stat().st_size > MAX_LEGACY:
        raise InputError(f"{path}: too large for a checkpoint of this old kind; {_EXPORT}")
    try:
        # Only tensors and plain data are made; a file that names anything else is refused by PyTorch.
        with _numbers_allowed():
            return torch.load(path, map_location="cpu", weights_only=True, **({"mmap": True} if zipped else {}))
    except MemoryError:
        raise
    except Exception as error:  # PyTorch raises many kinds for damaged files
        named = _NAMED.search(str(error))
        first = " ".join(str(error).split(". ")[0].split())[:160]
        reason = f"it asks for {named[1][:80]}" if named else first or type(error).__name__
        raise InputError(f"{path}: this PyTorch file cannot be read as data alone ({reason}); {_EXPORT}") from error


def _numbers_allowed() -> AbstractContextManager[Any]:
    """Lets checkpoints hold NumPy's numbers, as the original code's do (spatial_lr_scale), under their old name too."""
    import torch

    allow = getattr(torch.serialization, "safe_globals", None)
    if allow is None:  # before PyTorch 2.5
        return nullcontext()
    scalar = np.float64(0).__reduce__()[0]
    kinds = [type(np.dtype(kind)) for kind in ("f2", "f4", "f8", "i4", "i8", "?")]
    return allow([scalar, (scalar, "numpy.core.multiarray.scalar"), np.dtype, *kinds])


def _check_members(path: Path) -> None:
    """PyTorch stores without packing: a packed member would take more memory than the file has bytes."""
    with guarded(path, "the list of the zip's members"), zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    size = path.stat().st_size
    packed = [each for each in members if each.compress_type != zipfile.ZIP_STORED or each.file_size > size]
    if packed or sum(each.file_size for each in members) > size:
        raise InputError(f"{path}: its members are packed, which torch.save never does; save the checkpoint again")
    if any(each.filename.endswith("/data.pkl") and each.file_size > MAX_PICKLE for each in members):
        raise InputError(f"{path}: its description is too large for a checkpoint of a cloud; {_EXPORT}")


def _tensors(path: Path, content: Any) -> list[Any]:
    """The six tensors of the cloud, in the order of `_GSPLAT`; the last may be None."""
    import torch

    tensors: list[Any] = []
    if isinstance(content, Mapping) and isinstance(splats := content.get("splats"), Mapping):
        if "sh0" not in splats and "colors" in splats:
            raise InputError(
                f"{path}: a gsplat checkpoint trained with --app-opt, whose colours a network makes; train without it"
            )
        tensors = [splats.get(name, splats.get("means3d") if name == "means" else None) for name in _GSPLAT]
    elif isinstance(content, Mapping):
        model = content.get("pipeline", content.get("state_dict", content))
        if isinstance(model, Mapping):
            tensors = [_ending(model, name) for name in _NERFSTUDIO]
    elif isinstance(content, (tuple, list)) and content and isinstance(content[0], (tuple, list)):
        capture = content[0]
        if len(capture) >= _INRIA - 1:  # degree, means, base colours, other bands, scales, rotations, opacities, …
            tensors = [capture[at] for at in (1, 4, 5, 6, 2, 3)]
    good = len(tensors) == _FIELDS and all(isinstance(each, torch.Tensor) for each in tensors[:5])
    if not good or tensors[0].ndim == 0:
        raise InputError(f"{path}: a PyTorch file that holds no cloud of gsplat, nerfstudio or 3DGS; {_EXPORT}")
    return tensors


def _ending(model: Mapping[Any, Any], name: str) -> Any:
    """The tensor ``name`` of splatfacto's model, in newer or older layout."""
    for prefix in ("_model.gauss_params.", "gauss_params.", "_model."):
        if f"{prefix}{name}" in model:
            return model[prefix + name]
    return None


def _array(path: Path, tensor: Any, n: int, shape: tuple[int, ...] | None) -> np.ndarray:
    """``tensor`` as float32 (N, *shape), or (N, K, 3) for ``shape`` None; axes of length 1 do not count."""
    numbers = tensor.numel()
    stored = tensor.layout is _strided() and tensor.device.type == "cpu" and tensor.is_floating_point()
    if not stored or numbers * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise InputError(f"{path}: a tensor of the cloud holds no stored numbers; {_EXPORT}")
    wanted = int(np.prod(shape)) if shape is not None else numbers // max(n, 1)
    if tensor.ndim == 0 or len(tensor) != n or numbers != n * wanted or (shape is None and wanted % 3):
        raise InputError(f"{path}: the tensors of the cloud do not fit each other ({n:,} Gaussians); {_EXPORT}")
    if 4 * numbers > memory_bytes(n, MAX_DEGREE):
        raise InputError(f"{path}: more numbers for each Gaussian than degree {MAX_DEGREE} has; {_EXPORT}")
    array = tensor.detach().float().numpy().reshape(n, *(shape if shape is not None else (wanted // 3, 3)))
    return np.array(array)  # of its own: the file may change or go


def _strided() -> Any:
    import torch

    return torch.strided
