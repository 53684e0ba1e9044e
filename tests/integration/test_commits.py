"""What a bulk worker does when committing is slow: several shards at once, and no more leases than it may hold."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import cast

import pytest

from maskmill.shared.buckets import Buckets
from maskmill.shared.egress.http import Egress
from maskmill.shared.jobs import keys
from maskmill.shared.ledger import Ledger
from maskmill.shared.storage.outputs import Outputs
from maskmill.worker.pipeline.pipeline import Pipeline
from maskmill.worker.pipeline.progress import Progress
from maskmill.worker.pipeline.task import Done
from maskmill.worker.rendering.artifacts import Rendered
from maskmill.worker.shards.claimer import COMMITS_AT_ONCE, MOST_LEASES, Claimer
from maskmill.worker.shards.expansion import ChunkExpander
from maskmill.worker.shards.item_task import ItemTask
from maskmill.worker.shards.leases import Leases
from maskmill.worker.shards.shard_run import Held
from maskmill.worker.sources.fetch import Fetcher
from maskmill.worker.sources.pages import Expander
from tests.services.control_site import ControlSite, in_background
from tests.services.workers import wait_until

SHARDS = 100


class InstantPipeline:
    """Every task is done when it is put."""

    model = SimpleNamespace(name="shapes")

    def put(self, task: ItemTask) -> None:
        task.done(Done(Rendered({}, b"{}", 640, 480, 0)))


class CountedLeases(Leases):
    """Tells how many were held at once."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(ledger)
        self.most = 0

    def hold(self, held: Held) -> None:
        super().hold(held)
        self.most = max(self.most, len(self))


@pytest.fixture
def claimer(site: ControlSite) -> Iterator[Claimer]:
    ledger = site.open_ledger(lease_seconds=600)
    fetcher = Fetcher(site.settings, site.storage, Egress(site.settings))
    yield Claimer(
        owner="worker",
        pipeline=cast(Pipeline, InstantPipeline()),
        storage=site.storage,
        outputs=Outputs(Buckets.of(site.settings)),
        ledger=ledger,
        doorbell=site.doorbell,
        fetcher=fetcher,
        expander=ChunkExpander(ledger, Expander(site.settings, site.storage, fetcher), Progress()),
        leases=CountedLeases(ledger),
        draining=lambda: False,
    )
    ledger.disconnect()


def test_several_shards_are_committed_at_once(site: ControlSite, claimer: Claimer) -> None:
    job_id = site.plan(SHARDS)
    crowd, met = threading.Barrier(COMMITS_AT_ONCE), threading.Event()

    def wait_for_the_others(kind: str, key: str) -> None:
        if kind == "put" and key.startswith(keys.outcomes(job_id)) and not met.is_set():
            crowd.wait(20)
            met.set()

    site.storage.before = wait_for_the_others
    claimer.run()
    assert met.is_set()
    site.runner().run()
    assert site.report(job_id).counts.succeeded == SHARDS


def test_where_commits_stand_still_claiming_waits(site: ControlSite, claimer: Claimer) -> None:
    job_id = site.plan(SHARDS)
    go = threading.Event()

    def stand_still(kind: str, _key: str) -> None:
        if kind == "put":
            go.wait(30)

    site.storage.before = stand_still
    with in_background(claimer.run, go):
        wait_until(lambda: len(claimer.leases) == MOST_LEASES, 20)
        assert not go.wait(0.3)
        assert site.redis.zcard("test:leases") == MOST_LEASES
    assert cast(CountedLeases, claimer.leases).most == MOST_LEASES
    site.runner().run()
    assert site.report(job_id).counts.succeeded == SHARDS
    assert site.redis.zcard("test:leases") == 0


def test_a_shard_that_was_committed_by_one_who_died_is_counted_and_not_run_again(
    site: ControlSite, claimer: Claimer
) -> None:
    job_id = site.plan(3)
    assert site.ledger.claim("shapes", "one that dies")
    site.commit(site.files(job_id), 0)
    wait_until(site.ledger.expire, 10)
    claimer.run()
    site.runner().run()
    counts = site.report(job_id).counts
    assert (counts.succeeded, counts.failed) == (2, 1)
    assert not site.storage.keys_of("put")[keys.annotation(job_id, 0)]
