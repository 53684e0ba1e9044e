"""A role in a process of its own, so that its memory and CPU are nobody else's."""

from __future__ import annotations

import importlib
import multiprocessing
import resource
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import cast

from benchmarks.at_scale.bench import Bench
from benchmarks.at_scale.storage import SlowStorage

Begin = Callable[[], None]


@dataclass
class Report:
    """What a role did from its beginning on: wall and CPU seconds, storage calls, resident megabytes, more facts.

    `ended` is when, by the clock that all processes share.
    """

    seconds: float
    ended: float
    cpu: float
    calls: Counter[str]
    resident: float
    peak: float
    facts: dict[str, float] = field(default_factory=dict)


class Stopwatch:
    """Begun when a role begins; `report` sums up."""

    def __init__(self, storage: SlowStorage) -> None:
        self._storage = storage
        self._resident = _status("VmRSS")
        self._started, self._cpu = time.monotonic(), _cpu()

    @property
    def seconds(self) -> float:
        """Since then."""
        return time.monotonic() - self._started

    def report(self, **facts: float) -> Report:
        """What was done since then."""
        ended, cpu = time.monotonic(), _cpu() - self._cpu
        return Report(
            ended - self._started, ended, cpu, self._storage.calls.copy(), self._resident, _status("VmHWM"), facts
        )


class Role:
    """The function `name` of a module, run in a fresh process as name(bench, job id, begin) -> Report.

    It makes ready and calls `begin`, which returns once `go` is called here.
    """

    def __init__(self, module: str, name: str, bench: Bench, job_id: str) -> None:
        self._line, far_end = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        target = (f"benchmarks.at_scale.{module}", name, bench, job_id, far_end)
        self._process = context.Process(target=_run, args=target, daemon=True)
        self._process.start()
        far_end.close()
        self._line.recv()

    def go(self) -> None:
        """Begin."""
        self._line.send(None)

    def report(self) -> Report:
        """Wait until it is over; EOFError where it failed, with its traceback on stderr."""
        report = cast(Report, self._line.recv())
        self._process.join()
        return report

    def kill(self) -> None:
        """SIGKILL it."""
        self._process.kill()
        self._process.join()


def alone(module: str, name: str, bench: Bench, job_id: str) -> Report:
    """Run a role from beginning to end."""
    role = Role(module, name, bench, job_id)
    role.go()
    return role.report()


def _run(module: str, name: str, bench: Bench, job_id: str, line: Connection) -> None:
    def begin() -> None:
        line.send(None)
        line.recv()

    line.send(getattr(importlib.import_module(module), name)(bench, job_id, begin))


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _status(name: str) -> float:
    """Megabytes; getrusage's peak would include that of the process that started this one."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(f"{name}:"))
