"""Photos on the GPU, without one: a stand-in that copies at once, and PyTorch's calls written down in their order."""

import contextlib
import threading
import weakref

import pytest
import torch
from support.scenes import ring_scene

from splat.errors import InputError
from splat.runs.train import train
from splat.scene import ImageCache
from splat.scene.images import Photo
from splat.training import trainer
from splat.training.config.config import CoarseConfig, TrainConfig
from splat.training.device_photos import PART_OF_FREE, DevicePhotos, Upload, Uploader

GPU = torch.device("cuda")


class View:
    """A view of a photo with all one value, mask and alpha included."""

    def __init__(self, value: int) -> None:
        self.value = value
        self.nbytes = self.load().nbytes if value < 100 else 0

    def load(self) -> Photo:
        if self.value >= 100:
            raise InputError("broken")
        return Photo(torch.full((4, 6, 3), self.value, dtype=torch.uint8), torch.ones(4, 6, dtype=torch.bool))


class Copying:
    """An uploader that copies at once and remembers what it sent, and in which thread."""

    def __init__(self, free: int) -> None:
        self._free = free
        self.sent: list[tuple[int, bool]] = []  # value of the photo; whether by the main thread

    def free(self) -> int:
        return self._free

    def send(self, photo: Photo) -> Upload:
        self.sent.append((int(photo.rgb[0, 0, 0]), threading.current_thread() is threading.main_thread()))
        return Upload(photo.map(torch.clone), None)

    def receive(self, upload: Upload) -> Photo:
        return upload.photo


def photos(values: list[int], free: int) -> tuple[DevicePhotos, Copying]:
    uploader = Copying(free)
    return DevicePhotos(ImageCache([View(value) for value in values]), GPU, uploader), uploader


NEEDED = 3 * View(0).nbytes
FITS = int(NEEDED / PART_OF_FREE)


def test_in_main_memory_it_is_the_cache():
    cache = ImageCache([View(1), View(2)])
    plain = DevicePhotos(cache, torch.device("cpu"))
    assert plain.get(0, upcoming=1) is cache.get(0) and plain.get(1) is cache.get(1)
    assert plain.resident is None and plain.room == cache.max_bytes


def test_photos_that_fit_are_sent_once():
    found, uploader = photos([1, 2, 3], FITS)
    assert found.resident and found.room == 0
    order = [0, 1, 2, 0, 2, 1, 1]
    for index, upcoming in zip(order, [*order[1:], None], strict=True):
        assert bool((found.get(index, upcoming).rgb == index + 1).all())
    found.close()
    assert sorted(value for value, _ in uploader.sent) == [1, 2, 3]
    assert [main for _, main in uploader.sent] == [True, False, False]  # all but the first a step ahead


def test_photos_that_do_not_fit_go_one_step_ahead_and_are_not_kept():
    found, uploader = photos([1, 2, 3], FITS - int(1 / PART_OF_FREE))
    assert found.resident is False and found.room == NEEDED - 1
    first = weakref.ref(found.get(0, upcoming=1))
    for index, upcoming in ((1, 2), (2, 0), (0, 1)):
        assert bool((found.get(index, upcoming).rgb == index + 1).all())
    assert first() is None
    found.get(2)  # not foretold, as when a strategy looks at photos of its own
    assert bool((found.get(1).rgb == 2).all())  # on its way from before
    found.close()
    ahead = [value for value, main in uploader.sent if not main]
    assert ahead == [2, 3, 1, 2] and [value for value, main in uploader.sent if main] == [1, 3]


def test_a_broken_photo_is_said_when_it_is_asked_for():
    found, _ = photos([1, 200, 3], FITS)
    assert found.get(0, upcoming=1).rgb[0, 0, 0] == 1
    assert found.get(2).rgb[0, 0, 0] == 3
    with pytest.raises(InputError, match="broken"):
        found.get(1)
    found.close()


@pytest.mark.parametrize("free", [0, 1 << 40])
def test_a_run_is_bit_for_bit_that_in_main_memory(monkeypatch, free: int):
    config = TrainConfig(steps=12, gaussians=60, sh_degree=1, coarse=CoarseConfig(start=2.0))
    wanted = train(ring_scene(), config).cloud
    monkeypatch.setattr(trainer, "DevicePhotos", lambda cache, device: DevicePhotos(cache, GPU, Copying(free)))
    found = train(ring_scene(), config).cloud
    assert torch.equal(found.means, wanted.means) and torch.equal(found.sh, wanted.sh)


def test_the_copy_runs_beside_and_is_waited_for_on_the_gpu(monkeypatch):
    calls: list[tuple[str, object]] = []

    class Stream:
        def __init__(self, name: str) -> None:
            self.name = name

        def record_event(self) -> str:
            calls.append(("record", self.name))
            return f"event of {self.name}"

        def wait_event(self, event: str) -> None:
            calls.append((f"{self.name} waits", event))

    current = [Stream("main")]

    @contextlib.contextmanager
    def within(stream: Stream):
        current.append(stream)
        yield
        current.pop()

    def pinned(tensor: torch.Tensor) -> torch.Tensor:
        calls.append(("pin", tensor.dtype))
        return tensor

    honest = torch.Tensor.to

    def copied(tensor: torch.Tensor, device: torch.device, non_blocking: bool = False) -> torch.Tensor:
        calls.append((f"copy on {current[-1].name}", non_blocking))
        return honest(tensor, device)

    monkeypatch.setattr(torch.cuda, "Stream", lambda device: Stream("side"))
    monkeypatch.setattr(torch.cuda, "stream", within)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: current[-1])
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (5, 9))
    monkeypatch.setattr(torch.Tensor, "pin_memory", pinned)
    monkeypatch.setattr(torch.Tensor, "to", copied)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: calls.append(("used on", stream.name)))
    uploader = Uploader(torch.device("meta"))
    assert uploader.free() == 5
    photo = uploader.receive(uploader.send(View(1).load()))
    assert photo.rgb.device.type == photo.mask.device.type == "meta" and photo.alpha is None
    assert calls == [
        ("pin", torch.uint8), ("copy on side", True), ("pin", torch.bool), ("copy on side", True), ("record", "side"),
        ("main waits", "event of side"), ("used on", "main"), ("used on", "main"),
    ]  # fmt: skip
