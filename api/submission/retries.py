"""How a retry of a job that is over is accepted: its marker, its record (accepted), ledger, doorbell."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator

from maskmill.api.job_lookup import files_of, find_status
from maskmill.api.services import Services
from maskmill.api.submission.job_request import RetryRequest
from maskmill.shared.errors import Conflict, LedgerUnavailable, NotFound
from maskmill.shared.jobs import deletions
from maskmill.shared.jobs.job_files import JobFiles
from maskmill.shared.jobs.records import FINAL_STATES, SHARDS_A_ROLLUP, JobStatus, Outcome, Retry, shards_of
from maskmill.shared.recovery import enter_stored

# How far a request looks for a failure of its codes; what lies behind is left to who plans the retry.
SHARDS_LOOKED_AT = 64


def accept_retry(services: Services, job_id: str, wanted: RetryRequest) -> None:
    """Store and enter another run of what failed in the job, or find the same one that is accepted already.

    Raises NotFound; Conflict where the job is not over, nothing of it is to be retried, or another retry came first;
    LedgerUnavailable where Redis is away, which alone knows that the job is over.
    """
    files = files_of(services, job_id)
    report = _final_status(services, files, job_id)
    codes = tuple(sorted(set(wanted.codes))) if wanted.codes else None
    if deletions.is_under_way(services.storage, files.ref):
        raise NotFound(f"there is no job {job_id}")
    asked = Retry(number=report.retries + 1, codes=codes, accepted_at=time.time())
    _check_failures(files, report, asked)
    accepted = files.accept_retry(asked)
    # Who accepted it may have died before it was entered.
    enter_stored(services.ledger, files_of(services, job_id, asked.number), recovered=accepted != asked)
    with contextlib.suppress(LedgerUnavailable):
        services.doorbell.ring_control()
    if accepted.codes != codes:
        raise Conflict(f"another retry of the job came first, of what failed as {_listed(accepted.codes or ('any',))}")


def _final_status(services: Services, files: JobFiles, job_id: str) -> JobStatus:
    """The final status of the job; raises Conflict where it is not over."""
    status = find_status(services, job_id)
    if status.state not in FINAL_STATES:
        raise Conflict(f"the job is {status.state}; only one that is over can be retried")
    report = files.report()
    if report is None or report.retries < status.retries or services.ledger.is_open(files.ref):
        raise Conflict(f"the job is {status.state}, but not closed yet; try again in a few seconds")
    return report


def _check_failures(files: JobFiles, report: JobStatus, retry: Retry) -> None:
    """Raise Conflict where nothing of the job is to be retried, as far as a request may look."""
    if not report.counts.failed:
        raise Conflict("nothing of the job failed, so there is nothing to retry")
    if retry.codes is None:
        return
    seen: set[str] = set()
    for shards, outcomes in enumerate(_failing(files, report)):
        if shards == SHARDS_LOOKED_AT or any(map(retry.wants, outcomes)):
            return
        seen.update(outcome.error.code for outcome in outcomes if outcome.error)
    raise Conflict(f"nothing of the job failed as {_listed(retry.codes)}; its failures are {_listed(sorted(seen))}")


def _failing(files: JobFiles, report: JobStatus) -> Iterator[list[Outcome]]:
    """The outcomes of each shard that holds failures."""
    head = files.head()
    shards = shards_of(report.counts.planned, head) if head else 0
    for number in range(-(-shards // SHARDS_A_ROLLUP)):
        rollup = files.rollup(number)
        for shard in sorted(rollup.failures) if rollup else ():
            yield files.outcomes(shard) or []


def _listed(codes: Iterable[str]) -> str:
    return ", ".join(codes)
