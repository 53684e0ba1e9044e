"""A made-up source: as many pictures as the job's one path says, in no folder and no bucket.

Stands in for a listing, so that what is measured is what the planner makes of one. Buckets are listed as they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from benchmarks.at_scale.bench import MADE_UP
from maskmill.shared.jobs.records import Entry, Job, ListingCursor
from maskmill.shared.jobs.sources import FileBytes, S3Source
from maskmill.shared.settings import Settings
from maskmill.shared.storage import Storage
from maskmill.shared.storage.bucket_reader import BucketReaders
from maskmill.worker.control import planner
from maskmill.worker.sources import listing

A_FOLDER = 1000


def entries(
    job: Job,
    settings: Settings,
    start: ListingCursor | None = None,
    alive: Callable[[], object] = lambda: None,
    readers: BucketReaders | None = None,
    storage: Storage | None = None,
) -> Iterator[Entry]:
    """As `worker.sources.listing.entries` does, behind the cursor `start`."""
    if isinstance(job.sources[0], S3Source):
        yield from listing.entries(job, settings, start, alive, readers, storage)
        return
    path = getattr(job.sources[0], "path", "")
    after = start and start.position
    first = int(re.split("[/.]", after)[1]) + 1 if after else 0
    for number in range(first, int(path.removeprefix(MADE_UP))):
        name = f"{number // A_FOLDER:06d}/{number:010d}.jpg"
        shown = f"{path}/{name}"
        yield Entry(
            source=0,
            position=name,
            input_path=shown,
            name=name,
            location=FileBytes(path=shown),
            form="picture",
            pdf=job.options.pdf,
        )


def install() -> None:
    """Make this process's planner list the made-up source, whatever the job names."""
    planner.entries = entries  # type: ignore[attr-defined]
