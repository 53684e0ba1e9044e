"""Supervise worker processes: start them, start again what dies or stands still, stop them in order."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from maskmill.shared.errors import DeviceUnavailable
from maskmill.shared.settings import Settings
from maskmill.worker.device import parse_devices
from maskmill.worker.images.opencv import opencv_environment
from maskmill.worker.processes.celery_worker import refusal_file
from maskmill.worker.processes.heartbeat import age, stamp_file

SHORTEST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
STABLE_SECONDS = 60.0
DRAIN_SECONDS = 60.0
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Role:
    """One supervised process: what it is started with, and the name below which it stamps (none: it does not).

    `title` is what logs call it; `log` is the file that takes its output (none: the supervisor's own).
    """

    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    stamp: str | None = None
    module: str = "maskmill.worker.processes.celery_worker"
    title: str = ""
    log: Path | None = None

    @property
    def name(self) -> str:
        return self.title or " ".join(self.arguments)


def device_role(device: str, lane: str, environment: Mapping[str, str]) -> Role:
    """The process of one device and lane; `environment` pins it there."""
    return Role(("device", device, lane), environment, f"{device}-{lane}")


def device_roles(devices: str, lanes: Sequence[str]) -> list[Role]:
    """The processes of every device that `devices` lists and every lane; raises InvalidRequest."""
    return [device_role(str(device), lane, device.environment()) for device in parse_devices(devices) for lane in lanes]


def program_role(title: str, command: Sequence[str]) -> Role:
    """The process of any program; it dies with its supervisor as the workers do."""
    return Role(tuple(command), module="maskmill.worker.processes.heartbeat", title=title)


CONTROL_ROLES = (Role(("control",)), Role(("sweep",)))


class Supervised:
    """A role and its present process."""

    def __init__(self, role: Role, settings: Settings) -> None:
        self.role = role
        self._settings = settings
        self._pause = SHORTEST_PAUSE
        self._start_at = 0.0
        self._started = 0.0
        self.process: subprocess.Popen[bytes] | None = None
        self.deaths = 0

    def tend(self) -> None:
        """Start, watch or restart it, whatever is due. Raises DeviceUnavailable where it can never start."""
        now = time.monotonic()
        if self.process is None:
            if now >= self._start_at:
                self._start(now)
        elif self.process.poll() is not None:
            self._note_death(now)
        elif self._stands_still():
            logger.error("%s makes no progress; it is killed", self.role.name)
            self.process.kill()

    def _start(self, now: float) -> None:
        # -P: a folder named `shared` where the command was typed is not ours.
        command = [sys.executable, "-P", "-m", self.role.module, str(os.getpid()), *self.role.arguments]
        limits = opencv_environment(self._settings)
        environment = {**os.environ, **limits, **self._settings.to_env(), **self.role.environment}
        with self.role.log.open("ab") if self.role.log else nullcontext() as log:
            # A session of its own: Ctrl-C in the terminal reaches the supervisor, which stops its children in order.
            self.process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self._started = now

    def _note_death(self, now: float) -> None:
        assert self.process is not None
        self.deaths += 1
        refusal = refusal_file(self._settings.run_dir, self.process.pid)
        if refusal.exists():
            reason = refusal.read_text()
            refusal.unlink()
            raise DeviceUnavailable(f"the worker for {self.role.name} cannot start: {reason}")
        if now - self._started > STABLE_SECONDS:
            self._pause = SHORTEST_PAUSE
        logger.warning(
            "%s ended with %s; it starts again in %g s", self.role.name, self.process.returncode, self._pause
        )
        self._start_at, self._pause = now + self._pause, min(self._pause * 2, LONGEST_PAUSE)
        self._forget_stamp()
        self.process = None

    def is_up(self) -> bool:
        """Whether it runs, and has stamped if it is one that does."""
        stamp = self._stamp()
        running = self.process is not None and self.process.poll() is None
        return running and (stamp is None or stamp.exists())

    def _stands_still(self) -> bool:
        stamp = self._stamp()
        return stamp is not None and age(stamp) > self._settings.stall_seconds

    def _forget_stamp(self) -> None:
        stamp = self._stamp()
        if stamp is not None:
            stamp.unlink(missing_ok=True)

    def _stamp(self) -> Path | None:
        if self.role.stamp is None or self.process is None:
            return None
        return stamp_file(self._settings.run_dir, f"{self.role.stamp}-{self.process.pid}")

    def ask_to_stop(self) -> None:
        """Let it finish what it has begun."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)

    def stop_by(self, deadline: float) -> None:
        """Wait for its end, and make one at the deadline."""
        if self.process is None:
            return
        try:
            self.process.wait(max(deadline - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            logger.error("%s does not drain; it is killed", self.role.name)
            self.process.kill()
            self.process.wait()
        self._forget_stamp()
        self.process = None


class Supervisor:
    """Keeps a set of roles running."""

    def __init__(self, roles: Sequence[Role], settings: Settings) -> None:
        settings.run_dir.mkdir(parents=True, exist_ok=True)
        self._supervised = [Supervised(role, settings) for role in roles]

    def run_until(self, stop: threading.Event) -> None:
        """Tend them until `stop` is set, then drain. Raises DeviceUnavailable where one can never start."""
        try:
            while not stop.wait(0.2):
                self.tend()
        finally:
            self.stop()

    def tend(self) -> None:
        """Do once whatever is due."""
        for supervised in self._supervised:
            supervised.tend()

    def all_up(self) -> bool:
        """Whether every one runs and has loaded what it needs."""
        return all(supervised.is_up() for supervised in self._supervised)

    def fallen(self, times: int) -> Role | None:
        """One that has ended `times` times or more, where there is one."""
        return next((supervised.role for supervised in self._supervised if supervised.deaths >= times), None)

    def stop(self) -> None:
        """Drain them all at once."""
        deadline = time.monotonic() + DRAIN_SECONDS
        for supervised in self._supervised:
            supervised.ask_to_stop()
        for supervised in self._supervised:
            supervised.stop_by(deadline)


def run_roles(roles: Sequence[Role], settings: Settings) -> None:
    """Supervise in the foreground until SIGTERM, SIGHUP or Ctrl-C."""
    stop = threading.Event()
    for number in STOP_SIGNALS:
        signal.signal(number, lambda *_: stop.set())
    Supervisor(roles, settings).run_until(stop)
