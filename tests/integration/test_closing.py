"""Closing a job: by roll-ups, leased, to be killed anywhere; its counts are those of what is stored."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from maskmill.shared.jobs import keys
from maskmill.shared.jobs.records import SHARDS_A_ROLLUP, Counts, Rollup
from tests.services.control_site import ControlSite, Killed, in_background, kept
from tests.services.workers import wait_until

SHARDS = 5 * SHARDS_A_ROLLUP


@pytest.fixture
def wide(tmp_path: Path, redis_url: str) -> Iterator[ControlSite]:
    """A site where every shard can be claimed at once."""
    held = ControlSite(tmp_path, redis_url, window=2 * SHARDS)
    yield held
    held.close()


def count_shards(site: ControlSite, job_id: str, shards: int) -> None:
    """Count the first shards of a job of one item each, every tenth failed, as if workers had committed them."""
    for shard in range(shards):
        counted = site.ledger.count_stored(job_id, shard, {"failed" if shard % 10 == 0 else "succeeded": 1})
        assert counted.verdict == "finished"


def counts_of(items: int) -> Counts:
    """The counts of such a job."""
    failed = -(-items // 10)
    return Counts(total=items, planned=items, succeeded=items - failed, failed=failed)


def test_a_job_is_closed_by_its_rollups_not_shard_by_shard(wide: ControlSite) -> None:
    job_id = wide.plan(SHARDS)
    count_shards(wide, job_id, SHARDS)
    assert wide.ledger.due_work() == SHARDS / SHARDS_A_ROLLUP + 1
    wide.storage.calls.clear()
    wide.runner().run()
    report = wide.report(job_id)
    assert (report.state, report.counts) == ("completed", counts_of(SHARDS))
    rollup = wide.files(job_id).rollup(4)
    assert rollup
    assert rollup.failures == dict.fromkeys(range(4000, 5000, 10), 1)
    # A roll-up is written and read; nothing else is done for each thousand of them.
    assert len(wide.storage.calls) <= 2 * SHARDS / SHARDS_A_ROLLUP + 15
    assert wide.status(job_id).state == "completed"
    assert not wide.ledger.is_open(job_id)
    assert wide.storage.size(keys.open_marker(job_id)) is None
    assert wide.redis.keys(f"test:job:{job_id}:*") == []


def test_closing_goes_on_where_it_was_killed(wide: ControlSite) -> None:
    items = 2 * SHARDS_A_ROLLUP + 50
    job_id = wide.plan(items)
    count_shards(wide, job_id, items)
    ends = (keys.rollup(job_id, 1), keys.rollup(job_id, 2), keys.report(job_id))
    wide.storage.calls.clear()
    wide.storage.kill_once("put", *ends)
    for _ in ends:
        with pytest.raises(Killed):
            wide.runner().run()
        wide.make_due()
    wide.runner().run()
    report = wide.report(job_id)
    assert (report.state, report.counts) == ("completed", counts_of(items))
    puts = wide.storage.keys_of("put")
    # One that was stored is read, not made again; those it was killed at were not stored.
    assert puts[keys.rollup(job_id, 0)] == 1
    assert [puts[key] for key in ends] == [2, 2, 2]
    assert not [key for key in wide.storage.keys_of("get") if key.startswith(keys.outcomes(job_id))]


def test_one_closes_a_job_and_keeps_it_while_it_lasts(site: ControlSite) -> None:
    job_id = site.plan(3)
    site.work(job_id, 3)
    begun, go = threading.Event(), threading.Event()

    def stand_still(kind: str, key: str) -> None:
        if (kind, key) == ("put", keys.report(job_id)):
            begun.set()
            go.wait(30)

    site.storage.before = stand_still
    first, second = site.runner(), site.runner()
    with kept(first), in_background(first.run, go):
        assert begun.wait(30)
        for _ in range(3):
            second.run()
            go.wait(site.settings.lease_seconds / 2)
        assert site.files(job_id).report() is None
    assert site.report(job_id).counts == counts_of(3)
    assert site.storage.keys_of("put")[keys.report(job_id)] == 1


def test_a_job_whose_shards_ended_while_it_was_paused_is_closed_when_it_is_resumed(site: ControlSite) -> None:
    job_id = site.plan(2)
    leases = [site.ledger.claim("shapes", "worker") for _ in range(2)]
    site.ledger.pause(job_id)
    for lease in leases:
        assert lease
        site.ledger.finish(lease, site.commit(site.files(job_id), lease.shard))
    site.runner().run()
    assert site.files(job_id).report() is None
    site.ledger.resume(job_id)
    site.runner().run()
    assert site.report(job_id).state == "completed"


def test_what_is_rolled_up_is_not_run_again_when_redis_comes_back_empty(site: ControlSite) -> None:
    items = SHARDS_A_ROLLUP + 100
    job_id = site.plan(items)
    site.work(job_id, SHARDS_A_ROLLUP + 50, store_from=SHARDS_A_ROLLUP)
    site.runner().run()
    site.redis.flushall()
    site.sweeper().recover()
    site.runner().run()
    before = site.status(job_id).counts
    assert (before.total, before.done) == (items, SHARDS_A_ROLLUP)
    # Of the hundred behind the roll-up half are committed, which shows when they are claimed.
    assert site.work(job_id, 100) == list(range(SHARDS_A_ROLLUP + 50, items))
    assert site.ledger.claim("shapes", "worker") is None
    site.runner().run()
    report = site.report(job_id)
    assert (report.state, report.counts) == ("completed", counts_of(items))


def test_a_planner_that_died_among_the_rollups_adopts_the_rest_of_them(site: ControlSite) -> None:
    job_id = site.plan(2 * SHARDS_A_ROLLUP + 1)
    for number in range(2):
        site.files(job_id).store_rollup(Rollup(number=number, shards=SHARDS_A_ROLLUP, succeeded=SHARDS_A_ROLLUP))
    site.redis.flushall()
    site.sweeper().recover()
    site.storage.kill_once("get", keys.rollup(job_id, 1))
    with pytest.raises(Killed):
        site.runner().run()
    site.make_due()
    site.runner().run()
    assert site.work(job_id, 1) == [2 * SHARDS_A_ROLLUP]
    site.runner().run()
    assert site.report(job_id).counts.succeeded == 2 * SHARDS_A_ROLLUP


@pytest.mark.parametrize("forgotten", [False, True], ids=["redis-stayed", "redis-came-back-empty"])
def test_a_cancelled_job_has_files_for_what_was_claimed_and_counts_for_the_rest(
    site: ControlSite, forgotten: bool
) -> None:
    shards, items = SHARDS_A_ROLLUP + 100, 2 * SHARDS_A_ROLLUP + 199
    job_id = site.plan(items, shard_size=2)
    site.work(job_id, 10)
    site.files(job_id).mark_cancelled()
    if forgotten:
        site.redis.flushall()
        site.sweeper().recover()
    else:
        site.ledger.cancel(job_id)
    site.storage.calls.clear()
    site.runner().run()
    report = site.report(job_id)
    expected = Counts(total=items, planned=items, succeeded=18, failed=2, skipped=items - 20)
    assert (report.state, report.counts) == ("cancelled", expected)
    stored = list(site.files(job_id).committed_shards(0, shards))
    # A window of shards was within the workers' reach; who lost Redis knows only what they committed.
    assert stored == list(range(10 + 64 if forgotten else 64))
    rollups = [site.files(job_id).rollup(number) for number in range(2)]
    assert [(rollup.shards, rollup.skipped) for rollup in rollups if rollup] == [(1000, 1980), (100, 199)]
    assert len(site.storage.calls) < 3 * 74 + 40


def test_a_shard_that_is_committed_while_its_job_is_closed_counts_as_it_is_stored(site: ControlSite) -> None:
    job_id = site.plan(3)
    lease = site.ledger.claim("shapes", "worker")
    assert lease
    site.ledger.cancel(job_id)

    def commit_first(kind: str, key: str) -> None:
        if (kind, key) == ("put", keys.outcome(job_id, 1)):
            site.storage.before = lambda _kind, _key: None
            site.commit(site.files(job_id), 1)

    site.storage.before = commit_first
    site.runner().run()
    assert site.ledger.finish(lease, {"succeeded": 1}).verdict != "finished"
    counts = site.report(job_id).counts
    assert (counts.succeeded, counts.failed, counts.skipped) == (1, 0, 2)


@pytest.mark.parametrize("recounts", [False, True])
def test_where_two_writers_can_win_the_stored_outcomes_are_counted(site: ControlSite, recounts: bool) -> None:
    job_id = site.plan(3)
    site.work(job_id, 2)
    lease = site.ledger.claim("shapes", "worker")
    assert lease
    site.commit(site.files(job_id), lease.shard)
    # It was told of another's outcomes, which those that are stored have overwritten.
    site.ledger.finish(lease, {"failed": 1})
    site.runner(site.handlers(recounts=recounts)).run()
    counts = site.report(job_id).counts
    assert (counts.succeeded, counts.failed) == ((2, 1) if recounts else (1, 2))


def test_the_keys_of_a_job_are_gone_once_it_is_closed(site: ControlSite) -> None:
    job_id = site.plan(3)
    held = site.ledger.claim("shapes", "worker")
    assert held
    site.ledger.touch(held, 0)
    site.ledger.cancel(job_id)
    site.runner().run()
    wait_until(lambda: not site.ledger.is_open(job_id), 5)
    assert site.redis.keys(f"test:job:{job_id}:*") == []
    assert site.redis.zcard("test:leases") == 0
    assert site.redis.ttl(f"test:job:{job_id}") > 0
