"""The cache: same pixels, bounded memory, each photo decoded once while it fits, safe among threads."""

import threading
import time

import PIL.Image
import pytest
import torch
from support.patience import wait_for
from support.scene_models import make_model

from splat.errors import InputError
from splat.scene import ImageCache, Photo, load_scene


def test_each_photo_is_decoded_once_while_all_fit(tmp_path) -> None:
    make_model(tmp_path)
    scene = load_scene(tmp_path)
    cache = ImageCache(scene, max_bytes=scene.nbytes)
    assert cache.fits and len(cache) == 9
    for _ in range(3):
        for index, view in enumerate(scene.views):
            torch.testing.assert_close(cache.get(index, upcoming=(index + 1) % 9).rgb, view.load().rgb)
    assert cache.decoded == 9 and cache.bytes == scene.nbytes
    cache.close()


def test_larger_than_memory_streams(tmp_path) -> None:
    make_model(tmp_path, "OPENCV")
    scene = load_scene(tmp_path)
    size = scene.views[0].nbytes
    cache = ImageCache(scene.views, max_bytes=3 * size + 10)
    assert not cache.fits
    for index in [*range(9), 8, 7, 6]:
        torch.testing.assert_close(cache.get(index).rgb, scene.views[index].load().rgb)
        assert cache.bytes <= cache.max_bytes
    assert cache.decoded == 9  # the last three were still there
    cache.get(0)
    assert cache.decoded == 10
    tiny = ImageCache(scene.views, max_bytes=1)
    assert tiny.get(0).rgb.shape == tiny.get(0).rgb.shape and tiny.bytes == 0


def test_prefetch_decodes_in_the_background(tmp_path) -> None:
    make_model(tmp_path)
    cache = ImageCache(load_scene(tmp_path))
    cache.prefetch(4)
    wait_for(lambda: cache.decoded)
    assert cache.decoded == 1
    cache.get(4)
    assert cache.decoded == 1
    cache.close()
    cache.get(4)
    assert cache.decoded == 2


class _SlowView:
    nbytes = 12

    def __init__(self) -> None:
        self.loads = 0

    def load(self) -> Photo:
        self.loads += 1
        time.sleep(0.05)
        return Photo(torch.zeros(2, 2, 3, dtype=torch.uint8))


def test_threads_share_one_decoding() -> None:
    view = _SlowView()
    cache = ImageCache([view])
    photos: list[Photo] = []
    threads = [threading.Thread(target=lambda: photos.append(cache.get(0))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert view.loads == 1 and len(photos) == 8 and all(photo is photos[0] for photo in photos)


def test_a_broken_photo_is_reported_to_the_caller(tmp_path) -> None:
    make_model(tmp_path, names=[f"{k}.jpg" for k in range(9)])
    path = tmp_path / "images/4.jpg"
    path.write_bytes(path.read_bytes()[:3000])
    cache = ImageCache(load_scene(tmp_path))
    for _ in range(2):
        cache.prefetch(4)
        with pytest.raises(InputError, match="4.jpg"):
            cache.get(4)
    PIL.Image.new("RGB", (160, 120)).save(path)
    assert cache.get(4).rgb.sum() == 0
