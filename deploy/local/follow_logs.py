"""Follow log files: show what was added since the last look."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from pathlib import Path

PAUSE_SECONDS = 0.3


class Follower:
    """Copies what the `*.log` files of a folder gain to standard error."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._shown: dict[Path, int] = {}

    def start(self) -> None:
        """Go on copying in a thread that ends with the process."""
        threading.Thread(target=self._follow, name="follow", daemon=True).start()

    def _follow(self) -> None:
        while True:
            self.show()
            time.sleep(PAUSE_SECONDS)

    def show(self) -> None:
        """Copy what is new, file by file."""
        for log in sorted(self._folder.glob("*.log")):
            # A log that is gone by now is looked at again when there is one.
            with contextlib.suppress(OSError):
                self._show(log)

    def _show(self, log: Path) -> None:
        shown = self._shown.get(log, 0)
        with log.open("rb") as file:
            # One that is shorter than what was shown was begun anew.
            shown = shown if shown <= file.seek(0, os.SEEK_END) else 0
            file.seek(shown)
            new = file.read()
        self._shown[log] = shown + len(new)
        sys.stderr.write(new.decode(errors="replace"))
