"""Claim shards, run them through the pipeline, commit them: what a bulk worker does when its doorbell rings."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from maskmill.shared.doorbell import Doorbell
from maskmill.shared.errors import IllegalMove, KeyNotFound, LedgerUnavailable, NotFound, WorkerCrashed
from maskmill.shared.jobs.job_files import JobFiles, count
from maskmill.shared.jobs.keys import id_of
from maskmill.shared.jobs.records import Failure, Item, JobHead, PlanPage, page_of
from maskmill.shared.ledger import Ledger, ShardLease
from maskmill.shared.storage import Storage
from maskmill.shared.storage.outputs import Outputs
from maskmill.worker.outcomes import outcome_of
from maskmill.worker.patient_storage import PatientStorage
from maskmill.worker.pipeline.pipeline import Pipeline
from maskmill.worker.retry import patiently
from maskmill.worker.shards.expansion import ChunkExpander
from maskmill.worker.shards.item_task import ItemTask
from maskmill.worker.shards.leases import Leases
from maskmill.worker.shards.shard_run import TOUCHES, Held, ShardRun
from maskmill.worker.sources.fetch import Fetcher

TURN_SECONDS = 20
KEPT_JOBS, KEPT_PAGES = 8, 4
COMMITS_AT_ONCE = 8
# Where committing is slower than the device, claiming waits.
MOST_LEASES = 32

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class KnownJob:
    """What a job's shards have in common."""

    head: JobHead
    passwords: dict[str, str]
    output: Storage | None


