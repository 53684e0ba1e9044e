"""Bytes → storage → UploadSource or ManifestSource: what one request brings along is stored piece by piece."""

from __future__ import annotations

import hashlib
import re
import tempfile
import time
import unicodedata
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import IO

from maskmill.api.submission.job_request import check_count
from maskmill.shared.errors import BodyTooLarge, InvalidRequest
from maskmill.shared.formats import HEAD_BYTES, PAGED, archive_kind, sniff
from maskmill.shared.jobs import keys
from maskmill.shared.jobs.job_files import JobFiles
from maskmill.shared.jobs.records import EntryForm
from maskmill.shared.jobs.sources import ManifestSource, PdfOptions, StoredBytes, UploadSource
from maskmill.shared.settings import Settings
from maskmill.shared.storage import Storage

SPILL_BYTES = 1 << 20
SEGMENT_CHARACTERS = 100
# Folders beyond it are left off from the top: with the job's id and the storage's prefix it must make a key.
NAME_BYTES = 600
UNSAFE = re.compile(r'[<>:"|?*\x00-\x1f\x7f-\x9f\ud800-\udfff]')


class Uploads:
    """Stores files for one job; small ones from memory, large ones by way of a temporary file, several at once."""

    def __init__(self, files: JobFiles, settings: Settings, folder: str) -> None:
        """`folder` keeps apart what two requests for the same job store."""
        self._files, self._settings, self._folder = files, settings, folder
        self._pool = ThreadPoolExecutor(settings.store_threads, thread_name_prefix="upload")
        self._running: list[Future[None]] = []
        self._held: list[_Held] = []
        self._names: set[str] = set()
        self._folders: set[str] = set()
        self._archives: set[str] = set()
        self._turns: dict[str, int] = {}
        self._marked = False
        self._password_key: str | None = None
        self._keys: list[str] = []
        self.sources: list[UploadSource | ManifestSource] = []
        self.digests: list[tuple[str, ...]] = []

    def add(self, name: str, pieces: Iterable[bytes], *, pointer: str, pdf: PdfOptions | None = None) -> UploadSource:
        """Store one file under a name that no other has.

        Raises BodyTooLarge past a limit of bytes or count, or what the store of an earlier file raised.
        """
        safe = self._unique(safe_name(name))
        key, held, checksum = self._take(safe, pieces, pointer)
        source = UploadSource(name=safe, key=key, form=_form_of(held.head), pdf=pdf)
        self._check_place(source, pointer)
        self.sources.append(source)
        self.digests.append((name, checksum))
        return source

    def add_manifest(self, name: str, pieces: Iterable[bytes], *, pointer: str) -> ManifestSource:
        """Store a file whose rows name inputs; raises what `add` does."""
        safe = safe_name(name)
        key, _, checksum = self._take(safe, pieces, pointer)
        source = ManifestSource(name=safe, location=StoredBytes(key=key))
        self.sources.append(source)
        self.digests.append(("manifest", name, checksum))
        return source

    def store_passwords(self, passwords: dict[str, str]) -> str:
        """Store the PDFs' passwords beside the files; the key under which they lie."""
        self._mark()
        self._password_key = self._files.store_passwords(self._folder, passwords)
        return self._password_key

    def wait(self) -> None:
        """Return once every file is stored; raises what a store raised."""
        self._wait(0)
        self._pool.shutdown()

    def keep(self) -> None:
        """The job is accepted: what was stored is its own."""
        if self._marked:
            self._files.mark_received(self._folder)

    def discard(self) -> None:
        """Delete what was stored, as the job was not accepted."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        for held in self._held:
            held.close()
        for key in self._keys:
            self._files.storage.delete(key)
        if self._password_key:
            self._files.storage.delete(self._password_key)
        if self._marked:
            self._files.mark_received(self._folder)

    def _take(self, safe: str, pieces: Iterable[bytes], pointer: str) -> tuple[str, _Held, str]:
        """Begin to store one file: its key, its bytes while they are here, and their checksum."""
        check_count(len(self.sources) + 1, self._settings)
        self._mark()
        key = keys.inputs(self._files.ref, f"{self._folder}/{len(self.sources):06d}-{safe.rsplit('/', 1)[-1]}")
        held = _Held()
        self._held.append(held)
        checksum = self._copy(pieces, held, pointer)
        self._keys.append(key)
        self._wait(self._settings.store_threads - 1)
        self._running.append(self._pool.submit(held.store, self._files.storage, key))
        return key, held, checksum

    def _mark(self) -> None:
        """Before the first is stored: what a killed process leaves behind must be found."""
        if not self._marked:
            self._files.mark_receiving(self._folder, time.time())
            self._marked = True

    def _copy(self, pieces: Iterable[bytes], held: _Held, pointer: str) -> str:
        checksum = hashlib.sha256()
        size = 0
        for piece in pieces:
            size += len(piece)
            checksum.update(piece)
            held.add(piece)
            if size > self._settings.max_input_bytes and size > (most := self._most(held)):
                raise BodyTooLarge(f"a file may have {most} bytes at most", pointer=pointer)
        return checksum.hexdigest()

    def _most(self, held: _Held) -> int:
        """How many bytes the file may have."""
        is_archive = _form_of(held.head) == "archive"
        return self._settings.max_archive_bytes if is_archive else self._settings.max_input_bytes

    def _wait(self, at_most: int) -> None:
        while len(self._running) > at_most:
            self._running.pop(0).result()

    def _check_place(self, source: UploadSource, pointer: str) -> None:
        """Raise InvalidRequest where an archive is called as a folder is: the results of both would lie there."""
        folders = {str(folder).casefold() for folder in PurePosixPath(source.name).parents}
        self._folders |= folders
        if source.form == "archive":
            self._archives.add(source.name.casefold())
        if clash := (folders & self._archives) or ({source.name.casefold()} & self._archives & self._folders):
            raise InvalidRequest(f"{clash.pop()!r} is sent as an archive and as a folder", pointer=pointer)

    def _unique(self, name: str) -> str:
        """The name, or one with "-2", "-3", ... behind its stem; upper and lower case are one."""
        path, unique, folded = Path(name), name, name.casefold()
        while unique.casefold() in self._names:
            self._turns[folded] = self._turns.get(folded, 1) + 1
            unique = path.with_name(f"{path.stem}-{self._turns[folded]}{path.suffix}").as_posix()
        self._names.add(unique.casefold())
        return unique


def safe_name(name: str) -> str:
    """A relative path with the user's own words, safe as a file name anywhere: no `..`, no control characters."""
    plain = unicodedata.normalize("NFC", name).replace("\\", "/")
    segments = [UNSAFE.sub("_", segment).strip(" ") for segment in plain.split("/")]
    kept = [_shorten(segment) for segment in segments if segment.strip(".")]
    while len("/".join(kept).encode()) > NAME_BYTES:
        del kept[0]
    return "/".join(kept) or "file"


def _shorten(segment: str) -> str:
    if len(segment.encode()) <= SEGMENT_CHARACTERS * 2:
        return segment
    path = Path(segment)
    suffix = path.suffix if len(path.suffix) <= 8 else ""
    # A character takes up to four bytes, and file systems count bytes, to 255.
    return segment[: SEGMENT_CHARACTERS // 2].rstrip() + suffix


def _form_of(head: bytes) -> EntryForm:
    """What the first bytes say; a worker need not look at a picture before it runs it."""
    if (found := sniff(head)) is None and archive_kind(head):
        return "archive"
    return "paged" if found in PAGED else "picture"


class _Held:
    """The bytes of one file between request and storage: in memory while they are few, then in a temporary file."""

    def __init__(self) -> None:
        self.head = b""
        self._memory = bytearray()
        self._file: IO[bytes] | None = None

    def add(self, piece: bytes) -> None:
        if len(self.head) < HEAD_BYTES:
            self.head += piece[: HEAD_BYTES - len(self.head)]
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
