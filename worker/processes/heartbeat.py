"""Signs of life: a child touches a file as long as it lives and makes progress; its supervisor looks at the file.

Run as `python -m maskmill.worker.processes.heartbeat PARENT PROGRAM ARGUMENTS...` it becomes that program, which dies
with PARENT.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from pathlib import Path

from maskmill.shared.parent import die_with_parent

BEAT_SECONDS = 1.0
# A supervisor that looks after a longer gap was held up itself, as by a pause of the container; so were its children.
LONGEST_GAP = 1.0

logger = logging.getLogger(__name__)


def stamp_file(run_dir: Path, name: str) -> Path:
    """Where the child of that name stamps."""
    return run_dir / f"{name.replace('/', '_').replace(':', '_')}.alive"


def refusal_file(run_dir: Path, pid: int) -> Path:
    """Where the child with that process id leaves the reason why starting it again would not help."""
    return run_dir / f"{pid}.refused"


class Heartbeat:
    """A process's sign of life, to be given often."""

    def __init__(self, stamp: Path) -> None:
        self._stamp = stamp
        self._unwritten = False

    def beat(self) -> None:
        """Say that all is well now; a stamp that cannot be written is logged, once."""
        try:
            self._stamp.parent.mkdir(parents=True, exist_ok=True)
            self._stamp.touch()
            self._unwritten = False
        except OSError as error:
            if not self._unwritten:
                logger.warning("no sign of life can be left: %s; check MASKMILL_RUN_DIR", error)
            self._unwritten = True

    def begin(self) -> None:
        """Say that the process only begins now: until its first beat it is given the time to start."""
        with contextlib.suppress(OSError):
            self._stamp.unlink(missing_ok=True)


class Watch:
    """What a supervisor sees of one stamp.

    Not the stamp's age counts but how long it was looked at without a change: no clock that is set, and no time for
    which the whole machine or container was paused, makes a child look dead.
    """

    def __init__(self, stamp: Path, start_seconds: float, still_seconds: float) -> None:
        """`start_seconds` may pass before the first stamp, `still_seconds` between two."""
        self._stamp = stamp
        self._start_seconds, self._still_seconds = start_seconds, still_seconds
        self._seen: int | None = None
        self._has_begun = False
        self._still = 0.0
        self._looked = time.monotonic()
        self.forget()

    @property
    def is_begun(self) -> bool:
        """Whether there was a stamp at the last look; there is none while the process (or its child) loads."""
        return self._seen is not None

    def has_begun(self) -> bool:
        """Look, and say whether there ever was a stamp."""
        self._look()
        return self._has_begun

    def stands_still(self) -> bool:
        """Look, and say whether nothing has changed for too long."""
        self._look()
        return self._still > (self._still_seconds if self.is_begun else self._start_seconds)

    def _look(self) -> None:
        now = time.monotonic()
        self._still += min(now - self._looked, LONGEST_GAP) if self._can_be_written() else 0.0
        self._looked = now
        seen = self._stamped()
        if seen != self._seen:
            self._seen, self._still = seen, 0.0
            self._has_begun = True

    def forget(self) -> None:
        """Remove the stamp: the process is over, or a former one of this id has left it."""
        with contextlib.suppress(OSError):
            self._stamp.unlink(missing_ok=True)

    def _stamped(self) -> int | None:
        try:
            return self._stamp.stat().st_mtime_ns
        except OSError:
            return None

    def _can_be_written(self) -> bool:
        """Whether a child could stamp at all."""
        with contextlib.suppress(OSError):
            self._stamp.parent.mkdir(parents=True, exist_ok=True)
        return os.access(self._stamp.parent, os.W_OK | os.X_OK)


if __name__ == "__main__":
    die_with_parent(int(sys.argv[1]))
    # The kernel keeps the order to die across the exec.
    os.execvp(sys.argv[2], sys.argv[2:])
