"""One measurement's surroundings: a Redis and a folder of its own, a job of made-up pictures, and services on them."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.at_scale.storage import SlowStorage
from maskmill.shared.doorbell import Doorbell
from maskmill.shared.jobs.job_files import JobFiles
from maskmill.shared.jobs.records import Job, Options, new_job_id
from maskmill.shared.jobs.sources import PathSource, Source
from maskmill.shared.ledger import Ledger
from maskmill.shared.settings import Settings
from tests.services.redis_server import run_redis

MODEL = "shapes"
# A path of which the rest says how many pictures are made up.
MADE_UP = "/made-up/"


@dataclass(frozen=True)
class Bench:
    """What a role's process needs; `seconds` a storage call."""

    settings: Settings
    folder: Path
    seconds: float = 0

    def storage(self) -> SlowStorage:
        """The storage, with a count of its own."""
        return SlowStorage(self.folder, self.seconds)

    def ledger(self) -> Ledger:
        """The ledger, over a connection of its own."""
        settings = self.settings
        return Ledger(
            settings.redis_url,
            settings.redis_prefix,
            lease_seconds=settings.lease_seconds,
            window=settings.window_shards,
        )

    def at(self, seconds: float) -> Bench:
        """The same surroundings with another time a storage call."""
        return replace(self, seconds=seconds)

    def accept(self, count: int) -> Job:
        """Store and enter a job of `count` made-up pictures, as the API does; its bell is not rung."""
        return self.accept_source(PathSource(path=f"{MADE_UP}{count}"))

    def accept_source(self, source: Source) -> Job:
        """Store and enter a job of that source."""
        options, size = Options(model=MODEL), self.settings.shard_size
        job = Job(id=new_job_id(), created_at=time.time(), sources=(source,), options=options, shard_size=size)
        JobFiles(SlowStorage(self.folder), job.id).store_job(job)
        ledger = self.ledger()
        ledger.enter(job.head)
        ledger.disconnect()
        return job

    def ring(self) -> None:
        """Ring as the API does once a job is entered."""
        Doorbell(self.settings).ring_control()


@contextlib.contextmanager
def surroundings(seconds: float = 0, **more: object) -> Iterator[Bench]:
    """An empty Redis and an empty folder; `more` are settings that differ from the defaults."""
    with tempfile.TemporaryDirectory(prefix="scale-", ignore_cleanup_errors=True) as name, run_redis() as redis:
        given = {"redis_url": redis.url, "storage_url": f"file://{name}", "log_level": "WARNING", **more}
        yield Bench(Settings.model_validate(given), Path(name), seconds)
