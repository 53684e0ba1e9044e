"""Follow log files: show what was added since the last look."""

from __future__ import annotations

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
            with log.open("rb") as file:
                file.seek(self._shown.get(log, 0))
                new = file.read()
            self._shown[log] = self._shown.get(log, 0) + len(new)
            sys.stderr.write(new.decode(errors="replace"))
