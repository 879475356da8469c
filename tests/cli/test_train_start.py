"""``splat train`` with --points, --init, --add and --freeze."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from support.tiny import tiny_cloud, write_scene

import splat
from splat import formats
from splat.cli import main
from splat.cli.train_start import read_start
from splat.cloud import FIELDS, GaussianCloud
from splat.coordinates import Georeference
from splat.scene import load_scene
from splat.training.config.config import TrainConfig

QUICK = ("--steps", "8", "--preset", "default", "--checkpoint-seconds", "0")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("scene")
    write_scene(folder / "scene")
    formats.write(tiny_cloud().select(slice(0, 30)), folder / "half.ply")
    formats.write(tiny_cloud().select(slice(30, 60)), folder / "other.ply")
    lines = [f"{x} {y} {z} 200 100 50" for x, y, z in tiny_cloud(40, 1).means.tolist()]
    (folder / "scan.xyz").write_text("\n".join(lines))
    return folder


def train(folder: Path, out: Path, *options: object) -> int:
    return main(["train", str(folder / "scene"), "--out", str(out), *QUICK, *map(str, options)])


def same(a: GaussianCloud, b: GaussianCloud) -> bool:
    degree = max(a.sh_degree, b.sh_degree)
    a, b = a.with_sh_degree(degree), b.with_sh_degree(degree)
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in FIELDS)


@pytest.mark.parametrize(
    "options", [("--add", "half.ply", "--add", "other.ply", "--freeze"), ("--init", "half.ply", "--freeze")]
)
def test_frozen_clouds_end_bit_for_bit(options, folder, tmp_path, capsys):
    options = [folder / word if word.endswith(".ply") else word for word in options]
    assert train(folder, tmp_path / "run", *options, "--json", tmp_path / "facts.json") == 0
    cloud = formats.read(tmp_path / "run" / "cloud.ply")
    frozen = [formats.read(folder / name) for name in ("half.ply", "other.ply") if folder / name in options]
    count = sum(map(len, frozen))
    assert same(cloud.select(slice(len(cloud) - count, None)), GaussianCloud.concat(frozen))
    assert json.loads((tmp_path / "facts.json").read_text())["gaussians"] == len(cloud) == 60 + count
    assert ("stays as it is" in capsys.readouterr().err) == ("--init" in options)


def test_points_and_clouds_to_begin_with(folder):
    scene = load_scene(folder / "scene", progress=False)
    start = read_start(scene, folder / "scan.xyz", None, (), False)
    assert len(start.points) == 40 and (start.points.rgb == torch.tensor([200, 100, 50])).all()
    assert torch.allclose(start.points.xyz, tiny_cloud(40, 1).means.double(), atol=1e-6)
    start = read_start(scene, None, folder / "half.ply", [folder / "other.ply"], False)
    assert len(start.init) == len(start.added) == 30 and start.frozen is None
    assert [each["role"] for each in start.files] == ["cloud to begin with", "added cloud"]


def test_scenes_on_a_map_take_clouds_and_points_there(folder, tmp_path):
    place = Georeference((400_000.0, 5_000_000.0, 300.0), 25832)
    scene = dataclasses.replace(load_scene(folder / "scene", progress=False), georeference=place)
    cloud = tiny_cloud().replace(georeference=place)
    formats.write(cloud, tmp_path / "far.ply", georeference="keep")
    formats.write(tiny_cloud(), tmp_path / "near.ply")
    for name in ("far.ply", "near.ply"):
        init = read_start(scene, None, tmp_path / name, (), False).init
        assert init.georeference == place and torch.allclose(init.means, cloud.means, atol=1e-6)
        points = read_start(scene, tmp_path / name, None, (), False).points
        assert torch.allclose(points.xyz, cloud.means.double(), atol=1e-6)


def test_resumed_runs_need_no_files_and_refuse_others(folder, tmp_path, capsys):
    out = tmp_path / "run"
    assert train(folder, out, "--add", folder / "half.ply", "--freeze") == 0
    for name in ("metrics.json", "cloud.ply"):
        (out / name).unlink()
    assert main(["train", "--out", str(out), "--resume"]) == 0
    for name in ("metrics.json", "cloud.ply"):
        (out / name).unlink()
    capsys.readouterr()
    assert main(["train", "--out", str(out), "--resume", "--add", str(folder / "other.ply"), "--freeze"]) == 2
    assert "from another frozen cloud than other.ply" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--freeze",), "name one with --add"),
        (("--init", "half.ply", "--points", "scan.xyz"), "give one of them"),
        (("--init", "none.ply"), "no such cloud"),
        (("--points", "half.txt"), "no such file of points"),
        (("--add", "far.ply"), "no photo shows any"),
        (("--points", "far.ply"), "no photo shows any"),
        (("--init", "half.ply", "--gaussians", "20"), "allow more with --gaussians 30"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(options, said, folder, tmp_path, capsys):
    cloud = tiny_cloud()
    formats.write(cloud.replace(means=cloud.means + 500), folder / "far.ply")
    options = [folder / word if "." in word else word for word in options]
    assert train(folder, tmp_path / "run", *options) == 2
    errors = capsys.readouterr().err
    assert said in errors and "Traceback" not in errors and not (tmp_path / "run" / "config.toml").exists()


def test_the_reference_system_of_a_scan_reaches_the_cloud(folder, tmp_path):
    laspy = pytest.importorskip("laspy")
    place = Georeference((400_000.0, 5_000_000.0, 300.0))
    scene = dataclasses.replace(load_scene(folder / "scene", progress=False), georeference=place)
    keys = laspy.vlrs.known.GeoKeyDirectoryVlr()
    keys.geo_keys = [laspy.vlrs.known.GeoKeyEntryStruct(id=3072, tiff_tag_location=0, count=1, value_offset=25832)]
    keys.geo_keys_header.number_of_keys = 1
    header = laspy.LasHeader(version="1.2", point_format=1)
    header.scales, header.offsets = [1e-3] * 3, list(place.origin)
    header.vlrs.append(keys)
    data = laspy.LasData(header)
    data.x, data.y, data.z = (tiny_cloud().means.double() + torch.tensor(place.origin, dtype=torch.float64)).T.numpy()
    data.write(tmp_path / "scan.las")
    start = read_start(scene, tmp_path / "scan.las", None, (), False)
    assert torch.allclose(start.points.xyz, tiny_cloud().means.double(), atol=1e-3)
    result = splat.train(scene, TrainConfig(steps=2, gaussians=100), tmp_path / "run", start=start)
    assert result.cloud.georeference == dataclasses.replace(place, epsg=25832)
    assert formats.read(tmp_path / "run" / "cloud.ply").georeference.epsg == 25832
