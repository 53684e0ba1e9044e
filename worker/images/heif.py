"""HEIC, as phones write it, by libheif through pi-heif: an extra, `heic`, that need not be installed.

The primary picture is read. libheif turns it upright as the container's `irot` and `imir` ask. An Exif orientation
repeats what they say, and counts for nothing (ISO/IEC 23008-12, annex A.2.2).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from maskmill.shared.errors import InputError, UnsupportedFormat
from maskmill.shared.formats import ends_early
from maskmill.worker.images import pillow
from maskmill.worker.images.image import Image
from maskmill.worker.images.reasons import damaged, truncated

if TYPE_CHECKING:
    from pi_heif import HeifFile


@contextmanager
def opened(data: bytes) -> Iterator[HeifFile]:
    """The file with the size of its primary picture known and no pixel decoded yet.

    Raises UnsupportedFormat where the decoder is not installed. Whatever breaks inside the block is raised as
    TruncatedInput or UnreadableInput.
    """
    try:
        import pi_heif
    except ImportError as error:
        raise UnsupportedFormat(
            "this HEIC needs a decoder that is not installed on the worker: pip install 'maskmill[heic]'"
        ) from error
    # Several pictures are decoded at once as it is.
    pi_heif.options.DECODE_THREADS = 1
    try:
        yield pi_heif.open_heif(data)
    except (InputError, MemoryError):
        raise
    except Exception as error:
        raise _flaw(data) from error


def size(file: HeifFile) -> tuple[int, int]:
    """Width and height of the primary picture, turned upright."""
    width, height = file.size
    return width, height


def pixels_of(file: HeifFile) -> Image:
    """Pixels uint8 [H, W, 3] RGB of the primary picture, upright, transparent ones laid on white."""
    return np.array(file) if file.mode == "RGB" else pillow.pixels_of(file.to_pillow())


def _flaw(data: bytes) -> InputError:
    if ends_early(data, "heic"):
        return truncated("heic")
    return damaged("heic", "its picture cannot be decoded, or is not coded in HEVC")
