"""Into the ledger from storage: a job that the ledger may have held before it was lost."""

from __future__ import annotations

from maskmill.shared.jobs.job_files import JobFiles
from maskmill.shared.ledger import EnteredState, Ledger


def enter_stored(ledger: Ledger, files: JobFiles, *, recovered: bool = True) -> bool:
    """Enter the job, or its retry, as it was left, cancelled or paused.

    False where it is not stored, is over or is entered already. `recovered` says that it may have been entered before,
    in a ledger that was lost.
    """
    head, before = files.head(), files.report() if files.retry else None
    if files.retry and (before is None or before.retries != files.retry - 1):
        return False
    # In one move: whoever enters it may die right after, and it would run.
    return head is not None and ledger.enter(
        head, state=_state(files), recovered=recovered, priority=files.priority(), before=before
    )


def _state(files: JobFiles) -> EnteredState:
    return "cancelled" if files.is_cancelled() else "paused" if files.is_paused() else "queued"
