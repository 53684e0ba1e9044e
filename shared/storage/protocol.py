"""What every storage promises, and which keys it takes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, Protocol

from maskmill.shared.errors import InvalidKey

MAX_KEY_BYTES = 1024
MAX_SEGMENT_BYTES = 255
BYTES = "application/octet-stream"


class Storage(Protocol):
    """Keys to bytes. A key holds a whole object or nothing, whatever dies while it is written; threads may share one.

    Every method may raise StorageUnavailable (try again later) and StorageRefused (it will not get better).
    """

    def put(self, key: str, data: bytes, *, content_type: str = BYTES, if_absent: bool = False) -> bool:
        """Store `data`; with `if_absent`, False when the key is already there and nothing is changed.

        False may also mean an own first try that succeeded unheard: read what is there and go on with it. Of writers
        at the same instant exactly one gets True where the store's conditional write is atomic, else at least one.
        """

    def put_file(self, key: str, path: Path, *, content_type: str = BYTES) -> None:
        """Store a file's bytes without holding them all."""

    def get(self, key: str) -> bytes:
        """The whole object; KeyNotFound where there is none."""

    def open(self, key: str) -> AbstractContextManager[BinaryIO]:
        """The object as a buffered reader, forward only; KeyNotFound where there is none."""

    def size(self, key: str) -> int | None:
        """The object's bytes, None where there is none."""

    def list(self, prefix: str = "", start_after: str = "") -> Iterator[str]:
        """The keys that begin with `prefix` and come after `start_after`, in UTF-8 binary order, page by page."""

    def delete(self, key: str) -> None:
        """Remove the object; no matter if there is none."""

    def ping(self) -> None:
        """Return when the storage answers and may be used."""


def check_key(key: str) -> str:
    """`key` if every storage can hold it; InvalidKey for `..`, absolute or empty parts, NUL or too long a name."""
    segments = key.split("/")
    if any(segment in ("", ".", "..") for segment in segments) or "\0" in key:
        raise InvalidKey(f"{key!r} is no storage key: it must be relative, without empty, '.' or '..' parts or NUL")
    try:
        sizes = [len(segment.encode()) for segment in segments]
    except UnicodeEncodeError:
        raise InvalidKey(f"{key!r} is no storage key: it is not valid Unicode") from None
    if max(sizes) > MAX_SEGMENT_BYTES or sum(sizes) + len(sizes) - 1 > MAX_KEY_BYTES:
        raise InvalidKey(f"{key[:80]!r}… is too long: {MAX_SEGMENT_BYTES} bytes a part, {MAX_KEY_BYTES} in all")
    return key
