"""CPU seconds of the processes that this one started, by what they are."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from tests.services.workers import command_line, descendants

TICKS = os.sysconf("SC_CLK_TCK")
# In a command line, and what the process is then called.
KINDS = {"redis-server": "redis", "gunicorn": "api", "api.cli": "api"}


def cpu_seconds() -> dict[str, float]:
    """Seconds of user and system time so far, by process name; forks count with the process that they came from."""
    seconds: dict[str, float] = {}
    for process in descendants(os.getpid()):
        with contextlib.suppress(OSError):
            # proc(5): the name in brackets may hold spaces; utime and stime are the 14th and 15th field.
            fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            name = _name(command_line(process))
            seconds[name] = seconds.get(name, 0) + (int(fields[11]) + int(fields[12])) / TICKS
    return seconds


def _name(command: str) -> str:
    _, found, arguments = command.partition("worker.tasks ")
    if found:
        return " ".join(arguments.split()[1:])
    return next((name for part, name in KINDS.items() if part in command), command.strip())
