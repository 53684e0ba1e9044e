"""A made-up source: as many pictures as the job's one path says, in no folder and no bucket.

Stands in for a listing, so that what is measured is what the planner makes of one. This is the file to change where the
planner comes to list its sources in another way.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from benchmarks.at_scale.bench import MADE_UP
from maskmill.shared.jobs.records import Job
from maskmill.shared.jobs.sources import FileBytes, Location
from maskmill.shared.settings import Settings
from maskmill.worker.sources.fetch import Fetcher
from maskmill.worker.sources.listing import Entry

A_FOLDER = 1000
JPEG = b"\xff\xd8\xff\xe0"


def entries(job: Job, settings: Settings, source: int = 0, after: str | None = None) -> Iterator[Entry]:
    """As `worker.listing.entries` does, from the position `after` on."""
    del settings
    path = getattr(job.sources[source], "path", "")
    first = int(after.rsplit("/", 1)[1].removesuffix(".jpg")) + 1 if after else 0
    siblings: frozenset[str] = frozenset()
    for number in range(first, int(path.removeprefix(MADE_UP))):
        name = f"{number // A_FOLDER:06d}/{number:010d}"
        shown = f"{path}/{name}.jpg"
        yield Entry(source, f"{name}.jpg", shown, name, siblings, job.options.pdf, FileBytes(path=shown))


class MadeUpBytes(Fetcher):
    """Gives the first bytes of a JPEG for every location, after `seconds`; nothing is ever fetched whole."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def head(self, location: Location, count: int) -> bytes:
        del location
        if self._seconds:
            time.sleep(self._seconds)
        return JPEG[:count]


def install() -> None:
    """Make this process's planner list the made-up source, whatever the job names."""
    worker.expand.entries = entries  # type: ignore[attr-defined]
