"""Failed items among many that succeeded: each is found once, and what succeeded is not read for it."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from redis import Redis

from maskmill.api.endpoints.items import SHARDS_A_VIEW, ItemsQuery, page
from maskmill.api.services import Services
from maskmill.shared.jobs import keys
from maskmill.shared.jobs.job_files import JobFiles
from maskmill.shared.jobs.records import SHARDS_A_ROLLUP, Failure, Job, Outcome, Rollup, new_job_id
from maskmill.shared.jobs.sources import UrlSource
from maskmill.shared.ledger import PlannedPages
from maskmill.worker.control.finalizer import RollupMaker
from tests.integration.conftest import finish_shard, plan_shards
from tests.services.watched_storage import WatchedStorage

BROKEN = Failure(stage="decode", code="unreadable", reason="broken")
# Two roll-ups, the second of which is not whole.
SHARDS = SHARDS_A_ROLLUP + 40
FAILING = (3, 999, SHARDS_A_ROLLUP + 7)
FAILED = [2 * shard + 1 for shard in FAILING]


@pytest.fixture
def job_id(services: Services) -> str:
    """A job of 1,040 shards of two items, done, in which the second item of three shards failed; without roll-ups."""
    job = Job(
        id=new_job_id(),
        created_at=time.time(),
        sources=(UrlSource(url="https://example.org/a.jpg"),) * 2000,
        shard_size=services.settings.shard_size,
    )
    JobFiles(services.storage, job.id).store_job(job)
    plan_shards(services, job.id, [[f"{shard}a", f"{shard}b"] for shard in range(SHARDS)])
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(partial(commit, JobFiles(services.storage, job.id)), range(SHARDS)))
    return job.id


def commit(files: JobFiles, shard: int) -> None:
    outcomes = [Outcome(number=2 * shard + place, status="succeeded", input_path="a") for place in (0, 1)]
    if shard in FAILING:
        outcomes[1] = outcomes[1].model_copy(update={"status": "failed", "error": BROKEN})
    files.commit(shard, outcomes)


@pytest.fixture
def watched(services: Services) -> WatchedStorage:
    return WatchedStorage(services.storage)


@pytest.fixture
def reading(services: Services, watched: WatchedStorage) -> Services:
    return dataclasses.replace(services, storage=watched)


def roll_up(services: Services, job_id: str) -> None:
    """Store the roll-ups as they are when a job ends."""
    maker = RollupMaker(services.storage, services.ledger)
    files = JobFiles(services.storage, job_id)
    maker.make(files, 0, SHARDS_A_ROLLUP)
    maker.make(files, 1, SHARDS - SHARDS_A_ROLLUP)


def run_through(services: Services, job_id: str, shards: int = SHARDS, *, recovered: bool = False) -> None:
    """Let the ledger count so many of the shards as they are finished."""
    head = JobFiles(services.storage, job_id).head()
    assert head
    ledger = services.ledger
    ledger.enter(head, recovered=recovered)
    work = ledger.claim_work()
    assert work
    ledger.begin_plan(job_id, work)
    pages = JobFiles(services.storage, job_id).page_count()
    ledger.add_pages(job_id, work, 0, PlannedPages(pages, SHARDS, 2 * SHARDS, None))
    for _ in range(shards):
        lease = ledger.claim("shapes", "worker-of-the-test")
        assert lease
        failed = int(lease.shard in FAILING)
        ledger.finish(lease, {"succeeded": 2 - failed, "failed": failed})


def collect(services: Services, job_id: str, limit: int) -> list[int]:
    found: list[int] = []
    query = ItemsQuery(status="failed", limit=limit)
    while True:
        answer = page(services, job_id, query)
        found += [item.number for item in answer.items]
        assert all(item.error for item in answer.items)
        if not answer.has_more:
            return found
        assert answer.next is not None
        assert query.after is None or answer.next > query.after
        query = query.model_copy(update={"after": answer.next})


def kinds(watched: WatchedStorage) -> Counter[str]:
    """How many files of each kind were read."""
    return Counter(key.split("/")[2] for key in watched.read())


def test_of_a_job_that_is_over_the_rollups_and_the_failing_shards_are_read_alone(
    services: Services, reading: Services, watched: WatchedStorage, job_id: str
) -> None:
    roll_up(services, job_id)
    assert collect(reading, job_id, 1000) == FAILED
    read = kinds(watched)
    assert read["outcomes"] == len(FAILING)
    assert read["rollups"] <= 3
    assert read["job.json"] == 0
    # One page of the plan tells that there is no third roll-up, the report whether they are run again.
    assert set(read) <= {"outcomes", "rollups", "sized.json", "head.json", "plan", "report.json"}
    assert read["plan"] <= 1
    assert not [key for method, key in watched.calls if method == "list"]


def test_while_a_rollup_is_not_stored_the_ledger_tells(
    services: Services, reading: Services, watched: WatchedStorage, job_id: str
) -> None:
    run_through(services, job_id)
    assert services.ledger.finished(job_id, 0)
    assert collect(reading, job_id, 1000) == FAILED
    assert kinds(watched)["outcomes"] == len(FAILING)


@pytest.mark.parametrize("told_by", ["rollups", "ledger", "storage"])
def test_pages_of_any_size_hold_every_failed_item_once(services: Services, job_id: str, told_by: str) -> None:
    if told_by == "rollups":
        roll_up(services, job_id)
    elif told_by == "ledger":
        run_through(services, job_id)
    for limit in (1, 2, 3, 1000):
        assert collect(services, job_id, limit) == FAILED


def test_what_an_earlier_ledger_counted_is_found_when_a_new_one_counts_on(services: Services, job_id: str) -> None:
    run_through(services, job_id, 2, recovered=True)
    assert len(services.ledger.finished(job_id, 0)) == 2
    assert collect(services, job_id, 1000) == FAILED


def test_a_lost_ledger_loses_no_failure(services: Services, job_id: str) -> None:
    run_through(services, job_id)
    with Redis.from_url(services.settings.redis_url) as client:
        client.flushall()
    assert collect(services, job_id, 1000) == FAILED


def test_one_page_reads_a_bounded_number_of_failing_shards(
    reading: Services, services: Services, watched: WatchedStorage
) -> None:
    job_id = new_job_id()
    head = Job(id=job_id, created_at=1.0, sources=(UrlSource(url="https://example.org/a.jpg"),), shard_size=2)
    JobFiles(services.storage, job_id).store_job(head)
    shards = range(3 * SHARDS_A_VIEW)
    plan_shards(services, job_id, [[f"{shard}a", f"{shard}b"] for shard in shards])
    for shard in shards:
        finish_shard(services, job_id, shard, {f"{shard}a": BROKEN})
    services.storage.put(
        keys.rollup(job_id, 0),
        Rollup(number=0, shards=len(shards), failures=dict.fromkeys(shards, 1)).model_dump_json().encode(),
    )
    first = page(reading, job_id, ItemsQuery(status="failed", limit=1000))
    assert (len(first.items), first.has_more) == (SHARDS_A_VIEW, True)
    assert kinds(watched)["outcomes"] == SHARDS_A_VIEW
    assert collect(services, job_id, 1000) == [2 * shard for shard in shards]


def test_a_page_of_items_reads_no_sources(reading: Services, watched: WatchedStorage, job_id: str) -> None:
    queries: list[dict[str, Any]] = [{}, {"status": "succeeded"}, {"status": "pending"}, {"after": 900, "limit": 5}]
    for query in queries:
        watched.calls.clear()
        assert page(reading, job_id, ItemsQuery(**query)).has_more
        assert kinds(watched)["job.json"] == 0
        assert kinds(watched)["outcomes"] <= SHARDS_A_VIEW + 1
