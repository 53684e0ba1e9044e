"""What every storage promises, and which keys it takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, Protocol

from maskmill.shared.errors import InvalidKey

MAX_KEY_BYTES = 1024
MAX_SEGMENT_BYTES = 255
NO_PARTS = ("", ".", "..")
PARTIAL = ".partial"
BYTES = "application/octet-stream"


class Storage(Protocol):
    """Keys to bytes. A key holds a whole object or nothing, whatever dies while it is written; threads may share one.

    Every method may raise StorageUnavailable (try again later), StorageRefused (nothing gets better until an operator
    mends it), InvalidKey for a key or prefix that `check_key` or `check_prefix` or the store itself refuses, and
    ObjectRefused where the store says by itself that it is this object and no other that it refuses.
    """

    def put(self, key: str, data: bytes, *, content_type: str = BYTES, if_absent: bool = False) -> bool:
        """Store `data`; with `if_absent`, False when the key is already there and nothing is changed.

        What is stored when this returns survives a power cut, also where it is False. False may also mean an own
        first try that succeeded unheard: read what is there and go on with it. Of writers at the same instant exactly
        one gets True where the store's conditional write is atomic (`probe_atomic_create` tells), else at least one.
        """

    def put_file(self, key: str, path: Path, *, content_type: str = BYTES) -> None:
        """Store a file's bytes without holding them all; it survives a power cut too."""

    def get(self, key: str) -> bytes:
        """The whole object; KeyNotFound where there is none."""

    def open(self, key: str, start: int = 0) -> AbstractContextManager[BinaryIO]:
        """The object from byte `start` on as a buffered reader, forward only; KeyNotFound where there is none.

        From its end on, or behind it, there is nothing to read.
        """

    def get_range(self, key: str, start: int, count: int) -> bytes:
        """The object's bytes from `start` on, `count` or as many as there are; KeyNotFound where there is none."""

    def size(self, key: str) -> int | None:
        """The object's bytes, None where there is none."""

    def list(self, prefix: str = "", start_after: str = "", limit: int | None = None) -> Iterator[str]:
        """The keys that begin with `prefix` and come after `start_after`, in UTF-8 binary order, `limit` at most.

        They come page by page, as they are asked for: a page of a bucket is held, or the names of one folder and of
        those above it.
        """

    def link(self, key: str, seconds: int) -> str | None:
        """A URL by which whoever has it gets the object for so many seconds; None where this storage gives none."""

    def delete(self, key: str) -> None:
        """Remove the object; no matter if there is none."""

    def delete_all(self, keys: Iterable[str]) -> None:
        """Remove the objects, in as few requests as can be; no matter which are there.

        Where it raises, some of them may be gone; what is left, a second call removes.
        """

    def ping(self, *, fresh: bool = False) -> None:
        """Return when all that Maskmill needs may be done here: an object was listed, put, got and deleted.

        It is listed each time; the rest is done once a minute at most, or, if `fresh`, after this call began.
        """


def check_key(key: str, room: int = MAX_KEY_BYTES) -> str:
    """`key` if every storage can hold it in `room` bytes, else InvalidKey.

    No key has empty, `.` or `..` parts, NUL, or text that is not valid Unicode, nor lies where a folder keeps what is
    half written.
    """
    check_prefix(key, room)
    if key.rpartition("/")[2] in NO_PARTS or key.partition("/")[0] == PARTIAL:
        raise _invalid(key)
    return key


def check_prefix(prefix: str, room: int = MAX_KEY_BYTES) -> str:
    """`prefix` if a key that `check_key` takes can begin with it, else InvalidKey."""
    *folders, beginning = prefix.split("/")
    if "\0" in prefix or any(folder in NO_PARTS for folder in folders):
        raise _invalid(prefix)
    # Some stores take a backslash for a slash.
    if "\\" in prefix and ".." in prefix.replace("\\", "/").split("/"):
        raise _invalid(prefix)
    try:
        sizes = [len(part.encode()) for part in (*folders, beginning)]
    except UnicodeEncodeError:
        raise InvalidKey(f"{prefix!r} is no storage key: it is not valid Unicode") from None
    if sum(sizes) + len(folders) > room or max(sizes) > MAX_SEGMENT_BYTES:
        raise InvalidKey(f"{prefix[:80]!r}… is too long: at most {MAX_SEGMENT_BYTES} bytes a part and {room} in all")
    return prefix


def _invalid(key: str) -> InvalidKey:
    return InvalidKey(f"{key!r} is no storage key: it must be relative, without empty, '.' or '..' parts or NUL")
