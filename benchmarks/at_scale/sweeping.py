"""Many open jobs at once, in the state that is asked for, and sweeps over them."""

from __future__ import annotations

from typing import Literal

from benchmarks.at_scale.bench import MODEL, Bench
from benchmarks.at_scale.storage import SlowStorage
from maskmill.shared.doorbell import Doorbell
from maskmill.worker.control.sweeper import Sweeper

OpenState = Literal["queued", "running", "leased"]


def open_jobs(bench: Bench, count: int, state: OpenState) -> None:
    """Enter `count` jobs of one shard: not planned yet, its shard waiting, or its shard under way."""
    ledger = bench.ledger()
    for _ in range(count):
        job = bench.accept(1)
        lease = None if state == "queued" else ledger.claim_plan(job.id)
        if lease is not None:
            ledger.add_shard(lease, 0, 1, None)
            ledger.end_plan(lease)
        if state == "leased":
            ledger.claim(MODEL, "somebody")


def sweeper(bench: Bench, storage: SlowStorage) -> Sweeper:
    """The sweeper as `worker.runtime.open_sweeper` makes it, on the slow storage."""
    return Sweeper(bench.settings, storage, bench.ledger(), Doorbell(bench.settings))
