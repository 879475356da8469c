"""The parts of the viewer that need no browser."""

import math
import socket
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from support.patience import wait_for

from splat import formats
from splat.cloud import GaussianCloud
from splat.errors import InputError
from splat.viewer import Edits, Look, filters, first_view, picture
from splat.viewer.panels import rounded_out
from splat.viewer.render_modes import compare, letterbox
from splat.viewer.render_worker import Pose, RenderWorker
from splat.viewer.serve import free_port


def cloud_of(n: int = 50) -> GaussianCloud:
    made = torch.Generator().manual_seed(1)
    return GaussianCloud(
        torch.randn(n, 3, generator=made),
        torch.randn(n, 3, generator=made) * 0.3 - 2,
        torch.randn(n, 4, generator=made),
        torch.randn(n, generator=made) * 2,
        torch.randn(n, 4, 3, generator=made) * 0.3,
    )


def test_edits_keep_what_they_say() -> None:
    cloud = cloud_of()
    low, high = (-1.0, -1.0, -0.5), (1.0, 0.8, 0.9)
    kept = filters.apply(cloud, Edits(0.3, 0.2, (low, high)))
    rows = [
        row
        for row in range(len(cloud))
        if 1 / (1 + math.exp(-cloud.logit_opacities[row])) >= 0.3
        and max(math.exp(value) for value in cloud.log_scales[row]) <= 0.2
        and all(a <= x <= b for a, x, b in zip(low, cloud.means[row], high, strict=True))
    ]
    assert 0 < len(rows) < len(cloud)
    assert torch.equal(kept.means, cloud.means[rows])
    assert filters.apply(cloud, Edits()) is cloud


def test_thinning_keeps_the_opaque_and_large() -> None:
    cloud = cloud_of(4).replace(
        log_scales=torch.tensor([-3.0, -1.0, -1.0, -3.0])[:, None].repeat(1, 3),
        logit_opacities=torch.tensor([3.0, 3.0, 2.0, -3.0]),
    )
    assert torch.equal(filters.thin(cloud, 2).means, cloud.means[[1, 2]])
    assert filters.thin(cloud, 4) is cloud