@dataclass
class Claimer:
    """Runs the shards of one model on one pipeline; `run` is for one thread."""

    owner: str
    pipeline: Pipeline
    storage: Storage
    outputs: Outputs
    ledger: Ledger
    doorbell: Doorbell
    fetcher: Fetcher
    expander: ChunkExpander
    leases: Leases
    draining: Callable[[], bool]
    _committing: ThreadPoolExecutor = field(init=False)
    _expanding: ThreadPoolExecutor = field(init=False)
    _job: Callable[[str, int], KnownJob] = field(init=False)
    _page: Callable[[str, int, int], bytes] = field(init=False)

    def __post_init__(self) -> None:
        # By run of the job, neither changes once it is stored.
        self._job = lru_cache(KEPT_JOBS)(self._read_job)
        self._page = lru_cache(KEPT_PAGES)(self._read_page)
        self._committing = ThreadPoolExecutor(COMMITS_AT_ONCE, thread_name_prefix="commit")
        self._expanding = ThreadPoolExecutor(1, thread_name_prefix="expand")

    def run(self) -> None:
        """Claim and run until nothing is ready, a turn is over, or the worker drains; see the last through."""
        model = self.pipeline.model.name
        turn_over = time.monotonic() + TURN_SECONDS
        while not self.draining():
            lease = self._claim(model) if time.monotonic() < turn_over else None
            if lease is not None:
                self._start(lease)
            elif len(self.leases):
                self.leases.wait_for_change(0.05)
            else:
                break
        while len(self.leases):
            self.leases.wait_for_change(0.5)
        if time.monotonic() > turn_over and not self.draining():
            self._ring(self.doorbell.ring, "bulk", model)

    def _claim(self, model: str) -> ShardLease | None:
        while len(self.leases) >= MOST_LEASES:
            self.leases.wait_for_change(0.5)
        return patiently(self.ledger.claim, model, self.owner)

    def _start(self, lease: ShardLease) -> None:
        try:
            if lease.expands:
                # Not kept: the size of the job's shards is not settled yet.
                held = Held(lease, self._read_job(lease.ref, lease.retry).head)
                self.leases.hold(held)
                self._expanding.submit(self._end, self._expand, held)
            else:
                self._start_shard(lease, self._job(lease.ref, lease.retry))
        except KeyNotFound as error:
            logger.error("shard %s/%s cannot run: %s", lease.ref, lease.member, error.reason)
            with contextlib.suppress(IllegalMove, NotFound):
                patiently(self.ledger.fail, lease.ref, Failure.of("run", error))
            self._ring(self.doorbell.ring_control)

    def _start_shard(self, lease: ShardLease, known: KnownJob) -> None:
        files = self._files(lease)
        stored = files.outcomes(lease.shard) if lease.look else None
        if stored is not None:
            self._finish(lease, count(stored))
            return
        page = self._page(lease.ref, lease.retry, page_of(lease.shard))
        items = PlanPage.decode_shard(page, lease.shard, known.head)
        run = ShardRun(lease, known.head, items, self._commit_soon, known.passwords)
        self.leases.hold(run)
        if not run.items:
            self._commit_soon(run)
        elif lease.crashes:
            self._run_carefully(run)
        else:
            for item in run.items:
                self._put(run, item)

    def _files(self, lease: ShardLease) -> JobFiles:
        return JobFiles(PatientStorage(self.storage), lease.ref, retry=lease.retry)

    def _read_job(self, ref: str, _retry: int) -> KnownJob:
        # A retry finds no passwords any more, whoever runs it.
        files = JobFiles(PatientStorage(self.storage), ref)
        head = files.head()
        if head is None:
            raise KeyNotFound(f"head.json of job {id_of(ref)} is not in the storage any more")
        return KnownJob(head, files.passwords(head), self.outputs.of(head.output) if head.output else None)

    def _read_page(self, ref: str, retry: int, number: int) -> bytes:
        page = JobFiles(PatientStorage(self.storage), ref, retry=retry).page_data(number)
        if page is None:
            raise KeyNotFound(f"page {number} of the plan of job {id_of(ref)} is not in the storage any more")
        return page

    def _put(self, run: ShardRun, item: Item, after: Callable[[], None] | None = None) -> None:
        if item.failure:
            run.fail(item, item.failure)
        elif item.existing:
            run.add(outcome_of(item, "skipped"))
        else:
            files = JobFiles(self.storage, run.lease.ref, self._job(run.lease.ref, run.lease.retry).output)
            self.pipeline.put(ItemTask(run, item, self.pipeline.model, files, self.fetcher, after))

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
            if not (item.failure or item.existing):
                over.wait()
            patiently(self.ledger.survived, run.lease, item.number)

    # What waits for the storage, several at once.

    def _commit_soon(self, run: ShardRun) -> None:
        self._committing.submit(self._end, self._commit, run)

    def _end(self, task: Callable[[Any], None], held: Held) -> None:
        try:
            task(held)
        except Exception:
            logger.exception("shard %s/%s is not committed", held.lease.ref, held.lease.member)
        self.leases.drop(held)

    def _commit(self, run: ShardRun) -> None:
        if not run.whole:
            patiently(self.ledger.release, run.lease)
            return
        files = self._files(run.lease)
        if self._may_be_anothers(run) and (stored := files.outcomes(run.lease.shard)) is not None:
            # What belongs to it may have been folded with a retry since.
            self._finish(run.lease, count(stored))
            return
        files.store_annotations(run.lease.shard, run.annotation_lines())
        self._store_refs(run)
        self._finish(run.lease, files.commit(run.lease.shard, run.outcomes))

    def _may_be_anothers(self, run: ShardRun) -> bool:
        """Whether the lease is over, or may be by now: this process may have stood still."""
        return run.state is None or time.monotonic() - run.renewed_at > self.ledger.lease_seconds

    def _store_refs(self, run: ShardRun) -> None:
        """Before the commit: who comes after a crash between the two stores them again.

        A retry's shard is none of the job's: those that it mends are listed anew when it is folded back.
        """
        output = self._job(run.lease.ref, run.lease.retry).output
        if output and not run.lease.retry:
            files = JobFiles(self.storage, run.lease.ref, PatientStorage(output))
            files.store_refs(run.job, run.lease.shard, run.outcomes)

    def _expand(self, held: Held) -> None:
        if self.expander.expand(held, self._files(held.lease)):
            self._finish(held.lease, {})
        else:
            patiently(self.ledger.release, held.lease)

    def _finish(self, lease: ShardLease, counts: dict[str, int]) -> None:
        finished = patiently(self.ledger.finish, lease, counts)
        if finished.control_due:
            self._ring(self.doorbell.ring_control)
        if finished.admitted:
            self._ring(self.doorbell.ring, "bulk", self.pipeline.model.name, finished.admitted)

    def _ring(self, ring: Callable[..., None], *what: object) -> None:
        """Ring; a bell that cannot be rung now is rung by the sweeper."""
        try:
            ring(*what)
        except LedgerUnavailable as error:
            logger.warning("not rung: %s", error)
