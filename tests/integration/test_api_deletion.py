"""DELETE /v1/jobs/{id}, as the API, the client and the commands meet it."""

from __future__ import annotations

import dataclasses
import os
import signal
from pathlib import Path

import pytest
from click.testing import CliRunner
from flask.testing import FlaskClient
from redis import Redis

from maskmill.api import create_app
from maskmill.api.services import Services
from maskmill.cli import main
from maskmill.client.client import Client, ClientError
from maskmill.shared.jobs import deletions, keys
from maskmill.shared.jobs.job_files import JobFiles
from maskmill.shared.jobs.keys import job_ref
from maskmill.shared.jobs.records import Counts, JobState, JobStatus
from maskmill.shared.ledger import Work
from maskmill.shared.settings import Settings
from maskmill.worker.control.deleter import Deleter
from maskmill.worker.control.runner import InHand, WorkRunner
from maskmill.worker.control.sweeper import Sweeper
from tests.integration.conftest import SHAPES, Put, finish_shard, plan_shards
from tests.services import SeaweedServer
from tests.services.api_server import ApiServer, run_api
from tests.services.commands import maskmill
from tests.services.process import free_port
from tests.services.watched_storage import WatchedStorage
from tests.services.workers import kill, run_workers, wait_until

URL = {"type": "url", "url": "https://example.org/a.jpg"}
KEY = {"Idempotency-Key": "the holiday"}
WRONG = 2


def submit(web: FlaskClient, headers: dict[str, str] | None = None, **rest: object) -> str:
    answer = web.post("/v1/jobs", json={"sources": [URL], **rest}, headers=headers)
    assert answer.status_code == 202, answer.text
    return str(answer.json["id"])


def end(services: Services, ref: str, state: JobState = "completed", *, finished_at: float = 2.0) -> None:
    """The job is over, closed, and forgotten by the ledger; two items of it have results."""
    files = JobFiles(services.storage, ref)
    head = files.head()
    assert head
    plan_shards(services, ref, [["a", "b"]])
    finish_shard(services, ref, 0)
    counts = Counts(total=2, planned=2, succeeded=2)
    files.store_report(
        JobStatus(
            id=head.id,
            state=state,
            model="shapes",
            counts=counts,
            created_at=1.0,
            finished_at=finished_at,
            output=head.output,
        )
    )
    files.forget_open()
    forget_all(services)


def forget_all(services: Services) -> None:
    with Redis.from_url(services.settings.redis_url) as client:
        client.flushall()
    services.ledger.serve("worker-of-the-test", [SHAPES])


class Later:
    """A handler of what is not the test's concern."""

    def run(self, _work: Work, _in_hand: InHand) -> float | None:
        return 1000

    def give_up(self, _work: Work, _reason: str) -> float | None:
        return 1000


def run_control(services: Services) -> None:
    """Do the deletions that are due."""
    deleter = Deleter(services.settings, services.storage, services.ledger, services.outputs)
    WorkRunner(services.ledger, {"plan": Later(), "close": Later(), "delete": deleter}).run()


def paths(job_id: str) -> list[str]:
    return [f"/v1/jobs/{job_id}{rest}" for rest in ("", "/items", "/items/0", "/artifacts/a_res.json")]


def test_a_deleted_job_is_not_there_from_the_answer_on(web: FlaskClient, services: Services) -> None:
    job_id = submit(web)
    end(services, job_id)
    assert {web.get(path).status_code for path in paths(job_id)} == {200}
    link = web.get(f"/v1/jobs/{job_id}").json["links"]["delete"]
    answer = web.delete(link)
    assert (answer.status_code, answer.json) == (202, {"id": job_id, "output": False})
    assert {web.get(path).status_code for path in paths(job_id)} == {404}
    assert {web.post(f"{link}/{verb}").status_code for verb in ("cancel", "pause", "resume")} == {404}
    assert services.storage.size(keys.report(job_id)) is not None
    assert services.doorbell.waiting("maskmill.control") == 1
    # While it is under way the answer is the same, then there is nothing to delete.
    assert web.delete(link).status_code == 202
    run_control(services)
    assert list(services.storage.list()) == []
    assert {web.get(path).status_code for path in paths(job_id)} == {404}
    assert web.delete(link).status_code == 404


def test_a_job_that_the_ledger_knows_leaves_the_list_too(web: FlaskClient, services: Services) -> None:
    job_id, other = submit(web), submit(web)
    assert web.post(f"/v1/jobs/{job_id}/cancel").json["state"] == "cancelled"
    files = JobFiles(services.storage, job_id)
    report = services.ledger.status(job_id)
    assert report
    files.store_report(report)
    services.ledger.close(job_id, report, 1000)
    files.forget_open()
    assert web.delete(f"/v1/jobs/{job_id}").status_code == 202
    assert [job["id"] for job in web.get("/v1/jobs").json["jobs"]] == [other]
    assert web.get(f"/v1/jobs/{job_id}").status_code == 404


