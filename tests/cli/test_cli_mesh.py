"""`splat mesh` and `splat eval-mesh`: a cloud in, a mesh, a page and scores out; bad input is refused."""

import json

import numpy as np
import pytest
import torch

from splat import formats
from splat.cli import main
from splat.cloud import GaussianCloud

pytest.importorskip("skimage")
trimesh = pytest.importorskip("trimesh")


@pytest.fixture(scope="module")
def ball(tmp_path_factory):
    """A cloud of flat Gaussians on the unit sphere, in a file."""
    g = torch.Generator().manual_seed(0)
    normals = torch.nn.functional.normalize(torch.randn(2500, 3, generator=g), dim=1)
    half = torch.nn.functional.normalize(normals + torch.tensor([0.0, 0.0, 1.0]), dim=1)
    cloud = GaussianCloud(
        means=normals,
        log_scales=torch.log(torch.tensor([0.06, 0.06, 0.003])).expand(2500, 3).contiguous(),
        quats=torch.cat([torch.zeros(2500, 1), half], 1),
        logit_opacities=torch.full((2500,), 6.0),
        sh=torch.rand(2500, 1, 3, generator=g) * 3 - 1.5,
    )
    path = tmp_path_factory.mktemp("ball") / "ball.ply"
    formats.write(cloud, path)
    return path


def test_cloud_to_mesh_to_scores(ball, tmp_path, capsys):
    out, truth = tmp_path / "ball.glb", tmp_path / "truth.ply"
    page = tmp_path / "ball.html"
    common = ["--method", "median", "--resolution", "40", "--max-side", "96", "--backend", "cpu"]
    assert main(["mesh", str(ball), str(out), *common, "--report", str(page), "--json", str(tmp_path / "m.json")]) == 0
    facts = json.loads((tmp_path / "m.json").read_text())
    assert facts["faces"] > 1000 and facts["method"] == "median"
    assert trimesh.load(str(out), force="mesh").is_watertight == facts["watertight"]
    html = page.read_text()
    assert html.count("data:image/jpeg") >= 4 and "http" not in html.split("<style>")[0]
    trimesh.creation.icosphere(4, 1.0).export(str(truth))
    arguments = ["eval-mesh", str(out), str(truth), "--thresholds", "0.1", "--save", str(tmp_path / "e.ply"), "--json"]
    assert main([*arguments, str(tmp_path / "s.json")]) == 0
    scores = json.loads((tmp_path / "s.json").read_text())
    assert scores["f"][0]["f1"] > 0.95 and scores["accuracy"] < 0.06
    assert (tmp_path / "e.ply").is_file() and "F1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["mesh", "{ball}", "out.stl"], "let it end in"),
        (["mesh", "{ball}", "{tmp}/o.ply", "--box", "1,2,3"], "x0,y0,z0,x1,y1,z1"),
        (["mesh", "{ball}", "{tmp}/o.ply", "--matcher", "no.such:thing"], "no.such:thing"),
        (["mesh", "{ball}", "{tmp}/o.ply", "--masks", "object"], "needs a scene with masks"),
        (["mesh", "{tmp}/none.ply", "{tmp}/o.ply"], "none.ply"),
        (["eval-mesh", "{tmp}/none.ply", "{tmp}/none.ply"], "none.ply"),
    ],
)
def test_wrong_input_is_one_sentence(ball, tmp_path, capsys, arguments, sentence):
    assert main([part.format(ball=ball, tmp=tmp_path) for part in arguments]) == 2
    error = capsys.readouterr().err
    assert sentence in error and error.startswith("splat:") and error.count("\n") == 1
    assert not (tmp_path / "o.ply").exists()


# ---- benchmarks ----


def scores_of(tmp_path, *arguments) -> dict:
    assert main(["eval-mesh", *map(str, arguments), "--json", str(tmp_path / "scores.json")]) == 0
    return json.loads((tmp_path / "scores.json").read_text())


