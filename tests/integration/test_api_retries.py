"""Retries as a user asks for them: over HTTP, by the client and on the command line, and with workers that run them."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from maskmill.api.endpoints.items import ItemsQuery, page
from maskmill.api.services import Services
from maskmill.client.client import Client, ClientError
from maskmill.shared.jobs import keys
from maskmill.shared.jobs.job_files import JobFiles
from maskmill.shared.jobs.records import Failure, Retry
from maskmill.shared.settings import Settings
from maskmill.shared.storage.bucket_reader import BucketReaders
from maskmill.worker.control.finalizer import Finalizer, RollupMaker
from maskmill.worker.control.planner import Planner
from maskmill.worker.control.runner import WorkRunner
from tests.integration.conftest import Put, draw_pictures
from tests.integration.test_outputs import objects
from tests.integration.test_retries import ended_as
from tests.services import FileServer, SeaweedServer, run_redis
from tests.services.api_server import ApiServer, run_api
from tests.services.commands import maskmill
from tests.services.workers import kill, run_workers, settings_for, wait_until

AWAY = Failure(stage="fetch", code="url_unreachable", reason="nobody answers")
BROKEN = Failure(stage="decode", code="truncated", reason="it ends too soon")
FAILED = {1: AWAY, 2: BROKEN, 5: AWAY}


def control(services: Services) -> None:
    """Do what is due, as a control worker does."""
    rollups = RollupMaker(services.storage, services.ledger)
    settings, storage, ledger = services.settings, services.storage, services.ledger
    planner = Planner(settings, storage, ledger, services.doorbell, BucketReaders(settings))
    finalizer = Finalizer(settings, storage, ledger, rollups, services.outputs)
    WorkRunner(ledger, {"plan": planner, "rollup": rollups, "close": finalizer}).run()


def work(services: Services, failed: dict[int, Failure]) -> list[int]:
    """Run what can be claimed, as a worker does; the items that were run."""
    ran = []
    while lease := services.ledger.claim("shapes", "worker"):
        files = JobFiles(services.storage, lease.ref, retry=lease.retry)
        head, planned = files.head(), files.page(0)
        assert head
        assert planned
        items = planned.shard(lease.shard, head)
        services.ledger.finish(lease, files.commit(lease.shard, [ended_as(item, failed) for item in items]))
        ran += [item.number for item in items]
    return ran


@pytest.fixture
def over(web: FlaskClient, services: Services) -> dict[str, Any]:
    """A job of eight items that is over, of which three failed."""
    urls = [{"type": "url", "url": f"https://example.org/{number}.jpg"} for number in range(8)]
    job = web.post("/v1/jobs", json={"sources": urls}).json
    control(services)
    work(services, FAILED)
    control(services)
    found: dict[str, Any] = web.get(job["links"]["self"]).json
    assert (found["state"], found["counts"]["failed"], found["retries"]) == ("completed", 3, 0)
    return found


def shown(web: FlaskClient, job: dict[str, Any], status: str = "") -> dict[int, str]:
    query = {"status": status} if status else {}
    answer = web.get(job["links"]["items"], query_string=query).json
    return {item["number"]: item["status"] for item in answer["items"]}


def test_what_failed_runs_again(web: FlaskClient, services: Services, over: dict[str, Any]) -> None:
    answer = web.post(over["links"]["retry"])
    assert (answer.status_code, answer.json["state"], answer.json["retries"]) == (202, "queued", 1)
    control(services)
    assert web.get(over["links"]["self"]).json["state"] == "running"
    assert work(services, {5: AWAY}) == [1, 2, 5]
    control(services)
    after = web.get(over["links"]["self"]).json
    assert (after["state"], after["counts"]["succeeded"], after["counts"]["failed"]) == ("completed", 7, 1)
    assert shown(web, over, "failed") == {5: "failed"}


def test_what_is_run_again_is_pending_meanwhile(web: FlaskClient, services: Services, over: dict[str, Any]) -> None:
    web.post(over["links"]["retry"], json={"codes": ["url_unreachable"]})
    control(services)
    ends = dict.fromkeys(range(8), "succeeded") | {1: "pending", 2: "failed", 5: "pending"}
    assert shown(web, over) == ends
    assert shown(web, over, "failed") == {2: "failed"}
    assert shown(web, over, "pending") == {1: "pending", 5: "pending"}
    one = web.get(f"{over['links']['items']}/1").json
    assert (one["status"], one["error"], one["artifacts"]) == ("pending", None, {})
    # Who cancels it has the failures back.
    assert web.post(over["links"]["cancel"]).json["state"] == "cancelled"
    control(services)
    assert shown(web, over, "failed") == {1: "failed", 2: "failed", 5: "failed"}
    assert web.post(over["links"]["retry"]).status_code == 202


def test_a_retry_that_runs_is_paused_and_resumed(web: FlaskClient, services: Services, over: dict[str, Any]) -> None:
    web.post(over["links"]["retry"])
    assert web.post(over["links"]["pause"]).json["state"] == "paused"
    assert services.storage.size(keys.paused(over["id"], 1)) is not None
    assert web.post(over["links"]["resume"]).json["state"] == "queued"
    assert services.storage.size(keys.paused(over["id"], 1)) is None


def refused(answer: Any) -> str:
    assert (answer.status_code, answer.json["code"]) == (409, "conflict")
    detail: str = answer.json["detail"]
    return detail


def test_what_cannot_be_retried_says_why(web: FlaskClient, services: Services, over: dict[str, Any]) -> None:
    codes = refused(web.post(over["links"]["retry"], json={"codes": ["empty", "too_large"]}))
    assert codes == "nothing of the job failed as empty, too_large; its failures are truncated, url_unreachable"
    running = web.post("/v1/jobs", json={"sources": [{"type": "url", "url": "https://example.org/a.jpg"}]}).json
    assert "is queued; only one that is over" in refused(web.post(running["links"]["retry"]))
    web.post(running["links"]["cancel"])
    assert "is cancelled, but not closed yet" in refused(web.post(running["links"]["retry"]))
    control(services)
    assert "nothing of the job failed" in refused(web.post(running["links"]["retry"]))
    assert web.post("/v1/jobs/0123456789/retry").status_code == 404
    assert services.storage.size(keys.retry(over["id"], 1)) is None


@pytest.mark.parametrize(
    ("body", "pointer"), [({"codes": []}, "/codes"), ({"codes": "empty"}, "/codes"), ({"code": ["empty"]}, "/code")]
)
def test_what_is_wrong_with_a_request_is_named(
    web: FlaskClient, over: dict[str, Any], body: object, pointer: str
) -> None:
    answer = web.post(over["links"]["retry"], json=body)
    assert (answer.status_code, answer.json["errors"][0]["pointer"]) == (422, pointer)


def test_of_two_at_once_one_is_run(web: FlaskClient, services: Services, over: dict[str, Any]) -> None:
    def ask(_: int) -> int:
        return services_web(services).post(over["links"]["retry"]).status_code

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(ask, range(4)))
    assert set(answers) <= {202, 409}
    assert 202 in answers
    assert services.storage.size(keys.retry(over["id"], 2)) is None
    control(services)
    assert sorted(work(services, {})) == [1, 2, 5]
    control(services)
    assert web.get(over["links"]["self"]).json["counts"]["failed"] == 0


def services_web(services: Services) -> FlaskClient:
    from maskmill.api import create_app

    return create_app(services.settings, services).test_client()


def overtaken(services: Services, monkeypatch: pytest.MonkeyPatch, call: Callable[[], None]) -> None:
    """Let somebody come first when the next retry is about to be stored."""
    put = services.storage.put

    def late(key: str, data: bytes, **how: Any) -> bool:
        if "/retries/" in key:
            monkeypatch.setattr(services.storage, "put", put)
            call()
        return put(key, data, **how)

    monkeypatch.setattr(services.storage, "put", late)


@pytest.mark.parametrize(("codes", "status"), [(None, 202), (["truncated"], 409)])
def test_who_comes_second_gets_the_same_retry_or_is_refused(
    web: FlaskClient,
    services: Services,
    over: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    codes: list[str] | None,
    status: int,
) -> None:
    first = Retry(number=1, codes=tuple(codes) if codes else None, accepted_at=1.0)
    # It dies before it is entered.
    overtaken(services, monkeypatch, lambda: JobFiles(services.storage, over["id"]).accept_retry(first) and None)
    answer = web.post(over["links"]["retry"])
    assert answer.status_code == status, answer.text
    control(services)
    assert work(services, {}) == ([2] if codes else [1, 2, 5])


def test_an_accepted_retry_is_queued_while_redis_knows_nothing_of_it(
    web: FlaskClient, services: Services, over: dict[str, Any]
) -> None:
    JobFiles(services.storage, over["id"]).accept_retry(Retry(number=1, accepted_at=1.0))
    services.ledger._redis.flushall()
    status = web.get(over["links"]["self"]).json
    assert (status["state"], status["retries"], status["finished_at"]) == ("queued", 1, None)
    assert web.post(over["links"]["pause"]).json["state"] == "paused"
    assert web.post(over["links"]["resume"]).json["state"] == "queued"
    control(services)
    assert work(services, {}) == [1, 2, 5]


def test_failed_items_are_listed_page_by_page_while_some_run_again(services: Services, over: dict[str, Any]) -> None:
    JobFiles(services.storage, over["id"]).accept_retry(Retry(number=1, codes=("truncated",), accepted_at=1.0))
    found = page(services, over["id"], ItemsQuery(status="failed", limit=1))
    assert [item.number for item in found.items] == [1]
    rest = page(services, over["id"], ItemsQuery(status="failed", after=found.next))
    assert [item.number for item in rest.items] == [5]


def test_the_client_and_the_command_ask_for_it(api_server: ApiServer, services: Services, over: dict[str, Any]) -> None:
    client = Client(api_server.url)
    told = maskmill("retry", over["id"], "--code", "empty", "--api", api_server.url)
    assert (told.returncode, "its failures are truncated, url_unreachable" in told.stderr) == (2, True)
    asked = maskmill("retry", over["id"], "--code", "truncated", "--code", "empty", "--json", "--api", api_server.url)
    assert (asked.returncode, json.loads(asked.stdout)["retries"]) == (0, 1)
    with pytest.raises(ClientError, match="only one that is over") as caught:
        client.retry(over["id"])
    assert caught.value.status == 409
    control(services)
    assert work(services, {}) == [2]
    control(services)
    assert client.retry(over["id"], ["url_unreachable"]).retries == 2


# With workers


def test_a_url_that_answers_again_and_a_picture_put_right_have_results(
    tmp_path: Path, redis_url: str, file_server: FileServer
) -> None:
    folder = draw_pictures(tmp_path / "pictures", 4)
    good = (folder / "picture 3.jpg").read_bytes()
    (folder / "picture 3.jpg").write_bytes(good[:1500])
    file_server.add("late.jpg", b"", status=503)
    file_server.add("never.jpg", b"", status=404)
    settings = settings_for(tmp_path, redis_url, MASKMILL_SHARD_SIZE="2")
    urls = [file_server.url("late.jpg"), file_server.url("never.jpg")]
    with run_workers(settings) as workers, run_api(settings, tmp_path) as server:
        wait_until(workers.ledger.models, 30)
        client = Client(server.url)
        job = client.wait(client.submit([folder, *urls], local=True).id)
        assert (job.state, job.counts.succeeded, job.counts.failed) == ("completed", 3, 3)
        (folder / "picture 3.jpg").write_bytes(good)
        file_server.add("late.jpg", good)
        names = set(workers.artifacts(job.id))
        done = maskmill("retry", job.id, "--out", tmp_path / "out", "--json", "--api", server.url)
        again = client.status(job.id)
        failed = list(client.items(job.id, "failed"))
        ended = workers.outcomes(job.id)
        artifacts = workers.artifacts(job.id)
    assert (done.returncode, json.loads(done.stdout)["counts"]["succeeded"]) == (1, 5)
    assert (again.state, again.retries, again.counts.succeeded, again.counts.failed) == ("completed", 1, 5, 1)
    assert [item["input_path"] for item in failed] == [urls[1]]
    assert [outcome.number for outcome in ended] == list(range(6))
    assert set(artifacts) - names == {
        f"{n}_res.{kind}" for n in ("pictures/picture 3", "late") for kind in ("json", "jpg")
    }
    assert sum(path.name.endswith("_res.json") for path in (tmp_path / "out").rglob("*")) == 5
    # The same picture, so the same result, whichever run it is of.
    assert (
        json.loads(artifacts["late_res.json"])["boxes"] == json.loads(artifacts["pictures/picture 3_res.json"])["boxes"]
    )


def test_a_retry_outlives_all_processes_and_redis(tmp_path: Path, file_server: FileServer) -> None:
    folder = draw_pictures(tmp_path / "pictures", 24)
    good = {path.name: path.read_bytes() for path in folder.iterdir()}
    for name in good:
        (folder / name).write_bytes(b"no picture")
    with run_redis() as redis:
        settings = settings_for(tmp_path, redis.url, MASKMILL_SHARD_SIZE="2", MASKMILL_WINDOW_SHARDS="4")
        with run_workers(settings, "sim:100") as workers, run_api(settings, tmp_path) as server:
            wait_until(workers.ledger.models, 30)
            client = Client(server.url)
            job = client.wait(client.submit([folder, file_server.add("a.jpg", good["picture 0.jpg"])], local=True).id)
            assert (job.counts.succeeded, job.counts.failed) == (1, 24)
            for name, data in good.items():
                (folder / name).write_bytes(data)
            client.retry(job.id)
            workers.wait_for_progress(job.id, 4)
            died = workers.processes("celery_worker")
            for pid in died:
                kill(pid)
            redis.lose_everything()
            wait_until(lambda: client.status(job.id).state == "completed", 120)
            ended = workers.outcomes(job.id)
            status = client.status(job.id)
    assert len(died) >= 4
    assert [(outcome.number, outcome.status) for outcome in ended] == [(number, "succeeded") for number in range(25)]
    assert (status.retries, status.counts.succeeded, status.counts.failed) == (1, 25, 0)


def test_results_in_a_bucket_are_listed_and_marked_whole_after_a_retry(
    bucket_settings: Settings, bucket: str, put: Put, picture: bytes, s3_server: SeaweedServer, tmp_path: Path
) -> None:
    masks = s3_server.make_bucket()
    assert bucket_settings.buckets
    bucket_settings.buckets.write_text(f"[{bucket}]\n[{masks}]\nwrite = true\n")
    put(picture, "a.jpg", "b.jpg", "d.jpg")
    put(b"no picture", "c.jpg")
    settings = bucket_settings.model_copy(update={"shard_size": 3})
    with run_workers(settings) as workers, run_api(settings, tmp_path) as server:
        wait_until(workers.ledger.models, 30)
        client = Client(server.url)
        job = client.submit([f"s3://{bucket}/"], output=f"s3://{masks}/out/")
        assert client.wait(job.id).counts.failed == 1
        before = objects(s3_server, masks)
        s3_server.client().delete_object(Bucket=masks, Key="out/_SUCCESS")
        put(picture, "c.jpg")
        client.retry(job.id)
        done = client.wait(job.id)
        after = objects(s3_server, masks)
    assert (done.state, done.counts.succeeded, done.counts.failed) == ("completed", 4, 0)
    assert set(after) - set(before) == {"out/c_res.json", "out/c_res.jpg"}
    assert set(before) <= set(after)
    refs = [f"out/_maskmill/{job.id}/{number:08d}.jsonl" for number in range(2)]
    assert sorted(key for key in after if "_maskmill" in key) == refs
    lines = [[json.loads(line)["source-ref"] for line in after[key].splitlines()] for key in refs]
    assert lines == [[f"s3://{bucket}/{name}.jpg" for name in "abc"], [f"s3://{bucket}/d.jpg"]]
