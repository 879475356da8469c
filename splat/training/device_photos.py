"""`DevicePhotos`: the training photos where they are compared, so that no step waits for a copy of one.

On a GPU, 8-bit photos with their masks and alphas stay there if all of them fit into `PART_OF_FREE` of its free memory.
Otherwise each photo goes through page-locked memory on a stream of its own while the step before it runs. In main
memory it is the `ImageCache` and nothing else.
"""

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch

from splat.scene import ImageCache
from splat.scene.images import Photo

# The rest is for the cloud, which grows after this was decided, with its moments (708 bytes per Gaussian at SH degree
# 3), and for what a picture takes. A quarter of 24 GB holds 1,000 photos of 1920×1080.
PART_OF_FREE = 0.25


@dataclass(frozen=True)
class Upload:
    """A photo on its way to a GPU: usable by work that waits for ``arrived``, an event there."""

    photo: Photo
    arrived: Any


class Uploader:
    """Copies photos to the GPU ``device`` beside the work that goes on there."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stream = torch.cuda.Stream(device)

    def free(self) -> int:
        """Bytes of the GPU's memory that nobody holds."""
        return torch.cuda.mem_get_info(self.device)[0]

    def send(self, photo: Photo) -> Upload:
        """Begin the copy. PyTorch keeps page-locked memory for later photos, but not before the copy is done."""
        with torch.cuda.stream(self._stream):
            sent = photo.map(lambda tensor: tensor.pin_memory().to(self.device, non_blocking=True))
            return Upload(sent, self._stream.record_event())

    def receive(self, upload: Upload) -> Photo:
        """The photo for the current stream, which waits for the copy; the host does not."""
        stream = torch.cuda.current_stream(self.device)
        stream.wait_event(upload.arrived)
        upload.photo.map(lambda tensor: tensor.record_stream(stream))  # its memory is not reused before that is done
        return upload.photo


class DevicePhotos:
    """Gives the photos of ``cache`` on ``device``.

        photos = DevicePhotos(ImageCache(scene.train_views), torch.device("cuda"))
        photo = photos.get(3, upcoming=7)  # 7 is decoded and copied in the background meanwhile

    Attributes:
        resident: whether photos stay on the GPU; None in main memory.
    """

    def __init__(self, cache: ImageCache, device: torch.device, uploader: Uploader | None = None) -> None:
        self.cache = cache
        self.resident: bool | None = None
        self._uploader: Uploader | None = None
        self._kept: dict[int, Photo] = {}
        self._next: tuple[int, Future[Upload]] | None = None
        self._worker: ThreadPoolExecutor | None = None
        self._room = cache.max_bytes
        if device.type == "cuda":
            self._uploader = uploader or Uploader(device)
            needed, part = sum(view.nbytes for view in cache.views), int(PART_OF_FREE * self._uploader.free())
            self.resident = needed <= part
            self._room = min(self._room, part - needed if self.resident else part)

    @property
    def room(self) -> int:
        """Bytes that smaller copies of the photos may take where the photos are."""
        return self._room

    def get(self, index: int, upcoming: int | None = None) -> Photo:
        """The photo of ``cache.views[index]``; ``upcoming`` is brought in the background. InputError if broken."""
        if self._uploader is None:
            return self.cache.get(index, upcoming)
        photo = self._kept.get(index)
        if photo is None:
            photo = self._uploader.receive(self._upload_of(index))
            if self.resident:
                self._kept[index] = photo
        if upcoming is not None:
            self._bring(upcoming)
        return photo

    def close(self) -> None:
        """Stop what goes on in the background and forget all photos, also those of the cache."""
        worker, self._worker, self._next = self._worker, None, None
        if worker is not None:
            worker.shutdown(wait=True)
        self._kept.clear()
        self.cache.close()

    def _upload_of(self, index: int) -> Upload:
        if self._next is None or self._next[0] != index:
            return self._uploader.send(self.cache.get(index))
        (_, future), self._next = self._next, None
        return future.result()

    def _bring(self, index: int) -> None:
        if index in self._kept or (self._next is not None and self._next[0] == index):
            return
        if self._worker is None:
            self._worker = ThreadPoolExecutor(1, thread_name_prefix="splat-upload")
        self._next = index, self._worker.submit(lambda: self._uploader.send(self.cache.get(index)))
