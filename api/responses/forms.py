"""The forms of an answer, and how the OpenAPI document tells of them."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from flask import Response
from pydantic import BaseModel

REFERENCE = "#/components/schemas/{model}"


def as_json(body: BaseModel, status: int = 200) -> Response:
    """The model as a JSON answer."""
    return Response(body.model_dump_json(), status, content_type="application/json")


def content(media_type: str, schema: dict[str, Any]) -> dict[str, Any]:
    """A `content` object of OpenAPI with one media type."""
    return {media_type: {"schema": schema}}


def reference(model: str) -> dict[str, Any]:
    """The schema of a model, by name."""
    return {"$ref": REFERENCE.format(model=model)}


def operation_id(*, bp_name: str, name: str, **_: str) -> str:
    """The name of an operation in the document: its area and its function."""
    return f"{bp_name}_{name}"


def _problem(description: str) -> dict[str, Any]:
    return {"description": description, "content": content("application/problem+json", reference("Problem"))}


# What every endpoint below /v1 may answer besides its own.
PROBLEMS: dict[str | int | HTTPStatus, type[BaseModel] | dict[Any, Any] | None] = {
    "422": _problem("A field is missing, unknown or out of range; `errors` names it."),
    "4XX": _problem("The request is wrong, or the job's state does not allow it."),
    "5XX": _problem("The server cannot answer now."),
}
