"""What became of each item: planned items merged with their outcomes, a bounded number of shards a page."""

from __future__ import annotations

import json
from typing import Literal
from urllib.parse import quote

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel, Field

from maskmill.api.job_lookup import checked, find_status, job_url, read
from maskmill.api.responses.forms import PROBLEMS, as_json, operation_id
from maskmill.api.services import Services, services
from maskmill.shared.errors import NotFound
from maskmill.shared.jobs import keys
from maskmill.shared.jobs.records import FINAL_STATES, Failure, Item, Outcome, Shard

SHARDS_A_PAGE = 32

api = APIBlueprint(
    "items",
    __name__,
    operation_id_callback=operation_id,
    url_prefix="/v1",
    abp_tags=[Tag(name="Items")],
    abp_responses=PROBLEMS,
)

ItemStatus = Literal["pending", "succeeded", "failed", "skipped"]


class ItemView(BaseModel):
    """One item and what became of it."""

    number: int
    status: ItemStatus
    input_path: str
    page_index: int | None = Field(default=None, description="Page of a PDF or TIFF, from 0.")
    width: int | None = None
    height: int | None = None
    instances: int | None = Field(default=None, description="How many were found.")
    error: Failure | None = None
    artifacts: dict[str, str] = Field(default={}, description='"json" and "image": names of the artifacts.')
    links: dict[str, str] = Field(default={}, description='Paths: "self", and "json" and "image" where there are some.')


class ItemList(BaseModel):
    """Items by number; a page may hold fewer than `limit`, even none, and still not be the last."""

    items: list[ItemView]
    has_more: bool = Field(description="Whether items after this page are planned already.")
    next: int | None = Field(description="The `after` of the next page; null on the last.")


class ItemsPath(BaseModel):
    """Which job."""

    job_id: str


class ItemPath(ItemsPath):
    """Which item of which job."""

    number: int = Field(ge=0)


class ItemsQuery(BaseModel):
    """Which items."""

    status: ItemStatus | None = None
    after: int | None = Field(default=None, ge=-1, description="`next` of the page before.")
    limit: int = Field(default=100, ge=1, le=1000)


@api.get("/jobs/<job_id>/items", responses={200: ItemList})
def listing(path: ItemsPath, query: ItemsQuery) -> Response:
    """List what became of each input"""
    return as_json(page(services(), path.job_id, query))


@api.get("/jobs/<job_id>/items/<int:number>", responses={200: ItemView})
def show(path: ItemPath) -> Response:
    """Show one item, with links to its artifacts"""
    held = services()
    size = shard_size(held, path.job_id)
    reader = _Reader(held, path.job_id)
    for item in reader.items(path.number // size) or []:
        if item.number == path.number:
            return as_json(item)
    raise NotFound(f"job {path.job_id} has no item {path.number}, or has not listed it yet")


def page(held: Services, job_id: str, query: ItemsQuery) -> ItemList:
    """The items after `query.after`; reads at most SHARDS_A_PAGE shards."""
    size = shard_size(held, job_id)
    reader = _Reader(held, job_id)
    seen = -1 if query.after is None else query.after
    first = (seen + 1) // size
    found: list[ItemView] = []
    for number in range(first, first + SHARDS_A_PAGE):
        items = reader.items(number)
        if items is None:
            return ItemList(items=found, has_more=False, next=None)
        for item in items:
            if item.number <= seen:
                continue
            if len(found) == query.limit:
                return ItemList(items=found, has_more=True, next=seen)
            seen = item.number
            if query.status in (None, item.status):
                found.append(item)
    return ItemList(items=found, has_more=True, next=seen)


def shard_size(held: Services, job_id: str) -> int:
    """Items in a shard of the job; raises NotFound."""
    stored = read(held, keys.job(checked(job_id)))
    if stored is None:
        raise NotFound(f"there is no job {job_id}")
    # Not as a Job: that would check thousands of sources for each page of items.
    return int(json.loads(stored)["shard_size"])


class _Reader:
    """Shards of one job as views; whether what has no outcome is still pending is asked once."""

    def __init__(self, held: Services, job_id: str) -> None:
        self._services, self._job_id = held, job_id
        self._over: bool | None = None

    def items(self, shard: int) -> list[ItemView] | None:
        """A shard's items by number; None where the planner has not come to it."""
        if outcomes := read(self._services, keys.outcome(self._job_id, shard)):
            done = (Outcome.model_validate_json(line) for line in outcomes.splitlines())
            return [self._done(outcome) for outcome in sorted(done, key=lambda outcome: outcome.number)]
        planned = read(self._services, keys.shard(self._job_id, shard))
        return [self._open(item) for item in Shard.decode(planned).items] if planned else None

    def _done(self, outcome: Outcome) -> ItemView:
        files = f"{job_url(self._job_id)}/artifacts"
        links = {kind: f"{files}/{quote(name)}" for kind, name in outcome.artifacts.items()}
        return ItemView(**dict(outcome), links=self._links(outcome.number) | links)

    def _open(self, item: Item) -> ItemView:
        return ItemView(
            number=item.number,
            status="skipped" if self._is_over() else "pending",
            input_path=item.input_path,
            page_index=item.page_index,
            links=self._links(item.number),
        )

    def _links(self, number: int) -> dict[str, str]:
        return {"self": f"{job_url(self._job_id)}/items/{number}"}

    def _is_over(self) -> bool:
        if self._over is None:
            self._over = find_status(self._services, self._job_id).state in FINAL_STATES
        return self._over
