"""Many open jobs at once, in the state that is asked for."""

from __future__ import annotations

from typing import Literal

from benchmarks.at_scale.bench import MODEL, Bench
from maskmill.shared.ledger import PlannedPages

OpenState = Literal["queued", "running", "leased"]


def open_jobs(bench: Bench, count: int, state: OpenState) -> None:
    """Enter `count` jobs of one shard: not planned yet, its shard waiting, or its shard under way."""
    ledger = bench.ledger()
    for _ in range(count):
        job = bench.accept(1)
        work = None if state == "queued" else ledger.claim_work()
        if work is not None:
            ledger.begin_plan(job.id, work)
            ledger.add_pages(job.id, work, 0, PlannedPages(pages=1, shards=1, items=1, cursor=None))
            ledger.end_work(work)
        if state == "leased":
            ledger.claim(MODEL, "somebody")
