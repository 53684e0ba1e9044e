"""Into the ledger from storage: a job that the ledger may have held before it was lost."""

from __future__ import annotations

from maskmill.shared.jobs.job_files import JobFiles
from maskmill.shared.ledger import Ledger


def enter_stored(ledger: Ledger, files: JobFiles) -> bool:
    """Enter the job as it was left, cancelled or paused; False where it is not stored or is entered already."""
    head = files.head()
    if head is None or not ledger.enter(head, recovered=True, paused=files.is_paused()):
        return False
    if files.is_cancelled():
        ledger.cancel(head.id)
    return True
