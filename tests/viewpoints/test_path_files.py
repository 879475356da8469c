"""Camera path files of strangers: read, or refused in one sentence."""

import json
import math

import pytest
import torch

from splat.camera import Camera
from splat.errors import InputError
from splat.viewpoints import paths

MATRIX = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 0, 0, 0, 1]
FRAME = {"camera_to_world": MATRIX, "fov": 50}
GOOD = {"render_width": 32, "render_height": 24, "fps": 30, "camera_path": [FRAME, FRAME]}


def test_what_is_written_is_read(tmp_path) -> None:
    up = torch.tensor([0.1, 0.9, 0.2])
    cameras = [Camera.look_at(torch.tensor([x, 2.0, 3.0]), torch.zeros(3), up, 40, 30, 47) for x in (0.0, 1.5)]
    paths.write(tmp_path / "a.json", cameras, 24)
    again, fps = paths.read(tmp_path / "a.json")
    assert fps == 24
    for a, b in zip(cameras, again, strict=True):
        torch.testing.assert_close(a.world_to_camera.double(), b.world_to_camera, atol=1e-6, rtol=0)
        assert math.isclose(a.fy, b.fy, rel_tol=1e-6) and (a.width, a.height) == (b.width, b.height)


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"render_width": 10**9}, "1e+09×24 pixels"),
        ({"render_width": 0}, "0×24 pixels"),
        ({"render_width": 10**400}, "is no camera path"),
        ({"render_width": "32"}, "'render_width' is '32'"),
        ({"render_height": None}, "'render_height' is None"),
        ({"fps": 0}, "'fps' is 0"),
        ({"fps": float("nan")}, "'fps' is nan"),
        ({"fps": 1e300}, "'fps' is 1e+300"),
        ({"camera_path": {}}, "'camera_path' is an object of 0"),
        ({"camera_path": []}, "it has 0 frames"),
        ({"camera_path": [7]}, "7 stands where"),
        ({"camera_path": [{"fov": 50}]}, "'camera_to_world' is missing"),
        ({"camera_path": [{**FRAME, "fov": 180}]}, "field of view is 180"),
        ({"camera_path": [{**FRAME, "fov": 1e-300}]}, "field of view is 1e-300"),
        ({"camera_path": [{**FRAME, "fov": float("nan")}]}, "field of view is nan"),
        ({"camera_path": [{**FRAME, "fov": 179.9999999999999}]}, "field of view is 179.99"),
        ({"camera_path": [{**FRAME, "camera_to_world": MATRIX[:15]}]}, "15 numbers"),
        ({"camera_path": [{**FRAME, "camera_to_world": ["1", *MATRIX[1:]]}]}, "is '1', expected a number"),
        ({"camera_path": [{**FRAME, "camera_to_world": [[1], *MATRIX[1:]]}]}, "expected a number"),
        ({"camera_path": [{**FRAME, "camera_to_world": [float("nan"), *MATRIX[1:]]}]}, "impossible numbers"),
        ({"camera_path": [{**FRAME, "camera_to_world": [10**400, *MATRIX[1:]]}]}, "is no camera path"),
        ({"camera_path": [{**FRAME, "camera_to_world": [*MATRIX[:3], 1e300, *MATRIX[4:]]}]}, "impossible numbers"),
        ({"camera_path": [{**FRAME, "camera_to_world": [*MATRIX[:15], 0]}]}, "impossible numbers"),
        ({"camera_path": [{**FRAME, "camera_to_world": [-1, *MATRIX[1:]]}]}, "not a rotation"),
        ({"camera_path": [{**FRAME, "camera_to_world": [2, *MATRIX[1:]]}]}, "not a rotation"),
    ],
)
def test_damaged(tmp_path, changes, said) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({**GOOD, **changes}))
    with pytest.raises(InputError) as caught:
        paths.read(path)
    assert said in str(caught.value) and "a.json" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [b"[" * 200_000, b"[1]", b"\xff\xfe\xfd", b""])
def test_no_json_object(tmp_path, data) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"a\.json"):
        paths.read(path)


def test_too_many_frames(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(paths, "MOST_FRAMES", 1)
    (tmp_path / "a.json").write_text(json.dumps(GOOD))
    with pytest.raises(InputError, match="it has 2 frames"):
        paths.read(tmp_path / "a.json")
