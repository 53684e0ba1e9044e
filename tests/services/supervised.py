"""Processes under supervision: roles of a test's own, and commands of which nothing is left."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from maskmill.shared.settings import Settings
from maskmill.worker.processes.supervisor import Role, Supervisor
from tests.services.commands import CLEAN, MASKMILL
from tests.services.workers import descendants, kill, processes_of, wait_until

STALL = {"MASKMILL_STALL_SECONDS": "3"}
# A child that stamps below the name "probe" ten times a second, `{ago}` seconds behind the clock.
STAMPING = """
import os, time
from pathlib import Path
stamp = Path(os.environ["MASKMILL_RUN_DIR"], f"probe-{os.getpid()}.alive")
while True:
    stamp.touch()
    os.utime(stamp, (time.time() - AGO, time.time() - AGO))
    time.sleep(0.1)
"""


def probe(program: str = STAMPING, *, ago: float = 0, log: Path | None = None) -> Role:
    """A supervised Python program; the model of a child that does what a test needs."""
    command = (sys.executable, "-c", program.replace("AGO", str(ago)), "probe of a test")
    return Role(command, stamps=("probe",), module="maskmill.worker.processes.heartbeat", title="probe", log=log)


@contextlib.contextmanager
def supervised(settings: Settings, *roles: Role) -> Iterator[None]:
    """The roles, supervised in a thread until the end of `with`."""
    stop = threading.Event()
    thread = threading.Thread(target=Supervisor(roles, settings).run_until, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


WORKER = (*MASKMILL, "worker", "--devices", "cpu", "--lanes", "bulk")


@contextlib.contextmanager
def running(settings: Settings, *command: str, **output: Any) -> Iterator[subprocess.Popen[str]]:
    """The command; nothing of it is left at the end of `with`, not even what a test has stopped."""
    with subprocess.Popen(command, env={**CLEAN, **settings.to_env()}, text=True, **output) as process:
        try:
            yield process
        finally:
            for pid in (*descendants(process.pid), process.pid):
                kill(pid)


def main_process(settings: Settings, *words: str) -> int | None:
    """The supervised process whose command line holds all `words`; its forks come after it."""
    return next(iter(processes_of(settings, *words)), None)


def started(settings: Settings, *words: str) -> int:
    """Its process id, once it runs."""
    wait_until(lambda: main_process(settings, *words) is not None, 30)
    pid = main_process(settings, *words)
    assert pid is not None
    return pid


def wait_for_another(settings: Settings, pid: int, *words: str) -> None:
    wait_until(lambda: main_process(settings, *words) not in (None, pid), 60)
