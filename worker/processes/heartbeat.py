"""Signs of life: a child stamps a file as long as it lives and makes progress; its supervisor reads the stamp.

Run as `python -m maskmill.worker.processes.heartbeat PARENT PROGRAM ARGUMENTS...` it becomes that program, which dies
with PARENT.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from pathlib import Path

PR_SET_PDEATHSIG = 1


def stamp_file(run_dir: Path, name: str) -> Path:
    """Where the child of that name stamps."""
    return run_dir / f"{name.replace('/', '_').replace(':', '_')}.alive"


def stamp(path: Path) -> None:
    """Say that all is well now."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def age(path: Path) -> float:
    """Seconds since the last stamp; 0 where there is none yet."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def die_with_parent(parent: int) -> None:
    """Have the kernel end this process when its parent dies: a killed parent must not leave workers behind."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    die_with_parent(int(sys.argv[1]))
    # The kernel keeps the order to die across the exec.
    os.execvp(sys.argv[2], sys.argv[2:])
