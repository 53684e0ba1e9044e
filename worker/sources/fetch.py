"""Fetch the bytes of an Item from where they lie: storage, a URL, a bucket or a local file."""

from __future__ import annotations

import os
import stat
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple

from maskmill.shared.buckets import ObjectUrl
from maskmill.shared.egress.http import Egress
from maskmill.shared.errors import InputNotFound, KeyNotFound, ObjectChanged, TooManyBytes
from maskmill.shared.formats import HEAD_BYTES, PAGED, sniff
from maskmill.shared.jobs.sources import (
    FileBytes,
    Location,
    MemberBytes,
    ObjectBytes,
    Seekable,
    StoredBytes,
    UrlBytes,
)
from maskmill.shared.roots import allowed_path, following
from maskmill.shared.settings import Settings
from maskmill.shared.storage import Storage, for_one_object
from maskmill.shared.storage.bucket_reader import BucketReader, BucketReaders, Pin
from maskmill.worker.sources.archive import Archive
from maskmill.worker.sources.member_bytes import member_bytes

# Of an archive that lies elsewhere so much is read at once, for a member and its neighbours.
BLOCK = 1 << 20


class _Block(NamedTuple):
    """Bytes of an archive that are read together."""

    archive: Seekable
    number: int


class Fetcher:
    """Reads inputs for many threads at once. Threads that ask for the same bytes at the same time share one reading;
    files with pages, and what lies beside a member of an archive, are kept for the threads that come later, as long as
    all that is kept fits in `max_input_bytes`.
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
        return self._shared(self._key(location), partial(self._read, location), partial(_has_pages, location))

    def _shared(self, key: Hashable, read: Callable[[], bytes], is_kept: Callable[[bytes], bool]) -> bytes:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            others = self._readings.get(key)
            mine: Future[bytes] = others or Future()
            self._readings[key] = mine
        return others.result() if others else self._read_for_all(key, read, is_kept, mine)

    def head(self, location: Location, count: int) -> bytes:
        """The first `count` bytes, or all where there are fewer; raises what `fetch` does, but no TooManyBytes."""
        if isinstance(location, MemberBytes):
            return self.fetch(location)[:count]
        if isinstance(location, UrlBytes):
            return self._egress.head_bytes(location.url, count)
        if isinstance(location, ObjectBytes):
            return self._reader(location).head(location.key, _pin(location), count)
        with self._opened(location) as file:
            return file.read(count)

    def download(self, location: UrlBytes, path: Path) -> None:
        """Write an archive behind a URL to `path`; raises what Egress raises, UrlTooLarge past `max_archive_bytes`."""
        self._egress.download(location.url, path, self.settings.max_archive_bytes)

    def archive(self, location: Seekable) -> Archive:
        """The archive that lies there now; raises what `fetch` does."""
        if isinstance(location, FileBytes):
            with self._opened(location) as file:
                about = os.fstat(file.fileno())
            changed = about.st_mtime_ns
            return Archive(location, about.st_size, changed, partial(self._file_range, location, changed))
        if isinstance(location, ObjectBytes):
            if location.size is None or location.etag is None:
                size, etag = self._reader(location).look(location.key, _pin(location))
                location = location.model_copy(update={"size": size, "etag": etag})
            return Archive(location, location.size or 0, None, partial(self._range, location))
        size_stored = for_one_object(self._storage, self._storage.size, location.key)
        if size_stored is None:
            raise _gone(location)
        return Archive(location, size_stored, None, partial(self._range, location))

    def _range(self, location: StoredBytes | ObjectBytes, start: int, count: int) -> bytes:
        if isinstance(location, ObjectBytes):
            return self._reader(location).range(location.key, _pin(location), start, count)
        try:
            return for_one_object(self._storage, self._storage.get_range, location.key, start, count)
        except KeyNotFound:
            raise _gone(location) from None

    def _file_range(self, location: FileBytes, changed: int | None, start: int, count: int) -> bytes:
        with self._opened(location) as file:
            if os.fstat(file.fileno()).st_mtime_ns != changed:
                raise ObjectChanged(f"{location.path} has changed since its files were listed; submit it again")
            return os.pread(file.fileno(), count, start)

    def _span(self, member: MemberBytes, start: int, end: int) -> bytes:
        """The bytes of a member's archive from `start` to before `end`."""
        if isinstance(member.archive, FileBytes):
            return self._file_range(member.archive, member.changed, start, end - start)
        if end - start > BLOCK:
            return self._range(member.archive, start, end - start)
        first, last = start // BLOCK, (end - 1) // BLOCK
        both = b"".join(self._block(member.archive, number) for number in range(first, last + 1))
        return both[start - first * BLOCK : end - first * BLOCK]

    def _block(self, archive: StoredBytes | ObjectBytes, number: int) -> bytes:
        read = partial(self._range, archive, number * BLOCK, BLOCK)
        return self._shared(_Block(archive, number), read, lambda _data: True)

    def _reader(self, location: ObjectBytes) -> BucketReader:
        return self._buckets.reader(ObjectUrl(location.bucket, location.key))

    def _key(self, location: Location) -> Hashable:
        """What the same bytes have in common: of a file also its last change."""
        if not isinstance(location, FileBytes):
            return location
        with following(location.path):
            about = self._allowed(location.path).stat()
        return location, about.st_ino, about.st_size, about.st_mtime_ns

    def _read_for_all(
        self, key: Hashable, read: Callable[[], bytes], is_kept: Callable[[bytes], bool], reading: Future[bytes]
    ) -> bytes:
        try:
            data = read()
        except BaseException as error:
            with self._lock:
                del self._readings[key]
            reading.set_exception(error)
            raise
        with self._lock:
            del self._readings[key]
            if is_kept(data):
                self._keep(key, data)
        reading.set_result(data)
        return data

    def _keep(self, key: Hashable, data: bytes) -> None:
        self._kept[key] = data
        while sum(map(len, self._kept.values())) > self.settings.max_input_bytes:
            self._kept.popitem(last=False)

    def _read(self, location: Location) -> bytes:
        if isinstance(location, UrlBytes):
            return self._egress.fetch(location.url)
        if isinstance(location, MemberBytes):
            return member_bytes(location, partial(self._span, location))
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


def _has_pages(location: Location, data: bytes) -> bool:
    """Whether it is asked for again: what may be other bytes tomorrow is not kept, and a picture has no pages."""
    may_change = isinstance(location, UrlBytes) or (isinstance(location, ObjectBytes) and not location.etag)
    return not may_change and sniff(data[:HEAD_BYTES]) in PAGED


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
