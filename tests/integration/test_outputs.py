"""Artifacts in a user's bucket: named after their inputs, listed for others to read, and marked when all are there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from maskmill.api import create_app
from maskmill.api.services import Services
from maskmill.client.client import Client
from maskmill.shared.jobs.sources import S3Source
from maskmill.shared.settings import Settings
from tests.integration.conftest import Put
from tests.services import SeaweedServer
from tests.services.api_server import run_api
from tests.services.s3_proxy import S3Proxy
from tests.services.workers import Workers, run_workers, wait_until


@pytest.fixture
def masks(s3_server: SeaweedServer, bucket: str, bucket_settings: Settings) -> str:
    """A bucket for results, which the settings' file of buckets lets be written and read."""
    name = s3_server.make_bucket()
    assert bucket_settings.buckets
    bucket_settings.buckets.write_text(f"[{bucket}]\n[{name}]\nwrite = true\n")
    return name


def objects(s3_server: SeaweedServer, bucket: str) -> dict[str, bytes]:
    client = s3_server.client()
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    keys = [one["Key"] for page in pages for one in page.get("Contents", ())]
    return {key: client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}


@pytest.fixture
def pictures(put: Put, picture: bytes) -> list[str]:
    """The names of the results of what lies below 2026/ of the bucket, beside one that is broken."""
    put(picture, "2026/a.jpg", "2026/cats/1.jpg", "2026/cats/1.png")
    put(b"no picture", "2026/broken.jpg")
    return ["a", "cats/1", "cats/1.png"]


def test_results_mirror_their_inputs_and_are_listed_for_others(
    bucket_settings: Settings, bucket: str, masks: str, pictures: list[str], s3_server: SeaweedServer, tmp_path: Path
) -> None:
    output = f"s3://{masks}/run 1/"
    with run_workers(bucket_settings) as workers, run_api(bucket_settings, tmp_path) as server:
        wait_until(workers.ledger.models, 30)
        client = Client(server.url)
        job = client.submit([f"s3://{bucket}/2026/**"], output=output)
        assert job.output == output
        done = client.wait(job.id)
        fetched = client.fetch(job.id, tmp_path / "fetched")
        assert not workers.artifacts(job.id)
    assert (done.state, done.counts.succeeded, done.counts.failed) == ("completed", 3, 1)
    stored = objects(s3_server, masks)
    refs = f"run 1/_maskmill/{job.id}/00000000.jsonl"
    results = {f"run 1/{name}_res.{suffix}" for name in pictures for suffix in ("json", "jpg")}
    assert set(stored) == results | {refs, "run 1/_SUCCESS"}
    assert fetched.downloaded == len(results)
    assert (tmp_path / "fetched/cats/1_res.json").read_bytes() == stored["run 1/cats/1_res.json"]
    lines = [json.loads(line) for line in stored[refs].splitlines()]
    keys = ("a.jpg", "cats/1.jpg", "cats/1.png")
    # In the order of their numbers, which is the listing's, and so the store's.
    assert sorted(line["source-ref"] for line in lines) == [f"s3://{bucket}/2026/{key}" for key in keys]
    assert sorted(line["maskmill-ref"] for line in lines) == sorted(f"{output}{name}_res.json" for name in pictures)


def test_the_output_is_no_input_of_the_job_or_of_the_next(
    bucket_settings: Settings, bucket: str, put: Put, picture: bytes
) -> None:
    assert bucket_settings.buckets
    bucket_settings.buckets.write_text(f"[{bucket}]\nwrite = true\n")
    put(picture, "a.jpg", "out/kept.jpg")
    with run_workers(bucket_settings) as workers:
        first = submit(workers, bucket, f"s3://{bucket}/out")
        workers.wait(first)
        second = submit(workers, bucket, f"s3://{bucket}")
        workers.wait(second)
        inputs = [sorted(outcome.input_path for outcome in workers.outcomes(one)) for one in (first, second)]
    assert inputs == [[f"s3://{bucket}/a.jpg"], [f"s3://{bucket}/a.jpg", f"s3://{bucket}/out/kept.jpg"]]


def submit(workers: Workers, bucket: str, output: str) -> str:
    return workers.submit([S3Source(url=f"s3://{bucket}/")], output=output)


def test_a_bucket_that_refuses_results_pauses_the_job_loudly(
    through_proxy: Settings, bucket: str, masks: str, put: Put, picture: bytes, proxied: S3Proxy
) -> None:
    put(picture, "a.jpg", "b.jpg")
    proxied.refuses = lambda method, path: method == "PUT" and path.startswith(f"/{masks}")
    with run_workers(through_proxy) as workers:
        job_id = submit(workers, bucket, f"s3://{masks}/")
        wait_until(lambda: masks in str(getattr(workers.ledger.status(job_id), "trouble", "")), 60)
        proxied.refuses = lambda _method, _path: False
        report = workers.wait(job_id)
    assert (report.state, report.counts.succeeded) == ("completed", 2)


def test_an_output_that_may_not_be_written_is_refused_at_once(services: Services, tmp_path: Path) -> None:
    (tmp_path / "buckets.toml").write_text("[photos]\n[masks]\nwrite = true\n")
    settings = services.settings.model_copy(update={"buckets": tmp_path / "buckets.toml"})
    web = create_app(settings, Services.open(settings)).test_client()
    source = {"type": "s3", "url": "s3://photos/"}

    def answer(output: str) -> tuple[int, str]:
        given = web.post("/v1/jobs", json={"sources": [source], "output": output})
        return given.status_code, given.text

    assert answer("s3://masks/a/b/")[0] == 202
    for output, status, said in [
        ("s3://photos/out/", 403, "add [photos] with `write = true`"),
        ("s3://other/", 403, "may not be written"),
        ("/data/out", 422, "no S3 URL"),
        ("s3://masks/a//b/", 422, "no storage key"),
        ("s3://masks/../b/", 422, "no storage key"),
    ]:
        got, text = answer(output)
        assert (got, said in text, '"pointer":"/output"' in text.replace(" ", "")) == (status, True, True), text
