"""PNG's chunks: metadata that would spoil a sound picture are left out, and what is wrong with a bad one is found."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import NamedTuple

from PIL.PngImagePlugin import MAX_TEXT_CHUNK

from maskmill.shared.errors import InputError, UnreadableInput
from maskmill.worker.images.reasons import damaged, truncated

SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Length, name and checksum, each of 4 bytes.
FRAME_BYTES = 12
# Which of the chunks that a reader may leave out (a small first letter) say something of the pixels.
OF_PIXELS = frozenset({b"tRNS", b"acTL", b"fcTL", b"fdAT"})
TEXTS = frozenset({b"tEXt", b"zTXt", b"iTXt", b"iCCP"})
SHORTEST = {b"gAMA": 4, b"cHRM": 32, b"pHYs": 9, b"sRGB": 1}
# Bits a sample of each colour type (PNG, third edition, table 8).
DEPTHS = {0: {1, 2, 4, 8, 16}, 2: {8, 16}, 3: {1, 2, 4, 8}, 4: {8, 16}, 6: {8, 16}}


class Chunk(NamedTuple):
    """A chunk: its name, and the bytes from `start` (its length) to `end` (behind its checksum)."""

    name: bytes
    start: int
    end: int


def without_bad_metadata(data: bytes) -> bytes:
    """The PNG without texts, profiles and the like that are damaged, or too large once unpacked."""
    whole = (chunk for chunk in _chunks(data) if chunk.end <= len(data))
    bad = [chunk for chunk in whole if _is_metadata(chunk) and not _is_sound(data, chunk)]
    if not bad:
        return data
    starts, ends = [chunk.start for chunk in bad], [chunk.end for chunk in bad]
    return b"".join(data[start:end] for start, end in zip([0, *ends], [*starts, len(data)], strict=True))


def flaw(data: bytes) -> InputError | None:
    """What is wrong with the PNG, as far as its chunks tell; None where they are all right."""
    at, name = len(SIGNATURE), b""
    for name, start, at in _chunks(data):
        if at <= len(data) and not _checksum_holds(data, start, at):
            return damaged("png", f"the checksum of its {name.decode()} chunk is wrong")
    if at > len(data) and name != b"IEND" and b"IEND" in data[-FRAME_BYTES:]:
        return damaged("png", f"the length of its {name.decode()} chunk reaches past the file's end")
    if at > len(data) or (name != b"IEND" and len(data) - at < FRAME_BYTES):
        return truncated("png")
    if name != b"IEND":
        return damaged("png", "where a chunk should begin there is none")
    return _flaw_of_header(data)


def _flaw_of_header(data: bytes) -> UnreadableInput | None:
    if data[12:16] != b"IHDR":
        return damaged("png", "it does not begin with its header")
    bits, colours = data[24], data[25]
    if bits not in DEPTHS.get(colours, ()):
        return damaged(
            "png", f"its header gives {bits} bits a sample for colour type {colours}, which PNG does not have"
        )
    return damaged("png", "its animation's frames are out of order") if b"acTL" in data else None


def _chunks(data: bytes) -> Iterator[Chunk]:
    """The chunks up to IEND, the last one perhaps ending behind the data; no more where none begins."""
    at = len(SIGNATURE)
    while at + 8 <= len(data):
        name = data[at + 4 : at + 8]
        if not (name.isalpha() and name.isascii()):
            return
        end = at + FRAME_BYTES + int.from_bytes(data[at : at + 4], "big")
        yield Chunk(name, at, end)
        if name == b"IEND" or end > len(data):
            return
        at = end


def _is_metadata(chunk: Chunk) -> bool:
    return chunk.name[:1].islower() and chunk.name not in OF_PIXELS


def _is_sound(data: bytes, chunk: Chunk) -> bool:
    if not _checksum_holds(data, chunk.start, chunk.end):
        return False
    content = data[chunk.start + 8 : chunk.end - 4]
    return _text_is_sound(chunk.name, content) and len(content) >= SHORTEST.get(chunk.name, 0)


def _checksum_holds(data: bytes, start: int, end: int) -> bool:
    return zlib.crc32(memoryview(data)[start + 4 : end - 4]) == int.from_bytes(data[end - 4 : end], "big")


def _text_is_sound(name: bytes, content: bytes) -> bool:
    """Whether a text, or a profile, can be unpacked, and is not too large then (PNG, third edition, 11.3.3)."""
    if name not in TEXTS:
        return True
    _, _, behind_keyword = content.partition(b"\0")
    if name in {b"zTXt", b"iCCP"}:
        return behind_keyword[:1] == b"\0" and _unpacks(behind_keyword[1:])
    if name == b"iTXt" and behind_keyword[:1] == b"\1":
        return behind_keyword[1:2] == b"\0" and _unpacks(behind_keyword[2:].split(b"\0", 2)[-1])
    return len(content) <= MAX_TEXT_CHUNK


def _unpacks(packed: bytes) -> bool:
    unpacker = zlib.decompressobj()
    try:
        unpacker.decompress(packed, MAX_TEXT_CHUNK)
    except zlib.error:
        return False
    return not unpacker.unconsumed_tail
