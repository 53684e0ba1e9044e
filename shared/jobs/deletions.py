"""What is being deleted: a marker in storage for each deletion, so that none is forgotten with Redis.

deleting/REF/job           the job is being deleted, with all that it stored; holds a Deletion
deleting/REF/uploads       its uploads are

The marker is there before anything is deleted, and goes when nothing is left to delete.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Literal

from pydantic import Field

from maskmill.shared.errors import KeyNotFound
from maskmill.shared.jobs import keys
from maskmill.shared.jobs.sources import Wire
from maskmill.shared.storage import Storage

JOB, UPLOADS = "job", "uploads"
# What is deleted of what.
PARTS, REF = f"{JOB}|{UPLOADS}", r"(?:[a-z0-9-]+\.)?[0-9a-z]+"
_MARKER = re.compile(f"{keys.DELETING}({REF})/({PARTS})")


class Deletion(Wire):
    """What is deleted of a job: what it stored here and, where it says so, what it wrote to its own output."""

    version: Literal[1] = 1
    ended_at: float = Field(description="When the job was over, or that was asked for.")
    with_output: bool = False
    output: str | None = Field(default=None, description="The URL of that output, where it has one.")


def begin(storage: Storage, ref: str, deletion: Deletion) -> Deletion:
    """Mark the job as being deleted; the deletion that is under way, this one or one before."""
    key = keys.deleting(ref, JOB)
    if storage.put(key, deletion.model_dump_json().encode(), if_absent=True):
        return deletion
    return find(storage, ref) or deletion


def begin_uploads(storage: Storage, ref: str) -> None:
    """Mark the job's uploads as being deleted."""
    storage.put(keys.deleting(ref, UPLOADS), b"")


def find(storage: Storage, ref: str) -> Deletion | None:
    """The job's deletion that is under way."""
    with suppress(KeyNotFound):
        return Deletion.model_validate_json(storage.get(keys.deleting(ref, JOB)))
    return None


def is_under_way(storage: Storage, ref: str, part: str = JOB) -> bool:
    """Whether the job, or its uploads, are being deleted."""
    return storage.size(keys.deleting(ref, part)) is not None


def end(storage: Storage, ref: str, part: str = JOB) -> None:
    """Nothing of it is left."""
    if part == JOB:
        # A job that the same Idempotency-Key makes has uploads of its own.
        storage.delete(keys.deleting(ref, UPLOADS))
    storage.delete(keys.deleting(ref, part))


def work_of(ref: str, part: str = JOB) -> str:
    """What the ledger calls the control work of the deletion."""
    return f"delete/{ref}/{part}"


def all_work(storage: Storage) -> Iterator[str]:
    """The control work of all deletions that are under way."""
    found = map(_MARKER.fullmatch, storage.list(keys.DELETING))
    return (work_of(marker[1], marker[2]) for marker in found if marker)
