"""ICO files made by hand: Pillow writes none larger than 256 pixels, and no mask but its own."""

from __future__ import annotations

import io
import struct

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow


def as_png(picture: Pillow.Image) -> bytes:
    """The picture as an icon holds it, coded as PNG."""
    file = io.BytesIO()
    picture.save(file, "PNG", compress_level=1)
    return file.getvalue()


def as_bitmap(picture: Pillow.Image, hidden: NDArray[np.bool_] | None = None) -> bytes:
    """The picture as an icon holds it, coded as BMP: above a mask [height, width] of what is hidden."""
    file = io.BytesIO()
    picture.save(file, "DIB")
    data = bytearray(file.getvalue())
    data[8:12] = struct.pack("<i", 2 * picture.height)
    mask = np.zeros((picture.height, -(-picture.width // 32) * 32), bool)
    if hidden is not None:
        mask[:, : picture.width] = hidden
    return bytes(data) + np.packbits(mask[::-1], axis=1).tobytes()


def icon(*pictures: bytes, sides: tuple[int, int] = (0, 0), bits: int = 0) -> bytes:
    """The icon of these pictures, each listed with the same sides and bits, which are often wrong in real ones."""
    entries, offset = b"", 6 + 16 * len(pictures)
    for picture in pictures:
        entries += struct.pack("<BBBBHHII", *sides, 0, 0, 1, bits, len(picture), offset)
        offset += len(picture)
    return struct.pack("<HHH", 0, 1, len(pictures)) + entries + b"".join(pictures)
