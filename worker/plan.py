"""Plan a job: its sources become items, its items shards, each stored before it can be claimed.

Planning goes on from the ledger's cursor, runs ahead of the workers by a bounded window, and may be killed
anywhere: a shard that is stored already is adopted as it is, never made anew.
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from shared import keys
from shared.doorbell import CONTROL_QUEUE, Doorbell
from shared.errors import KeyNotFound, MaskmillError, RequestError
from shared.jobs import Failure, Item, Job, Shard
from shared.ledger import Ledger, PlanLease
from shared.settings import Settings
from shared.sources import Location, StoredBytes, UrlBytes
from shared.storage import Storage
from worker.decode import page_count, sniff
from worker.fetch import Fetcher
from worker.listing import HEAD_BYTES, Entry, entries
from worker.names import paged
from worker.patience import patiently
from worker.settle import settle_stored

PAGED_FORMATS = ("pdf", "tiff")
LOOK_AHEAD = 16
WAIT_SECONDS = 30


@dataclass(frozen=True)
class Planner:
    """What planning needs; one for the process, safe in many threads."""

    settings: Settings
    storage: Storage
    ledger: Ledger
    doorbell: Doorbell
    fetcher: Fetcher

    def plan(self, job_id: str) -> None:
        """Go on planning the job until it is planned, its window is full for long, or another planner has it."""
        lease = self.ledger.claim_plan(job_id)
        if lease is None:
            return
        job = Job.model_validate_json(self.storage.get(keys.job(job_id)))
        try:
            ended = self._add_shards(job, lease)
        except RequestError as error:
            self.ledger.fail(job_id, Failure.of("plan", error))
            self.doorbell.ring_close(job_id)
            return
        if ended and self.ledger.end_plan(lease) == "finalizing":
            self.doorbell.ring_close(job_id)
        elif not ended:
            self.ledger.rest_plan(lease)

    def _add_shards(self, job: Job, lease: PlanLease) -> bool:
        if lease.shards and lease.cursor is None:
            return True
        for shard, adopted in self._shards(job, lease):
            if not self._add(lease, shard):
                return False
            if adopted and settle_stored(self.storage, self.ledger, job.id, shard.number):
                continue
            self.doorbell.ring("bulk", job.options.model)
        return True

    def _add(self, lease: PlanLease, shard: Shard) -> bool:
        """Enter the shard, waiting while the window is full; False where somebody else should go on."""
        give_up = time.monotonic() + WAIT_SECONDS
        while True:
            verdict = self.ledger.add_shard(lease, shard.number, len(shard.items), shard.cursor)
            if verdict != "full":
                return verdict == "added"
            if time.monotonic() > give_up or self.doorbell.waiting(CONTROL_QUEUE):
                return False
            time.sleep(0.1)

    def _shards(self, job: Job, lease: PlanLease) -> Iterator[tuple[Shard, bool]]:
        """The shards from the lease's cursor on, stored; and whether each was there before."""
        number, planned, cursor = lease.shards, lease.planned, lease.cursor
        fresh: Iterator[Shard] | None = None
        while True:
            shard = self._stored(job.id, number)
            adopted = shard is not None
            if shard is None:
                fresh = fresh or self._cut(job, number, planned, cursor)
                shard = next(fresh)
                patiently(self.storage.put, keys.shard(job.id, number), shard.encode(), if_absent=True)
            else:
                fresh = None
            yield shard, adopted
            if shard.cursor is None:
                return
            number, planned, cursor = number + 1, planned + len(shard.items), shard.cursor

    def _stored(self, job_id: str, number: int) -> Shard | None:
        try:
            return Shard.decode(patiently(self.storage.get, keys.shard(job_id, number)))
        except KeyNotFound:
            return None

    def _cut(self, job: Job, number: int, planned: int, cursor: dict[str, Any] | None) -> Iterator[Shard]:
        """Cut the items behind `cursor` into shards; only the last has no cursor, and may be short."""
        found = self._items(job, planned, cursor)
        following = next(found, None)
        for shard in itertools.count(number):
            run = [] if following is None else [following, *itertools.islice(found, job.shard_size - 1)]
            following = next(found, None)
            items = tuple(item for item, _ in run)
            if items and items[-1].number >= self.settings.max_items:
                raise RequestError(f"the job has more than {self.settings.max_items} items, the most one job may have")
            yield Shard(number=shard, items=items, cursor=run[-1][1] if following else None)

    def _items(self, job: Job, planned: int, cursor: dict[str, Any] | None) -> Iterator[tuple[Item, dict[str, Any]]]:
        """The items behind `cursor`, each with the cursor behind it."""
        start = cursor or {"source": 0, "position": None, "page": None}
        number = itertools.count(planned)
        listed = entries(job, self.settings, start["source"], start["position"])
        if start["page"] is not None:
            listed = itertools.chain(self._entry_at(job, start), listed)
        for entry, head in self._looked_ahead(listed):
            resumed = start["page"] if (entry.source, entry.position) == (start["source"], start["position"]) else None
            for page, item in self._pages(job.id, entry, head):
                if resumed is None or (page is not None and page > resumed):
                    after = {"source": entry.source, "position": entry.position, "page": page}
                    yield item.model_copy(update={"number": next(number)}), after

    def _entry_at(self, job: Job, start: dict[str, Any]) -> Iterator[Entry]:
        """The entry in whose pages the cursor stands."""
        found = entries(job, self.settings, start["source"], None)
        return itertools.islice((entry for entry in found if entry.position == start["position"]), 1)

    def _looked_ahead(self, listed: Iterator[Entry]) -> Iterator[tuple[Entry, bytes]]:
        """The entries with their first bytes, read for several at once."""
        with ThreadPoolExecutor(LOOK_AHEAD, thread_name_prefix="plan-head") as pool:
            waiting: deque[tuple[Entry, Future[bytes]]] = deque()
            for entry in listed:
                waiting.append((entry, pool.submit(self._head, entry)))
                if len(waiting) >= LOOK_AHEAD:
                    first, head = waiting.popleft()
                    yield first, head.result()
            for first, head in waiting:
                yield first, head.result()

    def _head(self, entry: Entry) -> bytes:
        """The first bytes, or none where they cannot be had: the worker that fetches it will say why."""
        try:
            return b"" if entry.error else patiently(self.fetcher.head, entry.location, HEAD_BYTES)
        except MaskmillError:
            return b""

    def _pages(self, job_id: str, entry: Entry, head: bytes) -> Iterator[tuple[int | None, Item]]:
        """The items of one entry: its pages, or itself; one that fails where its pages cannot be told."""
        item = Item(number=0, input_path=entry.input_path, name=entry.name, location=entry.location)
        if entry.error:
            yield None, item.model_copy(update={"failure": Failure.of("plan", entry.error)})
            return
        if sniff(head) not in PAGED_FORMATS:
            yield None, item
            return
        try:
            pages, location = self._count(job_id, entry)
        except MaskmillError as error:
            yield None, item.model_copy(update={"failure": Failure.of("plan", error)})
            return
        if pages is None:
            yield None, item.model_copy(update={"location": location})
            return
        base = paged(entry.name, pages, entry.siblings)
        for page in pages:
            update = {"location": location, "name": f"{base}_{page}", "page_index": page, "pdf": entry.pdf}
            yield page, item.model_copy(update=update)

    def _count(self, job_id: str, entry: Entry) -> tuple[list[int] | None, Location]:
        """The page numbers of a paged input, and where its bytes lie from now on: a URL's are stored with the job."""
        data = patiently(self.fetcher.fetch, entry.location)
        pages = page_count(data, entry.pdf, self.settings)
        if not isinstance(entry.location, UrlBytes) or pages is None:
            return pages, entry.location
        key = keys.inputs(job_id, f"fetched-{entry.source}")
        patiently(self.storage.put, key, data)
        return pages, StoredBytes(key=key)
