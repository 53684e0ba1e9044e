"""Real workers for tests: control, sweeper and device children under their supervisor, given jobs directly."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from maskmill.api.submission.accept import without_passwords
from maskmill.shared.doorbell import Doorbell
from maskmill.shared.jobs import keys
from maskmill.shared.jobs.job_files import JobFiles
from maskmill.shared.jobs.keys import DEFAULT_TENANT
from maskmill.shared.jobs.records import FINAL_STATES, Item, Job, JobStatus, Options, Outcome, new_job_id
from maskmill.shared.jobs.sources import Source
from maskmill.shared.ledger import Ledger
from maskmill.shared.settings import Settings
from maskmill.shared.storage import open_storage
from maskmill.worker.device import parse_devices
from maskmill.worker.processes.supervisor import CONTROL_ROLES, Role, Supervisor, device_role


class Workers:
    """The running processes and what a client of theirs needs."""

    def __init__(self, settings: Settings, roles: Sequence[Role]) -> None:
        self.settings = settings
        self.storage = open_storage(settings)
        self.ledger = Ledger(settings.redis_url, settings.redis_prefix, window=settings.window_shards)
        self.doorbell = Doorbell(settings)
        self._supervisor = Supervisor(roles, settings)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._supervisor.run_until, args=(self._stop,))

    def start(self) -> None:
        self._thread.start()
        wait_until(lambda: set(self.settings.models) <= set(self.ledger.models()), 60)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        self.ledger.disconnect()
        self.doorbell.close()

    def processes(self, *words: str) -> list[int]:
        """Ids of the supervised processes (and their forks) whose command line holds all `words`."""
        return processes_of(self.settings, *words)

    def submit(
        self,
        sources: Sequence[Source],
        options: Options | None = None,
        *,
        shard_size: int = 8,
        output: str | None = None,
        tenant: str = DEFAULT_TENANT,
    ) -> str:
        """Accept a job as the API does, and enter it; its ref."""
        ref = self.accept(sources, options, shard_size=shard_size, output=output, tenant=tenant)
        head = self.files(ref).head()
        assert head
        self.ledger.enter(head)
        self.doorbell.ring_control()
        return ref

    def accept(
        self,
        sources: Sequence[Source],
        options: Options | None = None,
        *,
        shard_size: int = 8,
        output: str | None = None,
        tenant: str = DEFAULT_TENANT,
    ) -> str:
        """Store a job as the API does before it enters it; its ref."""
        job = Job(
            id=new_job_id(),
            tenant=tenant,
            created_at=time.time(),
            sources=tuple(sources),
            options=options or Options(),
            shard_size=shard_size,
            output=output,
        )
        files = self.files(job.ref)
        job, passwords = without_passwords(job)
        key = files.store_passwords("passwords", passwords) if passwords else None
        files.store_job(job.model_copy(update={"passwords": key}))
        return job.ref

    def files(self, ref: str) -> JobFiles:
        """The job's files."""
        return JobFiles(self.storage, ref)

    def wait(self, ref: str, seconds: float = 120) -> JobStatus:
        """The job's report, once it is written."""
        wait_until(lambda: self.storage.size(keys.report(ref)) is not None, seconds)
        wait_until(lambda: self.storage.size(keys.open_marker(ref)) is None, seconds)
        return JobStatus.model_validate_json(self.storage.get(keys.report(ref)))

    def wait_for_progress(self, ref: str, done: int, seconds: float = 60) -> None:
        """Return once `done` items have their outcome."""

        def far_enough() -> bool:
            status = self.ledger.status(ref)
            return status is not None and (status.counts.done >= done or status.state in FINAL_STATES)

        wait_until(far_enough, seconds)

    def outcomes(self, ref: str) -> list[Outcome]:
        """Every outcome that is stored, in order."""
        numbers = [keys.number_of(key) for key in self.storage.list(keys.outcomes(ref))]
        return [outcome for number in numbers for outcome in self.files(ref).outcomes(number) or ()]

    def items(self, ref: str) -> list[Item]:
        """Every item that is planned, in order."""
        files = self.files(ref)
        pages = [files.page(number) for number in range(files.page_count())]
        return [item for page in pages if page for item in page.items]

    def artifacts(self, ref: str) -> dict[str, bytes]:
        """Every artifact by its name."""
        top = keys.artifact(ref, "")
        return {key.removeprefix(top): self.storage.get(key) for key in self.storage.list(top)}


def settings_for(tmp_path: Path, redis_url: str, **more: str) -> Settings:
    """Settings of workers that keep everything below `tmp_path`, read tmp_path/pictures, and notice deaths soon."""
    env = {
        "MASKMILL_REDIS_URL": redis_url,
        "MASKMILL_STORAGE_URL": f"file://{tmp_path}/storage",
        "MASKMILL_LOCAL_ROOTS": str(tmp_path / "pictures"),
        "MASKMILL_RUN_DIR": f"{tmp_path}/run",
        "MASKMILL_ALLOW_NETWORKS": "127.0.0.0/8",
        "MASKMILL_LEASE_SECONDS": "2",
        "MASKMILL_SWEEP_SECONDS": "0.3",
        "MASKMILL_CPU_THREADS": "1",
    }
    return Settings.from_env({**env, **more})


@contextlib.contextmanager
def run_workers(
    settings: Settings, devices: str = "cpu", *, control: bool = True, lane: str = "bulk"
) -> Iterator[Workers]:
    """Workers of one lane, ready to work; drained at the end."""
    parsed = parse_devices(devices)
    roles = [device_role(str(device), lane, device.environment()) for device in parsed]
    workers = Workers(settings, [*(CONTROL_ROLES if control else ()), *roles])
    workers.start()
    try:
        yield workers
    finally:
        workers.stop()


def wait_until(condition: object, seconds: float) -> None:
    """Return once `condition()` holds; fails after `seconds`."""
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not so within {seconds:g} s"
        time.sleep(0.05)


def processes_of(settings: Settings, *words: str) -> list[int]:
    """Ids of our descendants that were started with these settings' run folder, whose command line holds all `words`.

    Others may run beside them, such as the workers of a fixture of the whole run.
    """
    return [
        pid
        for pid in descendants(os.getpid())
        if all(word in command_line(pid) for word in words) and _runs_in(pid, settings.run_dir)
    ]


def _runs_in(pid: int, run_dir: Path) -> bool:
    with contextlib.suppress(OSError):
        return f"MASKMILL_RUN_DIR={run_dir}" in Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return False


def descendants(pid: int) -> list[int]:
    """Ids of the process's children and theirs."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, task.read_text().split()):
                found += [child, *descendants(child)]
    return found


def command_line(pid: int) -> str:
    """The process's arguments, one space between them; empty where it is gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return ""


def kill(pid: int) -> None:
    """kill -9, where it still runs."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
