"""``splat convert``: edits on the way, folders, and options of formats."""

import numpy as np
import pytest
import torch
from clouds import cloud_of

from splat import formats
from splat.cli import main


@pytest.fixture
def source(tmp_path):
    formats.write(cloud_of(200, 2), tmp_path / "in.ply")
    return tmp_path / "in.ply"


def convert(*arguments) -> None:
    assert main(["convert", *map(str, arguments)]) == 0


def test_transforms_in_order(source, tmp_path):
    out = tmp_path / "out.ply"
    convert(source, out, "--scale", 2, "--rotate", 0, 0, 90, "--translate", 1, 0, 0)
    before, after = formats.read(source), formats.read(out)
    x, y, z = before.means.unbind(1)
    assert torch.allclose(after.means, torch.stack([-2 * y + 1, 2 * x, 2 * z], 1), atol=1e-5)
    assert torch.allclose(after.log_scales, before.log_scales + np.log(2), atol=1e-5)
    np.savetxt(tmp_path / "m.txt", [[0, -2, 0, 1], [2, 0, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]])
    convert(source, tmp_path / "same.ply", "--transform", tmp_path / "m.txt")
    assert torch.allclose(formats.read(tmp_path / "same.ply").means, after.means, atol=1e-5)
    assert torch.allclose(formats.read(tmp_path / "same.ply").sh, after.sh, atol=1e-5)


def test_crop_decimate_and_axes(source, tmp_path):
    out = tmp_path / "out.ply"
    convert(source, out, "--crop", -1, -1, -1, 1, 1, 1)
    inside = formats.read(out)
    assert 0 < len(inside) < 200 and inside.means.abs().max() <= 1
    convert(source, out, "--decimate", "25%")
    assert len(formats.read(out)) == 50
    convert(source, out, "--decimate", "120", "--max-sh", 1)
    assert len(formats.read(out)) == 120 and formats.read(out).sh_degree == 1
    convert(source, out, "--axes", "RDF:RUB")
    assert torch.equal(formats.read(out).means, formats.read(source).means * torch.tensor([1.0, -1, -1]))


def test_folders_keep_their_shape(source, tmp_path):
    folder = tmp_path / "many"
    formats.write(cloud_of(5, 0), folder / "a.ply")
    formats.write(cloud_of(6, 0), folder / "a.splat")
    formats.write(cloud_of(7, 0), folder / "deep" / "b.sog")
    formats.write(cloud_of(8, 0), folder / "unbundled" / "meta.json")
    (folder / "notes.txt").write_text("no cloud")
    convert(folder, tmp_path / "out", "--format", "spz")
    found = {
        str(path.relative_to(tmp_path / "out")): len(formats.read(path)) for path in (tmp_path / "out").rglob("*.spz")
    }
    assert found == {"a.spz": 5, "a.splat.spz": 6, "deep/b.spz": 7, "unbundled.spz": 8}


def test_broken_gaussians_are_left_out_and_said(tmp_path, capsys):
    cloud = cloud_of(10, 0)
    cloud.means[3, 0] = torch.nan
    formats.write(cloud, tmp_path / "in.ply")
    convert(tmp_path / "in.ply", tmp_path / "out.spz")
    assert len(formats.read(tmp_path / "out.spz")) == 9
    assert "1 with NaN or infinite values left out" in capsys.readouterr().out


def test_options_and_the_antialiased_mark_travel(tmp_path):
    formats.write(cloud_of(10, 0), tmp_path / "in.ply", antialiased=True)
    convert(tmp_path / "in.ply", tmp_path / "a.spz", "--spz-version", 4)
    assert (tmp_path / "a.spz").read_bytes()[:8] == b"NGSP\4\0\0\0"
    convert(tmp_path / "a.spz", tmp_path / "b.sog", "--option", "effort=0")
    for name in ("a.spz", "b.sog"):
        assert formats.recognise(tmp_path / name).function("antialiased")(tmp_path / name)


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["{in}", "{tmp}/o.ply", "--decimate", "zero"], "--decimate is 'zero'"),
        (["{in}", "{tmp}/o.ply", "--axes", "RDF:XYZ"], "--axes is"),
        (["{in}", "{tmp}/o.ply", "--spz-version", "3"], "--spz-version is for .spz files"),
        (["{in}", "{tmp}/o.spz", "--spz-version", "9"], "choose 2, 3 or 4"),
        (["{in}", "{tmp}/o.ply", "--scale", "-1"], "scale must be positive"),
        (["{in}", "{tmp}/o.ply", "--transform", "{tmp}/none.txt"], "no 4×4 matrix"),
        (["{tmp}", "{tmp}/o"], "name the format to write with --format"),
    ],
)
def test_wrong_options_are_said_in_one_sentence(arguments, said, source, tmp_path, capsys):
    arguments = [argument.replace("{in}", str(source)).replace("{tmp}", str(tmp_path)) for argument in arguments]
    assert main(["convert", *arguments]) == 2
    captured = capsys.readouterr()
    assert said in captured.err and captured.err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["in.ply"]
