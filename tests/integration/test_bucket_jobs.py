"""Jobs over a user's bucket, from its listing on a real server to what becomes of each object."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from PIL import Image

from maskmill.api import create_app
from maskmill.api.services import Services
from maskmill.shared.buckets import ObjectUrl
from maskmill.shared.errors import StorageRefused
from maskmill.shared.folder_inputs import Reason
from maskmill.shared.jobs.records import Job, ListingCursor, Options, new_job_id
from maskmill.shared.jobs.sources import S3Source
from maskmill.shared.settings import Settings
from maskmill.shared.storage.bucket_reader import BucketReader, BucketReaders, Pin
from maskmill.worker.processes.wiring import open_control
from maskmill.worker.sources.bucket_listing import Wanted
from maskmill.worker.sources.listing import entries
from tests.integration.conftest import Put
from tests.services import SeaweedServer
from tests.services.s3_proxy import S3Proxy
from tests.services.workers import Workers, run_workers


def pdf_of(pages: int) -> bytes:
    document = BytesIO()
    first, *others = [Image.new("RGB", (80, 60), "white") for _ in range(pages)]
    first.save(document, "PDF", save_all=True, append_images=others)
    return document.getvalue()


def job_of(*urls: str, options: Options | None = None) -> Job:
    sources = tuple(S3Source(url=url) for url in urls)
    return Job(id=new_job_id(), created_at=0, sources=sources, options=options or Options(), shard_size=2)


def plan(workers: Workers, *urls: str) -> str:
    """A job that is listed and planned by a control worker of this process, before any worker runs."""
    job_id = workers.accept([S3Source(url=url) for url in urls], shard_size=2)
    head = workers.files(job_id).head()
    assert head
    workers.ledger.enter(head)
    open_control(workers.settings, lambda: False).runner.run()
    return job_id


def codes(workers: Workers, job_id: str) -> dict[str, str]:
    """What became of each input: "succeeded", or the code of its failure."""
    outcomes = workers.outcomes(job_id)
    return {
        outcome.input_path.partition("/")[2].partition("/")[2].partition("/")[2]: outcome.error.code
        if outcome.error
        else outcome.status
        for outcome in outcomes
    }


def test_a_pattern_brings_its_objects_and_tells_what_it_leaves_out(
    bucket_settings: Settings, bucket: str, put: Put, picture: bytes
) -> None:
    put(picture, "2026/a.jpg", "2026/cats/1.jpg", "2026/cats/1.png", "2026/plain", "2026/ü +%2F&🐟.JPG", "2025/old.jpg")
    put(pdf_of(3), "2026/scan.pdf")
    put(b"%PDF- in disguise", "2026/disguised.jpg")
    put(b"words", "2026/notes.txt", "2026/words", "2026/.hidden.jpg", "2026/._a.jpg", "2026/a_res.jpg")
    put(picture, "2026/_temporary/part.jpg")
    put(b"", "2026/folder/")
    put(picture, "2026/frozen.jpg", StorageClass="GLACIER")
    with run_workers(bucket_settings) as workers:
        job_id = workers.submit([S3Source(url=f"s3://{bucket}/2026/**")])
        report = workers.wait(job_id)
        names = set(workers.artifacts(job_id))
        became = codes(workers, job_id)
    assert became == {
        "2026/a.jpg": "succeeded",
        "2026/cats/1.jpg": "succeeded",
        "2026/cats/1.png": "succeeded",
        "2026/plain": "succeeded",
        "2026/ü +%2F&🐟.JPG": "succeeded",
        "2026/scan.pdf": "succeeded",
        "2026/disguised.jpg": "unsupported_format",
        "2026/frozen.jpg": "archived",
    }
    assert report.counts.succeeded == 8
    assert {reason: alike.count for reason, alike in report.left_out.root.items()} == {
        Reason.OTHER: 2,
        Reason.HIDDEN: 1,
        Reason.LITTER: 2,
        Reason.RESULT: 1,
        Reason.FOLDER: 1,
    }
    assert {"a_res.json", "cats/1_res.json", "cats/1.png_res.jpg", "scan.pdf_2_res.json", "plain._res.jpg"} <= names


def test_a_listing_goes_on_behind_every_object(bucket_settings: Settings, bucket: str, put: Put) -> None:
    put(b"x", "a/1.jpg", "a/2.jpg", "b/1.jpg", "b/x/1.png", "b/x.png", "b/x-1.png", "c/1.jpg", "d.jpg")
    for urls in ([f"s3://{bucket}/{{a,c,b}}/**"], [f"s3://{bucket}/a/1.jpg", f"s3://{bucket}/b/"], [f"s3://{bucket}"]):
        job = job_of(*urls)
        whole = [entry.location for entry in entries(job, bucket_settings)]
        for number, entry in enumerate(entries(job, bucket_settings)):
            behind = entries(job, bucket_settings, ListingCursor(source=entry.source, position=entry.position))
            assert [entry.location for entry in behind] == whole[number + 1 :]
    assert len(whole) == 8


def test_an_object_a_prefix_and_a_pattern(bucket_settings: Settings, bucket: str, put: Put) -> None:
    put(b"x", "a.txt", "a.txt-2.jpg", "a.txt/b.jpg", "[1].jpg", "1.jpg")

    def keys(path: str) -> list[str]:
        return [entry.name for entry in entries(job_of(f"s3://{bucket}/{path}"), bucket_settings) if not entry.failure]

    assert keys("a.txt") == ["a.txt", "b.jpg"]
    assert keys("a.txt/") == ["b.jpg"]
    assert keys("[1].jpg") == ["1.jpg"]
    assert keys(r"\[1\].jpg") == ["[1].jpg"]
    assert keys("*.{jpg,txt}") == ["1.jpg", "[1].jpg", "a.txt-2.jpg"]
    assert keys("nothing/*") == []


def test_where_nothing_is_meant_the_job_says_so(bucket_settings: Settings, bucket: str, put: Put) -> None:
    put(b"x", "a/notes.txt")
    (entry,) = entries(job_of(f"s3://{bucket}/a/"), bucket_settings)
    assert entry.failure
    assert entry.failure.code == "input_not_found"
    assert "no image and no PDF; left out: no image and no PDF: 1 (notes.txt)" in entry.failure.reason
    assert list(entries(job_of(f"s3://{bucket}/a/"), bucket_settings, ListingCursor(position=entry.position))) == []


def test_what_has_gone_or_changed_since_it_was_listed_fails_alone(
    bucket_settings: Settings, bucket: str, put: Put, picture: bytes, s3_server: SeaweedServer
) -> None:
    put(picture, "a.jpg", "b.jpg", "c.jpg", "d.jpg")
    job_id = plan(Workers(bucket_settings, []), f"s3://{bucket}/")
    s3_server.client().delete_object(Bucket=bucket, Key="b.jpg")
    put(picture + b" ", "c.jpg")
    with run_workers(bucket_settings) as workers:
        report = workers.wait(job_id)
        assert codes(workers, job_id) == {
            "a.jpg": "succeeded",
            "b.jpg": "gone",
            "c.jpg": "changed",
            "d.jpg": "succeeded",
        }
    assert report.state == "completed"


@pytest.mark.parametrize(
    "says",
    [
        ("AccessDenied", "object_refused"),
        ("InvalidObjectState", "archived"),
        ("KMS.DisabledException", "encrypted_object"),
    ],
    ids=lambda says: says[1],
)
def test_an_object_that_is_refused_fails_alone(
    through_proxy: Settings, bucket: str, put: Put, picture: bytes, proxied: S3Proxy, says: tuple[str, str]
) -> None:
    put(picture, "a.jpg", "b.jpg", "c.jpg")
    proxied.refuses = lambda method, path: method == "GET" and path.startswith(f"/{bucket}/a.jpg")
    proxied.refusal, code = says
    with run_workers(through_proxy) as workers:
        job_id = workers.submit([S3Source(url=f"s3://{bucket}/")])
        workers.wait(job_id)
        assert codes(workers, job_id) == {"a.jpg": code, "b.jpg": "succeeded", "c.jpg": "succeeded"}


def test_the_planner_asks_a_bucket_for_nothing_but_its_listing(
    through_proxy: Settings, bucket: str, put: Put, proxied: S3Proxy
) -> None:
    put(b"x", *(f"{number}.jpg" for number in range(30)), "scan.pdf", "plain")
    list(entries(job_of(f"s3://{bucket}/"), through_proxy))
    assert {(method, path.partition("?")[0]) for method, path in proxied.requests} == {("GET", f"/{bucket}")}


def test_the_storages_own_objects_are_no_inputs(bucket_settings: Settings, bucket: str, put: Put) -> None:
    put(b"x", "jobs/1/inputs/a.jpg", "mine/jobs/1/artifacts/a.jpg", "mine.jpg")

    def keys(storage_url: str) -> list[str]:
        stored = bucket_settings.model_copy(update={"storage_url": storage_url})
        # In no order: this store lists `mine/` before `mine.jpg`.
        return sorted(entry.name for entry in entries(job_of(f"s3://{bucket}"), stored))

    assert keys(f"s3://{bucket}") == ["mine.jpg", "mine/jobs/1/artifacts/a.jpg"]
    assert keys(f"s3://{bucket}/mine") == ["jobs/1/inputs/a.jpg", "mine.jpg"]
    assert len(keys("s3://another/mine")) == 3


@pytest.fixture
def web(services: Services, tmp_path: Path) -> FlaskClient:
    (tmp_path / "buckets.toml").write_text('[photos]\nprefix = "2026/"\n')
    settings = services.settings.model_copy(update={"buckets": tmp_path / "buckets.toml"})
    return create_app(settings, Services.open(settings)).test_client()


@pytest.mark.parametrize(
    ("url", "status", "said"),
    [
        ("s3://photos/2026/**/*.jpg", 202, ""),
        ("s3://photos/2025/", 403, "only what begins with '2026/' may be read"),
        ("s3://other/a.jpg", 403, "add [other] to"),
        ("s3://photos/2026/{a", 422, "a brace is not closed"),
        ("http://photos/2026/a", 422, "no S3 URL"),
    ],
)
def test_what_may_not_be_read_is_refused_at_once(web: FlaskClient, url: str, status: int, said: str) -> None:
    answer = web.post("/v1/jobs", json={"sources": [{"type": "s3", "url": url}]})
    assert answer.status_code == status, answer.json
    assert said in answer.text
    assert not said or answer.json["errors"][0]["pointer"] == "/sources/0/url"


def reader_of(settings: Settings, bucket: str) -> BucketReader:
    return BucketReaders(settings).reader(ObjectUrl(bucket, ""))


def test_a_bucket_that_comes_to_refuse_everything_is_no_fault_of_its_objects(
    through_proxy: Settings, bucket: str, put: Put, proxied: S3Proxy
) -> None:
    put(b"x", "a.jpg", "kms/b.jpg")
    reader = reader_of(through_proxy, bucket)
    assert reader.get("a.jpg", Pin(), 10) == b"x"
    proxied.refuses = lambda _method, _path: True
    for proxied.refusal in ("ExpiredToken", "InvalidAccessKeyId", "AccessDenied", "RequestTimeTooSkewed"):
        for key in ("a.jpg", "kms/b.jpg"):
            with pytest.raises(StorageRefused):
                reader.get(key, Pin(), 10)
    proxied.refuses = lambda _method, _path: False
    assert reader.get("kms/b.jpg", Pin(), 10) == b"x"


def test_an_object_beside_a_folder_of_its_name_has_results_of_its_own(
    bucket_settings: Settings, bucket: str, put: Put
) -> None:
    # SeaweedFS keeps no object under a part of another's key.
    wanted = Wanted.of("x/a.jpg")
    keys = ["x/a.jpg", "x/a.jpg/a.jpg", "x/a.jpg/a.jpg/a.jpg", "x/a.jpg/b.jpg"]
    names = [wanted.name_of(key) for key in keys]
    assert names == ["a.jpg", "a.jpg/a.jpg", "a.jpg/a.jpg/a.jpg", "b.jpg"]
    put(b"x", "cats/1.jpg")
    (entry,) = entries(job_of(f"s3://{bucket}/cats"), bucket_settings)
    assert entry.name == "1.jpg"
