"""The commands as a user types them, in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.services.workers import descendants

MASKMILL = [sys.executable, "-P", "-m", "maskmill"]
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("MASKMILL_")}


def maskmill(*words: str | Path, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    command = [*MASKMILL, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env=CLEAN, cwd=folder, timeout=240, check=False)


@dataclass(frozen=True)
class Up:
    """A running `maskmill up`."""

    url: str
    data: Path
    process: subprocess.Popen[str]


@contextmanager
def run_up(*words: str | Path) -> Iterator[Up]:
    """`maskmill up` on a data folder and a port of its own, ready."""
    with tempfile.TemporaryDirectory(prefix="up-", ignore_cleanup_errors=True) as data:
        command = [*MASKMILL, "up", "--data", data, "--port", "0", "--devices", "cpu", *map(str, words)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=CLEAN)
        assert process.stdout is not None
        try:
            said = list(iter(process.stdout.readline, "Ctrl-C stops everything.\n"))
            url = next(line.split()[1] for line in said if line.strip().startswith("API"))
            yield Up(url, Path(data), process)
        finally:
            process.terminate()
            process.wait(90)
            process.stdout.close()


def some_descendants(process: subprocess.Popen[str], at_least: int = 3) -> list[int]:
    """The processes below a running command, once there are some."""
    while len(found := descendants(process.pid)) < at_least:
        assert process.poll() is None
        time.sleep(0.02)
    return found


def still_running(pids: Iterable[int], seconds: float = 20) -> set[int]:
    """Those that have not ended within `seconds`."""
    deadline = time.monotonic() + seconds
    while (running := {pid for pid in pids if _runs(pid)}) and time.monotonic() < deadline:
        time.sleep(0.05)
    return running


def _runs(pid: int) -> bool:
    try:
        # proc(5): the state stands after the name, which may itself hold brackets.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def run_limited(
    command: Sequence[str], env: Mapping[str, str], kibibytes: int | None = None
) -> subprocess.CompletedProcess[str]:
    """The finished command; no file may become larger than so many `kibibytes`, as on a disk that is full."""
    limited = ["bash", "-c", f'ulimit -f {kibibytes}; exec "$@"', "bash"] if kibibytes else []
    return subprocess.run([*limited, *command], capture_output=True, text=True, env=env, check=False)
