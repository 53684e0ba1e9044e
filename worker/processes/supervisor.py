"""Supervise worker processes: start them, start again what dies or stands still, stop them in order."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from maskmill.shared.errors import CannotStart, DeviceUnavailable
from maskmill.shared.settings import Settings
from maskmill.worker.device import opencv_environment, parse_devices
from maskmill.worker.processes.heartbeat import Watch, refusal_file, stamp_file

# Seconds before a child starts again, the shortest and the longest; each pause is twice the one before.
RESTART_PAUSES = (1.0, 30.0)
REFUSED_PAUSES = (60.0, 600.0)
STABLE_SECONDS = 60.0
DRAIN_SECONDS = 60.0
# SIGKILL ends a process at once, but for one that hangs in a driver or in a file system that is away.
KILL_SECONDS = 5.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Role:
    """One supervised process: what it is started with, and the names below which it stamps (none: it does not).

    The first of `stamps` is that of whatever does the work. `title` is what logs call it; `log` is the file that takes
    its output (none: the supervisor's own). Where an `optional` one cannot start, the others go on.
    """

    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    stamps: tuple[str, ...] = ()
    module: str = "maskmill.worker.processes.celery_worker"
    title: str = ""
    log: Path | None = None
    optional: bool = False

    @property
    def name(self) -> str:
        return self.title or " ".join(self.arguments)


def device_role(device: str, lane: str, environment: Mapping[str, str]) -> Role:
    """The process of one device and lane; `environment` pins it there."""
    # Its main process listens, the pool's one child holds the models; each may hang without the other.
    stamps = (f"{device}-{lane}", f"{device}-{lane}-consumer")
    return Role(("device", device, lane), environment, stamps, optional=True)


def device_roles(devices: str, lanes: Sequence[str]) -> list[Role]:
    """The processes of every device that `devices` lists and every lane; raises InvalidRequest."""
    return [device_role(str(device), lane, device.environment()) for device in parse_devices(devices) for lane in lanes]


def program_role(title: str, command: Sequence[str]) -> Role:
    """The process of any program; it dies with its supervisor as the workers do."""
    return Role(tuple(command), module="maskmill.worker.processes.heartbeat", title=title)


CONTROL_ROLES = (Role(("control",), stamps=("control-consumer",)), Role(("sweep",), stamps=("sweep",)))


class Supervised:
    """A role and its present process."""

    def __init__(self, role: Role, settings: Settings) -> None:
        self.role = role
        self._settings = settings
        self._pause = self._start_at = self._started = 0.0
        self._watches: list[Watch] = []
        self._killed = False
        self._has_run = False
        self.process: subprocess.Popen[bytes] | None = None
        self.deaths = self.refusals = 0

    def tend(self) -> None:
        """Start, watch or restart it, whatever is due. Raises DeviceUnavailable where it has just refused to run."""
        if self.process is None:
            if time.monotonic() >= self._start_at:
                self._start()
        elif self.process.poll() is not None:
            self._note_end(self.process)
        else:
            self._look_at(self.process)

    def _start(self) -> None:
        try:
            self.process = process = self._spawn()
        except OSError as error:
            pause = self._put_off(RESTART_PAUSES)
            logger.error("%s cannot be started: %s; it is tried again in %g s", self.role.name, error, pause)
            return
        limits = self._settings.start_seconds, self._settings.stall_seconds
        stamps = [stamp_file(self._settings.run_dir, f"{name}-{process.pid}") for name in self.role.stamps]
        self._watches = [Watch(stamp, *limits) for stamp in stamps]
        self._started, self._killed = time.monotonic(), False
        # What another process of this id has left is not this one's.
        self._take_refusal(process.pid)

    def _spawn(self) -> subprocess.Popen[bytes]:
        # -P: a folder named `shared` where the command was typed is not ours.
        command = [sys.executable, "-P", "-m", self.role.module, str(os.getpid()), *self.role.arguments]
        limits = opencv_environment(self._settings)
        environment = {**os.environ, **limits, **self._settings.to_env(), **self.role.environment}
        with _opened(self.role.log) as log:
            # A session of its own: Ctrl-C in the terminal reaches the supervisor, which stops its children in order.
            return subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def _look_at(self, process: subprocess.Popen[bytes]) -> None:
        still = [watch.stands_still() for watch in self._watches]
        if self.is_up():
            self._has_run, self.refusals = True, 0
        if any(still) and not self._killed:
            logger.error("%s makes no progress; it is killed", self.role.name)
            process.kill()
            self._killed = True

    def _note_end(self, process: subprocess.Popen[bytes]) -> None:
        self._forget()
        refusal = self._take_refusal(process.pid)
        if refusal:
            self.refusals += 1
            raise DeviceUnavailable(f"the worker for {self.role.name} cannot start: {refusal}")
        self.deaths += 1
        if time.monotonic() - self._started > STABLE_SECONDS:
            self._pause = 0.0
        pause = self._put_off(RESTART_PAUSES)
        logger.warning("%s ended with %s; it starts again in %g s", self.role.name, process.returncode, pause)

    def wait_for_device(self) -> float:
        """Try again after a while; the seconds until then."""
        return self._put_off(REFUSED_PAUSES)

    def _put_off(self, pauses: tuple[float, float]) -> float:
        shortest, longest = pauses
        self._pause = min(max(self._pause * 2, shortest), longest)
        self._start_at = time.monotonic() + self._pause
        return self._pause

    def is_up(self) -> bool:
        """Whether it runs, and has stamped if it is one that does."""
        running = self.process is not None and self.process.poll() is None
        return running and all(watch.is_begun for watch in self._watches)

    @property
    def is_hopeless(self) -> bool:
        """Whether it was refused and has never run: the command may ask for what is not there at all."""
        return self.refusals > 0 and not self._has_run

    def _take_refusal(self, pid: int) -> str:
        file = refusal_file(self._settings.run_dir, pid)
        try:
            reason = file.read_text()
            file.unlink()
        except OSError:
            return ""
        return reason

    def _forget(self) -> None:
        for watch in self._watches:
            watch.forget()
        self.process = None

    def ask_to_stop(self) -> None:
        """Let it finish what it has begun; one that has not stamped yet has begun nothing."""
        if self.process is not None and self.process.poll() is None:
            starting = any(not watch.has_begun() for watch in self._watches[:1])
            self.process.send_signal(signal.SIGKILL if starting else signal.SIGTERM)

    def stop_by(self, deadline: float) -> None:
        """Wait for its end, and make one at the deadline."""
        if self.process is None:
            return
        if not _ends(self.process, deadline - time.monotonic()):
            logger.error("%s does not drain; it is killed", self.role.name)
            self.process.kill()
            if not _ends(self.process, KILL_SECONDS):
                logger.error("%s (process %d) cannot be killed; it is left", self.role.name, self.process.pid)
        self._forget()


def _opened(log: Path | None) -> contextlib.AbstractContextManager[Any]:
    """The file that takes a child's output; raises OSError."""
    if log is None:
        return contextlib.nullcontext()
    log.parent.mkdir(parents=True, exist_ok=True)
    return log.open("ab")


def _ends(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Whether it is over within so many seconds."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(max(seconds, 0.1))
    return process.poll() is not None


class Supervisor:
    """Keeps a set of roles running."""

    def __init__(self, roles: Sequence[Role], settings: Settings) -> None:
        """Raises CannotStart where the folder of the signs of life cannot be made."""
        try:
            settings.run_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = f"the folder {settings.run_dir} cannot be made: {error.strerror}; set MASKMILL_RUN_DIR to another"
            raise CannotStart(reason) from None
        self._supervised = [Supervised(role, settings) for role in roles]

    def run_until(self, stop: threading.Event) -> None:
        """Tend them until `stop` is set, then drain. Raises DeviceUnavailable as `tend` does."""
        try:
            while not stop.wait(0.2):
                self.tend()
            logger.info("stopping: what runs is finished first; Ctrl-C again ends it at once")
        finally:
            self.stop()

    def tend(self) -> None:
        """Do once whatever is due.

        Raises DeviceUnavailable where one can never start: one that is needed, or the last of the optional ones
        before any of them has run.
        """
        for supervised in self._supervised:
            try:
                supervised.tend()
            except DeviceUnavailable as error:
                self._go_on_without(supervised, error)

    def _go_on_without(self, refused: Supervised, error: DeviceUnavailable) -> None:
        optional = [supervised for supervised in self._supervised if supervised.role.optional]
        if refused not in optional or all(supervised.is_hopeless for supervised in optional):
            raise error
        level = logging.ERROR if refused.refusals == 1 else logging.WARNING
        pause = refused.wait_for_device()
        logger.log(level, "%s; it is tried again in %g s, and what runs goes on", error.reason, pause)

    def all_up(self) -> bool:
        """Whether every one that can start runs and has loaded what it needs."""
        return all(supervised.is_up() or supervised.is_hopeless for supervised in self._supervised)

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


def stop_on_signals() -> threading.Event:
    """Set once SIGTERM, SIGHUP or Ctrl-C comes; Ctrl-C after that ends this process, and the kernel its children."""
    stop = threading.Event()

    def handle(_number: int, _frame: FrameType | None) -> None:
        stop.set()
        # Not SIGTERM and SIGHUP: who sends those may send them twice, as `timeout` and a closing terminal do.
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)
    # nohup(1) has it ignored, so that a command outlives its terminal.
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, handle)
    return stop


def run_roles(roles: Sequence[Role], settings: Settings) -> None:
    """Supervise in the foreground until SIGTERM, SIGHUP or Ctrl-C."""
    Supervisor(roles, settings).run_until(stop_on_signals())
