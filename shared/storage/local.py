"""Storage in a folder: a file a key, never seen half-written."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from maskmill.shared.errors import InvalidKey, KeyNotFound, MaskmillError, StorageRefused, StorageUnavailable
from maskmill.shared.storage.probe import PROBES, Probe
from maskmill.shared.storage.protocol import BYTES, PARTIAL, check_key, check_prefix

ABANDONED_SECONDS = 3600
KEPT_FOLDERS = 1024
FOLDER_TRIES = 5
# No file system takes such a name, or not in this place.
UNNAMEABLE = {errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ}
# Some network file systems sync no folders, and say so thus.
UNSYNCED = {errno.EINVAL, errno.EBADF}
REFUSALS = {errno.EACCES, errno.EPERM, errno.EROFS}


class LocalStorage:
    """Bytes are written under `.partial/` and moved to their key in one step; leftovers of the killed are swept.

    Every put ends on the disk, name and all: an outcomes file that survives a power cut must not name artifacts that
    did not.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._partial = root / PARTIAL
        self._seen = False
        self._probe = Probe(self)
        self._make_folder = lru_cache(KEPT_FOLDERS)(_make_folder)

    def put(self, key: str, data: bytes, *, content_type: str = BYTES, if_absent: bool = False) -> bool:
        del content_type  # a file has none; its name tells
        check_key(key)
        with self._writing(key), self._new_file() as (file, partial):
            file.write(data)
            _flush(file)
            return self._move(partial, key, os.link if if_absent else os.replace)

    def put_file(self, key: str, path: Path, *, content_type: str = BYTES) -> None:
        del content_type
        check_key(key)
        with path.open("rb") as source, self._writing(key), self._new_file() as (file, partial):
            shutil.copyfileobj(source, file, 1 << 20)
            _flush(file)
            self._move(partial, key, os.replace)

    def get(self, key: str) -> bytes:
        path = self._path(key)
        with self._reading(key):
            return path.read_bytes()

    @contextlib.contextmanager
    def open(self, key: str, start: int = 0) -> Iterator[BinaryIO]:
        path = self._path(key)
        with self._reading(key):
            file = path.open("rb")
        with file:
            file.seek(start)
            yield file

    def get_range(self, key: str, start: int, count: int) -> bytes:
        with self.open(key) as file, self._reading(key):
            file.seek(start)
            return file.read(count)

    def size(self, key: str) -> int | None:
        path = self._path(key)
        with self._reading(key), contextlib.suppress(FileNotFoundError, NotADirectoryError):
            if path.is_file():
                return path.stat().st_size
        self._check_there()
        return None

    def list(self, prefix: str = "", start_after: str = "", limit: int | None = None) -> Iterator[str]:
        bounds = os.fsencode(check_prefix(prefix)), os.fsencode(check_prefix(start_after))
        return itertools.islice(self._walk("", *bounds), limit)

    def link(self, key: str, seconds: int) -> str | None:
        del seconds
        check_key(key)
        return None

    def delete(self, key: str) -> None:
        path = self._path(key)
        with self._reading(key), contextlib.suppress(FileNotFoundError, IsADirectoryError, NotADirectoryError):
            path.unlink()
        self._remove_empty_folders(path)

    def delete_all(self, keys: Iterable[str]) -> None:
        for key in keys:
            self.delete(key)

    def ping(self, *, fresh: bool = False) -> None:
        with self._writing(PARTIAL):
            self._make_root()
            self._sweep()
        next(self.list(PROBES), None)
        self._probe(fresh=fresh)

    def _path(self, key: str) -> Path:
        return self._root / check_key(key)

    @contextlib.contextmanager
    def _new_file(self) -> Iterator[tuple[BinaryIO, Path]]:
        partial = self._partial / uuid.uuid4().hex
        try:
            file = partial.open("xb")
        except FileNotFoundError:
            self._make_root()
            file = partial.open("xb")
        self._seen = True
        try:
            with file:
                yield file, partial
        finally:
            partial.unlink(missing_ok=True)

    def _move(self, partial: Path, key: str, move: Callable[[Path, Path], None]) -> bool:
        """Give the written bytes their name, for good; False where there is one already."""
        moved = self._move_into_folder(partial, key, move)
        # Without the folder, the object has been deleted meanwhile.
        with contextlib.suppress(FileNotFoundError):
            _sync(self._path(key).parent)
        return moved

    def _move_into_folder(self, partial: Path, key: str, move: Callable[[Path, Path], None]) -> bool:
        # Whoever deletes the last object of a folder removes it, also after it was found or made here.
        for _ in range(FOLDER_TRIES - 1):
            with contextlib.suppress(FileNotFoundError):
                return self._move_now(partial, key, move)
        return self._move_now(partial, key, move)

    def _move_now(self, partial: Path, key: str, move: Callable[[Path, Path], None]) -> bool:
        path = self._path(key)
        self._make_folders(key)
        try:
            move(partial, path)
        except FileExistsError:
            if path.is_dir():
                raise
            return False
        return True

    def _remove_empty_folders(self, path: Path) -> None:
        """Remove the folders above it that hold nothing, but not those at the top: they are few, and always needed."""
        tops = len(self._root.parts) + 1
        for folder in path.parents:
            if len(folder.parts) <= tops:
                return
            try:
                folder.rmdir()
            except OSError:
                return

    def _make_root(self) -> None:
        self._check_there()
        _make_folder(self._partial)
        self._seen = True

    def _check_there(self) -> None:
        """Raise StorageUnavailable where the folder was there and is gone: an unmounted share tells nothing."""
        # Before it is looked for: another thread may make it and see it meanwhile.
        seen = self._seen
        there = self._partial.is_dir()
        if seen and not there:
            raise StorageUnavailable(
                f"{self._root}: the storage that was in this folder is gone; mount it or put it back, "
                "or start Maskmill again to begin with an empty one"
            )
        if there:
            self._seen = True

    def _make_folders(self, key: str) -> None:
        self._check_there()
        parents = self._path(key).parents
        for folder in reversed(parents[: key.count("/")]):
            self._make_folder(folder)
        if not parents[0].is_dir():
            # Somebody has removed it since it was made.
            self._make_folder.cache_clear()
            _make_folder(parents[0])

    def _walk(self, folder: str, prefix: bytes, start_after: bytes) -> Iterator[str]:
        for name in self._names(folder, prefix, start_after):
            if name.endswith("/"):
                yield from self._walk(folder + name, prefix, start_after)
            else:
                yield folder + name

    def _names(self, folder: str, prefix: bytes, start_after: bytes) -> Sequence[str]:
        """The folder's names in the order of their keys, folders with the slash that their keys go on with."""
        with self._reading(folder), contextlib.suppress(FileNotFoundError, NotADirectoryError):
            found = os.scandir(self._root / folder)
            with found:
                names = (entry.name + "/" if entry.is_dir() else entry.name for entry in found)
                wanted = (name for name in names if _is_wanted(os.fsencode(folder + name), prefix, start_after))
                if ordered := sorted(wanted, key=os.fsencode):
                    return ordered
        self._check_there()
        return ()

    def _sweep(self) -> None:
        abandoned = time.time() - ABANDONED_SECONDS
        for path in self._partial.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime < abandoned:
                    path.unlink()

    @contextlib.contextmanager
    def _reading(self, key: str) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            self._check_there()
            raise KeyNotFound(f"{self._root}: nothing is stored under {key!r}") from error
        except OSError as error:
            raise self._problem(key, error) from error
        self._seen = self._seen or self._partial.is_dir()

    @contextlib.contextmanager
    def _writing(self, key: str) -> Iterator[None]:
        try:
            yield
        except (FileExistsError, IsADirectoryError, NotADirectoryError) as error:
            reason = f"a folder keeps no object under {key!r} beside one under a part of that key"
            raise InvalidKey(f"{self._root}: {reason}") from error
        except OSError as error:
            raise self._problem(key, error) from error

    def _problem(self, key: str, error: OSError) -> MaskmillError:
        reason = f"{self._root}/{key}: {error.strerror or error}"
        if error.errno in UNNAMEABLE:
            return InvalidKey(reason)
        if error.errno in REFUSALS:
            return StorageRefused(f"{reason}; let the user that runs Maskmill read and write there")
        return StorageUnavailable(reason)


