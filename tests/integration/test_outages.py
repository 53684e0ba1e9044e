"""What the workers make of services that are away: sources, Redis and the storage."""

from __future__ import annotations

import time
from pathlib import Path

from maskmill.shared.jobs.sources import PathSource, UrlSource
from tests.services import FileServer, SeaweedServer, run_redis
from tests.services.workers import run_workers, settings_for


def test_each_way_a_url_can_fail_has_its_own_code(
    place: Path, tmp_path: Path, redis_url: str, file_server: FileServer
) -> None:
    more = {"MASKMILL_MAX_INPUT_BYTES": "100000", "MASKMILL_URL_TIMEOUT": "1.5"}
    with run_workers(settings_for(tmp_path, redis_url, **more)) as workers:
        picture = (place / "pictures/many/picture 1.jpg").read_bytes()
        urls = {
            file_server.add("good.jpg", picture): None,
            file_server.url("missing.jpg"): "url_not_found",
            file_server.redirect("moved.jpg", file_server.add("there.jpg", picture)): None,
            file_server.redirect("away.jpg", "http://10.0.0.1/secret.jpg"): "url_refused",
            file_server.flood("huge.jpg", 1 << 20, announced=True): "url_too_large",
            file_server.flood("endless.jpg", 1 << 20, announced=False): "url_too_large",
            file_server.drip("slow.jpg", b"x", 100, 0.2): "url_timeout",
            file_server.add("forbidden.jpg", b"", status=403): "url_failed",
            "http://127.0.0.1:9/nobody.jpg": "url_unreachable",
            "http://169.254.169.254/latest/meta-data": "url_refused",
        }
        job_id = workers.submit([UrlSource(url=url) for url in urls])
        workers.wait(job_id)
        found = {outcome.input_path: outcome.error and outcome.error.code for outcome in workers.outcomes(job_id)}
    assert found == urls


def test_a_job_survives_the_total_loss_of_redis(place: Path, tmp_path: Path) -> None:
    with run_redis() as redis:
        settings = settings_for(tmp_path, redis.url, MASKMILL_LOCAL_ROOTS=str(place / "pictures"))
        with run_workers(settings) as workers:
            job_id = workers.submit([PathSource(path=str(place / "pictures/many"))] * 8, shard_size=4)
            workers.wait_for_progress(job_id, 40)
            redis.lose_everything()
            report = workers.wait(job_id)
            assert (report.state, report.counts.succeeded) == ("completed", 320)
            assert [outcome.number for outcome in workers.outcomes(job_id)] == list(range(320))


def test_workers_outlive_every_restart_of_redis(place: Path, tmp_path: Path) -> None:
    with run_redis() as redis:
        settings = settings_for(tmp_path, redis.url, MASKMILL_LOCAL_ROOTS=str(place / "pictures"))
        with run_workers(settings) as workers:
            job_id = workers.submit([PathSource(path=str(place / "pictures/many"))] * 12, shard_size=4)
            for done in (20, 120, 240):
                workers.wait_for_progress(job_id, done)
                redis.kill()
                time.sleep(0.5)
                redis.start()
            report = workers.wait(job_id)
            assert (report.state, report.counts.succeeded) == ("completed", 480)


def test_a_storage_outage_pauses_the_work_and_fails_nothing(
    place: Path, tmp_path: Path, s3_server: SeaweedServer, redis_url: str
) -> None:
    bucket = {"MASKMILL_STORAGE_URL": f"s3://{s3_server.make_bucket()}/jobs", **s3_server.env}
    settings = settings_for(tmp_path, redis_url, MASKMILL_LOCAL_ROOTS=str(place / "pictures"), **bucket)
    with run_workers(settings) as workers:
        job_id = workers.submit([PathSource(path=str(place / "pictures/many"))], shard_size=4)
        workers.wait_for_progress(job_id, 4)
        s3_server.kill("gateway")
        time.sleep(4)
        s3_server.start("gateway")
        report = workers.wait(job_id)
    assert (report.counts.succeeded, report.counts.failed) == (40, 0)
