"""`splat mesh` and `splat eval-mesh`: a cloud in, a mesh, a page and scores out; bad input is refused."""

import json

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
