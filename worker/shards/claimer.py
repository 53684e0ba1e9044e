"""Claim shards, run them through the pipeline, commit them: what a bulk worker does when its doorbell rings."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

from maskmill.shared.doorbell import Doorbell
from maskmill.shared.errors import WorkerCrashed
from maskmill.shared.jobs import keys
from maskmill.shared.jobs.records import Failure, Item, Job, Shard
from maskmill.shared.ledger import Ledger, ShardLease
from maskmill.shared.storage import Storage
from maskmill.worker.outcomes import commit, stored_counts
from maskmill.worker.pipeline.pipeline import Pipeline
from maskmill.worker.retry import patiently
from maskmill.worker.shards.leases import Leases
from maskmill.worker.shards.shard_run import ItemTask, ShardRun
from maskmill.worker.sources.fetch import Fetcher

TURN_SECONDS = 20
TOUCHES = 2
KEPT_JOBS = 8

logger = logging.getLogger(__name__)


@dataclass
class Claimer:
    """Runs the shards of one model on one pipeline; `run` is for one thread."""

    owner: str
    pipeline: Pipeline
    storage: Storage
    ledger: Ledger
    doorbell: Doorbell
    fetcher: Fetcher
    leases: Leases
    draining: Callable[[], bool]
    _committing: queue.Queue[ShardRun] = field(default_factory=queue.Queue)
    _job: Callable[[str], Job] = field(init=False)

    def __post_init__(self) -> None:
        # A job is immutable and may name thousands of sources: it is not read again for each of its shards.
        self._job = lru_cache(KEPT_JOBS)(self._read_job)
        threading.Thread(target=self._commit_all, name="commit", daemon=True).start()

    def run(self) -> None:
        """Claim and run until nothing is ready, a turn is over, or the worker drains; see the last through."""
        model = self.pipeline.model.name
        turn_over = time.monotonic() + TURN_SECONDS
        while not self.draining():
            lease = None if time.monotonic() > turn_over else patiently(self.ledger.claim, model, self.owner)
            if lease is not None:
                self._start(lease)
            elif len(self.leases):
                self.leases.wait_for_change(0.05)
            else:
                break
        while len(self.leases):
            self.leases.wait_for_change(0.5)
        if time.monotonic() > turn_over and not self.draining():
            self.doorbell.ring("bulk", model)

    def _start(self, lease: ShardLease) -> None:
        job = self._job(lease.job_id)
        # Also at a first attempt: a ledger made anew from storage counts the attempts anew.
        counts = stored_counts(self.storage, lease.job_id, lease.shard)
        if counts is not None:
            self._finish(job, lease, counts)
            return
        shard = Shard.decode(patiently(self.storage.get, keys.shard(lease.job_id, lease.shard)))
        run = ShardRun(lease, job, shard.items, self._committing.put)
        self.leases.hold(run)
        if not run.items:
            self._committing.put(run)
        elif lease.crashes:
            self._run_carefully(run)
        else:
            for item in run.items:
                self._put(run, item)

    def _read_job(self, job_id: str) -> Job:
        return Job.model_validate_json(patiently(self.storage.get, keys.job(job_id)))

    def _put(self, run: ShardRun, item: Item, after: Callable[[], None] | None = None) -> None:
        if item.failure:
            run.fail(item, item.failure)
        else:
            self.pipeline.put(ItemTask(run, item, self.pipeline.model, self.storage, self.fetcher, after))

    # A shard whose worker died may hold the input that killed it: one item at a time, each noted before it is touched.

    def _run_carefully(self, run: ShardRun) -> None:
        while len(self.leases) > 1:
            self.leases.wait_for_change(0.5)
        hopeless = run.lease.crashes > TOUCHES * len(run.items) + TOUCHES
        for item in run.items:
            if run.wanted and (hopeless or patiently(self.ledger.touch, run.lease, item.number) >= TOUCHES):
                reason = f"the worker died {TOUCHES} times while it ran this input"
                run.fail(item, Failure.of("run", WorkerCrashed(reason)))
                continue
            over = threading.Event()
            self._put(run, item, over.set)
            if not item.failure:
                over.wait()
            patiently(self.ledger.survived, run.lease, item.number)

    # Commits

    def _commit_all(self) -> None:
        while True:
            run = self._committing.get()
            try:
                self._commit(run)
            except Exception:
                logger.exception("shard %s/%d is not committed", run.lease.job_id, run.lease.shard)
            self.leases.drop(run)

    def _commit(self, run: ShardRun) -> None:
        job_id, number = run.lease.job_id, run.lease.shard
        if not run.whole:
            patiently(self.ledger.release, run.lease)
            return
        patiently(self.storage.put, keys.annotation(job_id, number), run.annotation_lines())
        counts = commit(self.storage, job_id, number, run.outcomes)
        self._finish(run.job, run.lease, counts)

    def _finish(self, job: Job, lease: ShardLease, counts: dict[str, int]) -> None:
        finished = patiently(self.ledger.finish, lease, counts)
        if finished.hungry:
            patiently(self.doorbell.ring_plan, job.id)
        if finished.state in ("finalizing", "failed"):
            patiently(self.doorbell.ring_close, job.id)
