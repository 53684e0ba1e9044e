"""The headers of a tar, one after the other (POSIX.1-2017, pax; ustar, GNU's and v7's are read as well).

`tarfile` reads them; it keeps every header it has read, takes a damaged one for the end, reads headers as large as they
say, may follow one back to where it has been (CVE-2025-8194), and takes time by the square of the digits in one
(CVE-2024-6232). None of that happens here.
"""

from __future__ import annotations

import contextlib
import gzip
import re
import tarfile
import zlib
from collections.abc import Iterator
from typing import Any, Protocol, Self

from maskmill.shared.errors import ArchiveBomb, ArchiveBroken, ArchiveTooLarge, ArchiveTruncated
from maskmill.worker.sources.range_reader import MOST_AT_ONCE, RangeReader, check_count

# Of what is packed better nothing is a picture; little data may be.
MOST_RATIO, FREE_BYTES = 200, 10_000_000
MOST_GLOBALS = 1000
# No name has a part as long as that.
LONG_NUMBER = re.compile(rb"\d{300}")


class Seeking(Protocol):
    """What `tarfile` needs of a file."""

    def tell(self) -> int: ...
    def seek(self, offset: int, whence: int = 0) -> int: ...
    def read(self, count: int) -> bytes: ...


def tar_headers(file: Seeking) -> Iterator[tarfile.TarInfo]:
    """The headers in their order; nothing is held of those before.

    Raises ArchiveTruncated where the tar ends before the last file does, and ArchiveBroken for a damaged header.
    """
    with damage():
        tar: Any = tarfile.TarFile.open(
            fileobj=_as_file(_Checked(file)), mode="r:", tarinfo=_Header, encoding="utf-8", errors="surrogateescape"
        )
        found, at = tar.next(), 0
        while found is not None:
            if tar.offset <= at or found.size < 0:
                raise ArchiveBroken(f"the tar is damaged at {at}")
            at = tar.offset
            yield found
            tar.members.clear()
            if len(tar.pax_headers) > MOST_GLOBALS:
                raise ArchiveBroken(f"the tar has more than {MOST_GLOBALS} global headers")
            found = tar.next()


class _Checked:
    """A tar, of which no header is handed on that takes long to read."""

    def __init__(self, file: Seeking) -> None:
        self._file = file
        self.tell, self.seek = file.tell, file.seek

    def read(self, count: int) -> bytes:
        data = self._file.read(count)
        if count > tarfile.BLOCKSIZE and LONG_NUMBER.search(data):
            raise ArchiveBroken("a header of the tar holds a number of more than 300 digits")
        return data


class Gunzipped:
    """What a gzip holds, read forward only; its checksum is that of all, and so is known at the end alone.

    Raises ArchiveTooLarge past `most` bytes, and ArchiveBomb where they are MOST_RATIO times what was read of the gzip.
    """

    def __init__(self, packed: RangeReader, most: int) -> None:
        self._packed, self._most, self._at = packed, most, 0
        self._gzip = gzip.GzipFile(fileobj=_as_file(packed), mode="rb")

    def tell(self) -> int:
        """How many bytes were read."""
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        """Read up to there, and forget it."""
        if whence != 0 or offset < self._at:
            raise ArchiveBroken("a header of the tar leads back to what was read before")
        while self._at < offset and self.read(min(offset - self._at, MOST_AT_ONCE)):
            pass
        return self._at

    def read(self, count: int) -> bytes:
        """The next `count` bytes, or as many as there are."""
        check_count(count)
        data = self._gzip.read(count)
        self._at += len(data)
        if self._at > self._most:
            raise ArchiveTooLarge(f"it holds more than {self._most} bytes; MASKMILL_MAX_ARCHIVE_BYTES sets the limit")
        if self._at > FREE_BYTES and self._at > MOST_RATIO * self._packed.tell():
            raise ArchiveBomb(f"its first {self._packed.tell()} bytes unpack to {self._at}")
        return data


class _Header(tarfile.TarInfo):
    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """As `tarfile` does it, but only zeros and the file's end are taken for the tar's end."""
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if not any(buf):
                raise
            if len(buf) < tarfile.BLOCKSIZE:
                raise ArchiveTruncated("the tar ends in the middle of a header; send the whole file") from error
            raise ArchiveBroken(f"the tar is damaged, or is none: {error}") from error


@contextlib.contextmanager
def damage() -> Iterator[None]:
    """What `tarfile` and `gzip` make of damaged bytes, as ArchiveTruncated and ArchiveBroken."""
    try:
        yield
    except EOFError as error:
        raise ArchiveTruncated("the gzip ends before its data does; send the whole file") from error
    except tarfile.ReadError as error:
        kind = ArchiveTruncated if "unexpected end" in str(error) else ArchiveBroken
        raise kind(f"the tar cannot be read: {error}") from error
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, ValueError, OverflowError, RecursionError) as error:
        raise ArchiveBroken(f"the archive is damaged: {error}") from error


def _as_file(file: Seeking) -> Any:
    """The stubs of `tarfile` and `gzip` ask for methods that reading never calls."""
    return file
