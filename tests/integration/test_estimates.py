"""A dry run: what a job would have is counted, a sample of it is run, and nothing else is done."""

from __future__ import annotations

from pathlib import Path

import pytest

from maskmill.client.client import Client, ClientError
from maskmill.shared.settings import Settings
from tests.integration.conftest import Put
from tests.services import SeaweedServer
from tests.services.api_server import run_api
from tests.services.commands import maskmill
from tests.services.workers import run_workers, wait_until


def test_a_dry_run_counts_everything_and_runs_a_sample(
    bucket_settings: Settings, bucket: str, put: Put, picture: bytes, s3_server: SeaweedServer, tmp_path: Path
) -> None:
    masks = fill(bucket_settings, bucket, put, picture, s3_server)
    with run_workers(bucket_settings) as workers, run_api(bucket_settings, tmp_path) as server:
        wait_until(workers.ledger.models, 30)
        client = Client(server.url)
        urls, output = [f"s3://{bucket}/"], f"s3://{masks}/out/"
        found = client.estimate(dry_run(client, urls, output=output))
        done = client.wait(client.submit([f"s3://{bucket}/00*.jpg"]).id)
        again = client.estimate(dry_run(client, [f"s3://{bucket}/00*.jpg"], options={"skip_existing": True}))
        with pytest.raises(ClientError, match="no dry run"):
            client.estimate(done.id)
        told = maskmill("plan", *urls, "--api", server.url)
    kinds = {name: found[name] for name in ("inputs", "pictures", "paged", "unknown", "failing", "existing")}
    assert kinds == {"inputs": 44, "pictures": 40, "paged": 2, "unknown": 1, "failing": 1, "existing": 0}
    assert (found["size"], found["sized"]) == (42 * len(picture) + 8, 44)
    assert found["left_out"] == {"other": {"count": 1, "names": ["notes.txt"]}}
    assert found["sample"] == 32
    assert found["rate"] > 0
    assert found["eta_seconds"] > 0
    # 43 that can be read, two artifacts each, and two files for each of two shards of 32.
    assert {name: found["requests"][name] for name in ("list", "get", "put")} == {"list": 1, "get": 43, "put": 90}
    assert "Contents" not in s3_server.client().list_objects_v2(Bucket=masks)
    assert (again["pictures"], again["existing"], again["sample"]) == (10, 10, 0)
    assert told.returncode == 0, told.stderr
    assert "inputs     44 (40 pictures, 2 paged, 1 unknown, 1 failing)" in told.stdout
    assert "1 LIST, 43 GET, 90 PUT" in told.stdout


def fill(settings: Settings, bucket: str, put: Put, picture: bytes, s3_server: SeaweedServer) -> str:
    """Put all kinds of objects into the bucket; another one, that may be written."""
    masks = s3_server.make_bucket()
    assert settings.buckets
    settings.buckets.write_text(f"[{bucket}]\n[{masks}]\nwrite = true\n")
    put(picture, *(f"{number:03d}.jpg" for number in range(40)), "plain")
    put(b"%PDF", "scan.pdf", "more.zip")
    put(b"words", "notes.txt")
    put(picture, "frozen.jpg", StorageClass="GLACIER")
    return masks


def dry_run(client: Client, urls: list[str], **how: object) -> str:
    job = client.submit(urls, dry_run=True, **how)  # type: ignore[arg-type]
    assert client.wait(job.id).state == "completed"
    return job.id
