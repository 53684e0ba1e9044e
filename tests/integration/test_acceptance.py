"""What is accepted is kept and run once; what is refused, or broken off, leaves nothing behind."""

from __future__ import annotations

import dataclasses
import io
import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from redis import Redis
from werkzeug.test import TestResponse

from maskmill.api import create_app
from maskmill.api.services import Services
from maskmill.client.client import Client, ClientError
from maskmill.shared.jobs import keys
from maskmill.shared.jobs.job_files import ABANDONED_SECONDS, JobFiles, abandoned_uploads
from maskmill.shared.jobs.records import Counts, Job, JobStatus
from maskmill.shared.jobs.sources import UploadSource
from maskmill.shared.ledger import PlannedPages
from maskmill.worker.control.sweeper import Sweeper
from tests.integration.conftest import finish_shard, plan_shards
from tests.services.api_server import ApiServer, run_api
from tests.services.watched_storage import WatchedStorage
from tests.services.workers import wait_until

KEY = {"Idempotency-Key": "a key"}
URL = {"type": "url", "url": "https://example.org/a.jpg"}
A_FILE = {"type": "base64", "name": "a", "data": "YQ=="}
NEVER = b"a picture that never became a job"


def submit(web: FlaskClient, **more: Any) -> TestResponse:
    return web.post("/v1/jobs", json={"sources": [URL], **more}, headers=KEY)


def upload(web: FlaskClient, **headers: str) -> TestResponse:
    return web.post("/v1/jobs", data={"files": [(io.BytesIO(b"one"), "a.jpg")]}, headers=KEY | headers)


def forget_ledger(services: Services) -> None:
    with Redis.from_url(services.settings.redis_url) as client:
        client.flushall()


def sweeper(services: Services) -> Sweeper:
    return Sweeper(services.settings, services.storage, services.ledger, services.doorbell)


def uploads_of(services: Services, job_id: str) -> list[bytes]:
    job = JobFiles(services.storage, job_id).job()
    assert job
    return [services.storage.get(source.key) for source in job.sources if isinstance(source, UploadSource)]


class TestReplays:
    def test_a_replay_of_a_forgotten_job_answers_how_it_ended_and_runs_nothing(
        self, web: FlaskClient, services: Services
    ) -> None:
        job_id = submit(web).json["id"]
        counts = Counts(total=1, planned=1, succeeded=1)
        files = JobFiles(services.storage, job_id)
        files.store_report(JobStatus(id=job_id, state="completed", model="shapes", counts=counts, created_at=1.0))
        files.forget_open()
        forget_ledger(services)
        before = set(services.storage.list())
        again = submit(web)
        assert (again.status_code, again.json["id"], again.json["state"]) == (202, job_id, "completed")
        assert again.json["counts"]["succeeded"] == 1
        assert set(services.storage.list()) == before
        assert services.ledger.status(job_id) is None
        sweeper(services).recover()
        assert (services.ledger.open_jobs(), services.ledger.due_work()) == ([], 0)

    def test_a_replay_of_a_cancelled_job_does_not_run_it_when_redis_was_lost(
        self, web: FlaskClient, services: Services
    ) -> None:
        job_id = submit(web).json["id"]
        assert web.post(f"/v1/jobs/{job_id}/cancel").json["state"] == "cancelled"
        forget_ledger(services)
        assert submit(web).json["state"] == "cancelled"

    def test_a_replay_of_a_paused_job_does_not_resume_it_when_redis_was_lost(
        self, web: FlaskClient, services: Services
    ) -> None:
        job_id = submit(web).json["id"]
        assert web.post(f"/v1/jobs/{job_id}/pause").json["state"] == "paused"
        forget_ledger(services)
        assert submit(web).json["state"] == "paused"


