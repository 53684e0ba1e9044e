"""A storage whose calls wait while it is away, so that what stands on it need not."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
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

    def open(self, key: str) -> AbstractContextManager[BinaryIO]:
        return self.storage.open(key)

    def size(self, key: str) -> int | None:
        return patiently(self.storage.size, key)

    def list(self, prefix: str = "", start_after: str = "") -> Iterator[str]:
        while True:
            found = patiently(self._next_keys, prefix, start_after)
            yield from found
            if len(found) < KEYS_AT_ONCE:
                return
            start_after = found[-1]

    def delete(self, key: str) -> None:
        patiently(self.storage.delete, key)

    def _next_keys(self, prefix: str, start_after: str) -> Sequence[str]:
        return tuple(itertools.islice(self.storage.list(prefix, start_after), KEYS_AT_ONCE))

    def ping(self) -> None:
        self.storage.ping()
