"""Where the bytes of a manifest lie: a stored one, an object of a bucket, a copy of what a URL gave; plain or gzip."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

from maskmill.shared.buckets import ObjectUrl
from maskmill.shared.egress.http import Egress
from maskmill.shared.errors import InputNotFound, KeyNotFound, ManifestInvalid
from maskmill.shared.jobs import keys
from maskmill.shared.jobs.sources import ObjectBytes, StoredBytes
from maskmill.shared.settings import Settings
from maskmill.shared.storage import Storage
from maskmill.shared.storage.bucket_reader import BucketReaders, Opened, Pin
from maskmill.worker.retry import patiently

GZIP = b"\x1f\x8b"
MOST_RATIO, RATIO_FROM = 200, 10 << 20
"""How many bytes one packed byte may become, from that many bytes on: a bomb becomes a thousand."""
PIECE_BYTES = 1 << 16

Lying = StoredBytes | ObjectBytes


class Head(NamedTuple):
    """The first bytes of a manifest, unpacked, and what they tell of the file; `pinned` is where just these lie."""

    data: bytes
    is_packed: bool
    pinned: Lying


@dataclass(frozen=True)
class ManifestFiles:
    """Reads the files of manifests; `alive` is called with each piece.

    Raises what Storage and BucketReader raise, BucketRefused where a bucket may not be read, InputNotFound for what is
    not stored any more, ManifestInvalid for broken gzip data, and ObjectChanged where it is not the pinned object.
    """

    settings: Settings
    storage: Storage
    buckets: BucketReaders
    alive: Callable[[], object]

    def head(self, location: Lying, count: int) -> Head:
        """The first `count` bytes, or all where there are fewer."""
        with self._opened(location, 0) as (etag, body):
            magic = body.read(len(GZIP))
            is_packed = magic == GZIP
            again = _Again(magic, body.read)
            stream = _unpacked(again.read, self.alive) if is_packed else _buffered(_Flow(again.read, self.alive))
            data = _first(stream, count)
        pinned = location.model_copy(update={"etag": etag}) if isinstance(location, ObjectBytes) else location
        return Head(data, is_packed, pinned)

    @contextlib.contextmanager
    def content(self, location: Lying, start: int, *, is_packed: bool) -> Iterator[BinaryIO]:
        """The bytes from `start` on; what is packed has to be unpacked from its beginning."""
        with self._opened(location, 0 if is_packed else start) as (_, body):
            if not is_packed:
                yield _buffered(_Flow(body.read, self.alive))
                return
            stream = _unpacked(body.read, self.alive)
            left = start
            while left and (piece := stream.read(min(left, PIECE_BYTES))):
                left -= len(piece)
            yield stream

    def fetched(self, url: str, ref: str, source: int) -> tuple[StoredBytes, str]:
        """A copy of what the URL gives now, and what tells it from other copies; raises what Egress raises."""
        egress = Egress(self.settings)
        try:
            with tempfile.TemporaryDirectory(prefix="maskmill-manifest-") as folder:
                path = Path(folder, "manifest")
                patiently(egress.download, url, path)
                with path.open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
                copy = self.copy(digest, ref, source)
                self.storage.put_file(copy.key, path)
        finally:
            egress.close()
        return copy, digest

    @staticmethod
    def copy(digest: str, ref: str, source: int) -> StoredBytes:
        """Where the copy lies that `fetched` told so: two planners that were given two different ones keep both."""
        return StoredBytes(key=keys.inputs(ref, f"manifest-{source}-{digest}"))

    @contextlib.contextmanager
    def _opened(self, location: Lying, start: int) -> Iterator[Opened]:
        if isinstance(location, ObjectBytes):
            reader = self.buckets.reader(ObjectUrl(location.bucket, location.key))
            with reader.open(location.key, Pin(location.etag, location.version), start) as opened:
                yield opened
            return
        with contextlib.ExitStack() as held:
            try:
                body = held.enter_context(self._stored(location.key, start))
            except KeyNotFound:
                raise InputNotFound(f"nothing is stored under {location.key} any more; submit it again") from None
            yield Opened(None, body)

    def _stored(self, key: str, start: int) -> AbstractContextManager[BinaryIO]:
        return self.storage.open(key, start)


class _Flow(io.RawIOBase):
    """What `read` gives, handed on; `taken` counts it."""

    def __init__(self, read: Callable[[int], bytes], alive: Callable[[], object]) -> None:
        super().__init__()
        self._read, self._alive = read, alive
        self.taken = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._alive()
        data = self._read(len(buffer))
        buffer[: len(data)] = data
        self.taken += len(data)
        return len(data)


class _Unpacked(_Flow):
    """The content of gzip data; ManifestInvalid where that is broken, or becomes too much."""

    def __init__(self, packed: _Flow, alive: Callable[[], object]) -> None:
        super().__init__(gzip.GzipFile(fileobj=_buffered(packed)).read, alive)
        self._packed = packed

    def readinto(self, buffer: Any) -> int:
        try:
            count = super().readinto(buffer)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise ManifestInvalid(f"its gzip data is broken or ends early: {error}") from None
        if self.taken > max(RATIO_FROM, MOST_RATIO * self._packed.taken):
            raise ManifestInvalid(f"its gzip data becomes more than {MOST_RATIO} times as large; send it unpacked")
        return count


def _first(stream: BinaryIO, count: int) -> bytes:
    """The first bytes: of what is broken those before, as they tell its form."""
    found = bytearray()
    try:
        while len(found) < count and (piece := stream.read(min(count - len(found), PIECE_BYTES))):
            found += piece
    except ManifestInvalid:
        if not found:
            raise
    return bytes(found)


class _Again:
    """Bytes that were read once, and then what `read` gives."""

    def __init__(self, first: bytes, read: Callable[[int], bytes]) -> None:
        self._first, self._read = first, read

    def read(self, count: int) -> bytes:
        given, self._first = self._first[:count], self._first[count:]
        return given or self._read(count)


def _unpacked(read: Callable[[int], bytes], alive: Callable[[], object]) -> BinaryIO:
    return _buffered(_Unpacked(_Flow(read, alive), alive))


def _buffered(flow: _Flow) -> BinaryIO:
    return cast("BinaryIO", io.BufferedReader(flow, PIECE_BYTES))
