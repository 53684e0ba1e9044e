"""What comes after the last outcome: the job is closed, and a client lists what failed."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.at_scale.bench import Bench
from benchmarks.at_scale.control import control
from benchmarks.at_scale.process import Begin, Report, Stopwatch


def close(bench: Bench, job_id: str, begin: Begin) -> Report:
    """Close the job as the control worker does."""
    storage = bench.storage()
    worker = control(bench, storage)
    begin()
    watch = Stopwatch(storage)
    worker.runner.run()
    report = watch.report()
    if worker.ledger.is_open(job_id):
        raise RuntimeError(f"job {job_id} is not closed")
    return report


def list_failed(bench: Bench, job_id: str, begin: Begin) -> Report:
    """Ask for the failed items page by page, each as long as may be, until there is no next."""
    from maskmill.api.endpoints.items import ItemsQuery, page
    from maskmill.api.services import Services

    storage = bench.storage()
    held = replace(Services.open(bench.settings), storage=storage)
    begin()
    watch = Stopwatch(storage)
    pages = empty = found = 0
    after: int | None = None
    while pages == 0 or after is not None:
        answer = page(held, job_id, ItemsQuery(status="failed", after=after, limit=1000))
        pages, empty, found = pages + 1, empty + (not answer.items), found + len(answer.items)
        after = answer.next
    return watch.report(pages=pages, empty=empty, found=found)
