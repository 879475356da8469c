"""Safetensors files with a checksum over all that is in them (https://huggingface.co/docs/safetensors).

A file is the length of its header, a header of JSON (dtype, shape and place of each tensor, and texts by name), and the
tensors' bytes. Ours end with one tensor more, `CHECKSUM`: SHA-256 of everything before it. Nothing in one can run.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

CHECKSUM = "checksum"
_SUM_BYTES = hashlib.sha256().digest_size
_MOST_HEADER = 100 << 20  # bytes; the limit of the format's own reader
_DTYPES = {
    "F64": torch.float64, "I64": torch.int64, "F32": torch.float32, "I32": torch.int32, "F16": torch.float16,
    "BF16": torch.bfloat16, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


def write(path: Path, tensors: Mapping[str, Tensor], texts: Mapping[str, str]) -> None:
    """Write ``tensors`` and ``texts`` into the existing file ``path``. Raises OSError, and ValueError for a dtype."""
    # Wide numbers first: then each lies where its width divides its place.
    ordered = sorted(tensors.items(), key=lambda item: -item[1].element_size())
    digest = hashlib.sha256()
    with open(path, "r+b") as file:
        file.truncate()
        for part in (_header(ordered, texts), *(_bytes_of(tensor) for _, tensor in ordered)):
            digest.update(part)
            file.write(part)
        file.write(digest.digest())


def _header(ordered: list[tuple[str, Tensor]], texts: Mapping[str, str]) -> bytes:
    entries: dict[str, Any] = {"__metadata__": dict(texts)}
    at = 0
    for name, tensor in ordered:
        if tensor.dtype not in _NAMES or name in (CHECKSUM, "__metadata__"):
            raise ValueError(f"the tensor '{name}' of {tensor.dtype} has no place in a safetensors file")
        entries[name] = _entry(_NAMES[tensor.dtype], tensor.shape, at, at := at + tensor.nbytes)
    entries[CHECKSUM] = _entry("U8", (_SUM_BYTES,), at, at + _SUM_BYTES)
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _entry(dtype: str, shape: tuple[int, ...], start: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}


def _bytes_of(tensor: Tensor) -> memoryview:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return memoryview(flat.view(torch.uint8).numpy()) if flat.numel() else memoryview(b"")


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and texts of a file of `write`, each by name.

    Raises OSError, and ValueError with the reason where a single bit differs from what was written.
    """
    data = np.fromfile(path, np.uint8)
    body = data[:-_SUM_BYTES]
    if len(data) < 8 + _SUM_BYTES or hashlib.sha256(body).digest() != data[-_SUM_BYTES:].tobytes():
        raise ValueError("its checksum does not match: the file is cut short or damaged")
    length = int.from_bytes(body[:8].tobytes(), "little")
    if length > min(len(body) - 8, _MOST_HEADER):
        raise ValueError(f"its header of {length} bytes is longer than the file")
    try:
        entries = json.loads(body[8 : 8 + length].tobytes())
        texts = entries.pop("__metadata__", {})
        if not all(isinstance(text, str) for text in texts.values()):
            raise ValueError("its metadata are no texts")
        values = body[8 + length :]
        tensors = {name: _tensor(name, entry, values) for name, entry in entries.items() if name != CHECKSUM}
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"its header is not that of a safetensors file ({error!r})") from error
    return tensors, texts


def _tensor(name: str, entry: dict[str, Any], values: np.ndarray) -> Tensor:
    dtype, shape, (start, end) = _DTYPES[entry["dtype"]], entry["shape"], entry["data_offsets"]
    numbers = (*shape, start, end)
    if not all(type(number) is int and number >= 0 for number in numbers) or not start <= end <= len(values):
        raise ValueError(f"the tensor '{name}' lies outside the file")
    if math.prod(shape) * torch.empty(0, dtype=dtype).element_size() != end - start:
        raise ValueError(f"the tensor '{name}' has {end - start} bytes, not those of its shape {shape}")
    # A copy: it owns its memory, aligned as PyTorch's.
    flat = torch.from_numpy(values[start:end].copy()) if end > start else torch.zeros(0, dtype=torch.uint8)
    return flat.view(dtype).reshape(shape)
