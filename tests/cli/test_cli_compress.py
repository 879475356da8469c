"""``splat compress`` as a user runs it."""

import json

from support.tiny import splat, tiny_cloud

from splat import formats


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