@pytest.mark.parametrize(
    "name", ["../out.ply", "/out.ply", "a/b.ply", "..", ".hidden.ply", "", "c:out.ply", "a\\b.ply"]
)
def test_saving_stays_in_its_folder(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "served"
    folder.mkdir()
    with pytest.raises(InputError):
        filters.save(cloud_of(), folder, name)
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_saving_follows_no_link_and_overwrites_nothing(tmp_path: Path) -> None:
    folder, outside = tmp_path / "served", tmp_path / "outside.ply"
    folder.mkdir()
    (folder / "link.ply").symlink_to(outside)
    with pytest.raises(InputError, match="link"):
        filters.save(cloud_of(), folder, "link.ply")
    assert not outside.exists()
    saved = filters.save(cloud_of(), folder, "mine.ply")
    assert torch.equal(formats.read(saved).means, cloud_of().means)
    with pytest.raises(InputError, match="already"):
        filters.save(cloud_of(), folder, "mine.ply")


def test_first_view_frames_the_cloud_upright_despite_floaters() -> None:
    cloud = cloud_of(400)
    far = cloud.means.clone()
    far[:8] = 1e4
    cloud = cloud.replace(means=far)
    for up in ((0.0, -1.0, 0.0), (0.0, 0.0, 1.0)):
        view = first_view(cloud, None, up)
        pixels, depth = view.camera(640, 480).project(cloud.means[8:].double())
        inside = (depth > 0) & (pixels >= 0).all(1) & (pixels < torch.tensor([640, 480])).all(1)
        assert inside.double().mean() > 0.85
        above, _ = view.camera(640, 480).project((view.target + 0.5 * torch.tensor(up).double())[None])
        assert above[0, 1] < 240 and abs(float(above[0, 0]) - 320) < 1e-6


def test_first_view_refuses_an_empty_cloud_and_no_direction() -> None:
    with pytest.raises(InputError, match="nothing to look at"):
        first_view(GaussianCloud.empty(), None, None)
    with pytest.raises(InputError, match="--up"):
        first_view(cloud_of(), None, (0.0, 0.0, 0.0))


def test_pose_is_the_camera_it_came_from() -> None:
    from splat.cloud import matrix_to_quaternion

    camera = first_view(cloud_of(), None, None).camera(1000, 500)
    wxyz = matrix_to_quaternion(camera.camera_to_world[:3, :3])
    pose = Pose(tuple(wxyz.tolist()), tuple(camera.position.tolist()), math.radians(50), 1000, 500)
    again = pose.camera(2000)
    assert torch.allclose(again.world_to_camera, camera.world_to_camera, atol=1e-9)
    assert (again.width, again.height, again.fx) == (1000, 500, pytest.approx(camera.fx))
    assert (pose.camera(250).width, pose.camera(250).height) == (250, 125)


def test_the_corners_of_the_crop_box_are_short_and_leave_nothing_out() -> None:
    assert rounded_out((-0.9553, 0.0, -0.1), (0.9942, 1.0, 0.2)) == ((-0.96, 0.0, -0.1), (1.0, 1.0, 0.2))
    assert rounded_out((-1234.5, -3.0, 0.0), (987.6, 4.0, 0.0)) == ((-1240.0, -10.0, 0.0), (990.0, 10.0, 0.0))
    assert rounded_out((1.0, 2.0, 3.0), (1.0, 2.0, 3.0)) == ((1.0, 2.0, 3.0), (1.0, 2.0, 3.0))


def test_modes() -> None:
    cloud = cloud_of(200)
    camera = first_view(cloud, None, None).camera(80, 60)
    seen = {
        mode: picture(cloud, camera, Look(mode, background=(1.0, 1.0, 1.0))) for mode in ("colour", "depth", "alpha")
    }
    assert all(image.shape == (60, 80, 3) and image.dtype == np.uint8 for image in seen.values())
    corner = seen["alpha"][0, 0, 0]
    assert corner < 10 and (seen["colour"][0, 0] > 240).all() and (seen["depth"][0, 0] > 240).all()
    assert seen["alpha"].max() > 200


def test_comparisons() -> None:
    photo, drawn = np.full((4, 10, 3), 200, np.uint8), np.full((4, 10, 3), 100, np.uint8)
    assert (compare(photo, drawn, "slider", 0.3)[0, :, 0] == [200] * 3 + [100] * 7).all()
    assert (compare(photo, drawn, "blend", 0.25) == 175).all()
    assert compare(photo, drawn, "side by side", 0.5).shape == (4, 20, 3)
    assert (compare(photo, photo, "difference", 0.5) != compare(photo, drawn, "difference", 0.5)).any()
    boxed = letterbox(photo, 1.0)
    assert boxed.shape == (10, 10, 3) and (boxed[3:7] == 200).all() and (boxed[:3] == 24).all()


def test_worker_skips_to_the_newest_camera_and_ends_at_full_size() -> None:
    drawn, finished = [], threading.Event()
    go = threading.Event()

    def draw(camera):
        go.wait()
        drawn.append(camera)
        return np.zeros((camera.height, camera.width, 3), np.uint8)

    def show(image, full):
        if full and image.shape[1] == 1200:
            finished.set()

    worker = RenderWorker(draw, show, lambda error: pytest.fail(str(error)))
    for step in range(50):
        worker.move(Pose((1.0, 0.0, 0.0, 0.0), (float(step), 0.0, 0.0), 1.0, 1200, 600))
    go.set()
    wait_for(finished.is_set)
    worker.close()
    assert len(drawn) <= 4
    assert drawn[0].width < 1200 and drawn[-1].width == 1200
    assert float(drawn[-1].position[0]) == 49


def test_worker_reports_failures_and_goes_on() -> None:
    told = threading.Event()
    worker = RenderWorker(lambda camera: 1 / 0, lambda image, full: None, lambda error: told.set())
    worker.move(Pose((1.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0), 1.0, 64, 64))
    wait_for(told.is_set)
    told.clear()
    worker.refresh()
    wait_for(told.is_set)
    worker.close()


def test_taken_port_gives_the_next_one() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert port < free_port("127.0.0.1", port) < port + 100
