"""A storage that notes what is asked of it, and can break off in the middle of a request."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, TypeVar

from maskmill.shared.errors import StorageUnavailable
from maskmill.shared.storage import Storage
from maskmill.shared.storage.protocol import BYTES

T = TypeVar("T")


class WatchedStorage:
    """`calls` are (method, key) pairs; what `fails` names is answered with StorageUnavailable, before or after."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.calls: list[tuple[str, str]] = []
        self.fails_before: Callable[[str, str], bool] = lambda _method, _key: False
        self.fails_after: Callable[[str, str], bool] = lambda _method, _key: False

    def read(self) -> list[str]:
        """The keys that were read, in order."""
        return [key for method, key in self.calls if method == "get"]

    def put(self, key: str, data: bytes, *, content_type: str = BYTES, if_absent: bool = False) -> bool:
        return self._do(
            "put", key, lambda: self._storage.put(key, data, content_type=content_type, if_absent=if_absent)
        )

    def put_file(self, key: str, path: Path, *, content_type: str = BYTES) -> None:
        self._do("put_file", key, lambda: self._storage.put_file(key, path, content_type=content_type))

    def get(self, key: str) -> bytes:
        return self._do("get", key, lambda: self._storage.get(key))

    def open(self, key: str, start: int = 0) -> AbstractContextManager[BinaryIO]:
        return self._do("open", key, lambda: self._storage.open(key, start))

    def get_range(self, key: str, start: int, count: int) -> bytes:
        return self._do("get_range", key, lambda: self._storage.get_range(key, start, count))

    def size(self, key: str) -> int | None:
        return self._do("size", key, lambda: self._storage.size(key))

    def list(self, prefix: str = "", start_after: str = "") -> Iterator[str]:
        return self._do("list", prefix, lambda: self._storage.list(prefix, start_after))

    def link(self, key: str, seconds: int) -> str | None:
        return self._do("link", key, lambda: self._storage.link(key, seconds))

    def delete(self, key: str) -> None:
        self._do("delete", key, lambda: self._storage.delete(key))

    def delete_all(self, keys: Iterable[str]) -> None:
        for key in keys:
            self.delete(key)

    def ping(self) -> None:
        self._do("ping", "", self._storage.ping)

    def _do(self, method: str, key: str, action: Callable[[], T]) -> T:
        self.calls.append((method, key))
        if self.fails_before(method, key):
            raise StorageUnavailable("the storage went away")
        done = action()
        if self.fails_after(method, key):
            raise StorageUnavailable("the storage went away")
        return done
