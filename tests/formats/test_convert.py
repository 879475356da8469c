"""``splat convert``: edits on the way, folders, and options of formats."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from support.clouds import cloud_of

from splat import formats
from splat.cli import main, plain_parser
from splat.cli.convert import Convert


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


def test_converting_needs_no_torch(source, tmp_path):
    """Importing PyTorch takes longer than most conversions."""
    code = (
        "import sys; from splat.cli import main\n"
        "names = 'a.ply a.spz b.spz a.sog a.splat a.ksplat a.compressed.ply a.glb a.splatz'.split()\n"
        f"folder = {str(tmp_path)!r} + '/'\n"
        f"for name in names: assert main(['convert', {str(source)!r}, folder + name]) == 0\n"
        "for name in names: assert main(['convert', folder + name, folder + 'o.ply']) == 0\n"
        "edits = ['--rotate', '0', '9', '0', '--crop', '-1', '-1', '-1', '1', '1', '1', '--decimate', '50%']\n"
        f"assert main(['convert', {str(source)!r}, {str(source)!r}, folder + 'o.ply', *edits]) == 0\n"
        "assert not {'torch', 'tyro', 'pycolmap', 'cv2'} & set(sys.modules)\n"
        f"assert main(['info', {str(source)!r}]) == 0 and 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "arguments, wanted",
    [
        ("a.ply b.ply", {}),
        ("a.ply b.ply --crop -1 -2 -3 1 2e0 3", {"crop": (-1.0, -2.0, -3.0, 1.0, 2.0, 3.0)}),
        ("a.ply b.ply --sh-degree 1 --decimate=20k", {"max_sh": 1, "decimate": "20k"}),
        ("--option a=1 --option b=2 a.ply b.ply", {"option": ("a=1", "b=2")}),
        ("a.ply b.ply --scale 1e-3 --axes RDF:RUB", {"scale": 1e-3, "axes": "RDF:RUB"}),
    ],
)
def test_quick_parsing_agrees_with_tyro(arguments, wanted, monkeypatch):
    aliases = {"--sh-degree": "--max-sh"}
    quick = plain_parser.parse("convert", Convert, arguments.split(), aliases)
    assert quick == Convert((Path("a.ply"), Path("b.ply")), **wanted)

    def refuse(*_):
        raise ValueError

    monkeypatch.setattr(plain_parser, "_plain", refuse)
    assert plain_parser.parse("convert", Convert, arguments.split(), aliases) == quick


@pytest.mark.parametrize(
    "arguments", ["a.ply b.ply --scales 2", "a.ply b.ply --scale", "a.ply b.ply --max-sh x", "--help"]
)
def test_what_is_not_plain_is_left_to_tyro(arguments):
    with pytest.raises(SystemExit):
        plain_parser.parse("convert", Convert, arguments.split())


def test_quality_takes_decimals(source, tmp_path):
    convert(source, tmp_path / "a.splatz", "--option", "quality=42.5")
    convert(source, tmp_path / "b.splatz", "--option", "quality=55")
    assert (tmp_path / "a.splatz").stat().st_size < (tmp_path / "b.splatz").stat().st_size
