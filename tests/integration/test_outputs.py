"""Artifacts in a user's bucket: named after their inputs, listed for others to read, and marked when all are there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import requests

from maskmill.api import create_app
from maskmill.api.services import Services
from maskmill.client.client import Client
from maskmill.shared.jobs import keys
from maskmill.shared.jobs.records import JobHead
from maskmill.shared.jobs.sources import S3Source
from maskmill.shared.settings import Settings
from maskmill.shared.storage import open_storage
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


OTHERS = ("secret.csv", "b_res.csv/secret", "_maskmill/another/00000000.jsonl", "_SUCCESS")


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
    sources = [f"s3://{bucket}/2026/{key}" for key in ("a.jpg", "cats/1.jpg", "cats/1.png")]
    # In the order of their numbers, which is the listing's, and so the store's.
    assert sorted(line["source-ref"] for line in lines) == sources
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


def test_results_may_stand_beside_inputs(bucket_settings: Settings, bucket: str, put: Put, picture: bytes) -> None:
    assert bucket_settings.buckets
    bucket_settings.buckets.write_text(f"[{bucket}]\nwrite = true\n")
    put(picture, "2026/a.jpg", "2026/b.jpg")
    with run_workers(bucket_settings) as workers:
        for _ in range(2):
            job_id = workers.submit([S3Source(url=f"s3://{bucket}/2026/")], output=f"s3://{bucket}/2026/")
            report = workers.wait(job_id)
            inputs = sorted(outcome.input_path for outcome in workers.outcomes(job_id))
            assert (report.counts.succeeded, inputs) == (2, [f"s3://{bucket}/2026/{name}.jpg" for name in "ab"])


def test_of_an_output_only_results_are_served(
    bucket_settings: Settings, masks: str, s3_server: SeaweedServer, tmp_path: Path
) -> None:
    client = s3_server.client()
    for key in ("out/a_res.json", "out/secret.csv", "out/b_res.csv/secret", "out/_maskmill/another/00000000.jsonl"):
        client.put_object(Bucket=masks, Key=key, Body=b"{}")
    settings = bucket_settings.model_copy(update={"s3_public_endpoint": bucket_settings.s3_endpoint})
    storage = open_storage(settings)
    head = JobHead(id="0123456789", created_at=0, shard_size=2, output=f"s3://{masks}/out/")
    storage.put(keys.head(head.ref), head.model_dump_json().encode())
    with run_api(settings, tmp_path) as server:
        url = f"{server.url}/v1/jobs/{head.id}/artifacts"
        led = requests.get(f"{url}/a_res.json", timeout=60, allow_redirects=False)
        others = [requests.get(f"{url}/{name}", timeout=60).status_code for name in OTHERS]
        asked = requests.head(f"{url}/a_res.json", timeout=60)
    assert led.status_code == 307
    assert "X-Amz-Signature" in led.headers["Location"]
    assert requests.get(led.headers["Location"], timeout=60).content == b"{}"
    assert others == [404] * len(OTHERS)
    assert (asked.status_code, asked.headers["Content-Length"]) == (200, "2")
