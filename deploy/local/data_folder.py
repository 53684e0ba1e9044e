"""The data folder of a local stack: storage, Redis's files, logs; one stack at a time holds it."""

from __future__ import annotations

import fcntl
import os
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from maskmill.shared.errors import CannotStart


class DataFolder:
    """Held from `with` to its end; the kernel lets go of it when the process dies, however it dies."""

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().absolute()
        self.storage = self.path / "storage"
        self.redis = self.path / "redis"
        self.run = self.path / "run"
        self.logs = self.path / "logs"
        self._lock = self.path / "lock"
        self._held = -1

    def __enter__(self) -> Self:
        """Raises CannotStart where the folder cannot be written, or another stack holds it."""
        try:
            for folder in (self.storage, self.redis, self.run, self.logs):
                folder.mkdir(parents=True, exist_ok=True)
                tempfile.TemporaryFile(dir=folder).close()
            self._held = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise CannotStart(f"the data folder {self.path} cannot be written: {error.strerror}; use --data") from None
        self._take_lock()
        self._tidy()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._held)

    def log(self, name: str) -> Path:
        """Where the process of that name logs."""
        return self.logs / f"{name}.log"

    def _take_lock(self) -> None:
        try:
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._held, 20, 0).decode().strip()
            os.close(self._held)
            raise CannotStart(
                f"another maskmill (process {holder}) runs on {self.path}; stop it, or name another folder with --data"
            ) from None
        os.ftruncate(self._held, 0)
        os.pwrite(self._held, str(os.getpid()).encode(), 0)

    def _tidy(self) -> None:
        """Stamps of dead processes go; the last run's logs stay beside the new ones."""
        for stale in self.run.iterdir():
            stale.unlink()
        for log in self.logs.glob("*.log"):
            log.replace(log.with_suffix(".log.1"))
