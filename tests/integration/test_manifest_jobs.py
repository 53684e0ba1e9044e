"""Jobs over manifests: from an upload, a URL and a bucket to what becomes of each row."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from maskmill.api import create_app
from maskmill.api.services import Services
from maskmill.client.client import Client, ClientError
from maskmill.shared.folder_inputs import Reason
from maskmill.shared.jobs.job_files import JobFiles
from maskmill.shared.jobs.records import Entry, Job
from maskmill.shared.jobs.sources import ManifestSource, ObjectBytes, StoredBytes, UrlBytes
from maskmill.shared.settings import Settings
from maskmill.shared.storage import open_storage
from maskmill.worker.sources.listing import entries
from tests.integration.test_bucket_jobs import Put, pdf_of
from tests.services import FileServer, SeaweedServer
from tests.services.api_server import run_api
from tests.services.s3_proxy import s3_proxy
from tests.services.workers import Workers, run_workers, settings_for


@pytest.fixture
def bucket(s3_server: SeaweedServer) -> str:
    return s3_server.make_bucket()


@pytest.fixture
def put(s3_server: SeaweedServer, bucket: str) -> Put:
    """Put bytes under each of some keys."""

    def put(data: bytes, *keys: str, **more: str) -> None:
        for key in keys:
            s3_server.client().put_object(Bucket=bucket, Key=key, Body=data, **more)

    return put


@pytest.fixture
def settings(s3_server: SeaweedServer, bucket: str, tmp_path: Path, redis_url: str) -> Settings:
    """Settings whose storage is a folder, and which may read the bucket."""
    (tmp_path / "buckets.toml").write_text(f"[{bucket}]\n")
    return settings_for(tmp_path, redis_url, **s3_server.env, MASKMILL_BUCKETS=str(tmp_path / "buckets.toml"))


@pytest.fixture
def picture(place: Path) -> bytes:
    return (place / "pictures/many/picture 0.jpg").read_bytes()


def in_bucket(bucket: str, key: str) -> ManifestSource:
    return ManifestSource(name=f"s3://{bucket}/{key}", location=ObjectBytes(bucket=bucket, key=key))


def behind(url: str) -> ManifestSource:
    return ManifestSource(name=url, location=UrlBytes(url=url))


def list_job(source: ManifestSource, settings: Settings, after: Entry | None = None) -> Iterator[Entry]:
    job = Job(id="0" * 24, created_at=0, sources=(source,), shard_size=2)
    cursor = after.behind if after else None
    return entries(job, settings, cursor, storage=open_storage(settings))


def became(workers: Workers, job_id: str) -> dict[str, str]:
    """What became of each input: "succeeded", or the code of its failure."""
    outcomes = workers.outcomes(job_id)
    return {one.input_path: one.error.code if one.error else one.status for one in outcomes}


def inventory(bucket: str, *files: str, schema: str = "Bucket, Key, Size, ETag, StorageClass") -> bytes:
    document = {
        "sourceBucket": bucket,
        "destinationBucket": f"arn:aws:s3:::{bucket}",
        "version": "2016-11-30",
        "fileFormat": "CSV",
        "fileSchema": schema,
        "files": [{"key": key, "size": 1, "MD5checksum": "0"} for key in files],
    }
    return json.dumps(document, indent=2).encode()


def test_every_form_is_read_to_the_end(
    settings: Settings, bucket: str, put: Put, picture: bytes, file_server: FileServer
) -> None:
    put(picture, "a/1.jpg", "a/2.jpg", "a/ü +.jpg", "a/3", "b/1.jpg")
    put(pdf_of(2), "a/scan.pdf")
    put(b"words", "a/notes.txt")
    scans = [file_server.add(f"{number}.pdf", pdf_of(number)) for number in (1, 2)]
    at = f"s3://{bucket}"
    texts = {
        "lines.txt": f"# of today\na/1.jpg\n{at}/a/notes.txt\n{at}/gone.jpg\na/3\n",
        "headed.csv": f"url,custom_id\n{at}/a/1.jpg,same\n{at}/a/2.jpg,same\n{scans[0]},\n{scans[1]},two\n",
        "batch.csv": f"{bucket},a%2F%C3%BC+%2B.jpg\n{bucket},a/scan.pdf\n",
        "files.json": json.dumps([{"prefix": f"{at}/a/"}, "1.jpg", "2.jpg"]),
        "rows.jsonl": json.dumps({"source-ref": f"{at}/b/1.jpg", "maskmill-ref": f"{at}/b/1_res.json"}),
    }
    for name, text in texts.items():
        put(gzip.compress(text.encode()) if name == "batch.csv" else text.encode(), name)
    with run_workers(settings) as workers:
        job_id = workers.submit([in_bucket(bucket, name) for name in texts])
        report = workers.wait(job_id)
        names = set(workers.artifacts(job_id))
        failed = {path: code for path, code in became(workers, job_id).items() if code != "succeeded"}
    assert failed == {f"{at}/a/notes.txt": "unsupported_format", f"{at}/gone.jpg": "gone"}
    # Pages: one of the first PDF, two of the second and of the third.
    assert (report.state, report.counts.succeeded) == ("completed", 2 + 2 + 3 + 1 + 2 + 2 + 1)
    below = f"s3/{bucket}"
    assert {
        f"lines.txt/{below}/a/1_res.json",
        f"lines.txt/{below}/a/3._res.json",
        f"batch.csv/{below}/a/ü +_res.json",
        f"batch.csv/{below}/a/scan.pdf_1_res.json",
        f"files.json/{below}/a/2_res.jpg",
        f"rows.jsonl/{below}/b/1_res.json",
    } <= names
    assert len([name for name in names if name.startswith("headed.csv/same~") and name.endswith(".json")]) == 2
    assert len([name for name in names if name.startswith("headed.csv/") and ".pdf_" in name]) == 6


def test_an_inventory_is_a_listing(settings: Settings, bucket: str, put: Put, picture: bytes) -> None:
    put(picture, "a/1.jpg", "a/2.jpg", "a/unknown", "changed.jpg")
    put(b"words", "a/words")
    rows = [
        ("a/1.jpg", str(len(picture)), "", "STANDARD"),
        ("a/2.jpg", "", "", ""),
        ("a/cold.jpg", "9", "e", "DEEP_ARCHIVE"),
        ("a/unknown", "9", "", "STANDARD"),
        ("a/words", "5", "", "STANDARD"),
        ("a/notes.txt", "5", "e", "STANDARD"),
        ("a/", "0", "e", "STANDARD"),
        ("a/1_res.jpg", "5", "e", "STANDARD"),
        ("changed.jpg", "9", "0" * 32, "STANDARD"),
    ]
    lines = [",".join(f'"{field}"' for field in (bucket, *row)) + "\n" for row in rows]
    put(gzip.compress("".join(lines[:4]).encode()), "lists/1.csv.gz")
    put("".join(lines[4:]).encode(), "lists/3.csv")
    put(inventory(bucket, "lists/1.csv.gz", "lists/none.csv.gz", "lists/3.csv"), "lists/manifest.json")
    whole = list(list_job(in_bucket(bucket, "lists/manifest.json"), settings))
    for number, entry in enumerate(whole):
        rest = list(list_job(in_bucket(bucket, "lists/manifest.json"), settings, entry))
        assert [one.location for one in rest] == [one.location for one in whole[number + 1 :]]
    with run_workers(settings) as workers:
        job_id = workers.submit([in_bucket(bucket, "lists/manifest.json")])
        report = workers.wait(job_id)
        assert became(workers, job_id) == {
            f"s3://{bucket}/a/1.jpg": "succeeded",
            f"s3://{bucket}/a/2.jpg": "succeeded",
            f"s3://{bucket}/a/cold.jpg": "archived",
            f"s3://{bucket}/a/unknown": "succeeded",
            f"s3://{bucket}/lists/none.csv.gz": "gone",
            f"s3://{bucket}/changed.jpg": "changed",
        }
    left_out = {reason: alike.count for reason, alike in report.left_out.root.items()}
    assert left_out == {Reason.OTHER: 2, Reason.FOLDER: 1, Reason.RESULT: 1}


def test_a_report_is_run_again_where_it_failed(settings: Settings, bucket: str, put: Put) -> None:
    results = [
        {"TaskExecutionStatus": status, "Bucket": bucket, "MD5Checksum": "0", "Key": f"results/{status}.csv"}
        for status in ("succeeded", "failed")
    ]
    schema = "Bucket, Key, VersionId, TaskStatus, ErrorCode, HTTPStatusCode, ResultMessage"
    report = {"Format": "Report_CSV_20180820", "Results": results, "ReportSchema": schema}
    put(json.dumps(report).encode(), "manifest.json")
    put(f'{bucket},a.jpg,,failed,200,PermanentFailure,"no"\n'.encode(), "results/failed.csv")
    assert [one.input_path for one in list_job(in_bucket(bucket, "manifest.json"), settings)] == [
        f"s3://{bucket}/a.jpg"
    ]


def test_of_a_plain_manifest_in_a_bucket_the_rest_alone_is_read_again(
    settings: Settings, bucket: str, put: Put, s3_server: SeaweedServer
) -> None:
    rows = [f"s3://{bucket}/{number:08d}.jpg" for number in range(100_000)]
    put("\n".join(rows).encode(), "rows.txt")
    with s3_proxy(s3_server.endpoint) as proxy:
        through = settings.model_copy(update={"s3_endpoint": proxy.endpoint})
        whole = list_job(in_bucket(bucket, "rows.txt"), through)
        *_, last = (next(whole) for _ in range(99_998))
        begun = time.monotonic()
        rest = [one.input_path for one in list_job(in_bucket(bucket, "rows.txt"), through, last)]
        assert rest == rows[-2:]
        assert time.monotonic() - begun < 3
        assert proxy.count("GET", "rows.txt") == 4


def test_a_manifest_that_changes_while_it_is_planned_says_so(settings: Settings, bucket: str, put: Put) -> None:
    put(b"a.jpg\nb.jpg\nc.jpg", "rows.txt")
    first = next(list_job(in_bucket(bucket, "rows.txt"), settings))
    put(b"a.jpg\nx.jpg\nc.jpg", "rows.txt")
    (entry,) = list_job(in_bucket(bucket, "rows.txt"), settings, first)
    assert entry.failure
    assert entry.failure.code == "changed"
    assert "rows.txt" in entry.failure.reason


def test_a_manifest_behind_a_url_is_read_once(settings: Settings, file_server: FileServer) -> None:
    url = file_server.add("rows.txt", b"https://h/1.jpg\nhttps://h/2.jpg\n")
    first, second = list_job(behind(url), settings)
    file_server.add("rows.txt", b"something else")
    assert list(list_job(behind(url), settings, first)) == [second]
    assert file_server.requests == ["/rows.txt"]


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("s3://{bucket}/none", "gone"),
        ("s3://other/none", "bucket_refused"),
        ("{server}/none", "url_not_found"),
        ("http://10.0.0.1/rows", "url_refused"),
        ("http://127.0.0.1:1/rows", "url_unreachable"),
        ("{server}/page", "bad_manifest"),
    ],
)
def test_a_manifest_that_cannot_be_had_is_one_failure(
    settings: Settings, bucket: str, file_server: FileServer, url: str, code: str
) -> None:
    file_server.add("page", b"<html>404")
    place = url.format(bucket=bucket, server=file_server.url("").rstrip("/"))
    source = in_bucket(*place.removeprefix("s3://").split("/")) if place.startswith("s3://") else behind(place)
    (entry,) = list_job(source, settings)
    assert entry.failure
    assert entry.failure.code == code
    assert list(list_job(source, settings, entry)) == []


@pytest.fixture
def web(services: Services, tmp_path: Path) -> FlaskClient:
    (tmp_path / "buckets.toml").write_text('[photos]\nprefix = "2026/"\n')
    settings = services.settings.model_copy(update={"buckets": tmp_path / "buckets.toml"})
    return create_app(settings, Services.open(settings)).test_client()


@pytest.mark.parametrize(
    ("url", "status", "said"),
    [
        ("s3://photos/2026/rows*.csv", 202, ""),
        ("https://example.org/rows.csv", 202, ""),
        ("s3://photos/2025/rows.csv", 403, "only what begins with '2026/' may be read"),
        ("s3://other/rows.csv", 403, "add [other] to"),
        ("s3://photos/2026/", 422, "names no object"),
        ("s3://photos", 422, "names no object"),
        ("s3:///a", 422, "no S3 URL"),
        ("ftp://h/rows", 422, "starts with http"),
        ("rows.csv", 422, "starts with http"),
    ],
)
def test_what_may_not_be_read_is_refused_at_once(web: FlaskClient, url: str, status: int, said: str) -> None:
    answer = web.post("/v1/jobs", json={"sources": [{"type": "manifest", "url": url}]})
    assert answer.status_code == status, answer.json
    assert said in answer.text
    assert not said or answer.json["errors"][0]["pointer"] == "/sources/0/url"


def test_a_request_cannot_name_what_is_stored(web: FlaskClient) -> None:
    for more in ({"location": {"type": "stored", "key": "jobs/1/job.json"}}, {"key": "jobs/1/job.json"}, {"name": "x"}):
        answer = web.post("/v1/jobs", json={"sources": [{"type": "manifest", "url": "https://h/a", **more}]})
        assert answer.status_code == 422


def test_an_uploaded_manifest_is_kept_once_and_left_nowhere_after_a_refusal(
    web: FlaskClient, services: Services
) -> None:
    def send(text: bytes, part: str = "manifest", job: str = "{}") -> int:
        data = {part: [(io.BytesIO(text), "lists/rows.csv")], "job": job}
        return web.post("/v1/jobs", data=data, headers={"Idempotency-Key": "a manifest"}).status_code

    assert send(b"one", job='{"options": {"model": "none"}}') == 422
    assert [key for key in services.storage.list("jobs/") if "/inputs/" in key] == []
    assert [send(b"one"), send(b"one"), send(b"two"), send(b"one", "files")] == [202, 202, 422, 422]
    (key,) = [key for key in services.storage.list("jobs/") if "/inputs/" in key]
    job = JobFiles(services.storage, key.split("/")[1]).job()
    assert job
    assert job.sources == (ManifestSource(name="lists/rows.csv", location=StoredBytes(key=key)),)
    assert services.storage.get(key) == b"one"


def test_the_command_takes_files_and_urls(
    settings: Settings, bucket: str, put: Put, picture: bytes, file_server: FileServer, tmp_path: Path
) -> None:
    put(picture, "1.jpg", "2.jpg", "3.jpg")
    put(b"1.jpg\n", "rows.txt")
    (tmp_path / "rows.csv").write_text(f"url,name\ns3://{bucket}/2.jpg,cats/two\nwords,\n")
    url = file_server.add("rows.jsonl", json.dumps({"url": f"s3://{bucket}/3.jpg"}).encode())
    with run_workers(settings), run_api(settings, tmp_path) as server:
        command = [sys.executable, "-c", "from maskmill.client.cli import submit; submit()", "--api", server.url]
        manifests = [f"s3://{bucket}/rows.txt", str(tmp_path / "rows.csv"), url]
        flags = [flag for manifest in manifests for flag in ("--manifest", manifest)]
        out = tmp_path / "out"
        done = subprocess.run(
            [*command, *flags, "--out", str(out)], capture_output=True, text=True, timeout=120, check=False
        )
        nothing = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        with pytest.raises(ClientError, match="no file"):
            Client(server.url).submit(manifests=[tmp_path / "none.csv"])
        status = Client(server.url).submit(manifests=[tmp_path / "rows.csv"])
        names = {item["artifacts"].get("json") for item in _items(Client(server.url), status.id)}
    assert done.returncode == 1, done.stderr
    assert "line 3: 'words' is no s3:// and no http(s):// URL" in done.stderr
    found = {str(path.relative_to(out)) for path in out.rglob("*_res.json")}
    (called,) = [name for name in found if name.startswith("rows.csv/cats/two~")]
    assert found == {called, f"rows.txt/s3/{bucket}/1_res.json", f"rows.jsonl/s3/{bucket}/3_res.json"}
    assert names == {called.removeprefix("rows.csv/"), None}
    assert nothing.returncode == 2
    assert "name inputs, or a --manifest" in nothing.stderr


def _items(client: Client, job_id: str) -> Iterator[dict[str, dict[str, str]]]:
    client.wait(job_id)
    return client.items(job_id)
