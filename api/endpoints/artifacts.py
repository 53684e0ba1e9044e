"""GET …/artifacts/{path}: a job's stored artifacts, streamed."""

from __future__ import annotations

import mimetypes
from collections.abc import Iterator
from contextlib import ExitStack
from http import HTTPStatus
from typing import BinaryIO, cast

from flask import Response, redirect, request
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel, Field

from maskmill.api.job_lookup import find_results
from maskmill.api.responses.forms import PROBLEMS, content, operation_id
from maskmill.api.services import services
from maskmill.shared.errors import InvalidKey, KeyNotFound, NotFound
from maskmill.shared.jobs.results import is_result
from maskmill.shared.storage.protocol import check_key

PIECE_BYTES = 1 << 18
LINK_SECONDS = 900
FILE = {"description": "The artifact.", "content": content("*/*", {"type": "string", "format": "binary"})}
REDIRECT = {
    "description": "Where `MASKMILL_S3_PUBLIC_ENDPOINT` is set: a link to the artifact that holds for 15 minutes."
}

api = APIBlueprint(
    "artifacts",
    __name__,
    operation_id_callback=operation_id,
    url_prefix="/v1",
    abp_tags=[Tag(name="Items")],
    abp_responses=PROBLEMS,
)


class ArtifactPath(BaseModel):
    """Which artifact of which job."""

    job_id: str
    name: str = Field(description="A name as the item's `artifacts` tells it; it may hold slashes.")


@api.get("/jobs/<job_id>/artifacts/<path:name>", responses={200: FILE, 307: REDIRECT})
def download(path: ArtifactPath) -> Response:
    """Download an artifact"""
    held = ExitStack()
    try:
        files = find_results(services(), path.job_id)
        # Here, not left to the storage: a server behind it may resolve `..` to another job's objects.
        key = check_key(files.artifact_key(path.name))
        if files.output and not is_result(path.name):
            # Below the output lies what others put there.
            raise NotFound(f"job {path.job_id} has no artifact {path.name[:200]!r}")
        size = files.results.size(key)
        # Signed for GET alone.
        if size is not None and request.method == "GET" and (link := files.results.link(key, LINK_SECONDS)):
            return _leading_to(link)
        stream = held.enter_context(files.results.open(key))
    except (KeyNotFound, InvalidKey):
        raise NotFound(f"job {path.job_id} has no artifact {path.name[:200]!r}") from None
    answer = Response(_pieces(stream), content_type=_content_type(path.name))
    answer.call_on_close(held.close)
    if size is not None:
        answer.content_length = size
    answer.headers["X-Content-Type-Options"] = "nosniff"
    return answer


def _leading_to(link: str) -> Response:
    answer = redirect(link, HTTPStatus.TEMPORARY_REDIRECT)
    answer.headers["Cache-Control"] = "no-store"
    return cast(Response, answer)


def _pieces(stream: BinaryIO) -> Iterator[bytes]:
    while piece := stream.read(PIECE_BYTES):
        yield piece


def _content_type(name: str) -> str:
    if name.endswith(".jsonl"):
        return "application/jsonl"
    return mimetypes.guess_type(name)[0] or "application/octet-stream"