@pytest.mark.parametrize("verb", ["", "/pause"])
def test_a_job_that_is_not_over_is_to_be_cancelled_first(web: FlaskClient, services: Services, verb: str) -> None:
    job_id = submit(web)
    if verb:
        web.post(f"/v1/jobs/{job_id}{verb}")
    before = set(services.storage.list())
    answer = web.delete(f"/v1/jobs/{job_id}")
    assert (answer.status_code, answer.json["code"]) == (409, "conflict")
    assert "cancel it first" in answer.json["detail"]
    assert set(services.storage.list()) == before
    # Closing it is the control's; a deletion that is asked for before waits for that.
    web.post(f"/v1/jobs/{job_id}/cancel")
    assert web.delete(f"/v1/jobs/{job_id}").status_code == 202
    run_control(services)
    assert services.storage.size(keys.job(job_id)) is not None


def test_what_is_no_job_cannot_be_deleted(web: FlaskClient, services: Services) -> None:
    for name in ("0" * 24, "..%2F..%2Fopen", "a.b", "A" * 24):
        assert web.delete(f"/v1/jobs/{name}").status_code == 404
    assert web.delete(f"/v1/jobs/{submit(web)}?output=maybe").status_code == 422
    assert not list(services.storage.list(keys.DELETING))


def test_another_tenants_job_is_not_there_to_be_deleted(web: FlaskClient, services: Services) -> None:
    job_id = submit(web)
    end(services, job_id)
    acme = create_app(services.settings, dataclasses.replace(services, tenant=lambda: "acme")).test_client()
    before = {key: services.storage.get(key) for key in services.storage.list()}
    assert acme.delete(f"/v1/jobs/{job_id}").status_code == 404
    assert {key: services.storage.get(key) for key in services.storage.list()} == before
    own = submit(acme)
    end(services, job_ref("acme", own))
    assert acme.delete(f"/v1/jobs/{own}").status_code == 202
    run_control(services)
    assert {key: services.storage.get(key) for key in services.storage.list()} == before


