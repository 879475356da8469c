"""Clouds as other tools write them: spellings, colours, filters, flat Gaussians, checkpoints, folders of results."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from support.clouds import cloud_of

from splat import InputError, formats
from splat.cli import main
from splat.cloud_arrays import GaussianArrays
from splat.formats.output_folders import newest_cloud
from splat.sh_basis import C0

MAIN = ("means", "log_scales", "quats", "logit_opacities", "sh")
TYPES = {"f4": "float", "f8": "double", "u1": "uchar", "u2": "ushort", "i4": "int"}


def ply(path: Path, columns: dict[str, np.ndarray]) -> Path:
    """A binary .ply of the named columns in their own types."""
    rows = np.empty(
        len(next(iter(columns.values()))), [(name, values.dtype.newbyteorder("<")) for name, values in columns.items()]
    )
    for name, values in columns.items():
        rows[name] = values
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {len(rows)}"]
    lines += [f"property {TYPES[values.dtype.str[1:]]} {name}" for name, values in columns.items()]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(("\n".join([*lines, "end_header"]) + "\n").encode() + rows.tobytes())
    return path


def columns_of(table: GaussianArrays, colours: bool = True) -> dict[str, np.ndarray]:
    """The columns of a usual .ply."""
    columns = dict(zip("xyz", table.means.T, strict=True))
    if colours:
        columns |= {f"f_dc_{i}": table.sh[:, 0, i] for i in range(3)}
        rest = table.sh[:, 1:].transpose(0, 2, 1).reshape(len(table), -1)
        columns |= {f"f_rest_{i}": rest[:, i] for i in range(rest.shape[1])}
    columns |= {"opacity": table.logit_opacities}
    columns |= {f"scale_{i}": table.log_scales[:, i] for i in range(3)}
    return columns | {f"rot_{i}": table.quats[:, i] for i in range(4)}


@pytest.fixture
def table() -> GaussianArrays:
    return GaussianArrays.of(cloud_of(40, 3))


# ---- spellings ----


@pytest.mark.parametrize(
    "spell",
    [
        lambda name: name if name in "xyz" else f"scalar_{name}",
        lambda name: name if name in "xyz" else f"scal_{name}",
        str.upper,
        lambda name: f"scalar_{name}".title() if name not in "xyz" else name.upper(),
    ],
)
def test_spellings_of_other_tools(spell, table, tmp_path):
    path = ply(tmp_path / "a.ply", {spell(name): values for name, values in columns_of(table).items()})
    assert formats.recognise(path).name == "ply"
    found = formats.read_table(path)
    assert all(np.array_equal(getattr(found, name), getattr(table, name)) for name in MAIN)
    assert not found.extras and not formats.notes(path)


def test_the_exact_spelling_counts(table, tmp_path):
    columns = {"Opacity": np.zeros(40, np.float32)} | columns_of(table) | {"scalar_opacity": np.ones(40, np.float32)}
    found = formats.read_table(ply(tmp_path / "a.ply", columns))
    assert np.array_equal(found.logit_opacities, table.logit_opacities)
    assert set(found.extras) == {"Opacity", "scalar_opacity"}


# ---- colours ----


@pytest.mark.parametrize(
    ("kind", "factor"),
    [("u1", 255), ("u2", 65535), ("u2", 255), ("i4", 255), ("f4", 1), ("f4", 255), ("f8", 1), ("f4", 65535)],
)
@pytest.mark.parametrize(
    "names", [("red", "green", "blue"), ("r", "g", "b"), ("scalar_Red", "scalar_Green", "scalar_Blue")]
)
def test_colours_of_every_type(kind, factor, names, table, tmp_path):
    rgb = np.random.default_rng(0).uniform(0, 1, (40, 3))
    rgb[0] = 1
    stored = rgb * factor
    stored = np.rint(stored).astype(kind) if kind[0] != "f" else stored.astype(kind)
    colours = dict(zip(names, stored.T, strict=True))
    gaussians = formats.read_table(ply(tmp_path / "a.ply", columns_of(table, colours=False) | colours))
    assert gaussians.sh_degree == 0
    step = 0.51 / min(factor, 255) if kind[0] != "f" else 1e-6
    assert np.abs(gaussians.sh[:, 0] * C0 + 0.5 - rgb).max() <= step
    points = formats.read_table(ply(tmp_path / "b.ply", dict(zip("xyz", table.means.T, strict=True)) | colours))
    assert np.abs(points.sh[:, 0] * C0 + 0.5 - rgb).max() <= step


def test_colours_with_nan_leave_the_others_right(table, tmp_path):
    rgb = np.linspace(0, 255, 120).reshape(40, 3).astype(np.float32)
    rgb[3, 1] = np.nan
    columns = dict(zip("xyz", table.means.T, strict=True)) | dict(zip(("red", "green", "blue"), rgb.T, strict=True))
    found = formats.read_table(ply(tmp_path / "a.ply", columns)).sh[:, 0] * C0 + 0.5
    assert np.isfinite(found).all() and np.abs(found[4:] - rgb[4:] / 255).max() < 1e-6


# ---- what changes the picture ----


def test_the_filter_of_mip_splatting_is_worked_in(table, tmp_path):
    width = np.geomspace(1e-3, 1, 40).astype(np.float32)
    width[0], width[1] = 0, np.nan
    path = ply(tmp_path / "a.ply", columns_of(table) | {"filter_3D": width})
    found = formats.read_table(path)
    s2 = np.exp(2 * table.log_scales.astype(np.float64))
    wide = s2 + np.nan_to_num(width.astype(np.float64))[:, None] ** 2
    alpha = 1 / (1 + np.exp(-table.logit_opacities.astype(np.float64)))
    alpha = alpha * np.sqrt(s2.prod(1) / wide.prod(1))
    assert np.abs(found.log_scales - 0.5 * np.log(wide)).max() < 1e-5
    assert np.abs(1 / (1 + np.exp(-found.logit_opacities.astype(np.float64))) - alpha).max() < 1e-6
    assert not found.extras and "filter_3D is worked into" in formats.notes(path)[0]


def test_flat_and_certain_gaussians_become_finite(table, tmp_path):
    scales, logits = table.log_scales.copy(), table.logit_opacities.copy()
    scales[:5, 2], logits[0], logits[1], logits[2] = -np.inf, np.inf, -np.inf, np.nan
    path = ply(tmp_path / "a.ply", columns_of(table.replace(log_scales=scales, logit_opacities=logits)))
    found = formats.read_table(path)
    assert (found.log_scales[:5, 2] == -20).all() and np.array_equal(found.log_scales[5:], table.log_scales[5:])
    assert found.logit_opacities[0] == 20 and found.logit_opacities[1] == -20 and np.isnan(found.logit_opacities[2])
    two = columns_of(table)
    del two["scale_2"]
    path = ply(tmp_path / "b.ply", two)
    assert (formats.read_table(path).log_scales[:, 2] == -20).all() and "two scales" in formats.notes(path)[0]


def test_a_flat_cloud_is_drawn(table, tmp_path):
    scales = table.log_scales.copy()
    scales[:, 2] = -np.inf
    path = ply(tmp_path / "a.ply", columns_of(table.replace(log_scales=scales)))
    arguments = ["render", str(path), str(tmp_path / "out"), "--along", "orbit", "--frames", "1", "--width", "32"]
    assert main(arguments) == 0


def test_what_is_not_drawn_is_named(table, tmp_path, capsys):
    path = ply(tmp_path / "a.ply", columns_of(table) | {"beta": np.ones(40, np.float32)})
    with pytest.warns(UserWarning, match="the property beta is no part of a Gaussian cloud"):
        assert set(formats.read(path).extras) == {"beta"}
    formats.write(cloud_of(3).replace(extras={"mine": torch.zeros(3, 2)}), tmp_path / "b.ply")
    assert formats.notes(tmp_path / "b.ply") == ()
    points = ply(tmp_path / "c.ply", {name: np.zeros(4, np.float32) for name in ("x", "y", "z", "time")})
    assert main(["convert", str(points), str(tmp_path / "out.ply")]) == 0
    errors = capsys.readouterr().err
    assert "a point cloud of 4 points without Gaussians" in errors and "the property time is not read" in errors
    assert main(["info", str(points)]) == 0
    assert "without Gaussians" in capsys.readouterr().out


# ---- checkpoints ----


def splats(table: GaussianArrays) -> dict[str, torch.Tensor]:
    cloud = table.cloud()
    return {
        "means": cloud.means, "scales": cloud.log_scales, "quats": cloud.quats, "opacities": cloud.logit_opacities,
        "sh0": cloud.sh[:, :1].clone(), "shN": cloud.sh[:, 1:].clone(),
    }  # fmt: skip


def nerfstudio(table: GaussianArrays, prefix: str) -> dict:
    cloud = table.cloud()
    tensors = {
        "means": cloud.means, "scales": cloud.log_scales, "quats": cloud.quats,
        "opacities": cloud.logit_opacities[:, None], "features_dc": cloud.sh[:, 0].clone(),
        "features_rest": cloud.sh[:, 1:].clone(),
    }  # fmt: skip
    pipeline = {prefix + name: torch.nn.Parameter(tensor) for name, tensor in tensors.items()}
    return {"step": 29999, "pipeline": pipeline | {"_model.camera_optimizer.pose_adjustment": torch.zeros(4, 6)}}


def inria(table: GaussianArrays) -> tuple:
    cloud, zero = table.cloud(), torch.zeros(len(table))
    optimizer = {"state": {}, "param_groups": []}
    capture = (
        3, cloud.means, cloud.sh[:, :1].clone(), cloud.sh[:, 1:].clone(), cloud.log_scales, cloud.quats,
        cloud.logit_opacities[:, None], zero, zero[:, None], zero[:, None], optimizer, np.float32(4.2),
    )  # fmt: skip
    return capture, 30000


CHECKPOINTS = {
    "gsplat": lambda table: {"step": 29999, "splats": splats(table)},
    "gsplat of old": lambda table: {
        "splats": {"means3d" if name == "means" else name: each for name, each in splats(table).items()}
    },
    "nerfstudio": lambda table: nerfstudio(table, "_model.gauss_params."),
    "nerfstudio of old": lambda table: nerfstudio(table, "_model."),
    "3dgs": inria,
}


@pytest.mark.parametrize("layout", CHECKPOINTS)
@pytest.mark.parametrize("zipped", [True, False])
def test_checkpoints(layout, zipped, table, tmp_path):
    path = tmp_path / "any.name"
    torch.save(CHECKPOINTS[layout](table), path, _use_new_zipfile_serialization=zipped)
    found = formats.read_table(path)
    assert formats.recognise(path).name == "checkpoint"
    assert all(np.array_equal(getattr(found, name), getattr(table, name)) for name in MAIN)


def broadcast(table: GaussianArrays) -> dict:
    return {"splats": splats(table) | {"shN": torch.zeros(1).expand(40, 15, 3)}}


class Opener:
    def __reduce__(self):
        return open, ("/dev/null",)


REFUSED = {
    "other tensors": (lambda table: {"model": torch.zeros(3)}, "holds no cloud"),
    "a list": (lambda table: [1, 2], "holds no cloud"),
    "code": (lambda table: {"splats": Opener()}, r"cannot be read as data alone \(it asks for \w*\.?open"),
    "a network's colours": (lambda table: {"splats": {"means": None, "colors": None}}, "--app-opt"),
    "other lengths": (lambda table: {"splats": splats(table) | {"quats": torch.zeros(3, 4)}}, "do not fit each other"),
    "odd harmonics": (lambda table: {"splats": splats(table) | {"shN": torch.zeros(40, 7, 3)}}, "do not fit 40"),
    "one number for all": (broadcast, "holds no stored numbers"),
    "whole numbers": (lambda table: {"splats": splats(table) | {"means": torch.ones(40, 3).int()}}, "no stored"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_other_checkpoints_are_refused_in_a_sentence(kind, table, tmp_path):
    content, reason = REFUSED[kind]
    torch.save(content(table), tmp_path / "a.pt")
    with pytest.raises(InputError, match=reason) as caught:
        formats.read(tmp_path / "a.pt")
    assert "a.pt" in str(caught.value) and "\n" not in str(caught.value)


def test_damaged_and_packed_checkpoints(table, tmp_path):
    import zipfile

    torch.save({"splats": splats(table)}, tmp_path / "a.pt")
    data = (tmp_path / "a.pt").read_bytes()
    (tmp_path / "b.pt").write_bytes(data[: len(data) // 2])
    with (
        zipfile.ZipFile(tmp_path / "a.pt") as whole,
        zipfile.ZipFile(tmp_path / "c.pt", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in whole.namelist():
            packed.writestr(name, whole.read(name))
    (tmp_path / "d.pt").write_text("no checkpoint")
    for name, reason in {"b.pt": "b.pt", "c.pt": "packed", "d.pt": "cannot be read"}.items():
        with pytest.raises(InputError, match=reason):
            formats.read(tmp_path / name)
    with pytest.raises(InputError, match="only read"):
        formats.write(table.cloud(), tmp_path / "e.pt")


# ---- folders of results ----


def gaussians(path: Path, count: int) -> None:
    formats.write(cloud_of(count, 0), path)


def graphdeco(folder: Path) -> None:
    for step, count in ((7000, 3), (30000, 4), (9000, 5)):
        gaussians(folder / f"point_cloud/iteration_{step}/point_cloud.ply", count)
    (folder / "cfg_args").write_text("Namespace()")
    (folder / "cameras.json").write_text("[]")
    formats.write(cloud_of(9, 0), folder / "input.ply", "points")


def gsplat(folder: Path) -> None:
    (folder / "ckpts").mkdir(parents=True)
    for step, count in ((6999, 3), (29999, 4)):
        for rank in (1, 0):
            content = {"splats": splats(GaussianArrays.of(cloud_of(count + rank, 3)))}
            torch.save(content, folder / f"ckpts/ckpt_{step}_rank{rank}.pt")
    gaussians(folder / "ply/point_cloud_6999.ply", 9)
    (folder / "cfg.yml").write_text("")


def splatfacto(folder: Path) -> None:
    for date, count in (("2024-01-01_000000", 9), ("2025-01-01_000000", 4)):
        models = folder / f"splatfacto/{date}/nerfstudio_models"
        models.mkdir(parents=True)
        content = nerfstudio(GaussianArrays.of(cloud_of(count, 3)), "_model.gauss_params.")
        torch.save(content, models / "step-000029999.ckpt")


def numbered(folder: Path) -> None:
    for step, count in ((5000, 3), (30000, 4), (10000, 5)):
        gaussians(folder / f"export_{step}.ply", count)


def alone(folder: Path) -> None:
    gaussians(folder / "splat.ply", 4)
    formats.write(cloud_of(9, 0), folder / "points3D.ply", "points")


@pytest.mark.parametrize("make", [graphdeco, gsplat, splatfacto, numbered, alone])
def test_the_newest_cloud_of_a_folder_of_results(make, tmp_path, capsys):
    folder = tmp_path / "results"
    make(folder)
    assert main(["info", str(folder), "--json", str(tmp_path / "facts.json")]) == 0
    assert json.loads((tmp_path / "facts.json").read_text())["gaussians"] == 4
    assert main(["convert", str(folder), str(tmp_path / "out.ply")]) == 0
    assert len(formats.read(tmp_path / "out.ply")) == 4
    assert "is read" in capsys.readouterr().err


def test_scenes_and_other_folders_are_no_results(tmp_path):
    graphdeco(tmp_path / "a")
    (tmp_path / "a" / "images").mkdir()  # trained into the folder of the photos
    assert newest_cloud(tmp_path / "a") is None
    gaussians(tmp_path / "b" / "chair.ply", 3)
    gaussians(tmp_path / "b" / "table.ply", 3)
    assert newest_cloud(tmp_path / "b") is None
    for number in (1, 2):  # of a scanner
        formats.write(cloud_of(9, 0), tmp_path / f"c/scan_{number}.ply", "points")
    assert newest_cloud(tmp_path / "c") is None


def test_parts_of_several_gpus_are_said(tmp_path):
    gsplat(tmp_path)
    assert "one of 2 parts" in formats.notes(tmp_path / "ckpts/ckpt_29999_rank0.pt")[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="one of 2 parts"):
            formats.read(tmp_path / "ckpts/ckpt_29999_rank0.pt")
