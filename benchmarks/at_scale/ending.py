"""What comes after the last outcome: the job is closed, and a client lists what failed."""

from __future__ import annotations

from benchmarks.at_scale.bench import Bench
from benchmarks.at_scale.process import Begin, Report, Stopwatch
from maskmill.shared.doorbell import Doorbell
from maskmill.shared.egress.http import Egress
from maskmill.shared.replies import Replies
from maskmill.worker.control.finalizer import Closer


def close(bench: Bench, job_id: str, begin: Begin) -> Report:
    """Close the job as the control worker does."""
    storage = bench.storage()
    closer = Closer(bench.settings, storage, bench.ledger())
    begin()
    watch = Stopwatch(storage)
    closer.close(job_id)
    return watch.report()


def list_failed(bench: Bench, job_id: str, begin: Begin) -> Report:
    """Ask for the failed items page by page, each as long as may be, until there is no next."""
    from maskmill.api.endpoints.items import ItemsQuery, page
    from maskmill.api.services import Services

    settings, storage = bench.settings, bench.storage()
    replies = Replies(settings.redis_url, settings.redis_prefix, bound=1, keep_seconds=1)
    held = Services(settings, storage, bench.ledger(), Doorbell(settings), replies, Egress(settings))
    begin()
    watch = Stopwatch(storage)
    pages = empty = found = 0
    after: int | None = None
    while pages == 0 or after is not None:
        answer = page(held, job_id, ItemsQuery(status="failed", after=after, limit=1000))
        pages, empty, found = pages + 1, empty + (not answer.items), found + len(answer.items)
        after = answer.next
    return watch.report(pages=pages, empty=empty, found=found)
