"""Close a job: give every item its outcome, count the outcomes that are stored, write the report."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass

from maskmill.shared.jobs import keys
from maskmill.shared.jobs.records import FINAL_STATES, Counts, Job, JobStatus, Shard
from maskmill.shared.ledger import Ledger
from maskmill.shared.settings import Settings
from maskmill.shared.storage import Storage
from maskmill.worker.outcomes import commit, outcome_of, stored_counts


@dataclass(frozen=True)
class Closer:
    """What closing needs; one for the process, safe in many threads and twice for one job."""

    settings: Settings
    storage: Storage
    ledger: Ledger

    def close(self, job_id: str) -> None:
        """Close the job if it is over and still open."""
        status = self.ledger.status(job_id)
        if status is None or not self.ledger.is_open(job_id):
            return
        if status.state != "finalizing" and status.state not in FINAL_STATES:
            return
        for number in self._unsettled(job_id):
            self._skip(job_id, number)
        report = self._report(status)
        self.storage.put(keys.report(job_id), report.model_dump_json().encode(), if_absent=True)
        self.ledger.close(job_id, report.counts, self.settings.keep_seconds)
        self.storage.delete(keys.open_marker(job_id))

    def _unsettled(self, job_id: str) -> list[int]:
        """The stored shards without outcomes: those the ledger holds, and one a planner stored and could not enter."""
        stored, settled = (
            {keys.number_of(key) for key in self.storage.list(top)}
            for top in (keys.shards(job_id), keys.outcomes(job_id))
        )
        return sorted(stored - settled)

    def _skip(self, job_id: str, number: int) -> None:
        """Settle a shard that will not run: its items are skipped, unless a worker has committed it meanwhile."""
        shard = Shard.decode(self.storage.get(keys.shard(job_id, number)))
        skipped = [outcome_of(item, "skipped") for item in shard.items]
        self.ledger.settle(job_id, number, commit(self.storage, job_id, number, skipped))

    def _report(self, status: JobStatus) -> JobStatus:
        """The final status, its counts taken from the outcomes that are stored."""
        counted: Counter[str] = Counter()
        for key in self.storage.list(keys.outcomes(status.id)):
            counted.update(stored_counts(self.storage, status.id, keys.number_of(key)) or {})
        total = sum(counted.values())
        counts = Counts(total=total, planned=total, **counted)
        state = "completed" if status.state == "finalizing" else status.state
        update = {"state": state, "counts": counts, "finished_at": time.time(), "eta_seconds": None}
        return status.model_copy(update=update)


def enter_again(storage: Storage, ledger: Ledger) -> list[str]:
    """Enter the open jobs that the ledger does not hold, as after a loss of Redis; the ids of those entered."""
    entered = []
    for key in storage.list(keys.OPEN):
        job_id = key.removeprefix(keys.OPEN)
        if ledger.is_open(job_id) or storage.size(keys.job(job_id)) is None:
            continue
        if storage.size(keys.report(job_id)) is not None:
            storage.delete(key)
            continue
        if not ledger.enter(Job.model_validate_json(storage.get(keys.job(job_id)))):
            continue
        if storage.size(keys.cancelled(job_id)) is not None:
            ledger.cancel(job_id)
        entered.append(job_id)
    return entered
