"""What the workers make of a storage that says no: to them, and to one object of an item."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from maskmill.shared.jobs.sources import PathSource
from tests.services import SeaweedServer
from tests.services.s3_proxy import S3Proxy, s3_proxy
from tests.services.workers import Workers, run_workers, settings_for, wait_until


@pytest.fixture
def proxied(s3_server: SeaweedServer) -> Iterator[S3Proxy]:
    with s3_proxy(s3_server.endpoint) as proxy:
        yield proxy


@pytest.fixture
def workers(
    proxied: S3Proxy, s3_server: SeaweedServer, s3_url: str, place: Path, tmp_path: Path, redis_url: str
) -> Iterator[Workers]:
    """Workers that reach their bucket through the proxy."""
    bucket = {**s3_server.env, "MASKMILL_STORAGE_URL": s3_url, "MASKMILL_S3_ENDPOINT": proxied.endpoint}
    settings = settings_for(tmp_path, redis_url, MASKMILL_LOCAL_ROOTS=str(place / "pictures"), **bucket)
    with run_workers(settings) as running:
        yield running


def test_a_storage_that_refuses_pauses_the_job_loudly_and_it_goes_on_once_it_does_not(
    workers: Workers, proxied: S3Proxy, place: Path
) -> None:
    job_id = workers.submit([PathSource(path=str(place / "pictures/many"))], shard_size=4)
    workers.wait_for_progress(job_id, 4)
    refusing = threading.Event()
    refusing.set()
    proxied.refuses = lambda method, _path: method == "PUT" and refusing.is_set()
    try:
        wait_until(lambda: "AccessDenied" in str(getattr(workers.ledger.status(job_id), "trouble", "")), 60)
        wait_until(lambda: any("AccessDenied" in trouble for trouble in workers.ledger.troubles().values()), 60)
    finally:
        refusing.clear()
    report = workers.wait(job_id)
    assert (report.state, report.counts.succeeded, report.counts.failed) == ("completed", 40, 0)
    wait_until(lambda: workers.ledger.troubles() == {}, 60)


def test_an_artifact_that_alone_is_refused_fails_its_item_and_no_other(
    workers: Workers, proxied: S3Proxy, place: Path
) -> None:
    proxied.refuses = lambda method, path: method == "PUT" and "picture%207_res.json" in path
    job_id = workers.submit([PathSource(path=str(place / "pictures/many"))], shard_size=8)
    report = workers.wait(job_id)
    assert (report.state, report.counts.succeeded, report.counts.failed) == ("completed", 39, 1)
    (failed,) = [outcome for outcome in workers.outcomes(job_id) if outcome.error]
    assert failed.error
    assert (Path(failed.input_path).name, failed.error.code) == ("picture 7.jpg", "object_refused")
