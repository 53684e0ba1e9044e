"""A storage whose calls wait while it is away, so that what stands on it need not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from maskmill.shared.storage import Storage
from maskmill.shared.storage.protocol import BYTES
from maskmill.worker.retry import patiently

KEYS_AT_ONCE = 1000


@dataclass(frozen=True)
class PatientStorage:
    """Another storage, asked again until it answers; what it then says, such as KeyNotFound, is passed on."""

    storage: Storage

    def put(self, key: str, data: bytes, *, content_type: str = BYTES, if_absent: bool = False) -> bool:
        return patiently(self.storage.put, key, data, content_type=content_type, if_absent=if_absent)

    def put_file(self, key: str, path: Path, *, content_type: str = BYTES) -> None:
        patiently(self.storage.put_file, key, path, content_type=content_type)

    def get(self, key: str) -> bytes:
        return patiently(self.storage.get, key)

    def open(self, key: str, start: int = 0) -> AbstractContextManager[BinaryIO]:
        return self.storage.open(key, start)

    def get_range(self, key: str, start: int, count: int) -> bytes:
        return patiently(self.storage.get_range, key, start, count)

    def size(self, key: str) -> int | None:
        return patiently(self.storage.size, key)

    def list(self, prefix: str = "", start_after: str = "", limit: int | None = None) -> Iterator[str]:
        left = limit
        while left is None or left > 0:
            wanted = KEYS_AT_ONCE if left is None else min(left, KEYS_AT_ONCE)
            found = patiently(self._next_keys, prefix, start_after, wanted)
            yield from found
            if len(found) < wanted:
                return
            start_after, left = found[-1], None if left is None else left - len(found)

    def link(self, key: str, seconds: int) -> str | None:
        return self.storage.link(key, seconds)

    def delete(self, key: str) -> None:
        patiently(self.storage.delete, key)

    def delete_all(self, keys: Iterable[str]) -> None:
        patiently(self.storage.delete_all, tuple(keys))

    def _next_keys(self, prefix: str, start_after: str, limit: int) -> Sequence[str]:
        return tuple(self.storage.list(prefix, start_after, limit))

    def ping(self, *, fresh: bool = False) -> None:
        self.storage.ping(fresh=fresh)