def test_dtu_protocol_on_nested_spheres(tmp_path, capsys):
    from scipy.io import savemat

    mesh, scan = tmp_path / "sphere.ply", tmp_path / "stl.ply"
    trimesh.creation.icosphere(5, 10.0).export(str(mesh))
    points = trimesh.creation.icosphere(6, 11.0).vertices
    trimesh.PointCloud(points).export(str(scan))
    scores = scores_of(tmp_path, mesh, scan, "--benchmark", "dtu")
    assert scores["accuracy"] == pytest.approx(1.0, abs=0.03) and scores["completeness"] == pytest.approx(1.0, abs=0.03)
    assert "chamfer" in capsys.readouterr().out
    # Only what lies in the mask, and what is above the ground, counts: the other half of the scan is 4 mm away.
    points = np.where(points[:, 2:] > 0, points, points * 14 / 11)
    trimesh.PointCloud(points).export(str(scan))
    mask = np.zeros((31, 31, 31), bool)
    mask[:, :, 18:] = True
    savemat(tmp_path / "ObsMask.mat", {"ObsMask": mask, "BB": [[-15.0] * 3, [15.0] * 3], "Res": 1.0})
    savemat(tmp_path / "Plane.mat", {"P": [[0.0], [0.0], [1.0], [0.0]]})
    files = ["--observed", tmp_path / "ObsMask.mat", "--ground", tmp_path / "Plane.mat"]
    half = scores_of(tmp_path, mesh, scan, "--benchmark", "dtu", *files)
    assert half["accuracy"] == pytest.approx(1.0, abs=0.03)
    assert half["completeness"] < scores_of(tmp_path, mesh, scan, "--benchmark", "dtu")["completeness"] - 0.5


def test_tanks_and_temples_protocol_starts_from_the_transform_and_crops(tmp_path):
    truth = trimesh.creation.icosphere(4, 1.0)
    truth.apply_transform(np.diag([1, 0.7, 0.4, 1]))
    scan, mesh = tmp_path / "scan.ply", tmp_path / "mesh.ply"
    points = truth.sample(40_000, seed=0)
    clutter = np.random.default_rng(0).uniform(-1, 1, (4000, 3)) + [0, 3, 0]
    trimesh.PointCloud(np.concatenate([points, clutter])).export(str(scan))
    truth.apply_scale(0.5)
    truth.apply_translation([4, 0, 0])
    truth.export(str(mesh))
    np.savetxt(tmp_path / "trans.txt", [[2, 0, 0, -7.98], [0, 2, 0, 0.01], [0, 0, 2, 0], [0, 0, 0, 1]])
    crop = {
        "axis_min": -1.5, "axis_max": 1.5, "orthogonal_axis": "Y", "class_name": "SelectionPolygonVolume",
        "bounding_polygon": [[-2, 0, -2], [2, 0, -2], [2, 0, 2], [-2, 0, 2]],
    }  # fmt: skip
    (tmp_path / "crop.json").write_text(json.dumps(crop))
    common = [mesh, scan, "--benchmark", "tnt", "--transform", tmp_path / "trans.txt", "--thresholds", "0.03"]
    scores = scores_of(tmp_path, *common, "--crop", tmp_path / "crop.json")
    assert scores["f1"] > 0.98 and scores["aligned"]["scale"] == pytest.approx(2.0, rel=0.01)
    assert scores_of(tmp_path, *common)["recall"] < 0.95  # the clutter beside the object counts without the crop


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--crop", "x.json"], "add --benchmark tnt"),
        (["--benchmark", "tnt"], "named after no scene"),
        (["--benchmark", "tnt", "--observed", "x.mat"], "not part of --benchmark tnt"),
        (["--benchmark", "dtu", "--align", "rigid"], "how meshes are aligned"),
        (["--benchmark", "dtu", "--observed", "{scan}"], "cannot be read as a MATLAB file"),
        (["--benchmark", "tnt", "--thresholds", "0.1", "--crop", "{scan}"], "cannot be read as a crop volume"),
    ],
)
def test_benchmarks_say_what_is_wrong(tmp_path, capsys, options, sentence):
    mesh, scan = tmp_path / "mesh.ply", tmp_path / "scan.ply"
    trimesh.creation.icosphere(2, 1.0).export(str(mesh))
    trimesh.PointCloud(trimesh.creation.icosphere(3, 1.0).vertices).export(str(scan))
    assert main(["eval-mesh", str(mesh), str(scan), *(each.format(scan=scan) for each in options)]) == 2
    assert sentence in capsys.readouterr().err
