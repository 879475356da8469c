"""Pictures are written whole or not at all."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from splat.errors import InputError, memory_ran_out
from splat.images import write_image


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_what_is_written_is_read(tmp_path, name) -> None:
    pixels = np.full((40, 60, 3), (200, 100, 50), np.uint8)
    write_image(tmp_path / name, pixels)
    with Image.open(tmp_path / name) as image:
        assert np.abs(np.asarray(image).astype(int) - pixels).max() <= (0 if name.endswith("png") else 3)


def test_a_full_disk_leaves_the_old_picture() -> None:
    with pytest.raises(InputError, match="cannot write /dev/full"):
        write_image(Path("/dev/full/a.png"), np.zeros((4, 4, 3), np.uint8))


def test_memory_that_ran_out_below_a_library_is_recognised() -> None:
    error = SystemError("<built-in function f> returned a result with an exception set")
    assert not memory_ran_out(error)
    error.__cause__ = MemoryError()
    assert memory_ran_out(error)
