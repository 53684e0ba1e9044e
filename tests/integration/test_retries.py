"""A retry runs again what failed in a job that is over and folds it back, whatever dies and whenever Redis is lost."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from maskmill.shared.errors import IllegalMove
from maskmill.shared.jobs import keys
from maskmill.shared.jobs.records import (
    SHARDS_A_PAGE,
    SHARDS_A_ROLLUP,
    Counts,
    Failure,
    Item,
    JobStatus,
    Outcome,
    OutcomeStatus,
    PlanPage,
    Retry,
    Rollup,
    page_of,
)
from maskmill.shared.jobs.sources import UrlBytes
from maskmill.shared.ledger import ShardLease
from maskmill.shared.recovery import enter_stored
from maskmill.worker.control import fold
from maskmill.worker.outcomes import outcome_of
from tests.services.control_site import PREFIX, ControlSite, Killed

AWAY = Failure(stage="fetch", code="url_unreachable", reason="nobody answers")
BROKEN = Failure(stage="decode", code="truncated", reason="it ends too soon")


@pytest.fixture
def narrow(tmp_path: Path, redis_url: str) -> Iterator[ControlSite]:
    """A site where two shards of a job can be claimed at once."""
    held = ControlSite(tmp_path, redis_url, window=2)
    yield held
    held.close()


def run_shard(site: ControlSite, lease: ShardLease, failed: dict[int, Failure]) -> list[int]:
    """Commit a claimed shard as a worker does, with a line of annotations for each success; the items that were run."""
    files = site.files(lease.ref, lease.retry)
    head, page = files.head(), files.page(page_of(lease.shard))
    assert head
    assert page
    items = page.shard(lease.shard, head)
    stored = files.outcomes(lease.shard) if lease.look else None
    if stored is None:
        ended = [ended_as(item, failed) for item in items]
        lines = [b'{"number":%d,"run":%d}\n' % (one.number, lease.retry) for one in ended if one.status == "succeeded"]
        files.store_annotations(lease.shard, b"".join(lines))
        counts = files.commit(lease.shard, ended)
    else:
        counts = dict(Counter[str](one.status for one in stored))
    site.ledger.finish(lease, counts)
    return [] if stored else [item.number for item in items]


def ended_as(item: Item, failed: dict[int, Failure]) -> Outcome:
    error = failed.get(item.number)
    status: OutcomeStatus = "failed" if error else "succeeded"
    return outcome_of(item, status, error=error, artifacts={} if error else {"json": f"{item.name}_res.json"})


def work(site: ControlSite, failed: dict[int, Failure] | None = None) -> list[int]:
    """Run all that can be claimed; the items that were run."""
    ran: list[int] = []
    while lease := site.ledger.claim("shapes", "worker"):
        ran += run_shard(site, lease, failed or {})
    return ran


def finished(
    site: ControlSite, items: int, failed: dict[int, Failure], *, shard_size: int = 4, **options: object
) -> str:
    """A job of so many items that is over, in which these failed; its ref."""
    ref = site.submit(items, shard_size=shard_size, **options)
    site.runner().run()
    work(site, failed)
    site.runner().run()
    assert site.files(ref).report()
    return ref


def accept(site: ControlSite, ref: str, codes: tuple[str, ...] | None = None) -> int:
    """Store a retry of the job as the API does; its number."""
    retry = Retry(number=site.report(ref).retries + 1, codes=codes, accepted_at=time.time())
    assert site.files(ref).accept_retry(retry) == retry
    return retry.number


def retry(site: ControlSite, ref: str, codes: tuple[str, ...] | None = None) -> int:
    """Accept a retry and enter it; its number."""
    number = accept(site, ref, codes)
    assert enter_stored(site.ledger, site.files(ref, number), recovered=False)
    return number


def outcomes(site: ControlSite, ref: str, shards: int) -> list[Outcome]:
    return [one for shard in range(shards) for one in site.files(ref).outcomes(shard) or ()]


def check(site: ControlSite, ref: str, items: int, failed: dict[int, Failure], *, shard_size: int = 4) -> None:
    """Every item has exactly one outcome, those of `failed` failed so, and all that counts them says the same."""
    shards = -(-items // shard_size)
    found = outcomes(site, ref, shards)
    assert [one.number for one in found] == list(range(items))
    assert {one.number: one.error for one in found if one.status == "failed"} == failed
    expected = Counts(total=items, planned=items, succeeded=items - len(failed), failed=len(failed))
    assert site.report(ref).counts == expected
    rollup = site.files(ref).rollup(0)
    assert rollup
    assert (rollup.succeeded, rollup.failed) == (items - len(failed), len(failed))
    assert rollup.failures == dict(sorted(Counter(number // shard_size for number in failed).items()))
    lines = [number for shard in range(shards) for number in site.files(ref).annotations(shard)]
    assert lines == [number for number in range(items) if number not in failed]


def test_what_failed_runs_again_under_its_own_number(site: ControlSite) -> None:
    failed = {0: AWAY, 9: BROKEN, 10: AWAY, 24: AWAY}
    ref = finished(site, 26, failed)
    before = site.report(ref)
    assert retry(site, ref) == 1
    assert (site.status(ref).state, site.status(ref).retries) == ("queued", 1)
    site.runner().run()
    assert work(site, {9: BROKEN}) == [0, 9, 10, 24]
    site.runner().run()
    check(site, ref, 26, {9: BROKEN})
    after = site.report(ref)
    assert (after.state, after.retries, after.rate) == ("completed", 1, before.rate)
    assert site.status(ref) == after
    assert not site.ledger.is_open(ref)
    assert list(site.storage.list(keys.OPEN)) == []
    assert site.redis.keys(f"{PREFIX}:job:{ref}:*") == []
    # And once more, of what failed still.
    assert retry(site, ref) == 2
    site.runner().run()
    assert work(site) == [9]
    site.runner().run()
    check(site, ref, 26, {})


def test_only_failures_of_the_codes_run_again(site: ControlSite) -> None:
    ref = finished(site, 12, {1: AWAY, 2: BROKEN, 7: BROKEN, 11: AWAY})
    retry(site, ref, ("truncated", "empty"))
    site.runner().run()
    assert work(site) == [2, 7]
    site.runner().run()
    check(site, ref, 12, {1: AWAY, 11: AWAY})


def test_a_retry_that_finds_nothing_leaves_the_job_as_it_was(site: ControlSite) -> None:
    ref = finished(site, 4, {1: AWAY})
    retry(site, ref, ("empty",))
    site.runner().run()
    assert (work(site), site.report(ref).retries) == ([], 1)
    check(site, ref, 4, {1: AWAY})


def test_status_while_it_runs_counts_what_is_retried_as_not_done(site: ControlSite) -> None:
    ref = finished(site, 12, {1: AWAY, 2: AWAY, 3: AWAY, 7: AWAY, 9: BROKEN})
    retry(site, ref, ("url_unreachable",))
    site.runner().run()
    status = site.status(ref)
    assert (status.state, status.counts) == ("running", Counts(total=12, planned=12, succeeded=7, failed=1))
    lease = site.ledger.claim("shapes", "worker")
    assert lease
    run_shard(site, lease, {2: AWAY})
    status = site.status(ref)
    assert (status.state, status.counts) == ("finalizing", Counts(total=12, planned=12, succeeded=10, failed=2))
    site.runner().run()
    check(site, ref, 12, {2: AWAY, 9: BROKEN})


def test_more_failing_shards_than_the_window_holds(narrow: ControlSite) -> None:
    items = 2 * SHARDS_A_PAGE + 10
    ref = narrow.submit(items, shard_size=1)
    narrow.runner().run()
    failed = dict.fromkeys(range(0, items, 2), AWAY)
    assert len(work(narrow, failed)) == items
    narrow.runner().run()
    retry(narrow, ref)
    narrow.runner().run()
    assert narrow.redis.hlen(f"{PREFIX}:job:{ref}:shards") == 2
    assert work(narrow, {4: AWAY}) == list(failed)
    narrow.runner().run()
    check(narrow, ref, items, {4: AWAY}, shard_size=1)


# Died, lost


class Strike:
    """Lets something happen once, at that call to the storage."""

    def __init__(self, call: int, happens: Callable[[], None]) -> None:
        self.struck = False
        self._left, self._happens = call, happens

    def __call__(self, _kind: str, _key: str) -> None:
        self._left -= 1
        if self._left < 0 and not self.struck:
            self.struck = True
            self._happens()


def drive(site: ControlSite, ref: str, number: int, failed: dict[int, Failure], strike: Strike) -> None:
    """Let control, workers and sweeper go on until that retry is over, whatever happens to them."""
    for _ in range(30):
        site.storage.before = strike
        with contextlib.suppress(Killed):
            site.runner().run()
            work(site, failed)
            site.runner().run()
            site.sweeper().recover()
        site.storage.before = lambda _kind, _key: None
        site.make_due()
        for lease in site.redis.zrange(f"{PREFIX}:leases", 0, -1):
            site.redis.zadd(f"{PREFIX}:leases", {lease: 0})
        site.ledger.expire()
        if site.report(ref).retries == number and not site.ledger.is_open(ref):
            return
    raise AssertionError("the retry never ends")


@pytest.mark.parametrize("loses", [False, True], ids=["killed", "redis-lost"])
def test_whatever_dies_at_any_call_every_item_has_one_outcome(site: ControlSite, loses: bool) -> None:
    def happens() -> None:
        if not loses:
            raise Killed
        site.redis.flushall()

    failed, still = {1: AWAY, 2: BROKEN, 3: AWAY, 6: AWAY, 13: AWAY}, {2: BROKEN}
    for call in itertools.count():
        ref, strike = finished(site, 14, failed, shard_size=3), Strike(call, happens)
        drive(site, ref, retry(site, ref), still, strike)
        site.sweeper().recover()
        check(site, ref, 14, still, shard_size=3)
        assert list(site.storage.list(keys.OPEN)) == []
        if not strike.struck:
            break
    assert call > 50


@pytest.mark.parametrize("loses", [False, True], ids=["killed", "redis-lost"])
def test_planning_goes_on_behind_the_pages_that_are_stored(site: ControlSite, loses: bool) -> None:
    items = 4 * SHARDS_A_PAGE
    failed = {number: AWAY for number in range(items) if number % 4}
    ref = finished(site, items, failed, shard_size=1)
    number = retry(site, ref)
    pages = [keys.page(ref, page, number) for page in range(4)]
    for page in pages[1:]:
        site.storage.kill_once("put", page)
        with pytest.raises(Killed):
            site.runner().run()
        if loses:
            site.redis.flushall()
            site.sweeper().recover()
        site.make_due()
    site.storage.calls.clear()
    site.runner().run()
    # The shards behind the last page, and none before it.
    assert not [key for key in site.storage.keys_of("get") if key.startswith(keys.outcomes(ref))]
    assert list(site.storage.list(keys.pages(ref, number))) == pages
    assert sorted(work(site)) == list(failed)
    site.runner().run()
    check(site, ref, items, {}, shard_size=1)


def test_a_retry_goes_on_where_it_was_when_redis_comes_back_empty(narrow: ControlSite) -> None:
    failed = dict.fromkeys(range(0, 40, 2), AWAY)
    ref = finished(narrow, 40, failed, shard_size=2)
    number = retry(narrow, ref)
    narrow.runner().run()
    lease = narrow.ledger.claim("shapes", "worker")
    assert lease
    assert run_shard(narrow, lease, {}) == [0, 2]
    narrow.redis.flushall()
    assert narrow.ledger.status(ref) is None
    narrow.sweeper().recover()
    narrow.runner().run()
    assert narrow.status(ref).retries == number
    # What is committed is found, not run again.
    assert work(narrow) == list(range(4, 40, 2))
    narrow.runner().run()
    check(narrow, ref, 40, {}, shard_size=2)


def test_a_retry_that_was_accepted_and_never_entered_is(site: ControlSite) -> None:
    ref = finished(site, 4, {1: AWAY})
    accept(site, ref)
    site.sweeper().recover()
    site.runner().run()
    assert work(site) == [1]
    site.runner().run()
    check(site, ref, 4, {})


def test_a_marker_of_a_retry_that_was_never_accepted_goes_after_a_day(site: ControlSite) -> None:
    ref = finished(site, 4, {1: AWAY})
    marker = keys.open_marker(ref, 1)
    for age, there in ((60, True), (90_000, False)):
        site.storage.put(marker, str(time.time() - age).encode())
        site.sweeper().recover()
        assert (site.storage.size(marker) is not None) == there
    assert (site.status(ref).state, site.status(ref).retries) == ("completed", 0)


def test_who_closes_the_first_run_late_takes_no_retry_away(site: ControlSite) -> None:
    ref = site.submit(4, shard_size=4)
    site.runner().run()
    work(site, {1: AWAY})

    def overtake(kind: str, key: str) -> None:
        if (kind, key) == ("delete", keys.open_marker(ref)):
            site.storage.before = lambda _kind, _key: None
            retry(site, ref)

    site.storage.before = overtake
    site.runner().run()
    site.redis.flushall()
    site.sweeper().recover()
    site.runner().run()
    assert work(site) == [1]
    site.runner().run()
    check(site, ref, 4, {})


def test_a_worker_of_an_earlier_run_holds_nothing_of_a_retry(site: ControlSite) -> None:
    ref = site.submit(8, shard_size=4)
    site.runner().run()
    stale = site.ledger.claim("shapes", "stands still")
    assert stale
    site.ledger.release(stale)
    stale = site.ledger.claim("shapes", "stands still")
    assert stale
    assert stale.shard == 0
    site.ledger.count_stored(
        ref, 0, site.files(ref).commit(0, [ended_as(item, {1: AWAY}) for item in items_of(site, ref)])
    )
    work(site)
    site.runner().run()
    retry(site, ref)
    site.runner().run()
    first = site.ledger.claim("shapes", "worker")
    assert first
    site.ledger.release(first)
    again = site.ledger.claim("shapes", "worker")
    assert again
    assert (again.shard, again.retry, first.look, again.look) == (0, 1, False, True)
    assert site.ledger.renew(stale) is None
    assert not site.ledger.release(stale)
    assert site.ledger.finish(stale, {"succeeded": 4}).verdict == "stale"
    assert site.ledger.renew(again) == "running"


def items_of(site: ControlSite, ref: str) -> tuple[Item, ...]:
    head, page = site.files(ref).head(), site.files(ref).page(0)
    assert head
    assert page
    return page.shard(0, head)


# Stopped


@pytest.mark.parametrize("loses", [False, True], ids=["redis-stayed", "redis-came-back-empty"])
def test_what_a_cancelled_retry_did_not_run_keeps_its_outcome(narrow: ControlSite, loses: bool) -> None:
    failed = dict.fromkeys(range(20), AWAY)
    ref = finished(narrow, 24, failed, shard_size=2)
    number = retry(narrow, ref)
    narrow.runner().run()
    lease = narrow.ledger.claim("shapes", "worker")
    assert lease
    run_shard(narrow, lease, {1: BROKEN})
    narrow.files(ref, number).mark_cancelled()
    if loses:
        narrow.redis.flushall()
        narrow.sweeper().recover()
    else:
        narrow.ledger.cancel(ref)
    narrow.runner().run()
    left = failed | {1: BROKEN}
    del left[0]
    check(narrow, ref, 24, left, shard_size=2)
    assert narrow.report(ref).state == "cancelled"
    # Its marker is none of the next one's, which runs the rest.
    retry(narrow, ref)
    narrow.redis.flushall()
    narrow.sweeper().recover()
    narrow.runner().run()
    assert work(narrow) == list(range(1, 20))
    narrow.runner().run()
    check(narrow, ref, 24, {}, shard_size=2)
    assert narrow.report(ref).state == "completed"


def test_a_retry_is_paused_over_a_loss_of_redis_and_goes_on(site: ControlSite) -> None:
    ref = finished(site, 8, {1: AWAY, 6: AWAY})
    number = retry(site, ref)
    site.files(ref, number).mark_paused()
    site.ledger.pause(ref)
    site.redis.flushall()
    site.sweeper().recover()
    site.runner().run()
    assert (site.status(ref).state, work(site)) == ("paused", [])
    site.files(ref, number).mark_paused(paused=False)
    site.ledger.resume(ref)
    site.runner().run()
    assert work(site) == [1, 6]
    site.runner().run()
    check(site, ref, 8, {})


def test_a_few_that_fail_again_fail_no_job_and_a_hundred_end_the_retry(site: ControlSite) -> None:
    few = finished(site, 40, {1: AWAY}, max_failure_rate=0.1)
    retry(site, few)
    site.runner().run()
    work(site, {1: AWAY})
    site.runner().run()
    assert site.report(few).state == "completed"
    failed = dict.fromkeys(range(0, 1000, 5), AWAY)
    many = finished(site, 1000, failed, max_failure_rate=0.5)
    retry(site, many)
    site.runner().run()
    assert len(work(site, failed)) == 100
    site.runner().run()
    report = site.report(many)
    assert report.error
    assert (report.state, report.error.code, report.counts.failed) == ("failed", "too_many_failures", 200)
    assert "100 items failed again" in report.error.reason
    check(site, many, 1000, failed)
    assert site.status(many) == report
    retry(site, many)
    site.runner().run()
    assert len(work(site)) == 200
    site.runner().run()
    assert (site.report(many).state, site.report(many).error) == ("completed", None)


def test_a_job_of_which_some_was_never_run_stays_what_it_was(narrow: ControlSite) -> None:
    ref = finished(narrow, 60, dict.fromkeys(range(60), AWAY), shard_size=10, max_failure_rate=0.2)
    before = narrow.report(ref)
    assert (before.state, before.counts.failed, before.counts.skipped) == ("failed", 20, 40)
    retry(narrow, ref)
    narrow.runner().run()
    assert work(narrow) == list(range(20))
    narrow.runner().run()
    after = narrow.report(ref)
    assert (after.state, after.error) == ("failed", before.error)
    assert (after.counts.succeeded, after.counts.failed, after.counts.skipped) == (20, 0, 40)


def test_a_retry_that_cannot_be_planned_fails_and_another_may_be_tried(site: ControlSite) -> None:
    ref = finished(site, 4, {1: AWAY})
    job = site.storage.get(keys.job(ref))
    site.storage.delete(keys.job(ref))
    retry(site, ref)
    site.runner().run()
    report = site.report(ref)
    assert report.error
    assert (report.state, report.error.code) == ("failed", "cannot_be_planned")
    check(site, ref, 4, {1: AWAY})
    site.storage.put(keys.job(ref), job)
    retry(site, ref)
    site.runner().run()
    work(site)
    site.runner().run()
    check(site, ref, 4, {})
    assert site.report(ref).state == "completed"


def test_what_was_given_up_while_it_was_planned_is_tried_anew(site: ControlSite) -> None:
    ref = finished(site, 3, {})
    page = site.files(ref).page(0)
    assert page
    broken = page.items[1].model_copy(update={"failure": AWAY})
    site.storage.put(
        keys.page(ref, 0), page.model_copy(update={"items": (page.items[0], broken, page.items[2])}).encode()
    )
    site.files(ref).replace_outcomes(0, [ended_as(item, {1: AWAY}) for item in page.items])
    site.files(ref).store_rollup(Rollup(number=0, shards=1, succeeded=2, failed=1, failures={0: 1}))
    counts = Counts(total=3, planned=3, succeeded=2, failed=1)
    site.storage.put(
        keys.report(ref), site.report(ref).model_copy(update={"counts": counts}).model_dump_json().encode()
    )
    retry(site, ref)
    site.runner().run()
    planned = site.files(ref, 1).page(0)
    assert planned
    assert [(item.number, item.failure) for item in planned.items] == [(1, None)]


def test_a_job_is_retried_that_the_ledger_forgot_and_listed_again(site: ControlSite) -> None:
    ref = finished(site, 4, {1: AWAY})
    site.redis.delete(f"{PREFIX}:job:{ref}")
    site.redis.zadd(f"{PREFIX}:ended", {ref: 1})
    retry(site, ref)
    site.ledger.forget()
    assert [status.id for status in site.ledger.jobs("default")[0]] == [ref]
    assert site.redis.ttl(f"{PREFIX}:job:{ref}") == -1


def test_a_priority_that_was_given_holds_for_a_retry(site: ControlSite) -> None:
    ref = site.submit(4, shard_size=4)
    site.files(ref).store_priority(6)
    site.ledger.set_priority(ref, 6)
    site.runner().run()
    work(site, {1: AWAY})
    site.runner().run()
    retry(site, ref)
    assert site.status(ref).priority == 6
    site.ledger.set_priority(ref, 2)
    site.runner().run()
    work(site)
    site.runner().run()
    assert site.report(ref).priority == 2
    with pytest.raises(IllegalMove):
        site.ledger.cancel(ref)


# What it costs

SPARSE = 5 * SHARDS_A_ROLLUP
FAILING = (17, 18, SHARDS_A_ROLLUP + 5, 4 * SHARDS_A_ROLLUP + 999)


def sparse(site: ControlSite) -> str:
    """A job of five thousand shards of two items that is over, in which an item of each of four failed; its ref."""
    head = site.accept(1, shard_size=2)
    files = site.files(head.ref)
    for number in range(2 * SPARSE // head.page_size + 1):
        first = number * head.page_size
        items = [
            Item(number=n, input_path=str(n), name=str(n), location=UrlBytes(url="http://example.com/a.jpg"))
            for n in range(first, min(first + head.page_size, 2 * SPARSE))
        ]
        files.store_page(PlanPage(number=number, items=tuple(items)))
    for shard in FAILING:
        page = files.page(page_of(shard))
        assert page
        files.commit(shard, [ended_as(item, {2 * shard + 1: AWAY}) for item in page.shard(shard, head)])
    for number in range(SPARSE // SHARDS_A_ROLLUP):
        failures = {shard: 1 for shard in FAILING if shard // SHARDS_A_ROLLUP == number}
        counts = {"succeeded": 2 * SHARDS_A_ROLLUP - len(failures), "failed": len(failures)}
        files.store_rollup(Rollup(number=number, shards=SHARDS_A_ROLLUP, failures=failures, **counts))
    counts = Counts(total=2 * SPARSE, planned=2 * SPARSE, succeeded=2 * SPARSE - len(FAILING), failed=len(FAILING))
    report = JobStatus(id=head.id, state="completed", model="shapes", counts=counts, created_at=1.0)
    files.store_report(report)
    files.forget_open()
    return head.ref


def test_a_few_failures_among_many_shards_cost_a_few_requests(site: ControlSite) -> None:
    ref = sparse(site)
    retry(site, ref)
    site.storage.calls.clear()
    site.runner().run()
    assert work(site) == [2 * shard + 1 for shard in FAILING]
    site.runner().run()
    report = site.report(ref)
    assert (report.state, report.counts.succeeded, report.counts.failed) == ("completed", 2 * SPARSE, 0)
    rollups = [site.files(ref).rollup(number) for number in range(5)]
    assert all(rollup and not rollup.failures for rollup in rollups)
    # Each failing shard: read twice and written once, with its page and annotations; each roll-up: read and, if need
    # be, read and written again.
    assert len(site.storage.calls) < 10 * len(FAILING) + 3 * len(rollups) + 40


def test_folding_goes_on_behind_the_rollups_that_are_folded(site: ControlSite) -> None:
    ref = sparse(site)
    retry(site, ref)
    site.runner().run()
    for shard in range(2):
        lease = site.ledger.claim("shapes", "worker")
        assert lease
        assert lease.shard == shard
        run_shard(site, lease, {})
    site.storage.calls.clear()
    site.storage.kill_once("put", keys.rollup(ref, 4))
    with pytest.raises(Killed):
        site.runner().run()
    site.make_due()
    site.runner().run()
    written = site.storage.keys_of("put")
    assert site.report(ref).counts.failed == 0
    # The shard of the retry in which it stood is folded again, those before it are not.
    assert [written[keys.outcome(ref, shard)] for shard in FAILING] == [1, 1, 2, 2]
    assert [written[keys.rollup(ref, number)] for number in range(5)] == [1, 1, 0, 0, 2]


def test_folding_gives_way_to_other_work(site: ControlSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fold, "TURN_SECONDS", 0.0)
    ref = sparse(site)
    retry(site, ref)
    site.runner().run()
    work(site)
    other: list[str] = []
    seen: list[int] = []

    def before(kind: str, key: str) -> None:
        if kind == "put" and key.startswith(f"jobs/{ref}/rollups/"):
            seen.append(keys.number_of(key))
            other.append(site.submit(1))
        if kind == "get" and other and key == keys.job(other[0]):
            seen.append(-1)

    site.storage.before = before
    site.runner().run()
    # The first of the others is planned before the second roll-up is folded.
    assert seen[:2] == [0, -1]
    assert site.report(ref).counts.failed == 0
