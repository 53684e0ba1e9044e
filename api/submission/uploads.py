"""Bytes → storage → UploadSource: what one request brings along is stored piece by piece."""

from __future__ import annotations

import hashlib
import re
import tempfile
import unicodedata
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO

from maskmill.api.submission.job_request import check_count
from maskmill.shared.errors import BodyTooLarge
from maskmill.shared.jobs import keys
from maskmill.shared.jobs.sources import PdfOptions, UploadSource
from maskmill.shared.settings import Settings
from maskmill.shared.storage import Storage

SPILL_BYTES = 1 << 20
SEGMENT_CHARACTERS = 100
UNSAFE = re.compile(r'[<>:"|?*\x00-\x1f\x7f-\x9f\ud800-\udfff]')


class Uploads:
    """Stores files for one job; small ones from memory, large ones by way of a temporary file, several at once."""

    def __init__(self, storage: Storage, settings: Settings, job_id: str, *, folder: str = "") -> None:
        """`folder` keeps apart what two requests for the same job store."""
        self._storage, self._settings, self._job_id, self._folder = storage, settings, job_id, folder
        self._pool = ThreadPoolExecutor(settings.store_threads, thread_name_prefix="upload")
        self._running: list[Future[None]] = []
        self._held: list[_Held] = []
        self._names: set[str] = set()
        self.sources: list[UploadSource] = []
        self.digests: list[tuple[str, str]] = []

    def add(self, name: str, pieces: Iterable[bytes], *, pointer: str, pdf: PdfOptions | None = None) -> UploadSource:
        """Store one file under a name that no other has.

        Raises BodyTooLarge past a limit of bytes or count, or what the store of an earlier file raised.
        """
        check_count(len(self.sources) + 1, self._settings)
        safe = self._unique(safe_name(name))
        key = keys.inputs(self._job_id, f"{self._folder}{len(self.sources):06d}-{safe.rsplit('/', 1)[-1]}")
        held = _Held()
        self._held.append(held)
        checksum = self._copy(pieces, held, pointer)
        source = UploadSource(name=safe, key=key, pdf=pdf)
        self.sources.append(source)
        self.digests.append((name, checksum))
        self._wait(self._settings.store_threads - 1)
        self._running.append(self._pool.submit(held.store, self._storage, key))
        return source

    def finish(self) -> None:
        """Return once every file is stored; raises what a store raised."""
        self._wait(0)
        self._pool.shutdown()

    def discard(self) -> None:
        """Delete what was stored, as the job was not accepted."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        for held in self._held:
            held.close()
        for source in self.sources:
            self._storage.delete(source.key)

    def _copy(self, pieces: Iterable[bytes], held: _Held, pointer: str) -> str:
        checksum = hashlib.sha256()
        size = 0
        for piece in pieces:
            size += len(piece)
            if size > self._settings.max_input_bytes:
                raise BodyTooLarge(f"a file may have {self._settings.max_input_bytes} bytes at most", pointer=pointer)
            checksum.update(piece)
            held.add(piece)
        return checksum.hexdigest()

    def _wait(self, at_most: int) -> None:
        while len(self._running) > at_most:
            self._running.pop(0).result()

    def _unique(self, name: str) -> str:
        unique = next(name for name in _variants(name) if name.casefold() not in self._names)
        self._names.add(unique.casefold())
        return unique


def safe_name(name: str) -> str:
    """A relative path with the user's own words, safe as a file name anywhere: no `..`, no control characters."""
    plain = unicodedata.normalize("NFC", name).replace("\\", "/")
    segments = [UNSAFE.sub("_", segment).strip(" ") for segment in plain.split("/")]
    kept = [_shorten(segment) for segment in segments if segment.strip(".")]
    return "/".join(kept[-8:]) or "file"


def _shorten(segment: str) -> str:
    if len(segment.encode()) <= SEGMENT_CHARACTERS * 2:
        return segment
    path = Path(segment)
    suffix = path.suffix if len(path.suffix) <= 8 else ""
    # A character takes up to four bytes, and file systems count bytes, to 255.
    return segment[: SEGMENT_CHARACTERS // 2].rstrip() + suffix


def _variants(name: str) -> Iterator[str]:
    yield name
    path = Path(name)
    number = 2
    while True:
        yield path.with_name(f"{path.stem}-{number}{path.suffix}").as_posix()
        number += 1


class _Held:
    """The bytes of one file between request and storage: in memory while they are few, then in a temporary file."""

    def __init__(self) -> None:
        self._memory = bytearray()
        self._file: IO[bytes] | None = None

    def add(self, piece: bytes) -> None:
        if self._file is None and len(self._memory) + len(piece) <= SPILL_BYTES:
            self._memory += piece
            return
        if self._file is None:
            # Deleted when it is closed.
            self._file = tempfile.NamedTemporaryFile(prefix="maskmill-upload-")  # noqa: SIM115
            self._file.write(self._memory)
            self._memory.clear()
        self._file.write(piece)

    def store(self, storage: Storage, key: str) -> None:
        if self._file is None:
            storage.put(key, bytes(self._memory))
        else:
            self._file.flush()
            storage.put_file(key, Path(self._file.name))
        self.close()

    def close(self) -> None:
        self._memory = bytearray()
        if self._file is not None:
            self._file.close()
