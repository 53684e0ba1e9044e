"""Is the process alive, and can it serve?"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Literal

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel, Field

from maskmill.api.probes import SECONDS, by
from maskmill.api.responses.forms import as_json, operation_id
from maskmill.api.services import Services, services
from maskmill.shared.errors import MaskmillError, Unavailable
from maskmill.shared.jobs.records import Lane

api = APIBlueprint(
    "health", __name__, operation_id_callback=operation_id, url_prefix="/health", abp_tags=[Tag(name="Health")]
)


class Live(BaseModel):
    """The process answers."""

    status: Literal["live"] = "live"


class ReadyQuery(BaseModel):
    """Ready for what."""

    lane: Lane | None = Field(
        default=None, description='"bulk" (jobs) or "interactive" (the drop-in endpoint); without it any lane will do.'
    )


class Ready(BaseModel):
    """Whether what is needed is there."""

    status: Literal["ready", "not ready"]
    checks: dict[str, str] = Field(
        description='"ok", or what is wrong, of "redis", "storage", "models" and "workers" (what they wait for).'
    )
    models: dict[str, dict[Lane, bool]] = Field(
        description="By model and lane whether a worker has loaded the model and serves it."
    )
    conditional_writes: Literal["atomic", "not atomic", "not known"] = Field(
        description="Whether of several who create an object at once the storage lets one win, found out by a race. "
        "Where it does not, the outcomes of a job are counted again from what is stored when it closes."
    )


@api.get("/live", responses={200: Live})
def live() -> Response:
    """Say that the process runs"""
    return as_json(Live())


@api.get(
    "/ready",
    responses={200: Ready, 503: Ready},
    description="Ready means that Redis and storage answer and that a worker has loaded a model and serves it: in the "
    "lane asked for, else in any. Workers that still load do not count. Ask with `lane=bulk` before jobs are sent "
    "here, with `lane=interactive` before requests to the drop-in endpoint are.",
)
def ready(query: ReadyQuery) -> Response:
    """Say whether Redis, storage and a model are there"""
    found = examine(services(), query.lane)
    return as_json(found, HTTPStatus.OK if found.status == "ready" else HTTPStatus.SERVICE_UNAVAILABLE)


def examine(held: Services, lane: Lane | None = None) -> Ready:
    """Ask every service, all at the same time."""
    deadline = time.monotonic() + SECONDS
    redis, storage, served = held.probes.redis.start(), held.probes.storage.start(), held.probes.models.start()
    troubles, atomic = held.probes.troubles.start(), held.probes.atomic.start()
    models: dict[str, dict[Lane, bool]] = {}

    def look_for_models() -> None:
        found = by(deadline, served)
        models.update(found)
        if not models:
            raise Unavailable("no worker is running, or none has loaded its models yet")
        if lane and not any(lanes[lane] for lanes in models.values()):
            raise Unavailable(f"no worker serves the {lane} lane, or none has loaded its models yet")

    def look_for_troubles() -> None:
        if found := by(deadline, troubles):
            raise Unavailable("; ".join(f"{worker}: {trouble}" for worker, trouble in sorted(found.items())))

    checks = {
        "redis": _outcome(partial(by, deadline, redis)),
        "storage": _outcome(partial(by, deadline, storage)),
        "models": _outcome(look_for_models),
        "workers": _outcome(look_for_troubles),
    }
    well = all(outcome == "ok" for outcome in checks.values())
    status: Literal["ready", "not ready"] = "ready" if well else "not ready"
    return Ready(
        status=status, checks=checks, models=models, conditional_writes=_said_of(partial(by, deadline, atomic))
    )


def _said_of(is_atomic: Callable[[], bool]) -> Literal["atomic", "not atomic", "not known"]:
    try:
        return "atomic" if is_atomic() else "not atomic"
    except MaskmillError:
        return "not known"


def _outcome(check: Callable[[], None]) -> str:
    try:
        check()
    except MaskmillError as error:
        return error.reason
    return "ok"
