"""``splat compress`` as a user runs it."""

import json

import pytest
import torch
from support.tiny import splat, tiny_cloud, write_scene

from splat import formats
from splat.cli.compress import MethodName
from splat.cloud import GaussianCloud
from splat.compression.methods.pipelines import METHODS


def test_command(tmp_path):
    formats.write(tiny_cloud(), tmp_path / "in.ply")
    command = ["compress", tmp_path / "in.ply", tmp_path / "out.splatz"]
    done = splat(*command, "--fidelity", "30", "--json", "-")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["psnr"] >= 30 and said["size"] == (tmp_path / "out.splatz").stat().st_size
    assert len(formats.read(tmp_path / "out.splatz")) == said["gaussians"]
    wrong = splat(*command, "--size", "8 apples")
    assert wrong.returncode == 2 and "expected a number of bytes such as 8MB" in wrong.stderr


def with_bands(cloud: GaussianCloud) -> GaussianCloud:
    """``cloud`` with SH of degree 3, the highest band faint in half of the Gaussians."""
    cloud = cloud.with_sh_degree(3)
    cloud.sh[:, 1:] = 0.05
    cloud.sh[::2, 9:] = 1e-5
    return cloud


@pytest.fixture(scope="module")
def cloud_file(tmp_path_factory):
    file = tmp_path_factory.mktemp("cloud") / "in.ply"
    formats.write(with_bands(tiny_cloud()), file)
    return file


@pytest.mark.parametrize(
    ("method", "ending", "least_psnr", "gaussians"),
    [
        ("lightgaussian", ".vectree", 8, 21),
        ("lightgaussian", ".spz", 8, 21),
        ("vectree", ".vectree", 25, 60),
        ("compact3d", ".codebooks", 40, 60),
        ("omg", ".codebooks", 40, 60),
        ("neuralgs", ".neuralgs", 10, 60),
        ("self-organizing-grid", ".sog", 30, 60),
        ("adaptive-sh", ".ply", 30, 60),
    ],
)
def test_methods_of_papers_write_files_that_are_read_again(cloud_file, tmp_path, method, ending, least_psnr, gaussians):
    out = tmp_path / f"out{ending}"
    done = splat("compress", cloud_file, out, "--method", method, "--steps", "60", "--json", "-")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["size"] == out.stat().st_size and said["psnr"] >= least_psnr and said["gaussians"] == gaussians
    cloud = formats.read(out)
    assert len(cloud) == gaussians
    if method == "lightgaussian":
        assert cloud.sh_degree == 2
    if method == "adaptive-sh":
        assert not cloud.sh[::2, 9:].any()
        assert cloud.sh[1::2, 1:].any()


def test_files_of_methods_are_converted(cloud_file, tmp_path):
    done = splat("compress", cloud_file, tmp_path / "a.vectree", "--method", "vectree")
    assert done.returncode == 0 and "smaller than as .ply" in done.stdout, done.stderr
    done = splat("convert", tmp_path / "a.vectree", tmp_path / "a.spz")
    assert done.returncode == 0 and len(formats.read(tmp_path / "a.spz")) == 60, done.stderr


def test_methods_fine_tune_on_the_photos_of_a_scene(cloud_file, tmp_path):
    scene, psnr, cloud = write_scene(tmp_path / "scene"), {}, formats.read(cloud_file)
    brighter = torch.cat([cloud.sh[:, :1] + 0.1, cloud.sh[:, 1:]], 1)  # what the photos can mend
    formats.write(cloud.replace(sh=brighter), tmp_path / "bright.ply")
    for steps in (0, 200):
        out = tmp_path / f"{steps}.codebooks"
        arguments = ("--method", "compact3d", "--scene", scene, "--steps", str(steps))
        done = splat("compress", tmp_path / "bright.ply", out, *arguments)
        assert done.returncode == 0, done.stderr
        done = splat("eval", out, "--scene", scene, "--json", "-")
        assert done.returncode == 0, done.stderr
        psnr[steps] = json.loads(done.stdout)["psnr"]
    assert psnr[200] > psnr[0] + 1, psnr


def test_methods_with_senseless_options(cloud_file, tmp_path):
    for arguments, message in (
        (["a.codebooks", "--method", "vectree"], "give it the ending .vectree"),
        (["a.vectree", "--method", "adaptive-sh"], "give it the ending .splatz or .sog"),
        (["a.vectree", "--method", "vectree", "--size", "3kB"], "--method has no goal, but --size was given"),
        (["a.vectree", "--method", "vectree", "--prune", "0.5"], "cannot prune 0.5"),
        (["a.splatz", "--prune", "0.5"], "--prune is for --method"),
        (["a.vectree"], "splat compress IN OUT.vectree --method vectree"),
    ):
        done = splat("compress", cloud_file, tmp_path / arguments[0], *arguments[1:])
        assert done.returncode == 2 and message in " ".join(done.stderr.split()), (arguments, done.stderr)


def test_the_command_offers_all_methods():
    assert MethodName.__args__ == tuple(METHODS)
