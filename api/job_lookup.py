"""Where a job stands: from the ledger, else from what storage holds of it."""

from __future__ import annotations

import re

from pydantic import Field

from maskmill.api.services import Services
from maskmill.shared.errors import KeyNotFound, LedgerUnavailable, NotFound
from maskmill.shared.jobs import keys
from maskmill.shared.jobs.records import JOB_ID_PATTERN, Counts, Job, JobStatus


class JobView(JobStatus):
    """A job's status and where to go from it."""

    links: dict[str, str] = Field(description='Paths: "self", "items", "artifacts", "cancel", "pause", "resume".')


def job_url(job_id: str) -> str:
    """The path of a job below the API's root."""
    return f"/v1/jobs/{job_id}"


def view(status: JobStatus) -> JobView:
    """The status with its links."""
    here = job_url(status.id)
    links = {"self": here} | {name: f"{here}/{name}" for name in ("items", "artifacts", "cancel", "pause", "resume")}
    return JobView(**dict(status), links=links)


def find_status(services: Services, job_id: str) -> JobStatus:
    """The status from the ledger, else from the report, else that of a job that waits to be entered.

    Raises NotFound for a job that was never accepted, LedgerUnavailable where only the ledger would know.
    """
    away: LedgerUnavailable | None = None
    try:
        if known := services.ledger.status(checked(job_id)):
            return known
    except LedgerUnavailable as error:
        away = error
    if report := read(services, keys.report(job_id)):
        return JobStatus.model_validate_json(report)
    accepted = queued(find_job(services, job_id))
    if away:
        raise LedgerUnavailable("the job is safe, but where it stands is not known while Redis is away") from away
    return accepted


def find_job(services: Services, job_id: str) -> Job:
    """The job as accepted; raises NotFound."""
    stored = read(services, keys.job(checked(job_id)))
    if stored is None:
        raise NotFound(f"there is no job {job_id}")
    return Job.model_validate_json(stored)


def queued(job: Job) -> JobStatus:
    """The status of a job that is accepted and no more."""
    return JobStatus(
        id=job.id,
        name=job.name,
        state="queued",
        model=job.options.model,
        priority=job.options.priority,
        counts=Counts(),
        created_at=job.created_at,
    )


def read(services: Services, key: str) -> bytes | None:
    """The object under `key`, None where there is none."""
    try:
        return services.storage.get(key)
    except KeyNotFound:
        return None


def checked(job_id: str) -> str:
    """`job_id` if it can be one; raises NotFound, so that nothing else of a path reaches storage."""
    if not re.fullmatch(JOB_ID_PATTERN, job_id):
        raise NotFound(f"there is no job {job_id[:60]!r}")
    return job_id
