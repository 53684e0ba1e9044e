"""Planning and pausing with real processes: slow sources, a lost Redis, inputs that kill who looks into them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from email.message import Message
from pathlib import Path

import pytest

from maskmill.shared.jobs import keys
from maskmill.shared.jobs.sources import PathSource, UrlSource
from tests.integration.test_workers import serve_poison
from tests.services import FileServer, RedisServer, run_redis
from tests.services.files_over_http import Reply
from tests.services.workers import Workers, run_workers, settings_for, wait_until

LEASE_SECONDS = 1.0


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    """A Redis that the tests may empty."""
    with run_redis() as server:
        yield server


@pytest.fixture(scope="module")
def workers(place: Path, redis: RedisServer) -> Iterator[Workers]:
    settings = settings_for(place, redis.url, MASKMILL_LEASE_SECONDS=str(LEASE_SECONDS))
    with run_workers(settings) as running:
        yield running


def test_a_source_that_takes_many_leases_to_look_into_is_planned_once(
    workers: Workers, place: Path, file_server: FileServer
) -> None:
    picture = (place / "pictures/many/picture 0.jpg").read_bytes()
    asked: list[float] = []

    def slow_at_first(_asked: Message) -> Reply:
        asked.append(time.monotonic())
        headers = {"Content-Length": str(len(picture))}

        def pieces() -> Iterator[bytes]:
            # The planner's lease, its patience and the workers' leases end meanwhile, where nobody keeps them.
            if len(asked) == 1:
                time.sleep(4 * LEASE_SECONDS)
            yield picture

        return Reply(200, headers, pieces)

    file_server.routes["/slow"] = slow_at_first
    sources = [PathSource(path=str(place / "pictures/many")), UrlSource(url=file_server.url("slow"))]
    job_id = workers.submit(sources)
    report = workers.wait(job_id)
    assert (report.state, report.counts.total, report.counts.succeeded) == ("completed", 41, 41)
    # Once to look into it, once to run it.
    assert len(asked) == 2
    files = workers.files(job_id)
    assert (files.page_count(), files.chunk(0) is None, files.chunk(1)) == (1, False, None)


def test_sources_that_cannot_be_followed_fail_alone(workers: Workers, place: Path) -> None:
    folder = place / "pictures/odd"
    folder.mkdir()
    (folder / "loop").symlink_to(folder / "loop")
    bad = [PathSource(path=str(folder / name)) for name in ("loop", "long" * 100, "loop/inside.jpg")]
    job_id = workers.submit([*bad, PathSource(path=str(place / "pictures/many/picture 0.jpg"))])
    report = workers.wait(job_id, 30)
    assert (report.state, report.counts.failed, report.counts.succeeded) == ("completed", 3, 1)
    codes = [outcome.error.code for outcome in workers.outcomes(job_id) if outcome.error]
    assert codes == ["input_not_found"] * 3


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_sub_folder_that_cannot_be_read_fails_alone(workers: Workers, place: Path) -> None:
    folder = place / "pictures/locked"
    (folder / "inside").mkdir(parents=True)
    (folder / "a.jpg").write_bytes((place / "pictures/many/picture 0.jpg").read_bytes())
    (folder / "inside").chmod(0)
    try:
        job_id = workers.submit([PathSource(path=str(folder))])
        report = workers.wait(job_id)
    finally:
        (folder / "inside").chmod(0o700)
    assert (report.counts.failed, report.counts.succeeded) == (1, 1)


def test_a_job_that_is_not_in_the_storage_any_more_fails_with_its_reason(workers: Workers, place: Path) -> None:
    job_id = workers.accept([PathSource(path=str(place / "pictures/many"))])
    head = workers.files(job_id).head()
    assert head
    workers.storage.delete(keys.job(job_id))
    workers.ledger.enter(head)
    workers.doorbell.ring_control()
    report = workers.wait(job_id)
    assert report.error
    assert (report.state, report.error.code) == ("failed", "cannot_be_planned")


def test_a_pause_outlives_redis_and_the_job_goes_on_when_it_is_resumed(
    workers: Workers, place: Path, redis: RedisServer
) -> None:
    job_id = workers.submit([PathSource(path=str(place / "pictures/many"))] * 5, shard_size=4)
    workers.wait_for_progress(job_id, 4)
    # As the API does: the marker first.
    workers.files(job_id).mark_paused()
    workers.ledger.pause(job_id)
    redis.lose_everything()
    wait_until(lambda: workers.ledger.status(job_id) is not None, 30)
    # The workers work: only this job stands still.
    workers.wait(workers.submit([PathSource(path=str(place / "pictures/many/picture 0.jpg"))]))
    status = workers.ledger.status(job_id)
    assert status
    assert (status.state, workers.files(job_id).report()) == ("paused", None)
    workers.files(job_id).mark_paused(paused=False)
    workers.ledger.resume(job_id)
    report = workers.wait(job_id)
    assert (report.state, report.counts.total, report.counts.succeeded) == ("completed", 200, 200)


def test_an_input_that_kills_who_looks_into_it_fails_alone_and_control_lives_on(workers: Workers, place: Path) -> None:
    control = workers.processes("celery_worker", "control")
    assert control
    with serve_poison((place / "pictures/many/picture 0.jpg").read_bytes()) as url:
        # Their names say nothing, so that each has to be looked into.
        job_id = workers.submit([UrlSource(url=f"{url}/{name}") for name in ("a", "poison", "b")])
        report = workers.wait(job_id)
    assert (report.state, report.counts.total) == ("completed", 3)
    outcomes = [(outcome.status, outcome.error and outcome.error.code) for outcome in workers.outcomes(job_id)]
    assert outcomes == [("succeeded", None), ("failed", "worker_crashed"), ("succeeded", None)]
    assert workers.processes("celery_worker", "control") == control
