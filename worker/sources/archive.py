"""What an archive holds, file by file: where each lies, or why it cannot be read. Nothing is unpacked to the disk."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

from maskmill.shared.errors import (
    ArchiveBomb,
    ArchiveTooLarge,
    ArchiveTruncated,
    InputError,
    MemberEncrypted,
    MemberUnsupported,
    TooManyBytes,
)
from maskmill.shared.jobs.sources import MemberBytes, Seekable
from maskmill.shared.settings import Settings
from maskmill.worker.sources.range_reader import MOST_AT_ONCE, RangeReader, ReadRange
from maskmill.worker.sources.tar_headers import FREE_BYTES, MOST_RATIO, Gunzipped, damage, tar_headers
from maskmill.worker.sources.zip_directory import ENCRYPTED, MASKED, PATCHED, ZipEntry, zip_entries

KINDS = {".zip": "zip", ".tar": "tar", ".tgz": "gzip", ".tar.gz": "gzip"}
METHODS: dict[int, Literal["stored", "deflated", "bzip2"]] = {0: "stored", 8: "deflated", 12: "bzip2"}
KNOWN_METHODS = {1: "shrunk", 6: "imploded", 9: "Deflate64", 14: "LZMA", 93: "Zstandard", 95: "XZ", 98: "PPMd"}


@dataclass(frozen=True)
class Archive:
    """An archive that can be read from anywhere on: `size` in bytes, `changed` of a file, in nanoseconds.

    `location` says which one is meant for good: of an object its ETag.
    """

    location: Seekable
    size: int
    changed: int | None
    read_range: ReadRange


@dataclass(frozen=True)
class Found:
    """A file of an archive: its bytes lie at `location`, or are to be had by `read` before the next is asked for."""

    name: str
    location: MemberBytes | None = None
    read: Callable[[], bytes] | None = None
    problem: InputError | None = None
    is_special: bool = False


def files_of(archive: Archive, kind: str, settings: Settings) -> Iterator[Found]:
    """The files of a "zip", "tar" or "gzip" in its own order, folders left off.

    Raises one of the errors of archives where it cannot be read to its end, or is larger than the settings allow.
    """
    if archive.size > settings.max_archive_bytes:
        raise _too_large(settings)
    reader = RangeReader(archive.read_range, archive.size)
    if kind == "zip":
        return _of_zip(archive, reader, settings)
    return _of_tar(archive, reader, settings) if kind == "tar" else _of_gzip(reader, settings)


def _of_zip(archive: Archive, reader: RangeReader, settings: Settings) -> Iterator[Found]:
    total = 0
    for entry in zip_entries(reader, settings.max_members):
        total += entry.size
        if total > settings.max_archive_bytes:
            raise _too_large(settings)
        if entry.is_folder:
            continue
        location = MemberBytes(
            archive=archive.location,
            start=entry.offset,
            end=entry.end,
            method=METHODS.get(entry.method, "stored"),
            packed=entry.packed,
            size=entry.size,
            crc=entry.crc,
            changed=archive.changed,
        )
        yield Found(entry.name, location, problem=_problem(entry, settings), is_special=entry.is_link)


def _problem(entry: ZipEntry, settings: Settings) -> InputError | None:
    if entry.flags & (ENCRYPTED | MASKED):
        return MemberEncrypted("it is encrypted in the zip, and no passwords of zips are asked for; unpack it first")
    if entry.method not in METHODS or entry.flags & PATCHED:
        method = KNOWN_METHODS.get(entry.method, f"method {entry.method}")
        return MemberUnsupported(f"it is packed by {method}; what is stored, deflated or packed by bzip2 is read")
    if (larger := max(entry.size, entry.packed)) > settings.max_input_bytes:
        return _too_many(larger, settings)
    if entry.size > max(FREE_BYTES, MOST_RATIO * entry.packed):
        return ArchiveBomb(f"its {entry.packed} bytes in the zip unpack to {entry.size}")
    return None


def _of_tar(archive: Archive, reader: RangeReader, settings: Settings) -> Iterator[Found]:
    for header in _counted(tar_headers(reader), settings):
        location = MemberBytes(
            archive=archive.location,
            start=header.offset_data,
            end=header.offset_data + header.size,
            packed=header.size,
            size=header.size,
            changed=archive.changed,
        )
        yield _found(header, settings, location=location)


def _of_gzip(reader: RangeReader, settings: Settings) -> Iterator[Found]:
    file = Gunzipped(reader, settings.max_archive_bytes)
    for header in _counted(tar_headers(file), settings):
        yield _found(header, settings, read=partial(_read, file, header))
    with damage():
        # At its end a gzip has the checksum of all that was read.
        while file.read(MOST_AT_ONCE):
            pass


def _counted(headers: Iterator[tarfile.TarInfo], settings: Settings) -> Iterator[tarfile.TarInfo]:
    """The headers without those of folders."""
    total = 0
    for number, header in enumerate(headers):
        total += header.size
        if number == settings.max_members or total > settings.max_archive_bytes:
            raise _too_large(settings)
        if not header.isdir():
            yield header


def _found(
    header: tarfile.TarInfo,
    settings: Settings,
    location: MemberBytes | None = None,
    read: Callable[[], bytes] | None = None,
) -> Found:
    problem: InputError | None = None
    if header.sparse is not None:
        problem = MemberUnsupported("it is a sparse file of the tar, whose bytes do not lie together")
    elif header.size > settings.max_input_bytes:
        problem = _too_many(header.size, settings)
    return Found(header.name, location, read, problem, is_special=not header.isreg())


def _read(file: Gunzipped, header: tarfile.TarInfo) -> bytes:
    """All bytes of the file whose header was read last."""
    data = io.BytesIO()
    with damage():
        file.seek(header.offset_data)
        while piece := file.read(min(MOST_AT_ONCE, header.size - data.tell())):
            data.write(piece)
    if data.tell() < header.size:
        raise ArchiveTruncated("the tar ends in the middle of a file; send the whole one")
    return data.getvalue()


def _too_large(settings: Settings) -> ArchiveTooLarge:
    return ArchiveTooLarge(
        f"the archive has more than {settings.max_members} files and folders (MASKMILL_MAX_MEMBERS), or more than "
        f"{settings.max_archive_bytes} bytes, unpacked or not (MASKMILL_MAX_ARCHIVE_BYTES)"
    )


def _too_many(size: int, settings: Settings) -> TooManyBytes:
    most = settings.max_input_bytes
    return TooManyBytes(f"it has {size} bytes, and {most} are the most allowed (MASKMILL_MAX_INPUT_BYTES)")
