"""Stack: Redis, control, workers and API as supervised processes of this machine, started and stopped in order."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

import requests

from maskmill.deploy.local.data_folder import DataFolder
from maskmill.deploy.local.redis_server import redis_command
from maskmill.shared.errors import CannotStart, LedgerUnavailable
from maskmill.shared.ledger import Ledger
from maskmill.shared.ports import pick
from maskmill.shared.settings import Settings
from maskmill.worker.processes.supervisor import CONTROL_ROLES, Role, Supervisor, device_roles, program_role

_API_COMMAND = (sys.executable, "-P", "-m", "maskmill", "api")
TRIES = 2


@dataclass(frozen=True)
class Plan:
    """What to run: `devices` as users write them, and the port of Redis (0: any free one)."""

    devices: str
    lanes: Sequence[str] = ("bulk", "interactive")
    redis_port: int = 0


class Stack:
    """Runs from `with` to its end; `start` it, then `tend` it often, both from one thread."""

    def __init__(self, settings: Settings, folder: DataFolder, plan: Plan) -> None:
        self._folder, self._plan = folder, plan
        self._given = settings
        self._open = ExitStack()
        self._tiers: list[Supervisor] = []
        self.settings = settings

    def __enter__(self) -> Self:
        """Raises CannotStart where the folder or a port is taken."""
        self._open.enter_context(self._folder)
        try:
            self.settings = self._local_settings()
        except BaseException:
            self._open.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the API, then the workers once they have drained, then Redis."""
        with self._open:
            for tier in reversed(self._tiers):
                tier.stop()

    @property
    def url(self) -> str:
        """Where the API is."""
        return f"http://{self.settings.api_address}"

    @property
    def logs(self) -> Path:
        """The folder of the processes' logs."""
        return self._folder.logs

    def start(self, stop: threading.Event) -> bool:
        """Start everything and wait until it serves; False where `stop` was set before.

        Raises CannotStart and DeviceUnavailable.
        """
        settings = self.settings
        command = redis_command(int(settings.redis_url.rsplit(":", 1)[1].split("/")[0]), self._folder.redis)
        self._add(settings, [program_role("redis", command)])
        if not self._wait(self._redis_answers, stop):
            return False
        self._add(settings, [*CONTROL_ROLES, *device_roles(self._plan.devices, self._plan.lanes)])
        self._add(settings, [program_role("api", _API_COMMAND)])
        return self._wait(self._serves, stop)

    def tend(self) -> None:
        """Start again what has died. Raises DeviceUnavailable."""
        for tier in self._tiers:
            tier.tend()

    def _local_settings(self) -> Settings:
        redis_port = pick("127.0.0.1", self._plan.redis_port, "--redis-port")
        update = {
            "redis_url": f"redis://127.0.0.1:{redis_port}/0",
            "storage_url": f"file://{self._folder.storage}",
            "run_dir": self._folder.run,
            "api_host": self._given.api_host,
            "api_port": pick(self._given.api_host, self._given.api_port, "--port"),
        }
        return self._given.model_copy(update=update)

    def _add(self, settings: Settings, roles: Sequence[Role]) -> None:
        logged = [replace(role, log=self._log(role)) for role in roles]
        self._tiers.append(Supervisor(logged, settings))

    def _log(self, role: Role) -> Path:
        return self._folder.log(role.name.replace(" ", "-").replace(":", ""))

    def _wait(self, ready: Callable[[], bool], stop: threading.Event) -> bool:
        deadline = time.monotonic() + self.settings.start_seconds
        while not stop.wait(0.05):
            self.tend()
            self._complain(time.monotonic() > deadline)
            if ready():
                return True
        return False

    def _complain(self, late: bool) -> None:
        for tier in self._tiers:
            role = tier.fallen(TRIES)
            if role is not None:
                log = self._log(role)
                raise CannotStart(f"{role.name} does not stay up: {_last_line(log)} (its log: {log})")
        if late:
            seconds = f"{self.settings.start_seconds:g} s (MASKMILL_START_SECONDS)"
            raise CannotStart(f"not ready after {seconds}; the logs are in {self._folder.logs}")

    def _redis_answers(self) -> bool:
        ledger = Ledger(self.settings.redis_url, self.settings.redis_prefix)
        try:
            ledger.ping()
        except LedgerUnavailable:
            return False
        finally:
            ledger.disconnect()
        return True

    def _serves(self) -> bool:
        if not all(tier.all_up() for tier in self._tiers):
            return False
        try:
            ready = (requests.get(f"{self.url}/health/ready?lane={lane}", timeout=5) for lane in self._plan.lanes)
            return all(answer.ok for answer in ready)
        except requests.RequestException:
            return False


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return lines[-1] if lines else "it says nothing"
