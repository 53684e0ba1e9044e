"""The whole stack for one measurement: Redis, workers, where asked the API, and storage in a temporary folder."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.pictures import data_folder
from benchmarks.processor import cpu_seconds
from maskmill.shared.jobs import keys
from maskmill.shared.jobs.records import JobStatus, Options
from maskmill.shared.jobs.sources import PathSource
from maskmill.shared.settings import Settings
from maskmill.worker.device import parse_devices
from maskmill.worker.processes.supervisor import CONTROL_ROLES, Role, device_role
from tests.services import run_redis
from tests.services.api_server import run_api
from tests.services.workers import Workers, wait_until

Lanes = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Round:
    """One job: pictures a second, and CPU milliseconds a picture by process."""

    rate: float
    cpu: dict[str, float]


@dataclass(frozen=True)
class Stack:
    """A running stack; its files lie in `folder`, its API, if any, answers at `url`."""

    workers: Workers
    folder: Path
    url: str = ""

    def submit(self, folder: Path, options: Options) -> str:
        """Accept a job over every file of `folder`."""
        source = PathSource(path=str(folder))
        return self.workers.submit([source], options, shard_size=self.workers.settings.shard_size)

    def wait(self, job_id: str, seconds: float = 900) -> JobStatus:
        """The job's report; RuntimeError for anything but complete success."""
        status = self.workers.wait(job_id, seconds)
        if status.state != "completed" or status.counts.succeeded != status.counts.total:
            raise RuntimeError(f"the job did not succeed: {status}")
        return status

    def measure(self, pictures: Path, model: str) -> Round:
        """Run a job over the folder's pictures."""
        before = cpu_seconds()
        status = self.wait(self.submit(pictures, Options(model=model)))
        count, seconds = status.counts.done, self.seconds(status)
        spent = {name: (now - before.get(name, 0)) * 1e3 / count for name, now in cpu_seconds().items()}
        return Round(count / seconds, spent)

    def seconds(self, status: JobStatus) -> float:
        """From the first claim of a shard to the last outcome stored."""
        outcomes = self.folder / "storage" / keys.outcomes(status.id)
        assert status.started_at is not None
        return max(path.stat().st_mtime for path in outcomes.iterdir()) - status.started_at


@contextlib.contextmanager
def run_stack(model: str, lanes: Lanes, *, api: bool = False, **more: Any) -> Iterator[Stack]:
    """A stack that serves `model` with a process for each (device, lane); `more` are further settings."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True)))
        settings = _settings(folder, stack.enter_context(run_redis()).url, model, more)
        workers = Workers(settings, [_logged(role, folder) for role in [*CONTROL_ROLES, *map(_role, lanes)]])
        stack.callback(workers.stop)
        workers.start()
        wait_until(lambda: len(workers.ledger.workers()) == len(lanes), 120)
        url = stack.enter_context(run_api(settings, folder)).url if api else ""
        yield Stack(workers, folder, url)


def _settings(folder: Path, redis_url: str, model: str, more: dict[str, Any]) -> Settings:
    given = {
        "redis_url": redis_url,
        "storage_url": f"file://{folder}/storage",
        "run_dir": folder / "run",
        "local_roots": (folder, data_folder()),
        "models": (model,),
        "models_dir": data_folder() / "weights",
        "log_level": "WARNING",
    }
    return Settings(**{**given, **more})


def _role(lane: tuple[str, str]) -> Role:
    device, name = lane
    return device_role(device, name, parse_devices(device)[0].environment())


def _logged(role: Role, folder: Path) -> Role:
    return replace(role, log=folder / "workers.log")