class TestMovesAfterALoss:
    @pytest.mark.parametrize("move", ["pause", "cancel"])
    def test_what_was_done_counts_as_done(self, web: FlaskClient, services: Services, move: str) -> None:
        job_id = submit(web).json["id"]
        plan_shards(services, job_id, [["a", "b"], ["c"]])
        finish_shard(services, job_id, 0)
        forget_ledger(services)
        moved = web.post(f"/v1/jobs/{job_id}/{move}")
        assert (moved.status_code, moved.json["state"]) == (200, {"pause": "paused", "cancel": "cancelled"}[move])
        # What an earlier ledger let be claimed must be looked for in storage.
        assert services.ledger.admitted(job_id) == (0, True)

    @pytest.mark.parametrize("move", ["pause", "cancel"])
    def test_a_move_that_comes_too_late_leaves_no_marker(self, web: FlaskClient, services: Services, move: str) -> None:
        job_id = submit(web).json["id"]
        work = services.ledger.claim_work()
        assert work
        services.ledger.begin_plan(job_id, work)
        services.ledger.add_pages(job_id, work, 0, PlannedPages(1, 0, 0, None))
        moved = web.post(f"/v1/jobs/{job_id}/{move}")
        assert moved.status_code == 409
        assert "finalizing" in moved.json["detail"]
        files = JobFiles(services.storage, job_id)
        assert (files.is_paused(), files.is_cancelled()) == (False, False)

    def test_a_paused_job_is_resumed_for_good(self, web: FlaskClient, services: Services) -> None:
        job_id = submit(web).json["id"]
        web.post(f"/v1/jobs/{job_id}/pause")
        forget_ledger(services)
        resumed = web.post(f"/v1/jobs/{job_id}/resume")
        assert (resumed.status_code, resumed.json["state"]) == (200, "queued")
        assert not JobFiles(services.storage, job_id).is_paused()


class TestRefused:
    @pytest.mark.parametrize(
        "more",
        [
            {"sources": []},
            {"sources": [URL] * 21},
            {"sources": [{"type": "path", "path": "/etc/passwd"}]},
            {"sources": [A_FILE, {**URL, "url": "ftp://h/a"}]},
            {"sources": [A_FILE, {**A_FILE, "data": "a"}]},
            {"options": {"model": "coco"}},
            {"options": {"treshold": 1}},
            {"options": {"pdf": {"password": "secret", "dpi": 1}}},
        ],
    )
    def test_a_document_leaves_nothing(self, web: FlaskClient, services: Services, more: dict[str, Any]) -> None:
        assert submit(web, **more).status_code in (403, 413, 422)
        assert list(services.storage.list()) == []

    def test_a_form_that_breaks_off_leaves_nothing(self, web: FlaskClient, services: Services) -> None:
        body = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.jpg"\r\n\r\nhello\r\n--x\r\nContent-D'
        answer = web.post("/v1/jobs", data=body, content_type="multipart/form-data; boundary=x", headers=KEY)
        assert answer.status_code == 400
        assert list(services.storage.list()) == []

    def test_a_key_that_another_request_used_leaves_nothing_more(self, web: FlaskClient, services: Services) -> None:
        upload(web)
        before = set(services.storage.list())
        other = web.post("/v1/jobs", data={"files": [(io.BytesIO(b"two"), "b.jpg")]}, headers=KEY)
        assert other.status_code == 422
        assert set(services.storage.list()) == before

    def test_what_the_client_sends_leaves_nothing(
        self, api_server: ApiServer, services: Services, tmp_path: Path
    ) -> None:
        (tmp_path / "a.jpg").write_bytes(b"a")
        for options in ({"model": "coco"}, {"threshold": 2}):
            with pytest.raises(ClientError):
                Client(api_server.url).submit([tmp_path / "a.jpg"], options=options)
        assert list(services.storage.list()) == []


