"""Several objects stored at once, where one thread makes them one after the other."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

from maskmill.shared.storage import Storage


class Stores:
    """Puts on their way, of `most` bytes together or of one object; a context manager, at whose end all are stored."""

    def __init__(self, storage: Storage, threads: int, most: int) -> None:
        self._storage, self._threads, self._most = storage, threads, most
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="store")
        self._under_way: deque[tuple[int, Future[bool]]] = deque()

    def put(self, key: str, data: bytes) -> None:
        """Store it soon; waits while too much is under way, and raises what an earlier put raised."""
        self._wait(self._threads - 1, self._most - len(data))
        self._under_way.append((len(data), self._pool.submit(self._storage.put, key, data)))

    def _wait(self, count: int, size: int) -> None:
        while self._under_way and (len(self._under_way) > count or sum(one for one, _ in self._under_way) > size):
            self._under_way.popleft()[1].result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._wait(0, 0)
        finally:
            self._pool.shutdown(cancel_futures=True)
