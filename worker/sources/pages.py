"""Expand a job's sources into its items: one for each picture, page by page where an input has pages."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from maskmill.shared.errors import MaskmillError
from maskmill.shared.formats import HEAD_BYTES, PAGED, sniff
from maskmill.shared.jobs import keys
from maskmill.shared.jobs.records import Failure, Item, Job
from maskmill.shared.jobs.sources import Location, StoredBytes, UrlBytes
from maskmill.shared.settings import Settings
from maskmill.shared.storage import Storage
from maskmill.worker.images.decode import page_count
from maskmill.worker.retry import patiently
from maskmill.worker.sources.artifact_names import paged
from maskmill.worker.sources.fetch import Fetcher
from maskmill.worker.sources.listing import Entry, entries

LOOK_AHEAD = 16


@dataclass(frozen=True)
class Expander:
    """Finds items, a bounded number of inputs ahead; safe in many threads."""

    settings: Settings
    storage: Storage
    fetcher: Fetcher

    def items(self, job: Job, planned: int, cursor: dict[str, Any] | None) -> Iterator[tuple[Item, dict[str, Any]]]:
        """The items behind `cursor` (None: all), numbered from `planned` on, each with the cursor behind it."""
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
        if sniff(head) not in PAGED:
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
