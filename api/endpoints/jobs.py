"""POST /v1/jobs and what can be asked of a job: its status, a list, cancel, pause, resume, priority and retry."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from http import HTTPStatus

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel, Field

from maskmill.api.job_lookup import JobView, files_of, find_head, find_status, job_url, queued, view
from maskmill.api.responses.forms import PROBLEMS, as_json, content, operation_id, reference
from maskmill.api.services import services
from maskmill.api.submission.accept import accept
from maskmill.api.submission.bodies import parse_json, read_json_bytes
from maskmill.api.submission.deletion import accept_deletion
from maskmill.api.submission.job_request import PriorityRequest, RetryRequest, parse_as
from maskmill.api.submission.retries import accept_retry
from maskmill.shared.errors import Conflict, IllegalMove, LedgerUnavailable, NotFound
from maskmill.shared.jobs.job_files import JobFiles
from maskmill.shared.jobs.keys import id_of
from maskmill.shared.jobs.records import FINAL_STATES, JobHead, JobState, JobStatus
from maskmill.shared.recovery import enter_stored

api = APIBlueprint(
    "jobs",
    __name__,
    operation_id_callback=operation_id,
    url_prefix="/v1",
    abp_tags=[Tag(name="Jobs")],
    abp_responses=PROBLEMS,
)

MULTIPART = {
    "type": "object",
    "properties": {
        "files": {
            "type": "array",
            "items": {"type": "string", "format": "binary"},
            "description": "Any number of parts of this name; each file name may be a relative path, which is kept.",
        },
        "manifest": {
            "type": "array",
            "items": {"type": "string", "format": "binary"},
            "description": "Any number of files whose rows name inputs.",
        },
        "job": reference("JobRequest"),
    },
}
BODY = {
    "required": True,
    "content": content("application/json", reference("JobRequest")) | content("multipart/form-data", MULTIPART),
}
RETRY_BODY = {"content": content("application/json", reference("RetryRequest"))}
PRIORITY_BODY = {"required": True, "content": content("application/json", reference("PriorityRequest"))}


class JobPath(BaseModel):
    """Which job."""

    job_id: str = Field(description="The job's id.")


class JobsQuery(BaseModel):
    """Which page of the jobs."""

    after: str | None = Field(default=None, description="`next` of the page before.")
    limit: int = Field(default=50, ge=1, le=200)


class DeleteQuery(BaseModel):
    """What of the job."""

    output: bool = Field(default=False, description="Delete also what it wrote to its own `output`.")


class DeletionView(BaseModel):
    """A job that is being deleted: it is not found any more, and what it stored goes bit by bit."""

    id: str
    output: bool = Field(description="Whether what it wrote to its own `output` is deleted too.")


class SubmitHeader(BaseModel):
    """What a submission may say beside its body."""

    idempotency_key: str | None = Field(
        default=None,
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        description="Makes repeating a request harmless: the same key and request answer with the first one's job.",
    )


class JobList(BaseModel):
    """Jobs, newest first; `next` is the `after` of the next page, null on the last."""

    jobs: list[JobView]
    next: str | None


@api.post(
    "/jobs",
    responses={202: JobView},
    description="JSON that names the sources, or multipart/form-data with any number of files as parts `files`, of "
    "manifests, whose rows name inputs, as parts `manifest`, and that JSON as part `job`. Once this answers 202, "
    "nothing that happens later loses the job.",
    openapi_extensions={"requestBody": BODY},
)
def submit(header: SubmitHeader) -> Response:
    """Submit a job"""
    job = accept(services(), header.idempotency_key)
    answer = as_json(view(_known(job)), HTTPStatus.ACCEPTED)
    answer.headers["Location"] = job_url(job.id)
    return answer


@api.get("/jobs", responses={200: JobList})
def listing(query: JobsQuery) -> Response:
    """List jobs, newest first"""
    held = services()
    found, more = held.ledger.jobs(held.tenant(), query.after, query.limit)
    return as_json(JobList(jobs=[view(status) for status in found], next=more))


@api.get("/jobs/<job_id>", responses={200: JobView})
def status(path: JobPath) -> Response:
    """Show a job: its state, counts, rate and the time it still needs"""
    return as_json(view(find_status(services(), path.job_id)))


@api.delete(
    "/jobs/<job_id>",
    responses={202: DeletionView},
    description="What it stored is deleted in the background, whatever dies meanwhile. Asked again while that is under "
    "way, the answer is the same; once nothing is left, it is 404.",
)
def delete(path: JobPath, query: DeleteQuery) -> Response:
    """Delete a job that is over, with all that it stored"""
    deletion = accept_deletion(services(), path.job_id, output=query.output)
    return as_json(DeletionView(id=path.job_id, output=deletion.with_output), HTTPStatus.ACCEPTED)


@api.post("/jobs/<job_id>/cancel", responses={200: JobView})
def cancel(path: JobPath) -> Response:
    """Cancel a job: what runs stops within seconds, what is done stays"""
    files = _going(path.job_id)
    # The marker first: a ledger that is lost and made anew from storage must not run the job again.
    files.mark_cancelled()
    return _move(files, "cancelled", services().ledger.cancel, undo=partial(files.mark_cancelled, cancelled=False))


@api.post("/jobs/<job_id>/pause", responses={200: JobView})
def pause(path: JobPath) -> Response:
    """Hold a job where it is, also over a loss of Redis"""
    files = _going(path.job_id)
    files.mark_paused()
    return _move(files, "paused", services().ledger.pause, undo=partial(files.mark_paused, paused=False))


@api.post("/jobs/<job_id>/resume", responses={200: JobView})
def resume(path: JobPath) -> Response:
    """Go on with a paused job"""
    files = _going(path.job_id)
    answer = _answer_moved(files, services().ledger.resume)
    files.mark_paused(paused=False)
    with contextlib.suppress(LedgerUnavailable):
        services().doorbell.ring("bulk", find_head(services(), path.job_id).options.model)
    return answer


@api.post(
    "/jobs/<job_id>/priority",
    responses={200: JobView},
    openapi_extensions={"requestBody": PRIORITY_BODY},
)
def priority(path: JobPath) -> Response:
    """Give a job another priority, from the next claim on, also over a loss of Redis"""
    wanted = parse_as(PriorityRequest, parse_json(read_json_bytes(services().settings)))
    files = _going(path.job_id)
    files.store_priority(wanted.priority)
    return _answer_moved(files, partial(services().ledger.set_priority, priority=wanted.priority))


@api.post(
    "/jobs/<job_id>/retry",
    responses={202: JobView},
    description="Of a job that is over what failed runs again, or what failed with one of the codes. Items keep their "
    "numbers; what comes of them takes the place of their failures. Once this answers 202, nothing loses the retry.",
    openapi_extensions={"requestBody": RETRY_BODY},
)
def retry(path: JobPath) -> Response:
    """Run again what failed in a job that is over"""
    body = read_json_bytes(services().settings)
    accept_retry(services(), path.job_id, parse_as(RetryRequest, parse_json(body) if body else {}))
    return as_json(view(find_status(services(), path.job_id)), HTTPStatus.ACCEPTED)


def _known(job: JobHead) -> JobStatus:
    try:
        return services().ledger.status(job.ref) or find_status(services(), job.id)
    except LedgerUnavailable:
        return queued(job)


def _going(job_id: str) -> JobFiles:
    """The files of a job that is not over; raises Conflict for one that is."""
    status = find_status(services(), job_id)
    # Its marker would stay, and move it once its ledger is lost.
    if status.state in {*FINAL_STATES, "finalizing"}:
        raise Conflict(f"the job is {status.state} already")
    return files_of(services(), job_id, status.retries)


def _move(files: JobFiles, after: JobState, move: Callable[[str], JobState], undo: Callable[[], None]) -> Response:
    """Move the job to the state `after`; `undo` takes its marker back where it can neither move there nor is there."""
    try:
        return _answer_moved(files, move)
    except IllegalMove:
        if find_status(services(), id_of(files.ref)).state != after:
            undo()
        raise


def _answer_moved(files: JobFiles, move: Callable[[str], JobState]) -> Response:
    _move_entered(files, move)
    with contextlib.suppress(LedgerUnavailable):
        services().doorbell.ring_control()
    return as_json(view(find_status(services(), id_of(files.ref))))


def _move_entered(files: JobFiles, move: Callable[[str], JobState]) -> None:
    try:
        move(files.ref)
    except NotFound:
        # Accepted while Redis was away, or lost with it. Its marker may have moved it as it was entered.
        enter_stored(services().ledger, files)
        with contextlib.suppress(IllegalMove):
            move(files.ref)
