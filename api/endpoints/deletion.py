"""DELETE /v1/jobs/{id}: a job that is over, with all that it stored."""

from __future__ import annotations

import contextlib
import time
from http import HTTPStatus

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel, Field

from maskmill.api.endpoints.jobs import JobPath
from maskmill.api.job_lookup import files_of, find_status
from maskmill.api.responses.forms import PROBLEMS, as_json, operation_id
from maskmill.api.services import Services, services
from maskmill.shared.errors import Conflict, LedgerUnavailable
from maskmill.shared.jobs import deletions
from maskmill.shared.jobs.deletions import Deletion
from maskmill.shared.jobs.job_files import JobFiles
from maskmill.shared.jobs.keys import id_of
from maskmill.shared.jobs.records import FINAL_STATES

api = APIBlueprint(
    "deletion",
    __name__,
    operation_id_callback=operation_id,
    url_prefix="/v1",
    abp_tags=[Tag(name="Jobs")],
    abp_responses=PROBLEMS,
)


class DeleteQuery(BaseModel):
    """What of the job."""

    output: bool = Field(default=False, description="Delete also what it wrote to its own `output`.")


class DeletionView(BaseModel):
    """A job that is being deleted: it is not found any more, and what it stored goes bit by bit."""

    id: str
    output: bool = Field(description="Whether what it wrote to its own `output` is deleted too.")


@api.delete(
    "/jobs/<job_id>",
    responses={202: DeletionView},
    description="What it stored is deleted in the background, whatever dies meanwhile. Asked again while that is under "
    "way, the answer is the same; once nothing is left, it is 404.",
)
def delete(path: JobPath, query: DeleteQuery) -> Response:
    """Delete a job that is over, with all that it stored"""
    held, files = services(), files_of(services(), path.job_id)
    deletion = deletions.find(held.storage, files.ref) or _begin(held, files, output=query.output)
    if query.output and not deletion.with_output:
        raise Conflict("the job is being deleted already, without what it wrote to its output")
    held.output_of.forget()
    # Else the sweeper finds the marker once Redis is back.
    with contextlib.suppress(LedgerUnavailable):
        if not files.is_open():
            held.ledger.drop(files.ref)
        held.ledger.add_work([deletions.work_of(files.ref)])
        held.doorbell.ring_control()
    return as_json(DeletionView(id=path.job_id, output=deletion.with_output), HTTPStatus.ACCEPTED)


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
