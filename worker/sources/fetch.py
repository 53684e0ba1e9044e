"""Fetch the bytes of an Item from where they lie: storage, a URL, a bucket or a local file."""

from __future__ import annotations

import os
import stat
import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from maskmill.shared.buckets import ObjectUrl
from maskmill.shared.egress.http import Egress
from maskmill.shared.errors import InputNotFound, KeyNotFound, TooManyBytes
from maskmill.shared.formats import HEAD_BYTES, PAGED, sniff
from maskmill.shared.jobs.sources import FileBytes, Location, ObjectBytes, StoredBytes, UrlBytes
from maskmill.shared.roots import allowed_path, following
from maskmill.shared.settings import Settings
from maskmill.shared.storage import Storage, for_one_object
from maskmill.shared.storage.bucket_reader import BucketReader, BucketReaders, Pin


class Fetcher:
    """Reads inputs for many threads at once. Threads that ask for the same bytes at the same time share one reading;
    files with pages are kept for the threads that come later, as long as all that is kept fits in `max_input_bytes`.
    """

    def __init__(self, settings: Settings, storage: Storage, egress: Egress) -> None:
        self.settings = settings
        self._storage = storage
        self._egress = egress
        self._buckets = BucketReaders(settings)
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, bytes] = OrderedDict()
        self._readings: dict[Hashable, Future[bytes]] = {}

    def fetch(self, location: Location) -> bytes:
        """All the bytes. Raises InputNotFound, TooManyBytes before reading, PathRefused outside the local roots,
        and what Storage and Egress raise.
        """
        key = self._key(location)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            others = self._readings.get(key)
            mine: Future[bytes] = others or Future()
            self._readings[key] = mine
        return others.result() if others else self._read_for_all(key, location, mine)

    def head(self, location: Location, count: int) -> bytes:
        """The first `count` bytes, or all where there are fewer; raises what `fetch` does, but no TooManyBytes."""
        if isinstance(location, UrlBytes):
            return self._egress.head_bytes(location.url, count)
        if isinstance(location, ObjectBytes):
            return self._reader(location).head(location.key, _pin(location), count)
        with self._opened(location) as file:
            return file.read(count)

    def _reader(self, location: ObjectBytes) -> BucketReader:
        return self._buckets.reader(ObjectUrl(location.bucket, location.key))

    def _key(self, location: Location) -> Hashable:
        """What the same bytes have in common: of a file also its last change."""
        if not isinstance(location, FileBytes):
            return location
        with following(location.path):
            about = self._allowed(location.path).stat()
        return location, about.st_ino, about.st_size, about.st_mtime_ns

    def _read_for_all(self, key: Hashable, location: Location, reading: Future[bytes]) -> bytes:
        try:
            data = self._read(location)
        except BaseException as error:
            with self._lock:
                del self._readings[key]
            reading.set_exception(error)
            raise
        with self._lock:
            del self._readings[key]
            self._keep(key, location, data)
        reading.set_result(data)
        return data

    def _keep(self, key: Hashable, location: Location, data: bytes) -> None:
        """A URL may give other bytes tomorrow, and a picture without pages is not asked for again: neither is kept."""
        if isinstance(location, UrlBytes) or sniff(data[:HEAD_BYTES]) not in PAGED:
            return
        self._kept[key] = data
        while sum(map(len, self._kept.values())) > self.settings.max_input_bytes:
            self._kept.popitem(last=False)

    def _read(self, location: Location) -> bytes:
        if isinstance(location, UrlBytes):
            return self._egress.fetch(location.url)
        if isinstance(location, FileBytes):
            with self._opened(location) as file:
                self._check_size(location.path, os.fstat(file.fileno()).st_size)
                return file.read()
        if isinstance(location, ObjectBytes):
            self._check_size(location.url, location.size or 0)
            return self._reader(location).get(location.key, _pin(location), self.settings.max_input_bytes)
        size = for_one_object(self._storage, self._storage.size, location.key)
        if size is None:
            raise _gone(location)
        self._check_size(location.key, size)
        try:
            return for_one_object(self._storage, self._storage.get, location.key)
        except KeyNotFound:
            raise _gone(location) from None

    @contextmanager
    def _opened(self, location: StoredBytes | FileBytes) -> Iterator[BinaryIO]:
        if isinstance(location, StoredBytes):
            try:
                held, stored = for_one_object(self._storage, self._open_stored, location.key)
            except KeyNotFound:
                raise _gone(location) from None
            with held:
                yield stored
            return
        with following(location.path), _open_regular(self._allowed(location.path), location.path) as file:
            yield file

    def _open_stored(self, key: str) -> tuple[ExitStack, BinaryIO]:
        with ExitStack() as opened:
            stored = opened.enter_context(self._storage.open(key))
            return opened.pop_all(), stored

    def _allowed(self, path: str) -> Path:
        return allowed_path(path, self.settings.local_roots)

    def _check_size(self, where: str, size: int) -> None:
        limit = self.settings.max_input_bytes
        if size > limit:
            raise TooManyBytes(f"{where} has {size} bytes, and {limit} are the most allowed (MASKMILL_MAX_INPUT_BYTES)")


def _pin(location: ObjectBytes) -> Pin:
    return Pin(location.etag, location.version)


def _open_regular(path: Path, shown: str) -> BinaryIO:
    """Opened without waiting, as a named pipe would make us, and without following a link put there meanwhile."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InputNotFound(f"{shown} is no regular file")
    return os.fdopen(descriptor, "rb")


def _gone(location: StoredBytes) -> InputNotFound:
    return InputNotFound(f"nothing is stored under {location.key} any more; submit the input again")
