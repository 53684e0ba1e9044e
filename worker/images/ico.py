"""ICO: a list of pictures, each a PNG or a BMP without its file header; the largest is the one that is read."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from maskmill.worker.images.png import SIGNATURE
from maskmill.worker.images.reasons import damaged, truncated

HEAD = struct.Struct("<HHH")
# Width, height, colours and a spare byte, planes, bits a pixel, and where the picture lies: bytes, offset.
ENTRY = struct.Struct("<BBBBHHII")
# Of a BMP's header: its own size, width, and the height of the picture and the mask below it together.
BITMAP = struct.Struct("<Iii")
WITH_ALPHA = 32


class Picture(NamedTuple):
    """A picture of the list: its size in pixels as its own header gives it, and its bytes from `start` to `end`."""

    width: int
    height: int
    bits: int
    start: int
    end: int


def size(data: bytes) -> tuple[int, int]:
    """Width and height of the largest picture. Raises UnreadableInput for an empty list, TruncatedInput."""
    picture = _largest(data)
    return picture.width, picture.height


def unwrapped(data: bytes) -> tuple[str, bytes]:
    """The largest picture alone: "png" and a PNG, or "ico" and an ICO of one BMP whose entry says if it has alpha."""
    picture = _largest(data)
    content = data[picture.start : picture.end]
    if content.startswith(SIGNATURE):
        return "png", content
    bits = int.from_bytes(content[14:16], "little")
    header = int.from_bytes(content[:4], "little")
    # Some writers leave alpha 0 everywhere and mean the mask.
    if bits == WITH_ALPHA and not any(content[header + 3 : header + 4 * picture.width * picture.height : 4]):
        bits = 0
    sides = (min(picture.width, 256) % 256, min(picture.height, 256) % 256)
    entry = ENTRY.pack(*sides, 0, 0, 1, bits, len(content), HEAD.size + ENTRY.size)
    return "ico", HEAD.pack(0, 1, 1) + entry + content


def _largest(data: bytes) -> Picture:
    """The picture of most pixels, among those of most bits a pixel."""
    count = int.from_bytes(data[4:6], "little")
    if len(data) < HEAD.size + count * ENTRY.size:
        raise truncated("ico")
    if not count:
        raise damaged("ico", "it holds no picture")
    largest = max(_pictures(data, count), key=lambda picture: (picture.width * picture.height, picture.bits))
    if largest.end > len(data):
        raise truncated("ico")
    return largest


def _pictures(data: bytes, count: int) -> Iterator[Picture]:
    for number in range(count):
        width, height, _, _, _, bits, length, start = ENTRY.unpack_from(data, HEAD.size + number * ENTRY.size)
        end = start + length
        if data.startswith(SIGNATURE, start) and len(data) >= start + 24:
            width, height = struct.unpack_from(">II", data, start + 16)
        elif len(data) >= start + BITMAP.size:
            _, width, both = BITMAP.unpack_from(data, start)
            height = abs(both) // 2
        yield Picture(width, height, bits, start, end)
