"""API, control and worker as a service manager keeps them: started again whenever they are found dead."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import cv2

from maskmill.client.client import Client, ClientError
from maskmill.deploy.demo.scenes import draw_scene
from maskmill.shared.jobs import keys
from maskmill.shared.jobs.job_files import JobFiles
from maskmill.shared.jobs.records import FINAL_STATES, JobStatus, Outcome
from maskmill.shared.settings import Settings
from maskmill.shared.storage import Storage, open_storage
from tests.services.redis_server import RedisServer, run_redis
from tests.services.workers import command_line, descendants, kill

PICTURES = 50


class Command:
    """One of our commands as a service manager keeps it: started again whenever it is found dead."""

    def __init__(self, name: str, arguments: list[str], env: dict[str, str], log: Path) -> None:
        self.name = name
        self._arguments, self._env, self._log = arguments, env, log
        self._process: subprocess.Popen[bytes] | None = None

    def keep(self) -> None:
        """Start it if it does not run."""
        if self._process is None or self._process.poll() is not None:
            with self._log.open("ab") as log:
                command = [sys.executable, "-m", "maskmill", *self._arguments]
                self._process = subprocess.Popen(command, env=self._env, stdout=log, stderr=log)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def stop(self) -> None:
        """Drain it; everything below it is gone afterwards, if need be by force."""
        if self._process is not None:
            below = descendants(self.pid)
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(30)
            for pid in [self.pid, *below]:
                if "maskmill" in command_line(pid):
                    kill(pid)
            self._process.wait()


class CommandSite:
    """API, control and a bulk worker as three separate commands over one Redis and one storage."""

    def __init__(self, folder: Path, redis: RedisServer, more: Mapping[str, str]) -> None:
        self.redis = redis
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        given = {
            "MASKMILL_REDIS_URL": redis.url,
            "MASKMILL_STORAGE_URL": f"file://{folder}/storage",
            "MASKMILL_LOCAL_ROOTS": str(folder / "pictures"),
            "MASKMILL_RUN_DIR": f"{folder}/run",
            "MASKMILL_API_PORT": str(self.port),
            "MASKMILL_LEASE_SECONDS": "3",
            "MASKMILL_SWEEP_SECONDS": "0.5",
            "MASKMILL_SHARD_SIZE": "16",
            "MASKMILL_WINDOW_SHARDS": "16",
            **more,
        }
        env = {name: value for name, value in os.environ.items() if not name.startswith("MASKMILL_")} | given
        self.storage: Storage = open_storage(Settings.from_env(given))
        self.api = Command("api", ["api"], env, folder / "api.log")
        self.control = Command("control", ["control"], env, folder / "control.log")
        # A device of fixed speed: on a fast machine the job must not be over before the kills are.
        worker = ["worker", "--devices", "sim:20", "--lanes", "bulk"]
        self.worker = Command("worker", worker, env, folder / "worker.log")
        self.client = Client(f"http://127.0.0.1:{self.port}", timeout=10)

    def keep(self) -> None:
        for command in (self.api, self.control, self.worker):
            command.keep()

    def stop(self) -> None:
        for command in (self.api, self.worker, self.control):
            command.stop()

    def victims(self) -> dict[str, list[int]]:
        """Process ids by what a kill of them means."""
        device = [pid for pid in descendants(self.worker.pid) if "celery_worker" in command_line(pid)]
        control = descendants(self.control.pid)
        return {
            "worker child": device[1:],
            "worker child's parent": device[:1],
            "whole worker": [self.worker.pid],
            "API": [self.api.pid],
            "API's child": descendants(self.api.pid),
            "planner": [pid for pid in control if "control" in command_line(pid)],
            "sweeper": [pid for pid in control if "sweep" in command_line(pid)],
            "control": [self.control.pid],
        }

    def submit(self, inputs: Sequence[str | Path], **how: object) -> str:
        """Submit as a user's script would: try again until a worker is there and it is accepted."""
        deadline = time.monotonic() + 90
        while True:
            self.keep()
            try:
                return self.client.submit(inputs, **how).id  # type: ignore[arg-type]
            except ClientError:
                assert time.monotonic() < deadline
                time.sleep(0.3)

    def wait(self, job_id: str, seconds: float) -> JobStatus:
        """The job's status, once it is over and its report is stored."""
        deadline = time.monotonic() + seconds
        while True:
            self.keep()
            status = self.status(job_id)
            if status and status.state in FINAL_STATES and self.storage.size(keys.report(job_id)):
                return status
            assert time.monotonic() < deadline, status
            time.sleep(0.3)

    def outcomes(self, job_id: str, items: int) -> list[Outcome]:
        """What is stored of a job of so many items."""
        files = JobFiles(self.storage, job_id)
        return [one for shard in files.committed_shards(0, items) for one in files.outcomes(shard) or ()]

    def status(self, job_id: str) -> JobStatus | None:
        """The job's status, or None while the API is down."""
        with contextlib.suppress(ClientError):
            return self.client.status(job_id)
        return None


@contextlib.contextmanager
def run_command_site(folder: Path, **more: str) -> Iterator[CommandSite]:
    """The commands over a Redis of their own, with further settings; drained at the end."""
    with run_redis() as redis:
        site = CommandSite(folder, redis, more)
        site.keep()
        try:
            yield site
        finally:
            site.stop()


def draw(folder: Path, items: int) -> None:
    """`items` pictures, of which PICTURES differ."""
    folder.mkdir(parents=True)
    for number in range(items):
        path = folder / f"{number:05d}.jpg"
        if number < PICTURES:
            image = draw_scene(number, 160, 120).image
            cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        else:
            path.hardlink_to(folder / f"{number % PICTURES:05d}.jpg")
