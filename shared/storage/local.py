"""Storage in a folder: a file a key, never seen half-written."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from maskmill.shared.errors import KeyNotFound, StorageRefused, StorageUnavailable
from maskmill.shared.storage.protocol import BYTES, check_key

PARTIAL = ".partial"
ABANDONED_SECONDS = 3600


class LocalStorage:
    """Bytes are written under `.partial/` and moved to their key in one step; leftovers of the killed are swept."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._partial = root / PARTIAL

    def put(self, key: str, data: bytes, *, content_type: str = BYTES, if_absent: bool = False) -> bool:
        del content_type  # a file has none; its name tells
        with self._errors(key), self._new_file() as (file, partial):
            file.write(data)
            _flush(file)
            return _move(partial, self._path(key), os.link if if_absent else os.replace)

    def put_file(self, key: str, path: Path, *, content_type: str = BYTES) -> None:
        del content_type
        with path.open("rb") as source, self._errors(key), self._new_file() as (file, partial):
            shutil.copyfileobj(source, file, 1 << 20)
            _flush(file)
            _move(partial, self._path(key), os.replace)

    def get(self, key: str) -> bytes:
        with self._errors(key):
            return self._path(key).read_bytes()

    @contextlib.contextmanager
    def open(self, key: str) -> Iterator[BinaryIO]:
        with self._errors(key):
            file = self._path(key).open("rb")
        with file:
            yield file

    def size(self, key: str) -> int | None:
        path = self._path(key)
        with self._errors(key), contextlib.suppress(FileNotFoundError, NotADirectoryError):
            return path.stat().st_size if path.is_file() else None
        return None

    def list(self, prefix: str = "", start_after: str = "") -> Iterator[str]:
        with self._errors(prefix):
            yield from self._walk("", os.fsencode(prefix), os.fsencode(start_after))

    def delete(self, key: str) -> None:
        with self._errors(key):
            self._path(key).unlink(missing_ok=True)

    def ping(self) -> None:
        with self._errors(""):
            self._partial.mkdir(parents=True, exist_ok=True)
            self._sweep()
        if not os.access(self._partial, os.W_OK | os.X_OK):
            raise StorageRefused(f"{self._root}: this user may not write there")

    def _path(self, key: str) -> Path:
        return self._root / check_key(key)

    @contextlib.contextmanager
    def _new_file(self) -> Iterator[tuple[BinaryIO, Path]]:
        partial = self._partial / uuid.uuid4().hex
        try:
            file = partial.open("xb")
        except FileNotFoundError:
            self._partial.mkdir(parents=True, exist_ok=True)
            file = partial.open("xb")
        try:
            with file:
                yield file, partial
        finally:
            partial.unlink(missing_ok=True)

    def _walk(self, folder: str, prefix: bytes, start_after: bytes) -> Iterator[str]:
        for name in self._names(folder):
            key = os.fsencode(folder + name)
            if name.endswith("/"):
                if _may_hold(key, prefix, start_after):
                    yield from self._walk(folder + name, prefix, start_after)
            elif key.startswith(prefix) and key > start_after:
                yield folder + name

    def _names(self, folder: str) -> Sequence[str]:
        """The folder's names in the order of their keys, folders with the slash that their keys go on with."""
        try:
            with os.scandir(self._root / folder) as entries:
                names = [entry.name + "/" if entry.is_dir() else entry.name for entry in entries]
        except FileNotFoundError:
            return []
        return sorted((name for name in names if folder or name != f"{PARTIAL}/"), key=os.fsencode)

    def _sweep(self) -> None:
        abandoned = time.time() - ABANDONED_SECONDS
        for path in self._partial.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime < abandoned:
                    path.unlink()

    @contextlib.contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise KeyNotFound(f"{self._root}: nothing is stored under {key!r}") from error
        except PermissionError as error:
            raise StorageRefused(f"{self._root}/{key}: this user may not do that ({error.strerror})") from error
        except OSError as error:
            raise StorageUnavailable(f"{self._root}/{key}: {error.strerror or error}") from error


def _flush(file: BinaryIO) -> None:
    """On the disk before it has a name, else a power cut could leave the name without the bytes."""
    file.flush()
    os.fdatasync(file.fileno())


def _move(partial: Path, path: Path, move: Callable[[Path, Path], None]) -> bool:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        move(partial, path)
    except FileExistsError:
        # Also a file where the key needs a folder: `mkdir` says it with the same error.
        if not path.parent.is_dir():
            raise
        return False
    return True


def _may_hold(folder: bytes, prefix: bytes, start_after: bytes) -> bool:
    """Whether keys that begin with `folder` can begin with `prefix` and come after `start_after`."""
    wanted = folder.startswith(prefix) or prefix.startswith(folder)
    return wanted and (start_after < folder or start_after.startswith(folder))
