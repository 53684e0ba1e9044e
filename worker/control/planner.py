"""Plan a job: its sources become items, its items shards, each stored before it can be claimed.

Planning goes on from the ledger's cursor, runs ahead of the workers by a bounded window, and may be killed
anywhere: a shard that is stored already is adopted as it is, never made anew.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from maskmill.shared.doorbell import CONTROL_QUEUE, Doorbell
from maskmill.shared.errors import KeyNotFound, RequestError
from maskmill.shared.jobs import keys
from maskmill.shared.jobs.records import Failure, Job, Shard
from maskmill.shared.ledger import Ledger, PlanLease
from maskmill.shared.settings import Settings
from maskmill.shared.storage import Storage
from maskmill.worker.outcomes import settle_stored
from maskmill.worker.retry import patiently
from maskmill.worker.sources.pages import Expander

WAIT_SECONDS = 30


@dataclass(frozen=True)
class Planner:
    """What planning needs; one for the process, safe in many threads."""

    settings: Settings
    storage: Storage
    ledger: Ledger
    doorbell: Doorbell
    expander: Expander

    def plan(self, job_id: str) -> None:
        """Go on planning the job until it is planned, its window is full for long, or another planner has it."""
        lease = self.ledger.claim_plan(job_id)
        if lease is None:
            return
        job = Job.model_validate_json(self.storage.get(keys.job(job_id)))
        try:
            ended = self._add_shards(job, lease)
        except RequestError as error:
            self.ledger.fail(job_id, Failure.of("plan", error))
            self.doorbell.ring_close(job_id)
            return
        if ended and self.ledger.end_plan(lease) in ("finalizing", "failed"):
            self.doorbell.ring_close(job_id)
        elif not ended:
            self.ledger.rest_plan(lease)

    def _add_shards(self, job: Job, lease: PlanLease) -> bool:
        if lease.shards and lease.cursor is None:
            return True
        for shard, adopted in self._shards(job, lease):
            if not self._add(lease, shard):
                if not adopted and self.ledger.is_over(job.id):
                    self.storage.delete(keys.shard(job.id, shard.number))
                return False
            if adopted and settle_stored(self.storage, self.ledger, job.id, shard.number):
                continue
            self.doorbell.ring("bulk", job.options.model)
        return True

    def _add(self, lease: PlanLease, shard: Shard) -> bool:
        """Enter the shard, waiting while the window is full; False where somebody else should go on."""
        give_up = time.monotonic() + WAIT_SECONDS
        while True:
            verdict = self.ledger.add_shard(lease, shard.number, len(shard.items), shard.cursor)
            if verdict != "full":
                return verdict == "added"
            if time.monotonic() > give_up or self.doorbell.waiting(CONTROL_QUEUE):
                return False
            time.sleep(0.1)

    def _shards(self, job: Job, lease: PlanLease) -> Iterator[tuple[Shard, bool]]:
        """The shards from the lease's cursor on, stored; and whether each was there before."""
        number, planned, cursor = lease.shards, lease.planned, lease.cursor
        fresh: Iterator[Shard] | None = None
        while True:
            shard = self._stored(job.id, number)
            adopted = shard is not None
            if shard is None:
                fresh = fresh or self._cut(job, number, planned, cursor)
                shard = next(fresh)
                patiently(self.storage.put, keys.shard(job.id, number), shard.encode(), if_absent=True)
            else:
                fresh = None
            yield shard, adopted
            if shard.cursor is None:
                return
            number, planned, cursor = number + 1, planned + len(shard.items), shard.cursor

    def _stored(self, job_id: str, number: int) -> Shard | None:
        try:
            return Shard.decode(patiently(self.storage.get, keys.shard(job_id, number)))
        except KeyNotFound:
            return None

    def _cut(self, job: Job, number: int, planned: int, cursor: dict[str, Any] | None) -> Iterator[Shard]:
        """Cut the items behind `cursor` into shards; only the last has no cursor, and may be short."""
        found = self.expander.items(job, planned, cursor)
        following = next(found, None)
        for shard in itertools.count(number):
            run = [] if following is None else [following, *itertools.islice(found, job.shard_size - 1)]
            following = next(found, None)
            items = tuple(item for item, _ in run)
            if items and items[-1].number >= self.settings.max_items:
                raise RequestError(f"the job has more than {self.settings.max_items} items, the most one job may have")
            yield Shard(number=shard, items=items, cursor=run[-1][1] if following else None)
