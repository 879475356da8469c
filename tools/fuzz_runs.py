"""Seeds and readers for fuzzing run folders: checkpoints of today and of old, config.toml, metrics.json."""

import hashlib
import json
import shutil
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import fuzz_formats
import fuzz_scenes
import mutations
import numpy as np
import tomli_w
import torch

from splat.errors import InputError, NonFiniteError

STEPS = 4
_SUM_BYTES = hashlib.sha256().digest_size
_DAMAGED_FLOATS = np.array([np.nan, np.inf, -np.inf, 3e38, -3e38, 0, -1, 1e-38], np.float32)


def run(folder: Path, finished: bool = True) -> Path:
    """A folder RUN beside its scene: a run over three tiny photos, or one that was stopped before its end."""
    import splat
    from splat.scene import load_scene
    from splat.training.config.methods import AverageConfig, SmoothConfig
    from splat.training.config.photos import AppearanceConfig

    fuzz_scenes.nerfstudio(folder / "scene")
    scene = load_scene(folder / "scene", progress=False, hold_out=3)
    config = splat.TrainConfig(
        steps=STEPS, gaussians=8, sh_degree=1, backend="cpu", smooth=SmoothConfig(filter=0.2),
        average=AverageConfig(start=0.2), appearance=AppearanceConfig(exposure=True),
    )  # fmt: skip
    config = replace(config, scene=replace(config.scene, path=str(folder / "scene")))
    done: list[Any] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        splat.train(scene, config, folder / "run", progress=done.append, stop=lambda: not finished and len(done) >= 2)
    return folder / "run"


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoint of a stopped run, and in another folder the same as PyTorch's pickled dictionary, as of old."""
    from splat.training import checkpoint

    new = max((run(folder, finished=False) / "checkpoints").glob("*.safetensors"))
    old = folder / "old" / "checkpoints" / f"{new.stem}.pt"
    shutil.copytree(folder / "run", folder / "old")
    (old.parent / new.name).unlink()
    (_, state), *_ = checkpoint.readable(new.parent)
    torch.save(state | {"version": checkpoint.OLD_VERSION}, old)
    return [new, old]


def settings(folder: Path) -> list[Path]:
    """The settings of a finished run."""
    return [run(folder) / "config.toml"]


def metrics(folder: Path) -> list[Path]:
    """The metrics of a finished run."""
    return [run(folder) / "metrics.json"]


# ---- readers ----


def read_checkpoint(path: Path) -> None:
    """What `splat train --resume` makes of the damaged checkpoint."""
    _resume(path.parents[1])


def read_run(path: Path) -> None:
    """What `splat info`, `splat eval`, the report and `splat train --resume` make of the run of the damaged file."""
    refusals = []
    for part in (_inform, _open, _report, _resume):
        try:
            part(path.parent)
        except InputError as error:
            refusals.append(str(error))
    if refusals:
        raise InputError("; ".join(refusals))


def _inform(run: Path) -> None:
    from splat.cli import info
    from splat.cli.console import console

    facts = info.run_facts(run)
    with console.capture(), tempfile.TemporaryDirectory() as folder:
        info.present(facts, Path(folder) / "facts.json", lambda: info.show_run(facts))


def _open(run: Path) -> None:
    from splat.cli.inputs import open_cloud

    assert len(open_cloud(run).render_options.background) == 3


def _report(run: Path) -> None:
    from splat.report import embed, write
    from splat.report.run_folder import read_run

    with patch.object(embed, "PICTURE", (64, 36)):  # pixels
        assert write.page(read_run(run)).encode()


def _resume(run: Path) -> None:
    """As `splat train --resume`, for one step where the run is not over, and what it prints.

    In a copy, as a run that goes on writes into its folder. What is to be made anew of a finished run is not made: it
    does not come from the damaged file.
    """
    import splat
    from splat.cli.console import console
    from splat.cli.train_result import show_result
    from splat.runs import folder
    from splat.scene import load_scene

    with tempfile.TemporaryDirectory() as place, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        copy = Path(shutil.copytree(run, Path(place) / "run"))
        config = folder.stored_settings(copy, named=splat.TrainConfig())
        if (copy / "metrics.json").exists() and folder.finished(copy) is None:
            return
        if not config.scene.path or not Path(config.scene.path).is_dir():
            raise InputError("its scene is gone")
        scene = load_scene(config.scene.path, config.scene.downscale, config.scene.max_side, False, hold_out=3)
        done: list[Any] = []
        try:
            result = splat.train(scene, config, copy, resume=True, progress=done.append, stop=lambda: bool(done))
        except NonFiniteError:  # numbers of a checkpoint may be of any size
            return
        assert len(result.cloud) <= 8
        with console.capture():
            show_result(result)


# ---- damage ----


def damage_checkpoint(data: bytes, random: np.random.Generator) -> bytes:
    """A checkpoint with damage in its header, its text or its numbers, and the right checksum."""
    if data[:2] == b"PK":
        return mutations.mutate_zip(data, random)
    length = int.from_bytes(data[:8], "little")
    if length > len(data) - 8 - _SUM_BYTES:
        return fuzz_formats.mutate(data, random)
    header, values, kind = data[8 : 8 + length], bytearray(data[8 + length : -_SUM_BYTES]), int(random.integers(0, 8))
    if kind == 0:
        header = mutations.mutate_json(header, random)
    elif kind == 1 and values:
        for at in random.integers(0, max(len(values) // 4, 1), random.integers(1, 4)):
            values[4 * at : 4 * at + 4] = random.choice(_DAMAGED_FLOATS).tobytes()
    else:
        header = _with_damaged_text(header, random)
    body = len(header).to_bytes(8, "little") + header + bytes(values)
    return body + hashlib.sha256(body).digest()


def _with_damaged_text(header: bytes, random: np.random.Generator) -> bytes:
    """``header`` with damage in the JSON that holds all but the tensors."""
    try:
        entries = json.loads(header)
        text = entries["__metadata__"]["splat"]
        entries["__metadata__"]["splat"] = mutations.mutate_json(text.encode(), random).decode("utf-8", "replace")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):  # damaged before
        return mutations.mutate_json(header, random)
    return json.dumps(entries).encode()


def damage_toml(data: bytes, random: np.random.Generator) -> bytes:
    """Settings with one to three values replaced by odd ones."""
    import tomllib

    try:
        tree = tomllib.loads(data.decode())
        odd = json.loads(mutations.mutate_json(json.dumps(tree).encode(), random))
        return tomli_w.dumps(_without_none(odd)).encode()
    except (ValueError, TypeError, AttributeError, RecursionError):  # no TOML, or what TOML has no word for
        return fuzz_formats.mutate(data, random)


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return [_without_none(item) for item in value if item is not None] if isinstance(value, list) else value
