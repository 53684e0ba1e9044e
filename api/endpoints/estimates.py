"""GET /v1/jobs/ID/estimate: what a dry run says of the job that it would be."""

from __future__ import annotations

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel, Field

from maskmill.api.endpoints.jobs import JobPath
from maskmill.api.job_lookup import files_of, find_head, find_status
from maskmill.api.responses.forms import PROBLEMS, as_json, operation_id
from maskmill.api.services import services
from maskmill.shared.errors import Conflict, NotFound
from maskmill.shared.folder_inputs import LeftOut
from maskmill.shared.jobs.records import FINAL_STATES, Estimate, JobHead, JobStatus

KEYS_A_LISTING = 1000
# US dollars for 1000 requests to S3 Standard in us-east-1, by its price list of November 2026.
LIST_OR_PUT, GET = 0.005, 0.0004

api = APIBlueprint(
    "estimates",
    __name__,
    operation_id_callback=operation_id,
    url_prefix="/v1",
    abp_tags=[Tag(name="Jobs")],
    abp_responses=PROBLEMS,
)


class Requests(BaseModel):
    """Requests to the stores, as far as the inputs are objects and the results are stored in S3."""

    list: int
    get: int
    put: int
    price_usd: float = Field(description="By the list price of S3 Standard in us-east-1.")


class EstimateView(BaseModel):
    """What the job would be. `rate` is items a second of the sample, on all workers; `eta_seconds` at that rate."""

    job_id: str
    inputs: int = Field(description="Entries of the listing: files, objects and URLs, before any is looked into.")
    pictures: int = Field(description="By their names; others have names of documents or archives, or say nothing.")
    paged: int
    unknown: int
    failing: int = Field(description="What cannot be read as it is listed: archived, or not allowed.")
    existing: int = Field(description="Pictures that an earlier job has done, and the job would skip.")
    size: int = Field(description="Bytes of the inputs whose size the listing tells.")
    sized: int = Field(description="How many inputs these are.")
    left_out: LeftOut
    sample: int = Field(description="How many pictures were run for the rate.")
    rate: float | None
    eta_seconds: float | None
    requests: Requests


@api.get("/jobs/<job_id>/estimate", responses={200: EstimateView})
def show(path: JobPath) -> Response:
    """Show what a dry run says of the job that it would be"""
    held = services()
    status, head = find_status(held, path.job_id), find_head(held, path.job_id)
    if not head.dry_run:
        raise NotFound(f"job {path.job_id} is no dry run")
    if status.state not in FINAL_STATES:
        raise Conflict(f"its inputs are still counted, or the sample still runs: the job is {status.state}")
    found = files_of(held, path.job_id).estimate()
    if found is None:
        raise Conflict(f"the job is {status.state} before its inputs were counted")
    return as_json(_view(head, status, found))


def _view(head: JobHead, status: JobStatus, found: Estimate) -> EstimateView:
    to_run = found.inputs - found.failing - found.existing
    eta = round(to_run / status.rate, 1) if status.rate else None
    return EstimateView(
        job_id=head.id,
        inputs=found.inputs,
        left_out=status.left_out,
        sample=status.counts.done,
        rate=status.rate,
        eta_seconds=eta,
        requests=_requests(head, status, found.inputs, to_run),
        **found.model_dump(),
    )


def _requests(head: JobHead, status: JobStatus, inputs: int, to_run: int) -> Requests:
    """A listing a page of keys, an object an input, the artifacts of each, and two files a shard."""
    listed = -(-(inputs + status.left_out.total) // KEYS_A_LISTING)
    artifacts = head.options.save_json + head.options.save_image
    put = artifacts * to_run + 2 * -(-to_run // services().settings.shard_size)
    price = ((listed + put) * LIST_OR_PUT + to_run * GET) / 1000
    return Requests(list=listed, get=to_run, put=put, price_usd=round(price, 4))
