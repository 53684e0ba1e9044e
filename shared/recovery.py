"""Into the ledger from storage: a job that the ledger may have held before it was lost."""

from __future__ import annotations

from maskmill.shared.jobs.job_files import JobFiles
from maskmill.shared.ledger import EnteredState, Ledger


def enter_stored(ledger: Ledger, files: JobFiles) -> bool:
    """Enter the job as it was left, cancelled or paused; False where it is not stored or is entered already."""
    head = files.head()
    # In one move: whoever enters it may die right after, and it would run.
    return head is not None and ledger.enter(head, state=_state(files), recovered=True)


def _state(files: JobFiles) -> EnteredState:
    return "cancelled" if files.is_cancelled() else "paused" if files.is_paused() else "queued"
