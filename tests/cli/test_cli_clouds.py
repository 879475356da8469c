"""``splat info`` and ``splat convert`` on clouds."""

import json

import pytest
import torch
from support.tiny import everything_in, tiny_cloud

from splat import formats
from splat.cli import main


@pytest.fixture
def cloud_file(tmp_path):
    formats.write(tiny_cloud(), tmp_path / "blobs.ply")
    return tmp_path / "blobs.ply"


def test_info_tells_the_facts(cloud_file, tmp_path, capsys):
    assert main(["info", str(cloud_file), "--json", str(tmp_path / "facts.json")]) == 0
    text = capsys.readouterr().out
    facts = json.loads((tmp_path / "facts.json").read_text())
    cloud = tiny_cloud()
    assert facts["gaussians"] == 60 and facts["sh_degree"] == 0 and facts["format"] == "ply"
    assert facts["bytes"] == cloud_file.stat().st_size
    assert facts["bounds"]["min"] == pytest.approx(cloud.means.amin(0).tolist())
    low, _, median, _, high = facts["statistics"]["x"]
    assert (low, high) == pytest.approx((float(cloud.means[:, 0].min()), float(cloud.means[:, 0].max())))
    assert median == pytest.approx(float(cloud.means[:, 0].double().quantile(0.5)))
    assert facts["statistics"]["opacity"][2] == pytest.approx(0.8808, abs=1e-4)
    assert facts["statistics"]["longest axis"] == pytest.approx([0.15] * 5)
    assert "blobs.ply" in text and "60" in text


def test_info_json_on_standard_output_is_json_alone(cloud_file, capsys):
    assert main(["info", str(cloud_file), "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["gaussians"] == 60


def test_info_counts_what_is_not_finite(tmp_path, capsys):
    cloud = tiny_cloud()
    cloud.means[3, 1] = torch.nan
    formats.write(cloud, tmp_path / "bad.ply")
    assert main(["info", str(tmp_path / "bad.ply"), "--json", "-"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["not_finite"] == 1
    assert facts["bounds"]["max"][1] == pytest.approx(float(cloud.means[:, 1].nan_to_num(-9).max()))


def test_info_of_an_empty_cloud(tmp_path, capsys):
    formats.write(tiny_cloud(0), tmp_path / "none.ply")
    assert main(["info", str(tmp_path / "none.ply")]) == 0
    assert "Gaussians" in capsys.readouterr().out


def test_convert_keeps_every_bit(cloud_file, tmp_path, capsys):
    assert main(["convert", str(cloud_file), str(tmp_path / "copy.ply")]) == 0
    assert torch.equal(formats.read(tmp_path / "copy.ply").means, tiny_cloud().means)
    assert "60 Gaussians" in capsys.readouterr().out


def test_convert_joins_and_cuts(cloud_file, tmp_path):
    formats.write(tiny_cloud(5, seed=1).with_sh_degree(3), tmp_path / "more.ply")
    arguments = [str(cloud_file), str(tmp_path / "more.ply"), str(tmp_path / "all.ply")]
    assert main(["convert", *arguments, "--sh-degree", "2"]) == 0
    both = formats.read(tmp_path / "all.ply")
    assert len(both) == 65 and both.sh_degree == 2
    assert torch.equal(both.means[60:], tiny_cloud(5, seed=1).means)


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["info", "{tmp}/absent.ply"], "no such file or folder"),
        (["info", "{tmp}/short.ply"], "short.ply"),
        (["info", "{tmp}/notes.txt"], "notes.txt"),
        (["convert", "{tmp}/blobs.ply"], "convert got one path"),
        (["convert", "{tmp}/blobs.ply", "{tmp}/out.abc"], "out.abc"),
        (["convert", "{tmp}/blobs.ply", "{tmp}/notes.txt/out.ply"], "cannot write"),
        (["convert", "{tmp}/short.ply", "{tmp}/out.ply"], "short.ply"),
        (["convert", "{tmp}/blobs.ply", "{tmp}/out.ply", "--sh-degree", "7"], "expected 0 to 4"),
        (["convert", "{tmp}/blobs.ply", "{tmp}/out.ply", "--option", "nonsense=1"], "nonsense=1"),
        (["convert", "{tmp}/blobs.ply", "{tmp}/out.ply", "--format", "xyz"], "xyz"),
        (["eval", "{tmp}/blobs.ply"], "--scene"),
        (["eval", "{tmp}/blobs.ply", "--scene", "{tmp}/absent"], "no such scene"),
    ],
)
def test_wrong_input_is_one_sentence_and_leaves_nothing(arguments, said, cloud_file, tmp_path, capsys):
    (tmp_path / "short.ply").write_bytes(cloud_file.read_bytes()[:-40])
    (tmp_path / "notes.txt").write_text("no cloud")
    before = everything_in(tmp_path)
    assert main([argument.replace("{tmp}", str(tmp_path)) for argument in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("splat: ") and captured.err.count("\n") == 1
    assert said in captured.err
    assert everything_in(tmp_path) == before
