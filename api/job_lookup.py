"""Where a job of the request's tenant stands: from the ledger, else from what storage holds of it."""

from __future__ import annotations

import re

from pydantic import Field

from maskmill.api.services import Services
from maskmill.shared.errors import LedgerUnavailable, NotFound
from maskmill.shared.jobs import deletions
from maskmill.shared.jobs.job_files import JobFiles
from maskmill.shared.jobs.keys import id_of, job_ref
from maskmill.shared.jobs.records import JOB_ID_PATTERN, Counts, JobHead, JobStatus, Retry

LINKED = ("items", "artifacts", "cancel", "pause", "resume", "priority", "retry")


class JobView(JobStatus):
    """A job's status and where to go from it."""

    links: dict[str, str] = Field(
        description='Paths: "self", "items", "artifacts", "cancel", "pause", "resume", "priority", "retry", "delete".'
    )


def job_url(job_id: str) -> str:
    """The path of a job below the API's root."""
    return f"/v1/jobs/{job_id}"


def view(status: JobStatus) -> JobView:
    """The status with its links."""
    here = job_url(status.id)
    links = {"self": here} | {name: f"{here}/{name}" for name in LINKED}
    return JobView(**dict(status), links=links | {"delete": here})


def find_status(services: Services, job_id: str) -> JobStatus:
    """The status from the ledger, else from the report, else that of a job or a retry that waits to be entered.

    Raises NotFound for a job that was never accepted or is deleted, LedgerUnavailable where only the ledger would know.
    """
    away: LedgerUnavailable | None = None
    try:
        if known := services.ledger.status(ref_of(services, job_id)):
            return known
    except LedgerUnavailable as error:
        away = error
    files = files_of(services, job_id)
    _check_kept(services, files)
    report = files.report()
    retry = running_retry(files, report)
    if report and not retry:
        return report
    head = files.head()
    if head is None:
        raise NotFound(f"there is no job {job_id}")
    if away:
        raise LedgerUnavailable("the job is safe, but where it stands is not known while Redis is away") from away
    if report and retry:
        asked = {"state": "queued", "retries": retry.number, "finished_at": None, "error": None}
        return report.model_copy(update=asked)
    return queued(head, files.priority())


def running_retry(files: JobFiles, report: JobStatus | None) -> Retry | None:
    """The retry of the job that is accepted and not over, as storage tells; `report` is that of the run before."""
    return files.accepted_retry(report.retries + 1) if report else None


def find_head(services: Services, job_id: str) -> JobHead:
    """The job as accepted, without its sources; raises NotFound."""
    files = files_of(services, job_id)
    _check_kept(services, files)
    head = files.head()
    if head is None:
        raise NotFound(f"there is no job {job_id}")
    return head


def _check_kept(services: Services, files: JobFiles) -> None:
    """Raise NotFound where the job is being deleted, whatever of it is left."""
    if deletions.is_under_way(services.storage, files.ref):
        raise NotFound(f"there is no job {id_of(files.ref)}")


def find_results(services: Services, job_id: str) -> JobFiles:
    """The files of the job with where its artifacts are; raises NotFound."""
    ref = ref_of(services, job_id)
    output = services.output_of(ref)
    return JobFiles(services.storage, ref, services.outputs.of(output) if output else None)


def files_of(services: Services, job_id: str, retry: int = 0) -> JobFiles:
    """The files of the job, or of that retry of it; raises NotFound for what can be no id."""
    return JobFiles(services.storage, ref_of(services, job_id), retry=retry)


def ref_of(services: Services, job_id: str) -> str:
    """What the system calls the job of that id of the request's tenant.

    Raises NotFound for what can be no id, so that nothing else of a path reaches ledger or storage.
    """
    if not re.fullmatch(JOB_ID_PATTERN, job_id):
        raise NotFound(f"there is no job {job_id[:60]!r}")
    return job_ref(services.tenant(), job_id)


def queued(job: JobHead, priority: int | None = None) -> JobStatus:
    """The status of a job that is accepted and no more, but that it may have been given a priority since."""
    return JobStatus(
        id=job.id,
        name=job.name,
        state="queued",
        model=job.options.model,
        priority=job.options.priority if priority is None else priority,
        counts=Counts(),
        created_at=job.created_at,
        output=job.output,
    )
