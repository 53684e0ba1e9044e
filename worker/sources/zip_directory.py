"""The directory of a zip, read entry by entry (PKWARE's APPNOTE 6.3.10, sections 4.3 and 4.4).

The standard library's `zipfile` reads the whole of it before it can be counted, keeps half a kilobyte for each entry,
gives up on all for one name that is damaged, and does not look, up to Python 3.11.7, for entries that share bytes
(CVE-2024-0450). Here entries are counted as they come, and of all of them only two numbers are held.
"""

from __future__ import annotations

import struct
import zlib
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from maskmill.shared.errors import ArchiveBroken, ArchiveOverlaps, ArchiveTooLarge, ArchiveTruncated
from maskmill.worker.sources.range_reader import RangeReader

END = struct.Struct("<4s4H2LH")
LOCATOR = struct.Struct("<4sLQL")
END_64 = struct.Struct("<4sQ2H2L4Q")
ENTRY = struct.Struct("<4s4B4HL2L5H2L")
EXTRA = struct.Struct("<HH")
# 30 bytes, of which name and extra field follow.
LOCAL_HEADER = 30
MOST_COMMENT = 0xFFFF
FULL_16, FULL_32 = 0xFFFF, 0xFFFFFFFF
ZIP64, UNICODE_PATH = 0x0001, 0x7075
ENCRYPTED, PATCHED, UTF_8, MASKED = 1 << 0, 1 << 5, 1 << 11, 1 << 13
UNIX = 3
LINK, KIND = 0o120000, 0o170000


class ZipEntry(NamedTuple):
    """What the directory says of a file: `offset` is where its header begins, `end` where the next one's does."""

    name: str
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    offset: int
    end: int
    is_link: bool

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder's own entry."""
        return self.name.endswith(("/", "\\"))


class _Place(NamedTuple):
    """Where the directory lies; `shift` bytes stand before the zip, as a program that unpacks it does."""

    start: int
    end: int
    shift: int


class _Raw(NamedTuple):
    """An entry as it stands there, 64 bits wide."""

    name: bytes
    extra: bytes
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    offset: int
    mode: int


def zip_entries(reader: RangeReader, most: int) -> Iterator[ZipEntry]:
    """The entries in the directory's order.

    Raises ArchiveTruncated without a directory, ArchiveBroken for a damaged one, ArchiveTooLarge for more than `most`
    entries, ArchiveOverlaps where two share bytes.
    """
    place = _find(reader)
    starts = _starts(reader, place, most)
    for raw in _raw_entries(reader, place):
        end = starts[bisect_right(starts, raw.offset)]
        kind = raw.mode & KIND
        yield ZipEntry(_name(raw), *raw[2:8], end, kind == LINK)


def _starts(reader: RangeReader, place: _Place, most: int) -> array[int]:
    """Where each entry begins, sorted, and behind them the directory."""
    spans: list[tuple[int, int]] = []
    for raw in _raw_entries(reader, place):
        if len(spans) == most:
            raise ArchiveTooLarge(f"the zip has more than {most} entries; MASKMILL_MAX_MEMBERS sets the limit")
        spans.append((raw.offset, raw.offset + LOCAL_HEADER + raw.packed))
    spans.sort()
    starts = array("Q", (start for start, _ in spans))
    starts.append(place.start)
    for number, (start, end) in enumerate(spans):
        if end > starts[number + 1]:
            raise ArchiveOverlaps(f"the file at {start} of the zip ends in the middle of another, or of the directory")
    return starts


def _find(reader: RangeReader) -> _Place:
    """Where the directory lies, by the record at the zip's end and, if it has one, by that of 64 bits."""
    at = _end_record(reader)
    reader.seek(at)
    _, _, disk, _, _, size, offset, _ = END.unpack(reader.read(END.size))
    if disk not in (0, FULL_16):
        raise ArchiveBroken("the zip is one part of several; join them")
    found = _end_64(reader, at)
    if found:
        at, size, offset = found
    start = at - size
    if start < 0 or start < offset:
        raise ArchiveBroken("the zip's directory is not where its end says")
    return _Place(start, at, start - offset)


def _end_record(reader: RangeReader) -> int:
    """Where the record at the zip's end begins; only a comment follows it."""
    start = reader.seek(-min(END.size + MOST_COMMENT, reader.size), 2)
    tail = reader.read(END.size + MOST_COMMENT)
    found = tail.rfind(b"PK\5\6")
    if found < 0 or found + END.size > len(tail):
        raise ArchiveTruncated("the zip's end with its directory is missing; send the whole file")
    return start + found


def _end_64(reader: RangeReader, at: int) -> tuple[int, int, int] | None:
    """Where the record of 64 bits lies, how large the directory is, and where it says that it begins."""
    if at < LOCATOR.size:
        return None
    reader.seek(at - LOCATOR.size)
    mark, _, offset, _ = LOCATOR.unpack(reader.read(LOCATOR.size))
    if mark != b"PK\6\7":
        return None
    # What stands before the zip shifts it; nothing stands between the two.
    for place in (offset, at - LOCATOR.size - END_64.size):
        reader.seek(place)
        data = reader.read(END_64.size)
        if data.startswith(b"PK\6\6") and len(data) == END_64.size:
            *_, size, start = END_64.unpack(data)
            return place, size, start
    raise ArchiveBroken("the zip's end of 64 bits is not where it says")


def _raw_entries(reader: RangeReader, place: _Place) -> Iterator[_Raw]:
    at = place.start
    while at < place.end:
        reader.seek(at)
        head = reader.read(min(ENTRY.size, place.end - at))
        if len(head) < ENTRY.size or not head.startswith(b"PK\1\2"):
            raise ArchiveBroken(f"the zip's directory is damaged at {at}")
        fields = ENTRY.unpack(head)
        rest = sum(fields[12:15])
        at += ENTRY.size + rest
        if at > place.end:
            raise ArchiveBroken("the zip's directory is longer than its end says")
        name, extra = reader.read(fields[12]), reader.read(fields[13])
        yield _widened(fields, name, extra, place.shift)


def _widened(fields: tuple[int, ...], name: bytes, extra: bytes, shift: int) -> _Raw:
    """The entry with the numbers that its extra field has because they need 64 bits."""
    wide = _extra(extra, ZIP64)
    numbers = [fields[11], fields[10], fields[18]]
    for place, number in enumerate(numbers):
        if number == FULL_32 and len(wide) >= 8:
            numbers[place], wide = int.from_bytes(wide[:8], "little"), wide[8:]
    size, packed, offset = numbers
    mode = fields[17] >> 16 if fields[2] == UNIX else 0
    return _Raw(name, extra, fields[5], fields[6], fields[9], packed, size, offset + shift, mode)


def _extra(extra: bytes, wanted: int) -> bytes:
    """What the extra field holds under that number; nothing where it does not, or is damaged."""
    while len(extra) >= EXTRA.size:
        kind, size = EXTRA.unpack_from(extra)
        if kind == wanted:
            return extra[EXTRA.size : EXTRA.size + size]
        extra = extra[EXTRA.size + size :]
    return b""


def _name(raw: _Raw) -> str:
    """The name as text: the Unicode path of Info-ZIP where it is this name's (APPNOTE 4.6.9), else what bit 11 says."""
    path = _extra(raw.extra, UNICODE_PATH)
    if path[:1] == b"\1" and int.from_bytes(path[1:5], "little") == zlib.crc32(raw.name):
        return path[5:].decode("utf-8", "replace")
    return raw.name.decode("utf-8", "replace") if raw.flags & UTF_8 else raw.name.decode("cp437")
