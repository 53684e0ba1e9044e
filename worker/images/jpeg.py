"""JPEG's header, and whether a JPEG without an end has all of its picture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from maskmill.shared.errors import UnreadableInput
from maskmill.worker.images.pillow import same_pixels
from maskmill.worker.images.reasons import truncated

START_OF_SCAN, END_OF_IMAGE = 0xDA, 0xD9
END = b"\xff\xd9"
# Markers without a length: stuffing, TEM, RST0-7 and SOI.
BARE = frozenset({0x00, 0x01, *range(0xD0, 0xD9)})
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
# 255 hold the largest colour profile; a file made of nothing but markers would be walked for minutes.
MAX_MARKERS = 10_000
# Entropy-coded data unlike the zeros that libjpeg makes up for data that are missing.
FILLER = bytes(1 + 37 * number % 253 for number in range(1024))


@dataclass(frozen=True, slots=True)
class JpegHeader:
    """What a JPEG announces before its first scan, whose segment's content begins at byte `scan`."""

    width: int
    height: int
    bits: int
    progressive: bool
    scan: int


def read_header(data: bytes) -> JpegHeader | None:
    """The header of a JPEG (ITU-T T.81, annex B); None where no frame header comes before the first scan.

    Raises UnreadableInput past MAX_MARKERS.
    """
    frame = None
    for marker, start in _segments(data):
        if marker in FRAMES and frame is None:
            frame = marker, start
        elif marker == START_OF_SCAN and frame is not None:
            return _header(data, *frame, start)
    return None


def completed(data: bytes) -> bytes:
    """The JPEG with an end marker, which does no harm when it alone is missing.

    Raises TruncatedInput where the data end before the picture does.
    """
    header = read_header(data)
    if header is None or data.rfind(END, header.scan) >= 0:
        return data
    if header.progressive or not _is_whole(data.rstrip(b"\0")):
        raise truncated("jpeg")
    return data + END


def _is_whole(data: bytes) -> bool:
    """A picture that needs no byte past `data` is the same whatever follows; one that is cut short is not."""
    try:
        return same_pixels(data + END, data + FILLER + END, "jpeg")
    except UnreadableInput:
        return False


def _header(data: bytes, marker: int, at: int, scan: int) -> JpegHeader:
    height, width = int.from_bytes(data[at + 1 : at + 3], "big"), int.from_bytes(data[at + 3 : at + 5], "big")
    return JpegHeader(width, height, data[at], marker in PROGRESSIVE, scan)


def _segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Marker of each segment up to the first scan's, and where its content starts; stray bytes are passed over."""
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
            yield marker, at + 4
            if marker == START_OF_SCAN:
                return
            at += 2 + max(2, int.from_bytes(data[at + 2 : at + 4], "big"))
    raise UnreadableInput(f"the JPEG has more than {MAX_MARKERS} markers before its picture")
