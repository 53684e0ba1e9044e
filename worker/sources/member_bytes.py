"""The bytes of one file of an archive: unpacked, and held against what the archive says of them."""

from __future__ import annotations

import bz2
import struct
import zlib
from collections.abc import Callable

from maskmill.shared.errors import ArchiveOverlaps, MemberBroken
from maskmill.shared.jobs.sources import MemberBytes
from maskmill.worker.sources.zip_directory import LOCAL_HEADER

# What a header's extra field mostly takes; where it takes more, a second range is read.
ROOM = 512

Span = Callable[[int, int], bytes]
"""The archive's bytes from one place to before another."""


def member_bytes(member: MemberBytes, span: Span) -> bytes:
    """All bytes of the member, of which no more than its `size` and one are made.

    Raises MemberBroken where size, checksum or header are not as the archive's directory says, ArchiveOverlaps where
    the bytes reach into the next member's, and what `span` raises.
    """
    if member.method == "tar":
        return _whole(span, member.start, member.end)
    data = _unpacked(member, _packed(member, span))
    if len(data) != member.size:
        raise MemberBroken(f"it has {'more' if len(data) > member.size else 'less'} than the {member.size} bytes told")
    if zlib.crc32(data) != member.crc:
        raise MemberBroken("its checksum is not the one that the zip's directory has; it is damaged")
    return data


def _packed(member: MemberBytes, span: Span) -> bytes:
    """The bytes as they lie in the zip, behind their own header (APPNOTE 4.3.7)."""
    likely = min(member.start + LOCAL_HEADER + ROOM + member.packed, member.end)
    found = _whole(span, member.start, likely)
    if len(found) < LOCAL_HEADER or not found.startswith(b"PK\3\4"):
        raise MemberBroken("the zip has no header where its directory says")
    begin = LOCAL_HEADER + sum(struct.unpack_from("<2H", found, 26))
    end = begin + member.packed
    if member.start + end > member.end:
        raise ArchiveOverlaps("it ends in the middle of another file of the zip")
    if end > len(found):
        found += _whole(span, member.start + len(found), member.start + end)
    return found[begin:end]


def _whole(span: Span, start: int, end: int) -> bytes:
    data = span(start, end) if end > start else b""
    if len(data) < end - start:
        raise MemberBroken(f"the archive ends before it does, {end - start - len(data)} bytes are missing")
    return data


def _unpacked(member: MemberBytes, data: bytes) -> bytes:
    try:
        if member.method == "deflated":
            return zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, member.size + 1)
        if member.method == "bzip2":
            return bz2.BZ2Decompressor().decompress(data, member.size + 1)
    except (zlib.error, OSError, EOFError) as error:
        raise MemberBroken(f"it cannot be unpacked, it is damaged: {error}") from error
    return data
