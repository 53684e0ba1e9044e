"""A file that is read by ranges, wherever it lies: few bytes where it is jumped about in, many where it is read on."""

from __future__ import annotations

from collections.abc import Callable

from maskmill.shared.errors import ArchiveBroken, ArchiveTruncated

FIRST_RANGE, LARGEST_RANGE = 1 << 16, 8 << 20
# To read on over so many bytes costs less than to ask anew.
NEAR = 1 << 20
# What is read at once is a header, a piece, or the end of a zip with its comment; who asks for more is not honest.
MOST_AT_ONCE = FIRST_RANGE + 1024

ReadRange = Callable[[int, int], bytes]
"""From a place on so many bytes, or as many as there are."""


class RangeReader:
    """Reads and seeks as an open file does, for one thread; a read gives all it asks for, but at the file's end.

    It holds one range of LARGEST_RANGE at the most. Raises ArchiveBroken for more than MOST_AT_ONCE bytes at once,
    ArchiveTruncated where the file is shorter than its `size`, and what `read_range` raises.
    """

    def __init__(self, read_range: ReadRange, size: int) -> None:
        self.size = size
        self._read_range = read_range
        self._at = self._begin = 0
        self._held = b""
        self._ahead = FIRST_RANGE

    def tell(self) -> int:
        """Where the next read begins."""
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go on at that place, from the beginning, from here (1) or from the end (2)."""
        self._at = max(offset + (0, self._at, self.size)[whence], 0)
        return self._at

    def read(self, count: int) -> bytes:
        """The next `count` bytes, or as many as there are."""
        check_count(count)
        left = self.size - self._at
        count = min(count, left)
        if count <= 0:
            return b""
        start = self._at - self._begin
        if not 0 <= start <= len(self._held) - count:
            is_near = 0 <= start <= len(self._held) + NEAR
            self._ahead = min(2 * self._ahead, LARGEST_RANGE) if is_near else FIRST_RANGE
            self._begin, start = self._at, 0
            self._held = self._read_range(self._at, min(max(count, self._ahead), left))
        data = self._held[start : start + count]
        if len(data) < count:
            raise ArchiveTruncated(f"the archive had {self.size} bytes, and has no more from {self._begin} on")
        self._at += count
        return data


def check_count(count: int) -> None:
    """Raise ArchiveBroken where a header asks for so many bytes that it cannot be honest."""
    if not 0 <= count <= MOST_AT_ONCE:
        raise ArchiveBroken(f"a header of the archive is said to have {count} bytes")
