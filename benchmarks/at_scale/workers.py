"""Instant workers: the claimer as it is, on a pipeline that has every item's outcome at once; 1 % of the items fail.

No pictures are read and no artifacts stored: what is left of a worker is what it asks of the ledger and the storage
for its shards.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

from benchmarks.at_scale.bench import MODEL, Bench
from benchmarks.at_scale.process import Begin, Report, Stopwatch
from benchmarks.at_scale.storage import SlowStorage
from maskmill.shared.buckets import Buckets
from maskmill.shared.connection import connect
from maskmill.shared.doorbell import Doorbell
from maskmill.shared.egress.http import Egress
from maskmill.shared.jobs.records import Failure
from maskmill.shared.jobs.results import image_name, json_name
from maskmill.shared.ledger import Ledger, ShardLease
from maskmill.shared.storage.outputs import Outputs
from maskmill.worker.pipeline.pipeline import Pipeline
from maskmill.worker.pipeline.progress import Progress
from maskmill.worker.pipeline.task import Done
from maskmill.worker.rendering.artifacts import Artifact, Rendered
from maskmill.worker.shards.claimer import Claimer
from maskmill.worker.shards.expansion import ChunkExpander
from maskmill.worker.shards.item_task import ItemTask
from maskmill.worker.shards.leases import Leases
from maskmill.worker.sources.fetch import Fetcher
from maskmill.worker.sources.pages import Expander

CLAIMERS = 4
IDLE_SECONDS = 0.1
ONE_FAILS_IN = 100
FAILURE = Failure(stage="decode", code="undecodable", reason="the picture is cut off after 1234 of its 56789 bytes")
ANNOTATION = b'{"number":0,"name":"","size":[480,640],"instances":[]}'.ljust(200)


class InstantPipeline:
    """Every task is done when it is put."""

    model = SimpleNamespace(name=MODEL)

    def put(self, task: ItemTask) -> None:
        """The outcome of the task's item, at once."""
        item = task.item
        if item.number % ONE_FAILS_IN == ONE_FAILS_IN - 1:
            task.done(Done(failure=FAILURE))
            return
        names = {"json": json_name(item.name), "image": image_name(item.name, "jpg")}
        artifacts = {kind: Artifact(name, b"", "") for kind, name in names.items()}
        task.done(Done(Rendered(artifacts, ANNOTATION, 640, 480, 3)))


class WatchedLedger(Ledger):
    """Counts the claims that found nothing: real workers wait for a bell, these look again and again."""

    in_vain = 0

    def claim(self, model: str, owner: str) -> ShardLease | None:
        lease = super().claim(model, owner)
        if lease is None:
            self.in_vain += 1
        return lease


def work(bench: Bench, job_id: str, begin: Begin) -> Report:
    """Claim and commit until the job is over."""
    settings, storage = bench.settings, bench.storage()
    ledgers = [
        WatchedLedger(settings.redis_url, settings.redis_prefix, lease_seconds=settings.lease_seconds)
        for _ in range(CLAIMERS)
    ]
    redis, job = connect(settings.redis_url, text=True), f"{settings.redis_prefix}:job:{job_id}"
    over = threading.Event()
    threads = [
        threading.Thread(target=_claim, args=(bench, storage, ledger, f"claimer-{number}", over.is_set))
        for number, ledger in enumerate(ledgers)
    ]
    begin()
    watch = Stopwatch(storage)
    for thread in threads:
        thread.start()
    while redis.hget(job, "state") in ("queued", "planning", "running"):
        time.sleep(IDLE_SECONDS)
    report = watch.report(in_vain=sum(ledger.in_vain for ledger in ledgers))
    over.set()
    for thread in threads:
        thread.join()
    return report


def _claim(bench: Bench, storage: SlowStorage, ledger: Ledger, owner: str, over: Callable[[], bool]) -> None:
    pipeline, doorbell = cast(Pipeline, InstantPipeline()), Doorbell(bench.settings)
    fetcher, leases = Fetcher(bench.settings, storage, Egress(bench.settings)), Leases(ledger)
    expander = ChunkExpander(ledger, Expander(bench.settings, storage, fetcher), Progress())
    claimer = Claimer(
        owner, pipeline, storage, Outputs(Buckets.of(bench.settings)), ledger, doorbell, fetcher, expander, leases, over
    )
    threading.Thread(target=_renew, args=(leases, over, ledger.lease_seconds / 4), daemon=True).start()
    while not over():
        claimer.run()
        time.sleep(IDLE_SECONDS)


def _renew(leases: Leases, over: Callable[[], bool], seconds: float) -> None:
    while not over():
        leases.renew()
        time.sleep(seconds)
