"""What became of each item: planned items merged with their outcomes, a bounded number of shards a page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel, Field

from maskmill.api.job_lookup import find_head, find_status, job_url, running_retry
from maskmill.api.responses.forms import PROBLEMS, as_json, operation_id
from maskmill.api.services import Services, services
from maskmill.shared.errors import NotFound
from maskmill.shared.jobs.job_files import JobFiles
from maskmill.shared.jobs.records import (
    FINAL_STATES,
    SHARDS_A_ROLLUP,
    Failure,
    Item,
    JobHead,
    Outcome,
    PlanPage,
    Retry,
    page_of,
    rollup_of,
)

SHARDS_A_VIEW, ROLLUPS_A_VIEW = 32, 32

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
    head = find_head(held, path.job_id)
    for item in _Reader(held, head).items(path.number // head.shard_size) or []:
        if item.number == path.number:
            return as_json(item)
    raise NotFound(f"job {path.job_id} has no item {path.number}, or has not listed it yet")


def page(held: Services, job_id: str, query: ItemsQuery) -> ItemList:
    """The items after `query.after`, of a bounded number of shards; failed ones without reading what succeeded."""
    head = find_head(held, job_id)
    reader = _Reader(held, head)
    seen = -1 if query.after is None else query.after
    first = (seen + 1) // head.shard_size
    shards = reader.failing(first) if query.status == "failed" else iter(range(first, first + SHARDS_A_VIEW))
    found: list[ItemView] = []
    for shard in shards:
        if isinstance(shard, _Looked):
            return ItemList(items=found, has_more=shard.more, next=shard.last_item if shard.more else None)
        items = reader.items(shard)
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


@dataclass(frozen=True)
class _Looked:
    """How far a search came: behind `last_item`, with `more` to look at or not."""

    last_item: int
    more: bool


class _Reader:
    """Shards of one job as views; whether what has no outcome is still pending is asked once."""

    def __init__(self, held: Services, head: JobHead) -> None:
        self._services, self._head = held, head
        self._files = JobFiles(held.storage, head.ref)
        self._over: bool | None = None
        self._retry: Retry | None = None
        self._retry_asked = False
        self._page: PlanPage | None = None

    def failing(self, first: int) -> Iterator[int | _Looked]:
        """The shards from `first` on that hold failures, as the roll-ups tell; then how far they were looked at."""
        read = 0
        numbers = range(rollup_of(first), rollup_of(first) + ROLLUPS_A_VIEW)
        for number in numbers:
            failures = self._failures(number)
            if failures is None:
                yield _Looked(-1, more=False)
                return
            for shard in sorted(shard for shard in failures if shard >= first):
                if read == SHARDS_A_VIEW:
                    yield _Looked(shard * self._head.shard_size - 1, more=True)
                    return
                read += 1
                yield shard
        yield _Looked(numbers.stop * SHARDS_A_ROLLUP * self._head.shard_size - 1, more=True)

    def _failures(self, rollup: int) -> set[int] | None:
        """The shards of a roll-up that hold failures; None where nothing behind it is planned."""
        if stored := self._files.rollup(rollup):
            return set(stored.failures)
        first = rollup * SHARDS_A_ROLLUP
        if self._files.page(page_of(first)) is None:
            return None
        finished = self._services.ledger.finished(self._head.ref, rollup)
        failures = {shard for shard, counts in finished.items() if counts["failed"]}
        _, recovered = self._services.ledger.admitted(self._head.ref)
        if finished and not recovered:
            return failures
        # Nothing is done there, or an earlier ledger knew: then every file that this one has not counted may hold some.
        return failures | (set(self._files.committed_shards(first, first + SHARDS_A_ROLLUP)) - set(finished))

    def items(self, shard: int) -> list[ItemView] | None:
        """A shard's items by number; None where the planner has not come to it."""
        outcomes = self._files.outcomes(shard)
        if outcomes is not None:
            return [self._done(outcome) for outcome in outcomes]
        planned = self._planned(shard)
        return [self._open(item) for item in planned] if planned else None

    def _planned(self, shard: int) -> tuple[Item, ...]:
        number = page_of(shard)
        if self._page is None or self._page.number != number:
            self._page = self._files.page(number)
        return self._page.shard(shard, self._head) if self._page else ()

    def _done(self, outcome: Outcome) -> ItemView:
        if outcome.status == "failed" and self._runs_again(outcome):
            return self._pending(outcome)
        files = f"{job_url(self._head.id)}/artifacts"
        links = {kind: f"{files}/{quote(name)}" for kind, name in outcome.artifacts.items()}
        return ItemView(**dict(outcome), links=self._links(outcome.number) | links)

    def _open(self, item: Item) -> ItemView:
        return self._pending(item, "skipped" if self._is_over() else "pending")

    def _pending(self, item: Item | Outcome, status: ItemStatus = "pending") -> ItemView:
        return ItemView(
            number=item.number,
            status=status,
            input_path=item.input_path,
            page_index=item.page_index,
            links=self._links(item.number),
        )

    def _runs_again(self, outcome: Outcome) -> bool:
        if not self._retry_asked:
            self._retry, self._retry_asked = running_retry(self._files, self._files.report()), True
        return self._retry is not None and self._retry.wants(outcome)

    def _links(self, number: int) -> dict[str, str]:
        return {"self": f"{job_url(self._head.id)}/items/{number}"}

    def _is_over(self) -> bool:
        if self._over is None:
            self._over = find_status(self._services, self._head.id).state in FINAL_STATES
        return self._over
