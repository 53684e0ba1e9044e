"""How a job's deletion is accepted: marked in storage, so that whatever dies it goes on, then told to the ledger."""

from __future__ import annotations

import contextlib
import time

from maskmill.api.job_lookup import files_of, find_status
from maskmill.api.services import Services
from maskmill.shared.errors import Conflict, LedgerUnavailable
from maskmill.shared.jobs import deletions
from maskmill.shared.jobs.deletions import Deletion
from maskmill.shared.jobs.job_files import JobFiles
from maskmill.shared.jobs.keys import id_of
from maskmill.shared.jobs.records import FINAL_STATES


def accept_deletion(services: Services, job_id: str, *, output: bool) -> Deletion:
    """Let the job be deleted, with `output` also what it wrote there; the deletion that is under way.

    Raises NotFound, Conflict where it is not over or is being deleted without its output, and BucketRefused.
    """
    files = files_of(services, job_id)
    deletion = deletions.find(services.storage, files.ref) or _begin(services, files, output=output)
    if output and not deletion.with_output:
        raise Conflict("the job is being deleted already, without what it wrote to its output")
    services.output_of.forget()
    # Else the sweeper finds the marker once Redis is back.
    with contextlib.suppress(LedgerUnavailable):
        if not files.is_open():
            services.ledger.drop(files.ref)
        services.ledger.add_work([deletions.work_of(files.ref)])
        services.doorbell.ring_control()
    return deletion


def _begin(held: Services, files: JobFiles, *, output: bool) -> Deletion:
    """Mark the job as being deleted; raises Conflict for one that is not over, BucketRefused for a foreign output."""
    status = find_status(held, id_of(files.ref))
    if status.state not in FINAL_STATES:
        what = "wait until it is over" if status.state == "finalizing" else "cancel it first"
        raise Conflict(f"the job is {status.state}; {what}")
    if output and status.output:
        held.outputs.check(status.output)
    wanted = Deletion(ended_at=status.finished_at or time.time(), with_output=output, output=status.output)
    return deletions.begin(held.storage, files.ref, wanted)
