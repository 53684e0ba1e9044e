"""A storage as far away as a bucket: a folder behind a fixed time a call, and a count of the calls."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from maskmill.shared.storage.local import LocalStorage
from maskmill.shared.storage.protocol import BYTES

PAGE = 1000


class SlowStorage:
    """Every call takes `seconds` at least, listings a call for each page of PAGE keys; `calls` by kind."""

    def __init__(self, root: Path, seconds: float = 0) -> None:
        self._under = LocalStorage(root)
        self._seconds = seconds
        self._lock = threading.Lock()
        self.calls: Counter[str] = Counter()

    def put(self, key: str, data: bytes, *, content_type: str = BYTES, if_absent: bool = False) -> bool:
        with self._call("put"):
            return self._under.put(key, data, content_type=content_type, if_absent=if_absent)

    def put_file(self, key: str, path: Path, *, content_type: str = BYTES) -> None:
        with self._call("put"):
            self._under.put_file(key, path, content_type=content_type)

    def get(self, key: str) -> bytes:
        with self._call("get"):
            return self._under.get(key)

    @contextlib.contextmanager
    def open(self, key: str, start: int = 0) -> Iterator[BinaryIO]:
        with contextlib.ExitStack() as stack:
            with self._call("open"):
                file = stack.enter_context(self._under.open(key, start))
            yield file

    def get_range(self, key: str, start: int, count: int) -> bytes:
        with self._call("get"):
            return self._under.get_range(key, start, count)

    def size(self, key: str) -> int | None:
        with self._call("size"):
            return self._under.size(key)

    def list(self, prefix: str = "", start_after: str = "", limit: int | None = None) -> Iterator[str]:
        found = self._under.list(prefix, start_after, limit)
        while True:
            # The page that ends a listing is an empty one, as S3Storage asks for.
            with self._call("list"):
                page = [*itertools.islice(found, PAGE)]
            if not page:
                return
            yield from page

    def link(self, key: str, seconds: int) -> str | None:
        return self._under.link(key, seconds)

    def delete(self, key: str) -> None:
        with self._call("delete"):
            self._under.delete(key)

    def delete_all(self, keys: Iterable[str]) -> None:
        asked = iter(keys)
        while batch := [*itertools.islice(asked, PAGE)]:
            with self._call("delete"):
                self._under.delete_all(batch)

    def ping(self, *, fresh: bool = False) -> None:
        with self._call("ping"):
            self._under.ping(fresh=fresh)

    @contextlib.contextmanager
    def _call(self, kind: str) -> Iterator[None]:
        with self._lock:
            self.calls[kind] += 1
        over = time.monotonic() + self._seconds
        try:
            yield
        finally:
            if self._seconds:
                time.sleep(max(over - time.monotonic(), 0))
