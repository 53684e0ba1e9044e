"""The ledger's promises, against a real Redis."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from redis import Redis

from maskmill.shared.errors import IllegalMove, InvalidRequest, LedgerUnavailable, NotFound
from maskmill.shared.jobs.keys import DEFAULT_TENANT
from maskmill.shared.jobs.records import (
    SHARDS_A_ROLLUP,
    Counts,
    Failure,
    JobHead,
    JobStatus,
    ListingCursor,
    Options,
    PlanCursor,
    Rollup,
    new_job_id,
)
from maskmill.shared.ledger import Ledger, ModelCard, PlannedPages, ShardLease, Work
from tests.services.control_site import close
from tests.services.workers import wait_until

# Long enough that a busy machine does not let one run out between two lines of a test.
LEASE_SECONDS = 1.0


@pytest.fixture
def ledger(redis_url: str) -> Iterator[Ledger]:
    ledger = Ledger(redis_url, "test", lease_seconds=LEASE_SECONDS, window=4)
    yield ledger
    ledger.disconnect()


def head(tenant: str = DEFAULT_TENANT, **options: object) -> JobHead:
    settled = Options.model_validate(options)
    return JobHead(id=new_job_id(), tenant=tenant, created_at=time.time(), options=settled, shard_size=10)


def enter(ledger: Ledger, shards: int = 0, *, end: bool = True, tenant: str = DEFAULT_TENANT, **options: object) -> str:
    job = head(tenant, **options)
    assert ledger.enter(job)
    if shards:
        plan(ledger, job.ref, shards, end=end)
    return job.ref


def take(ledger: Ledger, name: str) -> Work:
    """The control work that is due, which is to be this."""
    work = ledger.claim_work()
    assert work
    assert work.name == name
    return work


def pages(shards: int, *, end: bool = False, items: int = 10) -> PlannedPages:
    """A page of so many shards."""
    cursor = None if end else PlanCursor(listing=ListingCursor(source=0, position=f"behind {shards}"))
    return PlannedPages(1, shards, shards * items, cursor)


def plan(ledger: Ledger, job_id: str, shards: int, *, end: bool = True) -> None:
    work = take(ledger, f"plan/{job_id}")
    start = ledger.begin_plan(job_id, work)
    assert start
    assert ledger.add_pages(job_id, work, start.pages, pages(shards, end=end))[0] == "added"
    if end:
        ledger.end_work(work)
    else:
        ledger.put_off_work(work, 0)


def claim(ledger: Ledger) -> ShardLease:
    lease = claim_or_none(ledger)
    assert lease
    return lease


def claim_or_none(ledger: Ledger) -> ShardLease | None:
    return ledger.claim("shapes", "tester")


def status_of(ledger: Ledger, job_id: str) -> JobStatus:
    status = ledger.status(job_id)
    assert status
    return status


# Jobs and their shards


def test_a_job_is_entered_once(ledger: Ledger) -> None:
    job = head()
    assert ledger.enter(job)
    assert not ledger.enter(job)


def test_a_job_runs_from_queued_to_completed(ledger: Ledger) -> None:
    job_id = enter(ledger, shards=2)
    first, second = claim(ledger), claim(ledger)
    assert claim_or_none(ledger) is None
    assert ledger.finish(first, {"succeeded": 9, "failed": 1}).state == "running"
    last = ledger.finish(second, {"succeeded": 10})
    assert (last.state, last.control_due) == ("finalizing", True)
    assert ledger.end_work(take(ledger, f"close/{job_id}"))
    assert close(ledger, job_id, Counts(total=20, planned=20, succeeded=19, failed=1), 60) == "completed"
    counts = status_of(ledger, job_id).counts
    assert (counts.total, counts.succeeded, counts.failed) == (20, 19, 1)
    assert (ledger.open_jobs(), ledger.due_work()) == ([], 0)


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
    assert status_of(ledger, job_id).counts.succeeded == 10


def test_a_lease_that_is_not_renewed_is_free_again_and_its_holder_is_fenced_off(ledger: Ledger) -> None:
    enter(ledger, shards=1)
    lost = claim(ledger)
    assert not lost.look
    time.sleep(LEASE_SECONDS + 0.05)
    assert ledger.expire() == [(lost.ref, "0")]
    again = claim(ledger)
    assert (again.attempt, again.crashes, again.look) == (2, 1, True)
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
    again = claim(ledger)
    assert (again.attempt, again.crashes, claim_or_none(ledger)) == (2, 0, None)


def test_a_small_job_does_not_wait_behind_a_large_one(ledger: Ledger) -> None:
    large = enter(ledger, shards=4)
    claim(ledger)
    small = enter(ledger, shards=1)
    assert small in {claim(ledger).ref, claim(ledger).ref}
    assert {claim(ledger).ref, claim(ledger).ref} == {large}


def test_a_higher_priority_goes_first(ledger: Ledger) -> None:
    enter(ledger, shards=2)
    urgent = enter(ledger, shards=2, priority=5)
    assert [claim(ledger).ref, claim(ledger).ref] == [urgent, urgent]


def test_nothing_of_a_cancelled_job_is_claimed_and_its_runners_hear_of_it(ledger: Ledger) -> None:
    job_id = enter(ledger, shards=2)
    running = claim(ledger)
    assert ledger.cancel(job_id) == "cancelled"
    assert claim_or_none(ledger) is None
    assert ledger.renew(running) == "cancelled"
    take(ledger, f"close/{job_id}")
    with pytest.raises(IllegalMove, match="cancelled cannot be cancelled"):
        ledger.cancel(job_id)


def test_a_paused_job_holds_and_goes_on(ledger: Ledger) -> None:
    job_id = enter(ledger, shards=2)
    running = claim(ledger)
    ledger.pause(job_id)
    assert ledger.release(running)
    assert claim_or_none(ledger) is None
    assert ledger.resume(job_id) == "running"
    assert claim(ledger).ref == job_id


def test_a_job_whose_last_shards_ended_while_it_was_paused_ends_when_it_is_resumed(ledger: Ledger) -> None:
    job_id = enter(ledger, shards=2)
    running = [claim(ledger), claim(ledger)]
    ledger.pause(job_id)
    assert [ledger.finish(lease, {"succeeded": 10}).state for lease in running] == ["paused", "paused"]
    assert ledger.due_work() == 0
    assert ledger.resume(job_id) == "finalizing"
    take(ledger, f"close/{job_id}")
    assert close(ledger, job_id, Counts(total=20, planned=20, succeeded=20), 60) == "completed"


def test_a_job_that_failed_too_often_while_it_was_paused_fails_when_it_is_resumed(ledger: Ledger) -> None:
    job_id = enter(ledger, shards=2, max_failure_rate=0.1)
    running = claim(ledger)
    ledger.pause(job_id)
    assert ledger.finish(running, {"failed": 10}).state == "paused"
    assert ledger.resume(job_id) == "failed"
    take(ledger, f"close/{job_id}")


def test_a_job_paused_while_it_is_planned_is_planned_on_when_it_is_resumed(ledger: Ledger) -> None:
    job_id = enter(ledger)
    work = take(ledger, f"plan/{job_id}")
    assert ledger.begin_plan(job_id, work)
    ledger.pause(job_id)
    assert ledger.add_pages(job_id, work, 0, pages(3)) == ("paused", 0)
    ledger.end_work(work)
    assert ledger.claim_work() is None
    assert ledger.resume(job_id) == "planning"
    plan(ledger, job_id, 3)
    assert claim(ledger).ref == job_id


# Planning


def test_planning_never_waits_and_a_window_of_shards_can_be_claimed(ledger: Ledger) -> None:
    job_id = enter(ledger)
    work = take(ledger, f"plan/{job_id}")
    assert ledger.begin_plan(job_id, work)
    assert ledger.add_pages(job_id, work, 0, pages(1000)) == ("added", 4)
    assert ledger.add_pages(job_id, work, 1, pages(1000, end=True)) == ("added", 0)
    assert status_of(ledger, job_id).counts.total == 20_000
    leases = [claim(ledger) for _ in range(4)]
    assert claim_or_none(ledger) is None
    # More can be claimed once half of the window is free.
    assert [ledger.finish(lease, {"succeeded": 10}).admitted for lease in leases[:3]] == [0, 2, 0]
    assert [claim(ledger).shard, claim(ledger).shard] == [4, 5]


def test_a_planner_goes_on_from_where_the_one_before_it_stood(ledger: Ledger) -> None:
    job_id = enter(ledger, shards=4, end=False)
    start = ledger.begin_plan(job_id, take(ledger, f"plan/{job_id}"))
    assert start
    assert (start.pages, start.shards, start.planned, start.recovered) == (1, 4, 40, False)
    assert start.cursor.listing == ListingCursor(source=0, position="behind 4")


def test_one_planner_at_a_time_and_a_stale_one_adds_nothing(ledger: Ledger) -> None:
    job_id = enter(ledger)
    slow = take(ledger, f"plan/{job_id}")
    assert ledger.begin_plan(job_id, slow)
    assert ledger.claim_work() is None
    time.sleep(LEASE_SECONDS + 0.05)
    quick = take(ledger, f"plan/{job_id}")
    assert ledger.begin_plan(job_id, quick)
    assert ledger.begin_plan(job_id, slow) is None
    assert ledger.add_pages(job_id, slow, 0, pages(1)) == ("stale", 0)
    assert ledger.add_expansion(job_id, slow, 0) == "stale"
    assert ledger.add_pages(job_id, quick, 0, pages(1)) == ("added", 1)
    assert ledger.add_pages(job_id, quick, 0, pages(1)) == ("stale", 0)
    assert not ledger.renew_work(slow)
    assert not ledger.end_work(slow)
    assert ledger.renew_work(quick)


def test_a_chunk_is_looked_into_before_any_shard_runs_and_planning_is_due_once_it_is(ledger: Ledger) -> None:
    job_id = enter(ledger)
    work = take(ledger, f"plan/{job_id}")
    assert ledger.begin_plan(job_id, work)
    ledger.add_pages(job_id, work, 0, pages(2))
    assert ledger.add_expansion(job_id, work, 7) == "added"
    assert ledger.add_expansion(job_id, work, 7) == "added"
    ledger.put_off_work(work, 300)
    chunk = claim(ledger)
    assert (chunk.shard, chunk.expands, claim(ledger).expands) == (7, True, False)
    assert not ledger.is_looked_into(job_id, 7)
    assert ledger.claim_work() is None
    assert ledger.finish(chunk, {}).control_due
    assert ledger.is_looked_into(job_id, 7)
    take(ledger, f"plan/{job_id}")
    assert status_of(ledger, job_id).counts.done == 0


def test_a_chunk_whose_worker_died_is_looked_into_again(ledger: Ledger) -> None:
    job_id = enter(ledger)
    work = take(ledger, f"plan/{job_id}")
    assert ledger.begin_plan(job_id, work)
    ledger.add_expansion(job_id, work, 0)
    lost = claim(ledger)
    time.sleep(LEASE_SECONDS + 0.05)
    assert ledger.expire() == [(job_id, "e0")]
    again = claim(ledger)
    assert (again.expands, again.crashes) == (True, 1)
    assert ledger.finish(lost, {}).verdict == "stale"
    assert ledger.finish(again, {}).verdict == "finished"


def test_shards_whose_rollup_is_stored_are_not_claimed_again_in_a_job_entered_anew(ledger: Ledger) -> None:
    job = head()
    ledger.enter(job, recovered=True)
    work = take(ledger, f"plan/{job.id}")
    start = ledger.begin_plan(job.id, work)
    assert start
    assert start.recovered
    stored = Rollup(number=0, shards=SHARDS_A_ROLLUP, succeeded=9_990, failed=10)
    assert ledger.adopt_rollup(job.id, work, 0, stored)
    assert not ledger.adopt_rollup(job.id, work, 0, stored)
    ledger.add_pages(job.id, work, 0, pages(SHARDS_A_ROLLUP + 2, end=True))
    left = [claim(ledger), claim(ledger)]
    assert [(lease.shard, lease.look) for lease in left] == [(SHARDS_A_ROLLUP, True), (SHARDS_A_ROLLUP + 1, True)]
    assert claim_or_none(ledger) is None
    assert [ledger.finish(lease, {"succeeded": 10}).state for lease in left] == ["running", "finalizing"]
    counts = status_of(ledger, job.id).counts
    assert (counts.total, counts.succeeded, counts.failed) == (10_020, 10_010, 10)


# Failures


def test_a_job_fails_once_too_many_items_have_failed(ledger: Ledger) -> None:
    job_id = enter(ledger, shards=4, max_failure_rate=0.2)
    assert ledger.finish(claim(ledger), {"failed": 8, "succeeded": 2}).state == "running"
    assert ledger.finish(claim(ledger), {"failed": 1, "succeeded": 9}).state == "failed"
    assert claim_or_none(ledger) is None
    error = status_of(ledger, job_id).error
    assert error
    assert error.code == "too_many_failures"


def test_a_job_fails_for_its_failures_also_when_they_all_came_before_its_total_was_known(ledger: Ledger) -> None:
    job_id = enter(ledger, shards=2, end=False, max_failure_rate=0.2)
    for _ in range(2):
        assert ledger.finish(claim(ledger), {"failed": 5, "succeeded": 5}).state == "planning"
    work = take(ledger, f"plan/{job_id}")
    assert ledger.begin_plan(job_id, work)
    ledger.add_pages(job_id, work, 1, PlannedPages(1, 0, 0, None))
    assert status_of(ledger, job_id).state == "failed"


def test_a_hopeless_job_fails_while_it_is_still_planned_but_not_for_its_first_few_items(ledger: Ledger) -> None:
    job_id = enter(ledger, shards=1000, end=False, max_failure_rate=0.5)
    states = [ledger.finish(claim(ledger), {"failed": 10}).state for _ in range(10)]
    assert states == ["planning"] * 9 + ["failed"]
    assert claim_or_none(ledger) is None
    work = take(ledger, f"plan/{job_id}")
    assert ledger.begin_plan(job_id, work) is None


def test_the_last_failure_can_be_the_one_too_many(ledger: Ledger) -> None:
    enter(ledger, shards=1, max_failure_rate=0.2)
    assert ledger.finish(claim(ledger), {"failed": 3, "succeeded": 7}).state == "failed"


def test_a_job_that_cannot_be_planned_says_why(ledger: Ledger) -> None:
    job_id = enter(ledger)
    ledger.fail(job_id, Failure(stage="plan", code="input_not_found", reason="no folder /x"))
    error = status_of(ledger, job_id).error
    assert error
    assert error.reason == "no folder /x"


def test_the_journal_counts_touches_that_were_not_survived(ledger: Ledger) -> None:
    enter(ledger, shards=1)
    lease = claim(ledger)
    assert ledger.touch(lease, 7) == 0
    ledger.survived(lease, 7)
    assert [ledger.touch(lease, 7), ledger.touch(lease, 7)] == [0, 1]


# Control work


def test_control_work_has_one_holder_and_is_due_again_when_its_lease_ends(ledger: Ledger) -> None:
    job_id = enter(ledger)
    with ThreadPoolExecutor(8) as pool:
        held = [work for work in pool.map(lambda _: ledger.claim_work(), range(8)) if work]
    assert [work.name for work in held] == [f"plan/{job_id}"]
    assert ledger.due_work() == 0
    wait_until(ledger.due_work, 5)
    again = take(ledger, f"plan/{job_id}")
    # It was counted before the work: who dies of it cannot count any more.
    assert (again.failures, again.error) == (1, "")
    assert not ledger.renew_work(held[0])


def test_renewed_control_work_is_kept(ledger: Ledger) -> None:
    job_id = enter(ledger)
    work = take(ledger, f"plan/{job_id}")
    for _ in range(3):
        time.sleep(LEASE_SECONDS * 0.4)
        assert ledger.renew_work(work)
        assert ledger.claim_work() is None


def test_failures_are_counted_with_the_last_error_and_progress_forgets_them(ledger: Ledger) -> None:
    name = f"plan/{enter(ledger)}"
    for failures, error in enumerate(["", "first", "second"]):
        work = take(ledger, name)
        assert (work.failures, work.error) == (failures, error)
        assert ledger.put_off_work(work, 0, ["first", "second", "third"][failures])
    moved = take(ledger, name)
    assert moved.failures == 3
    assert ledger.renew_work(moved, progress=True)
    ledger.put_off_work(moved, 0, "fourth")
    assert take(ledger, name).failures == 0


def test_a_counted_page_is_progress(ledger: Ledger) -> None:
    job_id = enter(ledger)
    for _ in range(3):
        ledger.put_off_work(take(ledger, f"plan/{job_id}"), 0, "it died")
    work = take(ledger, f"plan/{job_id}")
    assert ledger.begin_plan(job_id, work)
    ledger.add_pages(job_id, work, 0, pages(1))
    ledger.put_off_work(work, 0, "it died elsewhere")
    assert take(ledger, f"plan/{job_id}").failures == 0


def test_an_outage_and_going_on_later_are_no_failures(ledger: Ledger) -> None:
    name = f"plan/{enter(ledger)}"
    ledger.put_off_work(take(ledger, name), 0, "it died")
    for _ in range(3):
        ledger.put_off_work(take(ledger, name), 0, "the storage is away", blameless=True)
    blamed = take(ledger, name)
    assert (blamed.failures, blamed.error) == (1, "the storage is away")
    ledger.put_off_work(blamed, 0)
    assert take(ledger, name).failures == 0


def test_work_put_off_is_not_due_before_its_time(ledger: Ledger) -> None:
    name = f"plan/{enter(ledger)}"
    ledger.put_off_work(take(ledger, name), 1)
    assert ledger.claim_work() is None
    wait_until(ledger.due_work, 5)
    take(ledger, name)


@pytest.mark.parametrize("ended", [True, False])
def test_what_happens_during_control_work_makes_it_due_again_at_once(ledger: Ledger, ended: bool) -> None:
    job_id = enter(ledger)
    work = take(ledger, f"plan/{job_id}")
    assert ledger.begin_plan(job_id, work)
    ledger.add_expansion(job_id, work, 0)
    ledger.finish(claim(ledger), {})
    assert ledger.claim_work() is None
    assert ledger.end_work(work) if ended else ledger.put_off_work(work, 300)
    again = take(ledger, f"plan/{job_id}")
    # Once: what happened before it was claimed needs no third.
    ledger.end_work(again)
    assert ledger.claim_work() is None


# What it costs


def test_a_million_items_cost_redis_a_few_hundred_kilobytes_at_most(ledger: Ledger, redis_url: str) -> None:
    ledger.window = 64
    job_id = enter(ledger)
    work = take(ledger, f"plan/{job_id}")
    assert ledger.begin_plan(job_id, work)
    with Redis.from_url(redis_url) as client:
        before = client.info("memory")["used_memory"]
        cursor = PlanCursor(listing=ListingCursor(position="x" * 200))
        for page in range(63):
            added = PlannedPages(1, 32, 32 * 500, cursor)
            assert ledger.add_pages(job_id, work, page, added)[0] == "added"
        rolled = 0
        for shard in range(1900):
            rolled += ledger.finish(claim(ledger), {"succeeded": 500}).control_due
            if shard + 1 == SHARDS_A_ROLLUP:
                ledger.forget_finished(job_id, 0)
        assert rolled == 1
        assert client.info("memory")["used_memory"] - before < 300_000
    assert status_of(ledger, job_id).counts.planned == 1_008_000


# Tenants


def end(ledger: Ledger, ref: str) -> None:
    """Close the job that is over, and let Redis forget it."""
    ledger.end_work(take(ledger, f"close/{ref}"))
    assert close(ledger, ref, Counts(total=0), 1)
    wait_until(lambda: ledger.status(ref) is None, 5)


def keys_left(redis_url: str) -> set[str]:
    with Redis.from_url(redis_url, decode_responses=True) as client:
        return set(client.keys())


def calls(redis_url: str) -> int:
    """How many commands of those that claims are made of Redis was given so far, by scripts or by clients."""
    with Redis.from_url(redis_url, decode_responses=True) as client:
        stats = client.info("commandstats")
    return sum(stats[f"cmdstat_{name}"]["calls"] for name in ("zrange", "zadd", "zrem", "zpopmin", "hget", "hmget"))


def test_one_job_waits_behind_no_thousand_jobs_of_another_tenant(ledger: Ledger) -> None:
    for _ in range(1000):
        enter(ledger, shards=1, tenant="large", priority=9)
    assert {claim(ledger).ref.partition(".")[0] for _ in range(5)} == {"large"}
    small = enter(ledger, shards=1, tenant="small")
    assert small in {claim(ledger).ref, claim(ledger).ref}
    assert claim(ledger).ref.startswith("large.")


def test_a_claim_costs_the_same_whatever_waits(ledger: Ledger, redis_url: str) -> None:
    def cost() -> int:
        before = calls(redis_url)
        claim(ledger)
        return calls(redis_url) - before

    ledger.window = 8
    enter(ledger, shards=8)
    claim(ledger)
    alone = cost()
    for number in range(200):
        enter(ledger, shards=2, tenant=f"tenant-{number % 50}")
    assert {cost() for _ in range(200)} == {alone}


def test_tenants_are_claimed_for_in_turn_and_so_are_the_jobs_of_each(ledger: Ledger) -> None:
    first, second = enter(ledger, shards=2), enter(ledger, shards=2)
    acme = enter(ledger, shards=3, tenant="acme")
    small = enter(ledger, shards=1, tenant="small")
    order = [claim(ledger).ref for _ in range(8)]
    assert order == [first, acme, small, second, acme, first, acme, second]
    assert claim_or_none(ledger) is None


def test_a_priority_counts_among_the_jobs_of_its_tenant_only(ledger: Ledger) -> None:
    later = enter(ledger, shards=1)
    other = enter(ledger, shards=3, tenant="acme")
    urgent = enter(ledger, shards=2, priority=9)
    assert [claim(ledger).ref for _ in range(6)] == [urgent, other, urgent, other, later, other]


def test_a_tenant_with_nothing_ready_leaves_the_round_and_comes_back(ledger: Ledger, redis_url: str) -> None:
    large = enter(ledger, shards=4)
    with Redis.from_url(redis_url, decode_responses=True) as client:
        small = enter(ledger, shards=2, tenant="small")
        ledger.pause(small)
        assert client.zrange("test:tenants:shapes", 0, -1) == [DEFAULT_TENANT]
        ledger.resume(small)
        assert {claim(ledger).ref, claim(ledger).ref} == {large, small}
        leases = [claim(ledger), claim(ledger), claim(ledger)]
        assert [lease.ref for lease in leases] == [large, small, large]
        assert client.zrange("test:tenants:shapes", 0, -1) == ["small", DEFAULT_TENANT]
        assert claim(ledger).ref == large
        assert client.zrange("test:tenants:shapes", 0, -1) == [DEFAULT_TENANT]
        assert claim_or_none(ledger) is None
        assert not client.exists("test:tenants:shapes", "test:turns:shapes:small", "test:models")
    assert ledger.release(leases[1])
    assert ledger.models_with_work() == ["shapes"]
    assert claim(ledger).ref == small


def test_two_tenants_jobs_of_the_same_id_are_two(ledger: Ledger) -> None:
    job = head()
    other = job.model_copy(update={"tenant": "acme"})
    assert ledger.enter(job)
    assert ledger.enter(other)
    assert ledger.cancel(other.ref) == "cancelled"
    assert (status_of(ledger, job.ref).state, status_of(ledger, other.ref).state) == ("queued", "cancelled")
    assert status_of(ledger, other.ref).id == job.id
    assert ledger.open_jobs() == [job.ref, other.ref]


def test_nothing_is_left_once_the_jobs_of_all_tenants_are_over_and_forgotten(ledger: Ledger, redis_url: str) -> None:
    refs = [enter(ledger, shards=2, tenant=tenant) for tenant in (DEFAULT_TENANT, "acme", "small")]
    for lease in [claim(ledger) for _ in range(5)]:
        ledger.finish(lease, {"succeeded": 10})
    # The last has a shard that nobody claimed.
    ledger.cancel(refs[2])
    for ref in refs:
        end(ledger, ref)
    assert claim_or_none(ledger) is None
    ledger.forget()
    assert keys_left(redis_url) == {"test:turn", "test:work:token"}


# The list of jobs


def ids_of(page: tuple[list[JobStatus], str | None]) -> list[str]:
    return [status.id for status in page[0]]


def expire_job(ledger: Ledger, job_id: str) -> None:
    """End the job and wait until Redis has forgotten it."""
    ledger.cancel(job_id)
    close(ledger, job_id, Counts(total=0), 1)
    wait_until(lambda: ledger.status(job_id) is None, 5)


def test_jobs_are_listed_newest_first_page_by_page(ledger: Ledger) -> None:
    ids = [enter(ledger) for _ in range(5)]
    first, cursor = ledger.jobs(DEFAULT_TENANT, limit=3)
    rest, end = ledger.jobs(DEFAULT_TENANT, after=cursor, limit=3)
    assert [status.id for status in first + rest] == ids[::-1]
    assert end is None


def test_a_page_goes_on_where_the_one_before_it_ended_though_that_job_is_forgotten(ledger: Ledger) -> None:
    ids = [enter(ledger) for _ in range(6)][::-1]
    first, cursor = ledger.jobs(DEFAULT_TENANT, limit=3)
    expire_job(ledger, first[-1].id)
    assert ids_of(ledger.jobs(DEFAULT_TENANT, after=cursor)) == ids[3:]
    ledger.forget()
    assert ids_of(ledger.jobs(DEFAULT_TENANT, after=cursor)) == ids[3:]


def test_jobs_that_redis_forgot_shorten_no_page_and_leave_the_list(ledger: Ledger, redis_url: str) -> None:
    ids = [enter(ledger) for _ in range(6)][::-1]
    for job_id in ids[1:3]:
        ledger.cancel(job_id)
        close(ledger, job_id, Counts(total=0), 1)
    wait_until(lambda: not any(map(ledger.status, ids[1:3])), 5)
    assert ids_of(ledger.jobs(DEFAULT_TENANT, limit=3)) == [ids[0], *ids[3:5]]
    with Redis.from_url(redis_url) as client:
        assert client.zcard("test:jobs:default") == 6
        ledger.forget()
        assert client.zcard("test:jobs:default") == 4
    assert ids_of(ledger.jobs(DEFAULT_TENANT, limit=3)) == [ids[0], *ids[3:5]]


def test_a_tenants_list_holds_its_own_jobs_only(ledger: Ledger) -> None:
    own, others = [], []
    for _ in range(4):
        own.append(enter(ledger, tenant="acme"))
        others.append(enter(ledger))
    first, cursor = ledger.jobs("acme", limit=3)
    assert cursor
    assert "acme" not in cursor
    rest, last = ledger.jobs("acme", after=cursor, limit=3)
    assert [f"acme.{status.id}" for status in first + rest] == own[::-1]
    assert last is None
    assert ids_of(ledger.jobs(DEFAULT_TENANT)) == others[::-1]
    assert ids_of(ledger.jobs("nobody")) == []
    # A cursor tells a time: where another tenant uses it, it finds its own jobs before that.
    assert ids_of(ledger.jobs(DEFAULT_TENANT, after=cursor)) == [others[0]]
    expire_job(ledger, own[3])
    ledger.forget()
    assert [f"acme.{job_id}" for job_id in ids_of(ledger.jobs("acme"))] == own[2::-1]
    assert ids_of(ledger.jobs(DEFAULT_TENANT)) == others[::-1]


@pytest.mark.parametrize("cursor", ["", "01hx", "~", "nan~01hxnosuchjob", "yesterday~01hxnosuchjob"])
def test_a_cursor_that_is_none_is_an_invalid_request(ledger: Ledger, cursor: str) -> None:
    enter(ledger)
    with pytest.raises(InvalidRequest, match="take `next` of the page before") as caught:
        ledger.jobs(DEFAULT_TENANT, after=cursor)
    assert caught.value.pointer == "?after"


# Workers


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
