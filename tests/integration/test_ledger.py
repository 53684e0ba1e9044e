"""The ledger's promises, against a real Redis."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from redis import Redis

from maskmill.shared.errors import IllegalMove, LedgerUnavailable, NotFound
from maskmill.shared.jobs.records import Counts, Failure, Job, Options, new_job_id
from maskmill.shared.jobs.sources import UrlSource
from maskmill.shared.ledger import Ledger, ModelCard, ShardLease

# Long enough that a busy machine does not let one run out between two lines of a test.
LEASE_SECONDS = 1.0


@pytest.fixture
def ledger(redis_url: str) -> Iterator[Ledger]:
    ledger = Ledger(redis_url, "test", lease_seconds=LEASE_SECONDS, window=4)
    yield ledger
    ledger.disconnect()


def enter(ledger: Ledger, shards: int = 0, *, end: bool = True, **options: object) -> str:
    job = Job(
        id=new_job_id(),
        created_at=time.time(),
        sources=(UrlSource(url="http://example.com/a.jpg"),),
        options=Options.model_validate(options),
        shard_size=10,
    )
    assert ledger.enter(job)
    if shards:
        plan(ledger, job.id, shards, end=end)
    return job.id


def plan(ledger: Ledger, job_id: str, shards: int, *, end: bool = True) -> None:
    lease = ledger.claim_plan(job_id)
    assert lease
    for shard in range(lease.shards, lease.shards + shards):
        assert ledger.add_shard(lease, shard, 10, {"after": shard}) == "added"
    if end:
        ledger.end_plan(lease)
    else:
        ledger.rest_plan(lease)


def claim(ledger: Ledger) -> ShardLease:
    lease = ledger.claim("shapes", "tester")
    assert lease
    return lease


def test_a_job_is_entered_once(ledger: Ledger) -> None:
    job = Job(id=new_job_id(), created_at=1.0, sources=(), shard_size=1)
    assert ledger.enter(job)
    assert not ledger.enter(job)


def test_a_job_runs_from_queued_to_completed(ledger: Ledger) -> None:
    job_id = enter(ledger, shards=2)
    first, second = claim(ledger), claim(ledger)
    assert ledger.claim("shapes", "tester") is None
    assert ledger.finish(first, {"succeeded": 9, "failed": 1}).state == "running"
    assert ledger.finish(second, {"succeeded": 10}).state == "finalizing"
    assert ledger.close(job_id, Counts(total=20, planned=20, succeeded=19, failed=1), 60) == "completed"
    status = ledger.status(job_id)
    assert status
    assert (status.counts.total, status.counts.succeeded, status.counts.failed) == (20, 19, 1)
    assert ledger.open_jobs() == []


def test_every_shard_is_claimed_by_exactly_one_of_many_claimants(ledger: Ledger) -> None:
    ledger.window = 200
    enter(ledger, shards=100)
    with ThreadPoolExecutor(8) as pool:
        claimed = [lease for lease in pool.map(lambda n: ledger.claim("shapes", str(n)), range(120)) if lease]
    assert sorted(lease.shard for lease in claimed) == list(range(100))


def test_counts_move_once_however_often_a_shard_is_finished(ledger: Ledger) -> None:
    job_id = enter(ledger, shards=2)
    lease = claim(ledger)
    with ThreadPoolExecutor(8) as pool:
        verdicts = list(pool.map(lambda _: ledger.finish(lease, {"succeeded": 10}).verdict, range(8)))
    assert sorted(verdicts) == ["already"] * 7 + ["finished"]
    status = ledger.status(job_id)
    assert status
    assert status.counts.succeeded == 10


def test_a_lease_that_is_not_renewed_is_free_again_and_its_holder_is_fenced_off(ledger: Ledger) -> None:
    enter(ledger, shards=1)
    lost = claim(ledger)
    time.sleep(LEASE_SECONDS + 0.05)
    assert ledger.expire() == [(lost.job_id, 0)]
    again = claim(ledger)
    assert (again.attempt, again.crashes) == (2, 1)
    assert ledger.renew(lost) is None
    assert ledger.finish(lost, {"succeeded": 10}).verdict == "stale"
    assert ledger.finish(again, {"succeeded": 10}).verdict == "finished"


def test_a_renewed_lease_is_kept(ledger: Ledger) -> None:
    enter(ledger, shards=1)
    lease = claim(ledger)
    for _ in range(3):
        time.sleep(LEASE_SECONDS * 0.4)
        assert ledger.renew(lease) == "running"
        assert ledger.expire() == []


def test_a_shard_given_back_carries_no_blame(ledger: Ledger) -> None:
    enter(ledger, shards=1)
    assert ledger.release(claim(ledger))
    assert (claim(ledger).attempt, claim_nothing(ledger)) == (2, None)


def claim_nothing(ledger: Ledger) -> ShardLease | None:
    return ledger.claim("shapes", "tester")


def test_a_small_job_does_not_wait_behind_a_large_one(ledger: Ledger) -> None:
    large = enter(ledger, shards=4)
    claim(ledger)
    small = enter(ledger, shards=1)
    assert small in {claim(ledger).job_id, claim(ledger).job_id}
    assert {claim(ledger).job_id, claim(ledger).job_id} == {large}


def test_a_higher_priority_goes_first(ledger: Ledger) -> None:
    enter(ledger, shards=2)
    urgent = enter(ledger, shards=2, priority=5)
    assert [claim(ledger).job_id, claim(ledger).job_id] == [urgent, urgent]


def test_nothing_of_a_cancelled_job_is_claimed_and_its_runners_hear_of_it(ledger: Ledger) -> None:
    job_id = enter(ledger, shards=2)
    running = claim(ledger)
    assert ledger.cancel(job_id) == "cancelled"
    assert ledger.claim("shapes", "tester") is None
    assert ledger.renew(running) == "cancelled"
    with pytest.raises(IllegalMove, match="cancelled cannot be cancelled"):
        ledger.cancel(job_id)


def test_a_paused_job_holds_and_goes_on(ledger: Ledger) -> None:
    job_id = enter(ledger, shards=2)
    running = claim(ledger)
    ledger.pause(job_id)
    assert ledger.release(running)
    assert ledger.claim("shapes", "tester") is None
    assert ledger.resume(job_id) == "running"
    assert claim(ledger).job_id == job_id


def test_the_planner_waits_at_the_window_and_goes_on_from_its_cursor(ledger: Ledger) -> None:
    job_id = enter(ledger, shards=4, end=False)
    lease = ledger.claim_plan(job_id)
    assert lease
    assert (lease.shards, lease.planned, lease.cursor) == (4, 40, {"after": 3})
    assert ledger.add_shard(lease, 4, 10, None) == "full"
    assert not ledger.finish(claim(ledger), {"succeeded": 10}).hungry
    assert ledger.finish(claim(ledger), {"succeeded": 10}).hungry
    assert ledger.add_shard(lease, 4, 10, None) == "added"


def test_one_planner_at_a_time_and_a_stale_one_adds_nothing(ledger: Ledger) -> None:
    job_id = enter(ledger)
    slow = ledger.claim_plan(job_id)
    assert slow
    assert ledger.claim_plan(job_id) is None
    time.sleep(LEASE_SECONDS + 0.05)
    quick = ledger.claim_plan(job_id)
    assert quick
    assert ledger.add_shard(slow, 0, 10, None) == "stale"
    assert ledger.add_shard(quick, 0, 10, None) == "added"
    assert ledger.end_plan(slow) == "stale"


def test_a_job_fails_once_too_many_items_have_failed(ledger: Ledger) -> None:
    job_id = enter(ledger, shards=4, max_failure_rate=0.2)
    assert ledger.finish(claim(ledger), {"failed": 8, "succeeded": 2}).state == "running"
    assert ledger.finish(claim(ledger), {"failed": 1, "succeeded": 9}).state == "failed"
    assert ledger.claim("shapes", "tester") is None
    status = ledger.status(job_id)
    assert status
    assert status.error
    assert status.error.code == "too_many_failures"


def test_a_job_fails_for_its_failures_also_when_they_all_came_before_its_total_was_known(ledger: Ledger) -> None:
    job_id = enter(ledger, shards=2, end=False, max_failure_rate=0.2)
    for _ in range(2):
        ledger.finish(claim(ledger), {"failed": 5, "succeeded": 5})
    lease = ledger.claim_plan(job_id)
    assert lease
    assert ledger.end_plan(lease) == "failed"


def test_the_last_failure_can_be_the_one_too_many(ledger: Ledger) -> None:
    enter(ledger, shards=1, max_failure_rate=0.2)
    assert ledger.finish(claim(ledger), {"failed": 3, "succeeded": 7}).state == "failed"


def test_a_job_that_cannot_be_planned_says_why(ledger: Ledger) -> None:
    job_id = enter(ledger)
    ledger.claim_plan(job_id)
    ledger.fail(job_id, Failure(stage="plan", code="input_not_found", reason="no folder /x"))
    status = ledger.status(job_id)
    assert status
    assert status.error
    assert status.error.reason == "no folder /x"


def test_the_journal_counts_touches_that_were_not_survived(ledger: Ledger) -> None:
    enter(ledger, shards=1)
    lease = claim(ledger)
    assert ledger.touch(lease, 7) == 0
    ledger.survived(lease, 7)
    assert [ledger.touch(lease, 7), ledger.touch(lease, 7)] == [0, 1]


def test_a_million_items_cost_redis_a_few_hundred_kilobytes_at_most(ledger: Ledger, redis_url: str) -> None:
    ledger.window = 64
    job_id = enter(ledger)
    with Redis.from_url(redis_url) as client:
        lease = ledger.claim_plan(job_id)
        assert lease
        before = client.info("memory")["used_memory"]
        for shard in range(2000):
            assert ledger.add_shard(lease, shard, 500, {"after": "x" * 200}) == "added"
            if shard >= 32:
                assert ledger.finish(claim(ledger), {"succeeded": 500}).verdict == "finished"
        assert client.info("memory")["used_memory"] - before < 300_000
    status = ledger.status(job_id)
    assert status
    assert status.counts.planned == 1_000_000


def test_jobs_are_listed_newest_first_page_by_page(ledger: Ledger) -> None:
    ids = [enter(ledger) for _ in range(5)]
    first = [status.id for status in ledger.jobs(limit=3)]
    rest = [status.id for status in ledger.jobs(after=first[-1], limit=3)]
    assert first + rest == ids[::-1]


def test_live_workers_tell_which_models_are_served(ledger: Ledger) -> None:
    card = ModelCard(name="shapes", digest="ab", family="yolo_seg", labels=("circle",), threshold=0.5)
    ledger.serve("host/cpu/bulk", [card])
    assert ledger.models() == {"shapes": card}
    ledger.leave("host/cpu/bulk")
    assert ledger.models() == {}


def test_an_unknown_job_is_not_found(ledger: Ledger) -> None:
    assert ledger.status("nosuchjob") is None
    with pytest.raises(NotFound):
        ledger.cancel("nosuchjob")


def test_redis_away_is_one_clear_error() -> None:
    with pytest.raises(LedgerUnavailable, match="MASKMILL_REDIS_URL"):
        Ledger("redis://127.0.0.1:1/0", "test").ping()