def test_a_page_of_another_site_deletes_nothing(web: FlaskClient, services: Services) -> None:
    job_id = submit(web)
    end(services, job_id)
    assert web.delete(f"/v1/jobs/{job_id}", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert web.get(f"/v1/jobs/{job_id}").status_code == 200


def test_a_replayed_key_waits_for_the_deletion_and_makes_a_new_job_then(web: FlaskClient, services: Services) -> None:
    job_id = submit(web, KEY)
    end(services, job_id)
    assert submit(web, KEY) == job_id
    web.delete(f"/v1/jobs/{job_id}")
    stored = set(services.storage.list())
    for body in ({"sources": [URL]}, {"sources": [URL], "name": "another"}):
        answer = web.post("/v1/jobs", json=body, headers=KEY)
        assert (answer.status_code, answer.json["code"]) == (409, "conflict")
    assert set(services.storage.list()) == stored
    run_control(services)
    # Nothing is known of the first any more: another request may have the key.
    assert submit(web, KEY, name="another") == job_id
    assert web.get(f"/v1/jobs/{job_id}").json["state"] == "queued"
    run_control(services)
    assert services.ledger.open_jobs() == [job_id]


def test_a_request_that_was_on_its_way_while_its_keys_job_was_deleted_is_told(services: Services) -> None:
    watched = WatchedStorage(services.storage)
    web = create_app(services.settings, dataclasses.replace(services, storage=watched)).test_client()
    job_id = submit(web, KEY)
    end(services, job_id)
    web.delete(f"/v1/jobs/{job_id}")
    run_control(services)

    def overtaken(method: str, key: str) -> bool:
        """Another request's job of the same key has run, and is being deleted now."""
        if (method, key) == ("put", keys.job(job_id)):
            deletions.begin(services.storage, job_id, deletions.Deletion(ended_at=2.0))
        return False

    watched.fails_before = overtaken
    assert web.post("/v1/jobs", json={"sources": [URL]}, headers=KEY).status_code == 409


def test_without_redis_a_deletion_is_taken_and_done_later(services: Services) -> None:
    settings = services.settings.model_copy(update={"redis_url": f"redis://127.0.0.1:{free_port()}/0"})
    web = create_app(services.settings, services).test_client()
    job_id = submit(web)
    end(services, job_id)
    lonely = create_app(settings, Services.open(settings)).test_client()
    assert lonely.delete(f"/v1/jobs/{job_id}").status_code == 202
    assert lonely.get(f"/v1/jobs/{job_id}").status_code == 404
    sweeper = Sweeper(services.settings, services.storage, services.ledger, services.doorbell)
    sweeper.recover()
    run_control(services)
    assert list(services.storage.list()) == []


def test_the_document_tells_of_it(web: FlaskClient) -> None:
    operation = web.get("/openapi.json").json["paths"]["/v1/jobs/{job_id}"]["delete"]
    assert [one["name"] for one in operation["parameters"]] == ["job_id", "output"]
    assert "202" in operation["responses"]


# With its output


def test_an_output_that_is_not_deleted_at_first_is_not_deleted_later(services: Services, tmp_path: Path) -> None:
    (tmp_path / "buckets.toml").write_text("[masks]\nwrite = true\n")
    settings = services.settings.model_copy(update={"buckets": tmp_path / "buckets.toml"})
    own = Services.open(settings)
    web = create_app(settings, own).test_client()
    job_id = submit(web, output="s3://masks/a/")
    end(services, job_id)
    assert own.output_of(job_id) == "s3://masks/a/"
    assert web.delete(f"/v1/jobs/{job_id}").json == {"id": job_id, "output": False}
    # What stays in the bucket is no job's artifact any more.
    assert web.get(f"/v1/jobs/{job_id}/artifacts/a_res.json").status_code == 404
    answer = web.delete(f"/v1/jobs/{job_id}?output=true")
    assert (answer.status_code, "without" in answer.json["detail"]) == (409, True)


def test_an_output_that_may_not_be_written_any_more_is_refused(services: Services, tmp_path: Path) -> None:
    (tmp_path / "buckets.toml").write_text("[masks]\nwrite = true\n")
    settings = services.settings.model_copy(update={"buckets": tmp_path / "buckets.toml"})
    web = create_app(settings, Services.open(settings)).test_client()
    job_id = submit(web, output="s3://masks/a/")
    end(services, job_id)
    later = create_app(services.settings, services).test_client()
    answer = later.delete(f"/v1/jobs/{job_id}?output=true")
    assert (answer.status_code, answer.json["code"]) == (403, "bucket_refused")
    assert later.get(f"/v1/jobs/{job_id}").status_code == 200
    assert later.delete(f"/v1/jobs/{job_id}").status_code == 202


# The client and the commands


@pytest.fixture
def done(api_server: ApiServer, services: Services) -> str:
    job_id = Client(api_server.url).submit([URL["url"]]).id
    end(services, job_id)
    return job_id


def test_the_client_deletes(api_server: ApiServer, services: Services, done: str) -> None:
    client = Client(api_server.url)
    client.delete(done)
    with pytest.raises(ClientError, match="there is no job") as caught:
        client.status(done)
    assert caught.value.status == 404
    running = client.submit([URL["url"]]).id
    with pytest.raises(ClientError, match="cancel it first") as caught:
        client.delete(running, output=True)
    assert caught.value.status == 409
    run_control(services)
    assert not list(services.storage.list(keys.folder(done)))


def test_the_command_asks_before_it_deletes(api_server: ApiServer, services: Services, done: str) -> None:
    command = ["delete", done, "--api", api_server.url]
    for said in ("n\n", ""):
        refused = CliRunner().invoke(main, command, input=said)
        assert refused.exit_code == WRONG
        assert "nothing is deleted; --yes" in refused.stderr
    assert not deletions.is_under_way(services.storage, done)
    agreed = CliRunner().invoke(main, command, input="y\n")
    assert (agreed.exit_code, agreed.stdout) == (0, "")
    assert f"{done}: completed; 2 of 2 succeeded" in agreed.stderr
    assert deletions.is_under_way(services.storage, done)


def test_the_command_deletes_at_once_with_yes(api_server: ApiServer, services: Services, done: str) -> None:
    gone = maskmill("delete", done, "--yes", "--api", api_server.url)
    assert (gone.returncode, gone.stdout, gone.stderr) == (0, "", "")
    run_control(services)
    again = maskmill("delete", done, "--yes", "--api", api_server.url)
    assert (again.returncode, "there is no job" in again.stderr) == (WRONG, True)


# All of it


def test_a_job_and_its_results_in_a_bucket_go_though_control_is_killed(
    bucket_settings: Settings, bucket: str, put: Put, picture: bytes, s3_server: SeaweedServer, tmp_path: Path
) -> None:
    masks = s3_server.make_bucket()
    assert bucket_settings.buckets
    bucket_settings.buckets.write_text(f"[{bucket}]\n[{masks}]\nwrite = true\n")
    put(picture, *(f"{number}.jpg" for number in range(40)))
    with run_workers(bucket_settings) as workers, run_api(bucket_settings, tmp_path) as server:
        client = Client(server.url)
        job = client.submit([f"s3://{bucket}/"], output=f"s3://{masks}/a/")
        kept = client.submit([f"s3://{bucket}/0.jpg"], output=f"s3://{masks}/b/")
        assert client.wait(job.id).counts.succeeded == 40
        client.wait(kept.id)
        wait_until(lambda: not list(workers.storage.list(keys.OPEN)), 30)
        for pid in workers.processes("control"):
            os.kill(pid, signal.SIGSTOP)
        client.delete(job.id, output=True)
        for pid in workers.processes("control"):
            kill(pid)
        with Redis.from_url(bucket_settings.redis_url) as redis:
            redis.flushall()
        wait_until(lambda: not list(workers.storage.list(keys.DELETING)), 60)
        with pytest.raises(ClientError, match="there is no job"):
            client.status(job.id)
        assert client.status(kept.id).counts.succeeded == 1
        assert {key.split("/")[1] for key in workers.storage.list("jobs/")} == {kept.id}
    left = s3_server.client().list_objects_v2(Bucket=masks)["Contents"]
    assert {one["Key"].split("/")[0] for one in left} == {"b"}
