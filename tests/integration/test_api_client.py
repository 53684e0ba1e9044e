"""The Python client against the API in processes of its own."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from maskmill.api.services import Services
from maskmill.client.client import Client, ClientError, ServiceUnreachable
from maskmill.client.downloads import Fetched
from maskmill.shared.jobs import keys
from maskmill.shared.jobs.records import Counts, Job, JobStatus
from maskmill.shared.jobs.sources import PathSource, UploadSource, UrlSource
from tests.integration.conftest import finish_shard, plan_shards
from tests.services.api_server import ApiServer, run_api
from tests.services.process import free_port

URL = "https://example.org/a.jpg"


@pytest.fixture
def client(api_server: ApiServer) -> Client:
    return Client(api_server.url)


def job_of(services: Services, status: JobStatus) -> Job:
    return Job.model_validate_json(services.storage.get(keys.job(status.id)))


def complete(services: Services, job_id: str, total: int) -> None:
    """End the job as the ledger's forgetting leaves it: with its report alone."""
    report = JobStatus(
        id=job_id, state="completed", model="shapes", counts=Counts(total=total, succeeded=total), created_at=1.0
    )
    services.storage.put(keys.report(job_id), report.model_dump_json().encode())


def test_files_folders_and_urls_become_one_job(client: Client, services: Services, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep/b.PNG").write_bytes(b"b")
    (folder / "c.jpg").write_bytes(b"c")
    (folder / "notes.txt").write_bytes(b"no picture")
    single = tmp_path / 'ä "quoted".jpg'
    single.write_bytes(b"a")
    job = job_of(services, client.submit([single, str(folder), URL], options={"threshold": 0.3}, name="mixed"))
    uploads = [source for source in job.sources if isinstance(source, UploadSource)]
    assert [upload.name for upload in uploads] == ["ä _quoted_.jpg", "folder/c.jpg", "folder/deep/b.PNG"]
    assert [services.storage.get(upload.key) for upload in uploads] == [b"a", b"c", b"b"]
    assert [source.url for source in job.sources if isinstance(source, UrlSource)] == [URL]
    assert (job.options.threshold, job.name) == (0.3, "mixed")


def test_local_sends_paths_not_files(client: Client, services: Services) -> None:
    folder = services.settings.local_roots[0]
    job = job_of(services, client.submit([folder], local=True))
    assert job.sources == (PathSource(path=str(folder)),)


def test_a_file_larger_than_a_piece_arrives_whole(client: Client, services: Services, tmp_path: Path) -> None:
    data = os.urandom(2_900_000)
    (tmp_path / "a.jpg").write_bytes(data)
    told: list[tuple[int, int]] = []
    submitted = client.submit([tmp_path / "a.jpg"], progress=lambda sent, total: told.append((sent, total)))
    (source,) = job_of(services, submitted).sources
    assert isinstance(source, UploadSource)
    assert services.storage.get(source.key) == data
    assert told == sorted(told)
    assert told[-1][0] == told[-1][1] > len(data)


def test_an_upload_does_not_pass_through_the_servers_memory(
    api_server: ApiServer, client: Client, tmp_path: Path
) -> None:
    def peak() -> int:
        children = Path(f"/proc/{api_server.process.pid}/task/{api_server.process.pid}/children").read_text().split()
        lines = [Path(f"/proc/{child}/status").read_text().splitlines() for child in children]
        return sum(int(line.split()[1]) for status in lines for line in status if line.startswith("VmHWM"))

    for number in range(20):
        (tmp_path / f"{number}.jpg").write_bytes(bytes(2_900_000))
    client.submit([tmp_path / "0.jpg"])
    before = peak()
    client.submit([tmp_path / f"{number}.jpg" for number in range(20)])
    assert peak() - before < 20_000, "kB, for 58 MB of files"


def test_what_is_wrong_is_raised_with_its_reason(client: Client, tmp_path: Path) -> None:
    with pytest.raises(ClientError, match="served: shapes") as caught:
        client.submit([URL], options={"model": "coco"})
    assert (caught.value.status, caught.value.code) == (422, "unknown_model")
    assert caught.value.errors[0]["pointer"] == "/options/model"
    with pytest.raises(ClientError, match="no file or folder"):
        client.submit([tmp_path / "none.jpg"])
    with pytest.raises(ClientError, match="there is no job"):
        client.status("0123456789")


def test_an_upload_past_a_limit_is_told_not_broken_off(client: Client, tmp_path: Path) -> None:
    (tmp_path / "large.jpg").write_bytes(bytes(50_000_000))
    with pytest.raises(ClientError, match="3000000 bytes at most") as caught:
        client.submit([tmp_path / "large.jpg"])
    assert caught.value.status == 413


def test_nobody_there_is_told() -> None:
    with pytest.raises(ServiceUnreachable, match="nobody answers at"):
        Client(f"http://127.0.0.1:{free_port()}").status("0123456789")


def test_wait_returns_the_final_status(client: Client, services: Services) -> None:
    submitted = client.submit([URL])
    states: list[str] = []

    def seen(status: JobStatus) -> None:
        if not states:
            services.ledger.cancel(submitted.id)
        states.append(status.state)

    status = client.wait(submitted.id, seen, every=0.05)
    assert status.state == "cancelled"
    assert (states[0], states[-1]) == ("queued", "cancelled")


def test_wait_outlasts_a_restart_of_the_service(services: Services, tmp_path: Path) -> None:
    with run_api(services.settings, tmp_path) as server:
        client = Client(server.url)
        submitted = client.submit([URL])
        found: list[JobStatus] = []
        waiting = threading.Thread(target=lambda: found.append(client.wait(submitted.id, every=0.05)))
        waiting.start()
        server.process.stop()
        services.ledger.cancel(submitted.id)
        server.process.start()
        waiting.join(60)
    assert found[0].state == "cancelled"


@pytest.fixture
def done_job(client: Client, services: Services) -> str:
    """A job of three items that are done, one in a folder."""
    job_id = client.submit([URL]).id
    plan_shards(services, job_id, [["a", "deep/b"], ["c"]])
    for number in (0, 1):
        finish_shard(services, job_id, number)
    complete(services, job_id, 3)
    return job_id


def test_fetch_downloads_every_artifact_under_its_name(client: Client, done_job: str, tmp_path: Path) -> None:
    assert client.fetch(done_job, tmp_path / "out") == Fetched(downloaded=6)
    files = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*_res.*")}
    assert files == {f"{name}_res.{suffix}" for name in ("a", "deep/b", "c") for suffix in ("json", "jpg")}
    assert (tmp_path / "out/deep/b_res.jpg").read_bytes() == b"image of deep/b"


def test_a_second_fetch_downloads_only_what_is_missing(client: Client, done_job: str, tmp_path: Path) -> None:
    client.fetch(done_job, tmp_path)
    (tmp_path / "a_res.json").unlink()
    assert client.fetch(done_job, tmp_path) == Fetched(downloaded=1, present=5)


def test_another_jobs_files_are_not_taken_for_this_ones(client: Client, done_job: str, tmp_path: Path) -> None:
    (tmp_path / "a_res.json").write_text("of another job")
    assert client.fetch(done_job, tmp_path).downloaded == 6
    assert (tmp_path / "a_res.json").read_text() == "json of a"


def test_items_come_page_after_page(client: Client, services: Services) -> None:
    job_id = client.submit([URL]).id
    plan_shards(services, job_id, [[f"{number}a", f"{number}b"] for number in range(300)])
    assert [item["number"] for item in client.items(job_id)] == list(range(600))
    assert list(client.items(job_id, "failed")) == []
