"""What large jobs leave to others, and what they leave behind; on a real Redis and a folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from maskmill.shared.jobs.job_files import JobFiles
from maskmill.shared.jobs.records import FINAL_STATES, SHARDS_A_PAGE, Job, Options, Outcome, Rollup, new_job_id
from maskmill.shared.jobs.sources import PathSource
from maskmill.shared.settings import Settings
from maskmill.shared.storage.bucket_reader import BucketReaders
from maskmill.worker.control.finalizer import Finalizer, RollupMaker
from maskmill.worker.control.planner import Planner, Turn
from maskmill.worker.control.runner import InHand, WorkRunner
from maskmill.worker.processes.wiring import WorkerServices, open_services


@pytest.fixture
def services(redis_url: str, tmp_path: Path) -> Iterator[WorkerServices]:
    settings = Settings(
        redis_url=redis_url, storage_url=f"file://{tmp_path}/storage", shard_size=1, local_roots=(tmp_path,)
    )
    held = open_services(settings)
    yield held
    held.ledger.disconnect()
    held.doorbell.close()


def accept(services: WorkerServices, folder: Path, pictures: int) -> Job:
    """A job of a folder of that many pictures, entered."""
    folder.mkdir()
    for number in range(pictures):
        (folder / f"{number}.jpg").touch()
    job = Job(
        id=new_job_id(),
        created_at=1,
        options=Options(model="shapes"),
        shard_size=services.settings.shard_size,
        sources=(PathSource(path=str(folder)),),
    )
    JobFiles(services.storage, job.id).store_job(job)
    assert services.ledger.enter(job.head)
    return job


def planned(services: WorkerServices, job: Job) -> int:
    status = services.ledger.status(job.id)
    assert status
    return status.counts.planned


def planner(services: WorkerServices) -> Planner:
    """One whose turn is over at once."""
    buckets = BucketReaders(services.settings)
    return Planner(services.settings, services.storage, services.ledger, services.doorbell, buckets, Turn(0, 0))


def test_a_large_job_that_is_planned_gives_way_to_what_is_due(services: WorkerServices, tmp_path: Path) -> None:
    large = accept(services, tmp_path / "large", 5 * SHARDS_A_PAGE)
    small = accept(services, tmp_path / "small", 1)
    work = services.ledger.claim_work()
    assert work
    assert work.ref == large.id
    again = planner(services).run(work, InHand(work))
    assert again == 0
    assert planned(services, large) == SHARDS_A_PAGE
    services.ledger.put_off_work(work, again)
    following = services.ledger.claim_work()
    assert following
    assert following.ref == small.id


def test_jobs_that_give_way_to_each_other_are_planned_whole(services: WorkerServices, tmp_path: Path) -> None:
    jobs = [accept(services, tmp_path / name, 3 * SHARDS_A_PAGE + 1) for name in ("one", "two", "three")]
    WorkRunner(services.ledger, {"plan": planner(services)}).run()
    for job in jobs:
        pages = [JobFiles(services.storage, job.id).page(number) for number in range(4)]
        names = [item.name for page in pages if page for item in page.items]
        assert names == [str(number) for number in range(3 * SHARDS_A_PAGE + 1)]
        assert planned(services, job) == len(names)


def test_a_large_job_that_nobody_waits_for_is_planned_in_one_turn(services: WorkerServices, tmp_path: Path) -> None:
    large = accept(services, tmp_path / "large", 5 * SHARDS_A_PAGE)
    work = services.ledger.claim_work()
    assert work
    assert planner(services).run(work, InHand(work)) is None
    assert planned(services, large) == 5 * SHARDS_A_PAGE


def test_closing_after_a_closer_that_died_behind_its_rollup_leaves_no_working_key(
    services: WorkerServices, tmp_path: Path
) -> None:
    job = accept(services, tmp_path / "one", 1)
    rollups = RollupMaker(services.storage, services.ledger)
    finalizer = Finalizer(services.settings, services.storage, services.ledger, rollups, services.outputs)
    runner = WorkRunner(services.ledger, {"plan": planner(services), "close": finalizer})
    runner.run()
    lease = services.ledger.claim("shapes", "tester")
    assert lease
    files = JobFiles(services.storage, job.id)
    outcome = Outcome(number=0, status="succeeded", input_path="0.jpg")
    services.ledger.finish(lease, files.commit(lease.shard, [outcome]))
    # What such a closer leaves: the roll-up is stored, and the ledger still holds its shards.
    files.store_rollup(Rollup(number=0, shards=1, succeeded=1))
    runner.run()
    status = services.ledger.status(job.id)
    assert status
    assert status.state in FINAL_STATES
    with Redis.from_url(services.settings.redis_url, decode_responses=True) as redis:
        assert redis.keys(f"{services.settings.redis_prefix}:job:{job.id}*") == [
            f"{services.settings.redis_prefix}:job:{job.id}"
        ]
