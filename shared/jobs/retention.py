"""When a job that is over expires: a marker in storage for it, below the day from which on it may be deleted.

expire/DAY/REF/job         from that day on (UTC) the job may be deleted, with all that it stored
expire/DAY/REF/uploads     so may its uploads

They are written when the job is closed, before its report is. So what is due is found without looking at any other job,
also after a loss of Redis; what a marker says of a job is looked up in the job itself once its day has come.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import NamedTuple

from maskmill.shared.jobs import deletions, keys
from maskmill.shared.jobs.deletions import Deletion
from maskmill.shared.jobs.job_files import JobFiles
from maskmill.shared.jobs.records import DAY_SECONDS, JobHead, JobStatus, expires_at
from maskmill.shared.storage import Storage

_MARKER = re.compile(rf"{keys.EXPIRE}\d{{4}}-\d\d-\d\d/({deletions.REF})/({deletions.PARTS})")


class Due(NamedTuple):
    """Something that may be deleted, by its marker."""

    marker: str
    ref: str
    part: str


def mark(storage: Storage, head: JobHead, report: JobStatus) -> JobStatus:
    """Mark when the job and its uploads expire; its report, that says so."""
    for marker in _markers(head, report):
        storage.put(marker, b"")
    return report.model_copy(update={"expires_at": expires_at(report.finished_at, head.keep_days)})


def forget(files: JobFiles) -> None:
    """Take the markers of the job back; where it is spoiled they stay until their day, and say nothing then."""
    with suppress(ValueError):
        head, report = files.head(), files.report()
        for marker in _markers(head, report) if head and report else ():
            files.storage.delete(marker)


def due(storage: Storage, now: float) -> Iterator[Due]:
    """What the markers say may be deleted; it costs a listing of these."""
    tomorrow = keys.EXPIRE + _day(now + DAY_SECONDS)
    found = map(_MARKER.fullmatch, itertools.takewhile(lambda key: key < tomorrow, storage.list(keys.EXPIRE)))
    return (Due(marker[0], marker[1], marker[2]) for marker in found if marker)


def delete_expired(storage: Storage, one: Due, now: float) -> bool:
    """Begin to delete it, where the job says so too, and drop the marker; whether it did begin."""
    files = JobFiles(storage, one.ref)
    expired = _is_expired(files, one.part, now)
    if expired is not None:
        if one.part == deletions.UPLOADS:
            deletions.begin_uploads(storage, one.ref)
        else:
            deletions.begin(storage, one.ref, Deletion(ended_at=expired))
    storage.delete(one.marker)
    return expired is not None


def _is_expired(files: JobFiles, part: str, now: float) -> float | None:
    """When the job was over, where it is and that is so long ago; its marker may be of a job of this ref before."""
    head, report = files.head(), files.report()
    if head is None or report is None or report.finished_at is None or files.is_open():
        return None
    at = expires_at(report.finished_at, head.keep_uploads_days if part == deletions.UPLOADS else head.keep_days)
    return report.finished_at if at is not None and at <= now else None


def _markers(head: JobHead, report: JobStatus) -> list[str]:
    job, uploads = (expires_at(report.finished_at, days) for days in (head.keep_days, head.keep_uploads_days))
    if job is not None and uploads is not None and uploads >= job:
        uploads = None
    ends = ((deletions.JOB, job), (deletions.UPLOADS, uploads))
    # Below the day after: the listing of a day that has come must find nothing that is not due yet.
    return [keys.expire(_day(at + DAY_SECONDS), head.ref, part) for part, at in ends if at is not None]


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).date().isoformat()
