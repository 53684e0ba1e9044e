"""List what a retry runs again: the failed items of a job that is over, under their own numbers.

The roll-ups tell which shards hold failures; only those are read, and their items from the pages of the plan.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from maskmill.shared.jobs.job_files import JobFiles
from maskmill.shared.jobs.records import Item, JobHead, PlanPage, Retry, page_of, rollup_of, shards_of
from maskmill.shared.jobs.sources import ObjectBytes

READS_AT_ONCE = 16


def failed_items(
    files: JobFiles, head: JobHead, retry: Retry, behind: int, alive: Callable[[], object]
) -> Iterator[Item]:
    """The items that the retry runs again, behind the item of that number; `files` are of the job's first run.

    `alive` is called while roll-ups and outcomes are read.
    """
    pages = _Pages(files, head)
    for shard, numbers in _failing(files, head, retry, behind, alive):
        yield from (anew(item) for item in pages.items(shard) if item.number in numbers)


def anew(item: Item) -> Item:
    """The item as it is run again: tried though it could not be read, and of a bucket what lies there now.

    A version of an object stays that, and a page stays that of the document whose pages were counted.
    """
    location = item.location
    if isinstance(location, ObjectBytes) and item.page_index is None:
        pinned = {} if location.version else {"etag": None}
        location = location.model_copy(update={"size": None, **pinned})
    return item.model_copy(update={"failure": None, "location": location})


def _failing(
    files: JobFiles, head: JobHead, retry: Retry, behind: int, alive: Callable[[], object]
) -> Iterator[tuple[int, set[int]]]:
    """The shards that hold such items, each with their numbers."""
    report = files.report()
    assert report is not None, "what is retried was over"
    first, shards = (behind + 1) // head.shard_size, shards_of(report.counts.planned, head)
    with ThreadPoolExecutor(READS_AT_ONCE, thread_name_prefix="failed") as pool:
        for number in range(rollup_of(first), rollup_of(shards - 1) + 1):
            rollup = files.rollup(number)
            failing = iter(sorted(shard for shard in rollup.failures if shard >= first) if rollup else ())
            alive()
            while run := list(itertools.islice(failing, READS_AT_ONCE)):
                for shard, outcomes in zip(run, pool.map(files.outcomes, run), strict=True):
                    found = {one.number for one in outcomes or () if one.number > behind and retry.wants(one)}
                    if found:
                        yield shard, found
                alive()


class _Pages:
    """The pages of the job's plan, the last that was read kept."""

    def __init__(self, files: JobFiles, head: JobHead) -> None:
        self._files, self._head = files, head
        self._number, self._data = -1, b""

    def items(self, shard: int) -> tuple[Item, ...]:
        number = page_of(shard)
        if number != self._number:
            data = self._files.page_data(number)
            assert data is not None, "what has outcomes was planned"
            self._number, self._data = number, data
        return PlanPage.decode_shard(self._data, shard, self._head)
