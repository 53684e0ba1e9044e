"""What an earlier job has done already: the new listing and the earlier plan, in the same order, side by side.

An object is done where the earlier job had the same key, ETag and size, and it succeeded there or was skipped for the
same reason. Nothing is asked an object: a plan page tells of a thousand, a roll-up of the failures among 32,000. Three
pages are held.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator
from functools import lru_cache

from maskmill.shared.errors import RequestError
from maskmill.shared.jobs.job_files import JobFiles, last_alike
from maskmill.shared.jobs.keys import job_ref
from maskmill.shared.jobs.records import Item, Job, JobHead, PlanPage, Rollup, rollup_of
from maskmill.shared.jobs.sources import ObjectBytes
from maskmill.shared.storage import Storage

KEPT_PAGES = 3
# The number of its source, its key, and which page of it.
Place = tuple[int, str, int]
NOWHERE: Place = (0, "", -1)


class Existing:
    """The done objects of one earlier job; `has` is to be asked in the order of a listing."""

    def __init__(self, files: JobFiles, head: JobHead) -> None:
        self._files, self._head = files, head
        self._order = _Order()
        self._done_lately: deque[frozenset[object]] = deque(maxlen=KEPT_PAGES)
        self._number: int | None = None
        self._coming: PlanPage | None = None
        self._rollup = lru_cache(1)(self._read_rollup)

    def has(self, item: Item) -> bool:
        """Whether the earlier job has done this object, at this page of it."""
        place, identity = _place(item), _identity(item)
        if place is None:
            return False
        self._order.see_new(place)
        if self._number is None:
            self._number = max(self._near(place) - 2, 0)
            self._coming = self._page(self._number)
        while self._coming and not self._holds(identity) and self._order.is_at(_first(self._coming), place):
            self._done_lately.append(frozenset(self._done(self._coming)))
            self._number += 1
            self._coming = self._page(self._number)
        return self._holds(identity)

    def _holds(self, identity: object) -> bool:
        return any(identity in done for done in self._done_lately)

    def _near(self, place: Place) -> int:
        """A page at or before the place, in whichever order: a planner may go on from anywhere."""
        pages = range(self._files.page_count())
        return min(bisect_right(pages, order(place), key=lambda number: order(self._first(number))) for order in ORDERS)

    def _first(self, number: int) -> Place:
        page = self._files.page(number)
        return _first(page) if page else NOWHERE

    def _page(self, number: int) -> PlanPage | None:
        page = self._files.page(number)
        if page:
            self._order.see_old(filter(None, map(_place, page.items)))
        return page

    def _done(self, page: PlanPage) -> Iterator[object]:
        failed = self._failed(page)
        return (_identity(item) for item in page.items if item.existing or item.number not in failed)

    def _failed(self, page: PlanPage) -> set[int]:
        """The numbers of the page's items that did not succeed."""
        shards = [shard for shard in range(*self._shards(page)) if self._may_hold_failures(shard)]
        failed: set[int] = set()
        for shard in shards:
            outcomes = self._files.outcomes(shard)
            succeeded = {one.number for one in outcomes or () if one.status == "succeeded"}
            size = self._head.shard_size
            failed |= set(range(shard * size, (shard + 1) * size)) - succeeded
        return failed

    def _shards(self, page: PlanPage) -> tuple[int, int]:
        first = page.items[0].number // self._head.shard_size
        return first, page.items[-1].number // self._head.shard_size + 1

    def _may_hold_failures(self, shard: int) -> bool:
        rollup = self._rollup(rollup_of(shard))
        return rollup is None or shard in rollup.failures

    def _read_rollup(self, number: int) -> Rollup | None:
        return self._files.rollup(number)


class _Order:
    """In which order a store lists, by what was seen of it: that of the keys' bytes, or folder by folder."""

    def __init__(self) -> None:
        self._possible = list(ORDERS)
        self._last: dict[str, Place] = {}

    def see_new(self, place: Place) -> None:
        """The next of the new listing."""
        self._see("new", place)

    def see_old(self, places: Iterable[Place]) -> None:
        """The next of the earlier one."""
        for place in places:
            self._see("old", place)

    def is_at(self, first: Place, place: Place) -> bool:
        """Whether a listing that is at `place` has come to `first`."""
        order = self._possible[0]
        return order(first) <= order(place)

    def _see(self, listing: str, place: Place) -> None:
        before = self._last.get(listing, place)
        self._last[listing] = place
        if len(self._possible) > 1:
            self._possible = [order for order in ORDERS if order(before) <= order(place)] or list(ORDERS)


def _by_bytes(place: Place) -> tuple[int, list[str], int]:
    return place[0], [place[1]], place[2]


def _by_folder(place: Place) -> tuple[int, list[str], int]:
    return place[0], place[1].split("/"), place[2]


ORDERS = (_by_bytes, _by_folder)


def existing_of(storage: Storage, job: Job, digest: str | None) -> Existing | None:
    """What the job is to skip, where it is to skip anything and an earlier job is known; `digest` is of its model.

    Raises RequestError where `since_job` names a job that is not there, or not completed.
    """
    options = job.options
    if options.since_job is None and (not options.skip_existing or digest is None):
        return None
    earlier = options.since_job or last_alike(storage, job, digest or "")
    files = JobFiles(storage, job_ref(job.tenant, earlier)) if earlier else None
    head, report = (files.head(), files.report()) if files else (None, None)
    if files and head and report and report.state == "completed":
        return Existing(files, head)
    if options.since_job:
        raise RequestError(f"since_job {options.since_job} is no completed job")
    return None


def _place(item: Item) -> Place | None:
    """Where the item's object stands in a listing; None where it is no object that can be told from a later one."""
    location = item.location
    if not isinstance(location, ObjectBytes) or not location.etag:
        return None
    return item.source, location.key, -1 if item.page_index is None else item.page_index


def _first(page: PlanPage) -> Place:
    return next(filter(None, map(_place, page.items)), NOWHERE)


def _identity(item: Item) -> object:
    return (item.location, item.page_index) if _place(item) else None
