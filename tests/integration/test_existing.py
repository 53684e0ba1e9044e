"""What is run again and what is not: a sample of the inputs, and what an earlier job over the same bucket has done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from maskmill.shared.folder_inputs import Reason
from maskmill.shared.jobs.job_files import JobFiles
from maskmill.shared.jobs.records import Entry, Item, Job, Options, Outcome, PlanPage, Rollup, new_job_id
from maskmill.shared.jobs.sources import ObjectBytes, PathSource, S3Source
from maskmill.shared.settings import Settings
from maskmill.shared.storage import open_storage
from maskmill.worker.control.existing import Existing
from maskmill.worker.sources.listing import entries
from tests.integration.conftest import Put
from tests.services.workers import Workers, run_workers

SHARD, PAGE = 2, 64


@pytest.fixture
def workers(bucket_settings: Settings) -> Iterator[Workers]:
    with run_workers(bucket_settings) as running:
        yield running


def run(workers: Workers, bucket: str, **options: object) -> tuple[str, dict[str, str]]:
    """A job over the bucket: its id, and what became of each object."""
    job_id = workers.submit([S3Source(url=f"s3://{bucket}/")], Options.model_validate(options))
    report = workers.wait(job_id)
    assert report.state == "completed", report
    return job_id, {one.input_path.rpartition("/")[2]: one.status for one in workers.outcomes(job_id)}


def test_what_the_last_such_job_has_done_is_skipped(workers: Workers, bucket: str, put: Put, picture: bytes) -> None:
    put(picture, "a.jpg", "b.jpg", "c.jpg")
    put(b"broken", "d.jpg")
    _, first = run(workers, bucket, skip_existing=True)
    assert first == {"a.jpg": "succeeded", "b.jpg": "succeeded", "c.jpg": "succeeded", "d.jpg": "failed"}
    put(picture + b" ", "b.jpg")
    put(picture, "bb.jpg")
    _, second = run(workers, bucket, skip_existing=True)
    assert second == {
        "a.jpg": "skipped",
        "b.jpg": "succeeded",
        "bb.jpg": "succeeded",
        "c.jpg": "skipped",
        "d.jpg": "failed",
    }
    # What was skipped for that reason counts as done for the next.
    third_id, third = run(workers, bucket, skip_existing=True)
    assert [name for name, status in third.items() if status != "skipped"] == ["d.jpg"]
    # With other options, or without being asked, all is done.
    assert set(run(workers, bucket, skip_existing=True, threshold=0.9)[1].values()) == {"succeeded", "failed"}
    assert "skipped" not in run(workers, bucket)[1].values()
    assert [name for name, status in run(workers, bucket, since_job=third_id)[1].items() if status != "skipped"] == [
        "d.jpg"
    ]


def test_since_job_names_a_completed_job(workers: Workers, bucket: str, put: Put, picture: bytes) -> None:
    put(picture, "a.jpg")
    job_id = workers.submit([S3Source(url=f"s3://{bucket}/")], Options(since_job="0123456789"))
    report = workers.wait(job_id)
    assert report.state == "failed"
    assert report.error
    assert report.error.reason == "since_job 0123456789 is no completed job"


def earlier(settings: Settings, keys: list[str], failed: set[int]) -> tuple[JobFiles, Job]:
    """A completed job over objects of these keys."""
    job = Job(id=new_job_id(), created_at=0, sources=(), shard_size=SHARD)
    files = JobFiles(open_storage(settings), job.ref)
    items = [Item(number=number, input_path=key, name=key, location=at(key)) for number, key in enumerate(keys)]
    for number in range(0, len(items), PAGE):
        files.store_page(PlanPage(number=number // PAGE, items=tuple(items[number : number + PAGE])))
    failures = {number // SHARD: 1 for number in failed}
    for shard in failures:
        run = items[shard * SHARD : (shard + 1) * SHARD]
        statuses = ["failed" if item.number in failed else "succeeded" for item in run]
        files.commit(
            shard,
            [
                Outcome.model_validate({"number": item.number, "status": status, "input_path": item.input_path})
                for item, status in zip(run, statuses, strict=True)
            ],
        )
    files.store_rollup(Rollup(number=0, shards=1000, failures=failures))
    return files, job


def at(key: str, etag: str = '"1"') -> ObjectBytes:
    return ObjectBytes(bucket="photos", key=key, etag=etag, size=1)


def item(key: str, etag: str = '"1"') -> Item:
    return Item(number=0, input_path=key, name=key, location=at(key, etag))


@pytest.mark.parametrize("by", ["bytes", "folders"])
def test_two_listings_are_merged_in_either_order_of_a_store(file_settings: Settings, by: str) -> None:
    folders = [f"{folder}{mark}" for folder in ("a", "a-b", "b", "b.c") for mark in "/-."]
    order: Callable[[str], Any] = str if by == "bytes" else lambda name: name.split("/")
    ordered = sorted((f"{folder}{number:03d}.jpg" for folder in folders for number in range(60)), key=order)
    gone, new = set(ordered[200:400]) | set(ordered[::7]), {f"{name}.png" for name in ordered[::5]}
    known = [name for name in ordered if name not in new]
    files, job = earlier(file_settings, known, failed={3, 100})
    listed = sorted((set(known) - gone) | new, key=order)
    done = set(known) - {known[3], known[100]}
    whole = Existing(files, job)
    assert {key for key in listed if whole.has(item(key))} == done & set(listed)
    for start in range(0, len(listed), 50):
        resumed = Existing(files, job)
        assert {key for key in listed[start:] if resumed.has(item(key))} == done & set(listed[start:])


def test_a_long_document_of_which_a_page_failed_is_found_again(file_settings: Settings) -> None:
    job = Job(id=new_job_id(), created_at=0, sources=(), shard_size=1)
    files = JobFiles(open_storage(file_settings), job.ref)
    page = Item(number=0, input_path="a", name="a", location=at("a.pdf"), page_index=0)
    pages = [page.model_copy(update={"number": number, "page_index": number}) for number in range(400)]
    for number in range(0, len(pages), 32):
        files.store_page(PlanPage(number=number // 32, items=tuple(pages[number : number + 32])))
    files.commit(0, [Outcome(number=0, status="failed", input_path="a")])
    files.store_rollup(Rollup(number=0, shards=1000, failures={0: 1}))
    existing = Existing(files, job)
    assert [existing.has(page) for page in pages] == [False, *[True] * 399]


def test_a_sample_stands_for_no_whole(workers: Workers, bucket: str, put: Put, picture: bytes) -> None:
    put(picture, "a.jpg", "b.jpg", "c.jpg")
    run(workers, bucket)
    assert run(workers, bucket, sample=2)[1] == {"a.jpg": "succeeded", "c.jpg": "succeeded"}
    assert set(run(workers, bucket, skip_existing=True)[1].values()) == {"skipped"}


def test_an_object_that_changed_or_has_no_etag_is_not_done(file_settings: Settings) -> None:
    files, job = earlier(file_settings, ["a.jpg", "b.jpg"], set())
    existing = Existing(files, job)
    assert existing.has(item("a.jpg"))
    assert not existing.has(item("a.jpg", '"2"'))
    assert not existing.has(item("b.jpg").model_copy(update={"location": ObjectBytes(bucket="photos", key="b.jpg")}))
    assert not existing.has(item("b.jpg").model_copy(update={"page_index": 0}))


def where(entry: Entry) -> tuple[int, str]:
    return entry.source, entry.position


def test_every_nth_input_from_any_point_on(tmp_path: Path) -> None:
    for number in range(10):
        (tmp_path / f"{number}.jpg").write_bytes(b"x")
    settings = Settings(local_roots=(tmp_path,))
    options, source = Options(sample=3), PathSource(path=str(tmp_path))
    job = Job(id=new_job_id(), created_at=0, sources=(source, source), options=options, shard_size=2)
    whole = list(entries(job, settings))
    assert [Path(entry.input_path).stem for entry in whole] == ["0", "3", "6", "9", "2", "5", "8"]
    for number, entry in enumerate(whole):
        assert list(map(where, entries(job, settings, entry.behind))) == list(map(where, whole[number + 1 :]))
    left_out = sum(one.left_out.root[Reason.SAMPLE].count for one in whole if one.left_out)
    assert left_out == 20 - len(whole)
