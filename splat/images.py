"""Opening pictures of strangers: formats that are expected, and no more pixels than their bytes can stand for."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from splat.errors import InputError
from splat.reading import reason_of, require_file

if TYPE_CHECKING:
    from PIL import Image

# Pillow knows forty more, some of which start other programs (EPS: Ghostscript).
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM")  # phones' MPO opens as JPEG
BELIEVED = 1 << 26  # pixels of a picture of one colour, such as an empty mask
PIXELS_PER_BYTE = 256  # of larger pictures


@contextmanager
def open_image(path: Path | str, file: BinaryIO | None = None) -> Iterator["Image.Image"]:
    """The picture ``path``, or in the open ``file``, then ``path`` is for messages; not decoded yet.

    Raises InputError when it is missing, damaged, in none of `FORMATS` or larger than its bytes can be; damage that
    shows only when the body of the ``with`` decodes the pixels is said in the same way.
    """
    from PIL import Image, UnidentifiedImageError

    size = require_file(path).stat().st_size if file is None else file.seek(0, 2)
    try:
        with warnings.catch_warnings():
            # The limit below is ours; of more than twice Pillow's own it makes an error, and so it stays.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            if file is not None:
                file.seek(0)
            with Image.open(path if file is None else file, formats=FORMATS) as image:
                pixels = image.width * image.height
                if pixels > max(BELIEVED, PIXELS_PER_BYTE * size):
                    raise InputError(
                        f"{path}: {image.width}×{image.height} pixels in {size:,} bytes are too many to be a photo; "
                        "check the file"
                    )
                yield image
    except UnidentifiedImageError:
        known = ", ".join(FORMATS)
        raise InputError(f"{path}: it is no picture in a known format ({known}); convert it") from None
    except (
        OSError,  # Pillow's word for truncated data
        SyntaxError,  # and for a broken header
        ValueError,
        LookupError,
        ArithmeticError,
        EOFError,
        MemoryError,
        NotImplementedError,
        Image.DecompressionBombError,
    ) as error:
        raise InputError(f"{path}: the picture cannot be read ({reason_of(error)}); copy it again") from error
