"""kill -9 of every kind of process at random moments: every item still ends with exactly one outcome.

The short form runs with the other tests; `make chaos` runs 2,000 items and 25 kills and prints what was killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest

from maskmill.client.client import Client, ClientError
from maskmill.deploy.demo.scenes import draw_scene
from maskmill.shared.jobs import keys
from maskmill.shared.jobs.job_files import JobFiles
from maskmill.shared.jobs.records import FINAL_STATES, JobStatus, Outcome
from maskmill.shared.settings import Settings
from maskmill.shared.storage import Storage, open_storage
from tests.services import run_redis
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


class Site:
    """API, control and a bulk worker as three separate commands over one Redis and one folder."""

    def __init__(self, folder: Path, redis_url: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        given = {
            "MASKMILL_REDIS_URL": redis_url,
            "MASKMILL_STORAGE_URL": f"file://{folder}/storage",
            "MASKMILL_LOCAL_ROOTS": str(folder / "pictures"),
            "MASKMILL_RUN_DIR": f"{folder}/run",
            "MASKMILL_API_PORT": str(self.port),
            "MASKMILL_LEASE_SECONDS": "3",
            "MASKMILL_SWEEP_SECONDS": "0.5",
            "MASKMILL_SHARD_SIZE": "16",
            "MASKMILL_WINDOW_SHARDS": "16",
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

    def status(self, job_id: str) -> JobStatus | None:
        """The job's status, or None while the API is down."""
        with contextlib.suppress(ClientError):
            return self.client.status(job_id)
        return None


@contextlib.contextmanager
def run_site(folder: Path) -> Iterator[Site]:
    with run_redis() as redis:
        site = Site(folder, redis.url)
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


def submit(site: Site, folder: Path) -> str:
    """Submit as a user's script would: try again until a worker is there and it is accepted."""
    deadline = time.monotonic() + 90
    while True:
        site.keep()
        try:
            return site.client.submit([folder], local=True).id
        except ClientError:
            assert time.monotonic() < deadline
            time.sleep(0.3)


def kill_at_random(site: Site, job_id: str, kills: int, seed: int) -> Counter[str]:
    """Kill something every second or so until the job is over or `kills` are done; what was killed."""
    dice, killed = random.Random(seed), Counter[str]()
    while killed.total() < kills:
        time.sleep(dice.uniform(0.3, 1.5))
        site.keep()
        status = site.status(job_id)
        if status and status.state in FINAL_STATES:
            break
        kind, pids = dice.choice([(kind, pids) for kind, pids in site.victims().items() if pids])
        kill(dice.choice(pids))
        killed[kind] += 1
    return killed


def wait(site: Site, job_id: str, seconds: float) -> JobStatus:
    deadline = time.monotonic() + seconds
    while True:
        site.keep()
        status = site.status(job_id)
        if status and status.state in FINAL_STATES and site.storage.size(keys.report(job_id)):
            return status
        assert time.monotonic() < deadline, status
        time.sleep(0.3)


def check_whole(site: Site, job_id: str, status: JobStatus, items: int) -> int:
    """Exactly one outcome an item, exact counts, complete artifacts; how many innocents were blamed for two kills."""
    outcomes = [
        outcome
        for key in site.storage.list(keys.outcomes(job_id))
        for outcome in JobFiles(site.storage, job_id).outcomes(keys.number_of(key)) or ()
    ]
    assert [outcome.number for outcome in outcomes] == list(range(items))
    ended = Counter(outcome.status for outcome in outcomes)
    counts = status.counts
    assert (counts.total, counts.succeeded, counts.failed) == (items, ended["succeeded"], ended["failed"])
    assert ended["succeeded"] + ended["failed"] == items
    assert {outcome.error.code for outcome in outcomes if outcome.error} <= {"worker_crashed"}
    check_artifacts(site, job_id, [outcome for outcome in outcomes if outcome.status == "succeeded"])
    return ended["failed"]


def check_artifacts(site: Site, job_id: str, outcomes: list[Outcome]) -> None:
    named = {keys.artifact(job_id, name) for outcome in outcomes for name in outcome.artifacts.values()}
    assert named <= set(site.storage.list(keys.artifact(job_id, "")))
    for outcome in outcomes:
        result = json.loads(site.storage.get(keys.artifact(job_id, outcome.artifacts["json"])))
        assert result["input_path"] == outcome.input_path
        picture = site.storage.get(keys.artifact(job_id, outcome.artifacts["image"]))
        assert picture.startswith(b"\xff\xd8")
        assert picture.endswith(b"\xff\xd9")


def run_with_kills(folder: Path, items: int, kills: int, seed: int) -> None:
    draw(folder / "pictures", items)
    with run_site(folder) as site:
        job_id = submit(site, folder / "pictures")
        started = time.monotonic()
        killed = kill_at_random(site, job_id, kills, seed)
        status = wait(site, job_id, 300)
        blamed = check_whole(site, job_id, status, items)
        took = time.monotonic() - started
        print(f"\n{items} items, {killed.total()} kills in {took:.0f} s, {blamed} blamed: {dict(killed)}")
        assert killed.total() == kills, "the job was over before the kills were; give it more items"
        assert blamed <= 1


def test_every_item_ends_once_under_kill_9(tmp_path: Path) -> None:
    run_with_kills(tmp_path, items=500, kills=6, seed=7)


@pytest.mark.chaos
@pytest.mark.parametrize("seed", [1, 2])
def test_every_item_of_a_long_job_ends_once_under_25_kills(tmp_path: Path, seed: int) -> None:
    run_with_kills(tmp_path, items=2000, kills=25, seed=seed)
