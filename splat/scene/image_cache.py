"""`ImageCache`: decoded photos within a memory budget, so that scenes larger than memory stream from disk."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from splat.scene.images import Photo
from splat.scene.scene import Scene, View

DEFAULT_BYTES = 2 << 30


class ImageCache:
    """Decodes each photo once and keeps the most recently used ones, as uint8, within ``max_bytes``.

    Safe to use from several threads; a photo being decoded by one is waited for by the others. A photo larger than the
    whole budget is delivered but not kept.

        cache = ImageCache(scene.train_views, max_bytes=1 << 30)
        photo = cache.get(3, upcoming=7)  # 7 is decoded in the background meanwhile
    """

    def __init__(self, views: Scene | Sequence[View], max_bytes: int = DEFAULT_BYTES) -> None:
        self.views = tuple(views.views if isinstance(views, Scene) else views)
        self.max_bytes = int(max_bytes)
        self.bytes = 0  # held now
        self.decoded = 0  # photos decoded so far; grows beyond len(views) once the cache streams
        self._lock = threading.Lock()
        self._kept: OrderedDict[int, Photo] = OrderedDict()
        self._pending: dict[int, Future[Photo]] = {}
        self._worker: ThreadPoolExecutor | None = None

    def __len__(self) -> int:
        return len(self.views)

    @property
    def fits(self) -> bool:
        """Whether all photos together stay within the budget."""
        return sum(view.nbytes for view in self.views) <= self.max_bytes

    def get(self, index: int, upcoming: int | None = None) -> Photo:
        """The photo of ``views[index]``; ``upcoming`` is decoded in the background. Raises InputError if broken."""
        photo = self._get(index)
        if upcoming is not None:
            self.prefetch(upcoming)
        return photo

    def prefetch(self, index: int) -> None:
        """Begin decoding ``views[index]`` in the background unless it is there already."""
        with self._lock:
            if index in self._kept or index in self._pending:
                return
            if self._worker is None:
                self._worker = ThreadPoolExecutor(1, thread_name_prefix="splat-photos")
            future = self._pending[index] = Future()
            self._worker.submit(self._decode, index, future)

    def close(self) -> None:
        """Stop the background thread and forget all photos; the cache can be used again afterwards."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.shutdown(wait=True)
        with self._lock:
            self._kept.clear()
            self.bytes = 0

    def _get(self, index: int) -> Photo:
        with self._lock:
            photo = self._kept.get(index)
            if photo is not None:
                self._kept.move_to_end(index)
                return photo
            future = self._pending.get(index)
            mine = future is None
            if future is None:
                future = self._pending[index] = Future()
        if mine:
            self._decode(index, future)
        return future.result()

    def _decode(self, index: int, future: "Future[Photo]") -> None:
        """Decode into ``future``; an error goes to whoever waits for the photo."""
        try:
            photo = self.views[index].load()
        except BaseException as error:
            with self._lock:
                del self._pending[index]
            future.set_exception(error)
            return
        with self._lock:
            self.decoded += 1
            del self._pending[index]
            if photo.nbytes <= self.max_bytes:
                self._kept[index] = photo
                self.bytes += photo.nbytes
                while self.bytes > self.max_bytes:
                    _, oldest = self._kept.popitem(last=False)
                    self.bytes -= oldest.nbytes
        future.set_result(photo)