class TestBrokenOff:
    def test_what_a_killed_api_had_received_is_removed_after_a_day(self, services: Services, tmp_path: Path) -> None:
        storage = services.storage
        with run_api(services.settings, tmp_path) as server:
            host, _, port = server.url.removeprefix("http://").partition(":")
            with socket.create_connection((host, int(port))) as sending:
                sending.sendall(_two_files_of_which_one_ends())
                wait_until(lambda: any("/inputs/" in key for key in storage.list()), 30)
                os.killpg(server.process.pid, signal.SIGKILL)
                wait_until(lambda: not server.process.running, 30)
        began = time.time()
        left = list(storage.list())
        assert [key.partition("/")[0] for key in left] == ["jobs", "receiving"]
        sweeper(services).recover()
        assert list(abandoned_uploads(storage, began)) == []
        assert list(storage.list()) == left
        assert len(list(abandoned_uploads(storage, began + ABANDONED_SECONDS + 1))) == 1
        assert list(storage.list()) == []

    def test_the_sweeper_removes_what_is_a_day_old(self, services: Services) -> None:
        files = JobFiles(services.storage, "0123456789")
        files.mark_receiving("folder", time.time() - ABANDONED_SECONDS - 1)
        services.storage.put(keys.inputs(files.ref, "folder/000000-a.jpg"), NEVER)
        services.storage.put(keys.open_marker(files.ref), str(time.time() - ABANDONED_SECONDS - 1).encode())
        sweeper(services).recover()
        assert list(services.storage.list()) == []

    def test_a_marker_without_a_job_goes_after_a_day_and_not_before(self, services: Services) -> None:
        now = time.time()
        files = JobFiles(services.storage, "0123456789")
        services.storage.put(keys.open_marker(files.ref), str(now).encode())
        files.forget_unaccepted(now + ABANDONED_SECONDS - 1)
        sweeper(services).recover()
        assert list(services.storage.list()) == [keys.open_marker(files.ref)]
        files.forget_unaccepted(now + ABANDONED_SECONDS + 1)
        assert list(services.storage.list()) == []

    def test_the_uploads_of_an_accepted_job_stay_though_its_api_died_before_it_said_so(
        self, web: FlaskClient, services: Services
    ) -> None:
        job_id = upload(web).json["id"]
        job = JobFiles(services.storage, job_id).job()
        assert job
        [source] = job.sources
        assert isinstance(source, UploadSource)
        folder = source.key.split("/")[-2]
        JobFiles(services.storage, job_id).mark_receiving(folder, 1.0)
        assert list(abandoned_uploads(services.storage, time.time())) == []
        assert uploads_of(services, job_id) == [b"one"]
        assert list(services.storage.list(keys.RECEIVING)) == []


class TestStorageGoesAway:
    """The storage breaks off somewhere behind the point from which on the job is accepted."""

    @pytest.fixture
    def broken(self, services: Services) -> WatchedStorage:
        return WatchedStorage(services.storage)

    @pytest.fixture
    def own(self, services: Services, broken: WatchedStorage) -> FlaskClient:
        return create_app(services.settings, dataclasses.replace(services, storage=broken)).test_client()

    @pytest.mark.parametrize("part", ["job.json", "head.json", keys.RECEIVING])
    def test_the_uploads_stay_with_the_job(
        self, own: FlaskClient, broken: WatchedStorage, web: FlaskClient, services: Services, part: str
    ) -> None:
        where = "delete" if part == keys.RECEIVING else "put"
        broken.fails_after = lambda method, key: method == where and part in key
        answer = upload(own)
        assert answer.status_code in (202, 503)
        again = upload(web)
        assert again.status_code == 202
        assert uploads_of(services, again.json["id"]) == [b"one"]

    def test_a_store_that_says_late_that_it_was_this_request_does_not_cost_its_uploads(
        self, own: FlaskClient, broken: WatchedStorage, services: Services
    ) -> None:
        """A first try that succeeded unheard: the second finds the key taken."""
        twice = broken.put

        def put(key: str, data: bytes, **more: Any) -> bool:
            if key.endswith("job.json"):
                twice(key, data, **more)
            return twice(key, data, **more)

        broken.put = put  # type: ignore[method-assign]
        answer = upload(own)
        assert answer.status_code == 202
        assert uploads_of(services, answer.json["id"]) == [b"one"]
        assert list(services.storage.list(keys.RECEIVING)) == []


def _two_files_of_which_one_ends() -> bytes:
    part = b'--x\r\nContent-Disposition: form-data; name="files"; filename="%s"\r\n\r\n'
    body = part % b"a.jpg" + NEVER + b"\r\n" + part % b"b.jpg" + bytes(1_500_000)
    head = (
        "POST /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nIdempotency-Key: k\r\n"
        "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 3000000\r\n\r\n"
    )
    return head.encode() + body


def test_a_job_whose_head_is_missing_is_known_by_its_job(web: FlaskClient, services: Services) -> None:
    job_id = submit(web).json["id"]
    services.storage.delete(keys.head(job_id))
    forget_ledger(services)
    assert web.get(f"/v1/jobs/{job_id}").json["state"] == "queued"
    assert Job.model_validate_json(services.storage.get(keys.job(job_id))).id == job_id
