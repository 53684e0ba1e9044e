"""A real folder of empty pictures side by side, listed as the planner lists it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.at_scale.bench import Bench
from benchmarks.at_scale.process import Begin, Report, Stopwatch
from maskmill.shared.jobs.records import Entry, Job, ListingCursor, new_job_id
from maskmill.shared.jobs.sources import PathSource
from maskmill.worker.sources.listing import entries


def make(folder: Path, count: int) -> None:
    """Make `count` empty files whose names claim to be pictures."""
    folder.mkdir()
    for number in range(count):
        (folder / f"{number:010d}.jpg").touch()


def list_folder(bench: Bench, job_id: str, begin: Begin) -> Report:
    """List the folder `pictures` from its beginning, then the first entry behind the middle one."""
    del job_id
    storage, path = bench.storage(), bench.folder / "pictures"
    settings = bench.settings.model_copy(update={"local_roots": (bench.folder,)})
    job = Job(id=new_job_id(), created_at=0, sources=(PathSource(path=str(path)),), shard_size=settings.shard_size)
    begin()
    watch = Stopwatch(storage)
    found = entries(job, settings)
    first = _seconds_to_next(found)
    listed = 1 + sum(1 for _ in found)
    report = watch.report(first=first, listed=listed)
    middle = ListingCursor(source=0, position=f"{listed // 2:010d}.jpg")
    report.facts["resumed"] = _seconds_to_next(entries(job, settings, middle))
    return report


def _seconds_to_next(found: Iterator[Entry]) -> float:
    started = time.monotonic()
    next(found)
    return time.monotonic() - started