def _flush(file: BinaryIO) -> None:
    """On the disk before it has a name, else a power cut could leave the name without the bytes."""
    file.flush()
    os.fdatasync(file.fileno())


def _make_folder(folder: Path) -> None:
    """The folder, and those above it that are not there, each with its name on the disk."""
    if not folder.parent.is_dir():
        _make_folder(folder.parent)
    try:
        folder.mkdir()
    except FileExistsError:
        if not folder.is_dir():
            if os.path.lexists(folder):
                raise
            raise FileNotFoundError(f"{folder} was removed just now") from None
    # Also where another made it: who did may not have come so far yet.
    _sync(folder.parent)


def _sync(folder: Path) -> None:
    """What was made and moved in the folder survives a power cut: a file's own flush does not hold its name."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in UNSYNCED:
            raise
    finally:
        os.close(descriptor)


def _is_wanted(key: bytes, prefix: bytes, start_after: bytes) -> bool:
    """Whether the key, or one that begins with it if it is a folder's, has `prefix` and comes after `start_after`."""
    if key == os.fsencode(f"{PARTIAL}/"):
        return False
    if not key.endswith(b"/"):
        return key.startswith(prefix) and key > start_after
    wanted = key.startswith(prefix) or prefix.startswith(key)
    return wanted and (start_after < key or start_after.startswith(key))
