"""One server process: started with its log in a file, ended by its id however the test run ends."""

from __future__ import annotations

import atexit
import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

# Where util-linux has it, even SIGKILL of the test run takes the services with it.
_DIE_WITH_PARENT = ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []


class ServiceError(RuntimeError):
    """A service did not start; the message ends with the last lines of its log."""


class Process:
    """A child in its own session, so that Ctrl-C reaches only the test run, which then stops it."""

    def __init__(self, command: Sequence[str], log: Path, env: Mapping[str, str] | None = None) -> None:
        self.command, self.log, self._env = list(command), log, dict(env or os.environ)
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id; ServiceError when it is not running."""
        if self._child is None:
            raise ServiceError(f"{self.command[0]} is not running")
        return self._child.pid

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._child is not None and self._child.poll() is None

    def start(self) -> None:
        """Start it; `wait_until` tells when it is ready."""
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                [*_DIE_WITH_PARENT, *self.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._env,
                start_new_session=True,
            )
        atexit.register(self.kill)

    def wait_until(self, ready: Callable[[], bool], seconds: float = 30) -> None:
        """Return once `ready()`; ServiceError with the log's end when the process died or time is up."""
        deadline = time.monotonic() + seconds
        while not ready():
            dead = not self.running
            if dead or time.monotonic() > deadline:
                raise ServiceError(f"{self.command[0]} {'died' if dead else 'is not ready'}:\n{self._log_end()}")
            time.sleep(0.02)

    def stop(self, seconds: float = 5) -> None:
        """End it with SIGTERM, after `seconds` with SIGKILL; no matter if it is already gone."""
        self._end(signal.SIGTERM, seconds)
        self.kill()

    def kill(self) -> None:
        """End it with SIGKILL at once."""
        self._end(signal.SIGKILL, 10)
        atexit.unregister(self.kill)

    def _end(self, number: signal.Signals, seconds: float) -> None:
        if self._child is None or not self.running:
            return
        self._child.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(seconds)

    def _log_end(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])


def free_port() -> int:
    """A loopback port that nobody listens on now.

    Linux gives ports from 32768 on to whoever connects somewhere: a lower one is still free when the service binds it.
    """
    while True:
        port = random.SystemRandom().randrange(10_000, 32_768)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def accepts(port: int) -> bool:
    """Whether something listens on the loopback port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
