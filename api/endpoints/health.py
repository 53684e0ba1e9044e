"""Is the process alive, and can it serve?"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Literal

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel, Field

from maskmill.api.responses.forms import as_json, operation_id
from maskmill.api.services import Services, services
from maskmill.shared.errors import MaskmillError, Unavailable

api = APIBlueprint(
    "health", __name__, operation_id_callback=operation_id, url_prefix="/health", abp_tags=[Tag(name="Health")]
)


class Live(BaseModel):
    """The process answers."""

    status: Literal["live"] = "live"


class Ready(BaseModel):
    """Whether each service that is needed answers."""

    status: Literal["ready", "not ready"]
    checks: dict[str, str] = Field(description='"ok", or what is wrong, of "redis", "storage" and "models".')
    models: list[str] = Field(description="The models that live workers serve.")


@api.get("/live", responses={200: Live})
def live() -> Response:
    """Say that the process runs"""
    return as_json(Live())


@api.get("/ready", responses={200: Ready, 503: Ready})
def ready() -> Response:
    """Say whether Redis, storage and at least one model are there"""
    found = examine(services())
    return as_json(found, HTTPStatus.OK if found.status == "ready" else HTTPStatus.SERVICE_UNAVAILABLE)


def examine(held: Services) -> Ready:
    """Ask every service."""
    models: list[str] = []

    def look_for_models() -> None:
        models.extend(sorted(held.ledger.models()))
        if not models:
            raise Unavailable("no worker is running")

    checks = {
        "redis": _outcome(held.ledger.ping),
        "storage": _outcome(held.storage.ping),
        "models": _outcome(look_for_models),
    }
    well = all(outcome == "ok" for outcome in checks.values())
    return Ready(status="ready" if well else "not ready", checks=checks, models=models)


def _outcome(check: Callable[[], None]) -> str:
    try:
        check()
    except MaskmillError as error:
        return error.reason
    return "ok"
