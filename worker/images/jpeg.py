"""JPEG's header and, by OpenCV, the pixels of the usual kinds, at nearly the speed of libjpeg-turbo alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from maskmill.shared.errors import TruncatedInput, UnreadableInput
from maskmill.worker.images.image import Image
from maskmill.worker.images.opencv import imdecode

START_OF_SCAN, END_OF_IMAGE, APP1 = 0xDA, 0xD9, 0xE1
END = b"\xff\xd9"
# Markers without a length: stuffing, TEM, RST0-7 and SOI.
BARE = frozenset({0x00, 0x01, *range(0xD0, 0xD9)})
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
XMP_ORIENTATION = re.compile(rb"tiff:Orientation(?:=[\"']|>)([1-8])")
ORIENTATION_TAG = 0x0112
# 255 hold the largest colour profile; a file made of nothing but markers would be walked for minutes.
MAX_MARKERS = 10_000
# Entropy-coded data unlike the zeros that libjpeg makes up for data that are missing.
FILLER = bytes(1 + 37 * number % 253 for number in range(1024))


@dataclass(frozen=True, slots=True)
class JpegHeader:
    """What a JPEG announces before its first scan, whose segment's content begins at byte `scan`."""

    width: int
    height: int
    components: int
    bits: int
    progressive: bool
    orientation: int
    scan: int


def read_header(data: bytes) -> JpegHeader | None:
    """The header of a JPEG (ITU-T T.81, annex B); None where no frame header comes before the first scan.

    Raises UnreadableInput past MAX_MARKERS.
    """
    frame, from_exif, from_xmp = None, None, None
    for marker, start, end in _segments(data):
        if marker == APP1:
            from_exif = from_exif or exif_orientation(data[start:end])
            from_xmp = from_xmp or _xmp_orientation(data[start:end])
        elif marker in FRAMES and frame is None:
            frame = marker, start
        elif marker == START_OF_SCAN and frame is not None:
            return _header(data, frame, from_exif or from_xmp or 1, start)
    return None


def decode(data: bytes, header: JpegHeader) -> Image | None:
    """Pixels uint8 [H, W, 3] RGB as stored, not turned upright; None where OpenCV cannot read them.

    Raises TruncatedInput where the data end before the picture does. A missing end marker alone is no harm.
    """
    if data.rfind(END, header.scan) >= 0:
        return imdecode(data)
    if header.progressive:
        raise _truncated()
    return _decode_without_end(data.rstrip(b"\0"))


def exif_orientation(segment: bytes) -> int | None:
    """The orientation, 1 to 8, of an APP1 segment's content (Exif 2.32, 4.6); None where it holds none."""
    if not segment.startswith(b"Exif\0"):
        return None
    tiff = segment[6:]
    order = "little" if tiff[:2] == b"II" else "big"

    def number(at: int, size: int) -> int:
        return int.from_bytes(tiff[at : at + size], order)  # type: ignore[arg-type]

    directory = number(4, 4)
    for entry in range(directory + 2, min(directory + 2 + 12 * number(directory, 2), len(tiff) - 11), 12):
        if number(entry, 2) == ORIENTATION_TAG:
            orientation = number(entry + 8, 2)
            return orientation if 1 <= orientation <= 8 else None
    return None


def _xmp_orientation(segment: bytes) -> int | None:
    found = segment.startswith(b"http://ns.adobe.com/xap/") and XMP_ORIENTATION.search(segment)
    return int(found[1]) if found else None


def _header(data: bytes, frame: tuple[int, int], orientation: int, scan: int) -> JpegHeader:
    marker, at = frame
    bits, components = data[at], data[at + 5]
    height, width = int.from_bytes(data[at + 1 : at + 3], "big"), int.from_bytes(data[at + 3 : at + 5], "big")
    return JpegHeader(width, height, components, bits, marker in PROGRESSIVE, orientation, scan)


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of the content of each segment up to the first scan's; stray bytes are passed over."""
    at = 2
    for _ in range(MAX_MARKERS):
        at = data.find(b"\xff", at)
        if not 0 <= at <= len(data) - 4 or data[at + 1] == END_OF_IMAGE:
            return
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
        elif marker in BARE:
            at += 2
        else:
            end = at + 2 + max(2, int.from_bytes(data[at + 2 : at + 4], "big"))
            yield marker, at + 4, end
            if marker == START_OF_SCAN:
                return
            at = end
    raise UnreadableInput(f"the JPEG has more than {MAX_MARKERS} markers before its picture")


def _decode_without_end(data: bytes) -> Image | None:
    """A picture that needs no byte past `data` is the same whatever follows; one that is cut short is not."""
    picture, other = imdecode(data + END), imdecode(data + FILLER + END)
    if picture is None or other is None:
        return None
    if not np.array_equal(picture, other):
        raise _truncated()
    return picture


def _truncated() -> TruncatedInput:
    return TruncatedInput("the JPEG ends before its picture does; send the whole file")
