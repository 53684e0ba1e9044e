"""Every error becomes an answer: RFC 9457 problem documents below /v1, PaddleX's envelope elsewhere."""

from __future__ import annotations

import json
import logging
import re
import uuid
from collections.abc import Sequence
from http import HTTPStatus

from flask import Flask, Response, g, request
from pydantic import BaseModel, Field, ValidationError
from werkzeug.exceptions import HTTPException

from maskmill.shared.errors import BodyTooLarge, InvalidRequest, MaskmillError

log = logging.getLogger(__name__)

RETRY_AFTER_SECONDS = "5"
UNEXPECTED = "Internal server error"


class FieldError(BaseModel):
    """One field of the request that is wrong."""

    pointer: str = Field(description="JSON pointer of the field, or ?name of a query parameter.")
    detail: str


class Problem(BaseModel):
    """A problem document (RFC 9457)."""

    type: str = Field(description="urn:maskmill:problem: and the code.")
    title: str
    status: int
    detail: str
    code: str = Field(description="The kind of error, for programs.")
    instance: str = Field(description="The path asked for.")
    errors: list[FieldError] = []


class InvalidFields(InvalidRequest):
    """Several fields are wrong; each is named."""

    def __init__(self, fields: Sequence[FieldError]) -> None:
        super().__init__("; ".join(f"{field.pointer or 'the body'}: {field.detail}" for field in fields))
        self.fields = tuple(fields)


def refuse_query(error: ValidationError) -> Response:
    """Raise the query's or header's faults as InvalidFields."""
    raise InvalidFields(
        [FieldError(pointer=f"?{problem['loc'][0]}", detail=problem["msg"]) for problem in error.errors()]
    )


def register(app: Flask) -> None:
    """Answer every error of the application in the form of its path."""
    app.register_error_handler(MaskmillError, _answer_ours)
    app.register_error_handler(HTTPException, _answer_http)
    app.register_error_handler(Exception, _answer_unexpected)


def envelope(status: int, message: str, log_id: str | None = None) -> Response:
    """The error envelope of the drop-in endpoint; `log_id` is the client's own, echoed."""
    body = {"logId": log_id or str(uuid.uuid4()), "errorCode": status, "errorMsg": message}
    return Response(json.dumps(body), status, content_type="application/json")


def _answer_ours(error: MaskmillError) -> Response:
    if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("%s %s: %s: %s", request.method, request.path, error.code, error.reason)
    return _answer(error.status, error.code, error.reason, _fields(error))


def _answer_http(error: HTTPException) -> Response:
    status = HTTPStatus(error.code or 500)
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return _answer(status, BodyTooLarge.code, "the request body is larger than this server accepts")
    detail = _DETAILS.get(status, error.description or status.phrase)
    answer = _answer(status, status.phrase.lower().replace(" ", "_").replace("-", "_"), detail)
    for name, value in error.get_headers():
        if name in ("Allow", "Retry-After"):
            answer.headers[name] = value
    return answer


def _answer_unexpected(error: Exception) -> Response:
    log.error("%s %s failed", request.method, request.path, exc_info=error)
    return _answer(500, "internal", "the server met an error it did not expect; its log tells more")


_DETAILS = {
    HTTPStatus.NOT_FOUND: "nothing is served at this path; /docs lists what is",
    HTTPStatus.METHOD_NOT_ALLOWED: "this path does not take this method; /docs lists what it takes",
}


def _fields(error: MaskmillError) -> list[FieldError]:
    if isinstance(error, InvalidFields):
        return list(error.fields)
    return [FieldError(pointer=error.pointer, detail=error.reason)] if error.pointer is not None else []


def _answer(status: int, code: str, detail: str, fields: Sequence[FieldError] = ()) -> Response:
    answer = (
        _problem(status, code, detail, fields) if request.path.startswith("/v1") else _enveloped(status, code, detail)
    )
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        answer.headers["Retry-After"] = RETRY_AFTER_SECONDS
    return answer


def _enveloped(status: int, code: str, detail: str) -> Response:
    # PaddleX's own words where it has some; else what was wrong.
    plain = status in (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED)
    message = HTTPStatus(status).phrase if plain else UNEXPECTED if code == "internal" else detail
    return envelope(status, message, g.get("log_id"))


def _problem(status: int, code: str, detail: str, fields: Sequence[FieldError]) -> Response:
    problem = Problem(
        type=f"urn:maskmill:problem:{code}",
        title=re.sub("_", " ", code).capitalize(),
        status=status,
        detail=detail,
        code=code,
        instance=request.path,
        errors=list(fields),
    )
    return Response(problem.model_dump_json(), status, content_type="application/problem+json")
