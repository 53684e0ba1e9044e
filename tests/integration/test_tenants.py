"""What one tenant keeps from another: all of its jobs, whoever asks; and that they run as any others do."""

from __future__ import annotations

import dataclasses
import io
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from PIL import Image as Pillow
from redis import Redis

from maskmill.api import create_app
from maskmill.api.services import Services
from maskmill.deploy.demo.scenes import draw_scene
from maskmill.shared.jobs import keys
from maskmill.shared.jobs.job_files import ABANDONED_SECONDS, JobFiles, abandoned_uploads
from maskmill.shared.jobs.keys import DEFAULT_TENANT, id_of, job_ref
from maskmill.shared.jobs.sources import PathSource, UrlSource
from maskmill.worker.control.sweeper import Sweeper
from tests.integration.conftest import draw_pictures, finish_shard, plan_shards
from tests.services import FileServer, run_redis
from tests.services.control_site import ControlSite
from tests.services.workers import Workers, run_workers, settings_for

ACME = "acme"
URL = {"type": "url", "url": "https://example.org/a.jpg"}
KEY = {"Idempotency-Key": "a key"}
BOTH_WAYS = pytest.mark.parametrize(("mine", "theirs"), [(DEFAULT_TENANT, ACME), (ACME, DEFAULT_TENANT)])


@pytest.fixture
def webs(services: Services) -> dict[str, FlaskClient]:
    """The application as each tenant meets it, over the same Redis and the same storage."""
    return {tenant: web_of(services, tenant) for tenant in (DEFAULT_TENANT, ACME, "small")}


def web_of(services: Services, tenant: str) -> FlaskClient:
    return create_app(services.settings, dataclasses.replace(services, tenant=lambda: tenant)).test_client()


def submit(web: FlaskClient, **headers: str) -> str:
    answer = web.post("/v1/jobs", json={"sources": [URL]}, headers=headers)
    assert answer.status_code == 202, answer.text
    return str(answer.json["id"])


def lose_redis(services: Services) -> None:
    with Redis.from_url(services.settings.redis_url) as client:
        client.flushall()


def ids(web: FlaskClient, query: str = "") -> list[str]:
    return [job["id"] for job in web.get(f"/v1/jobs{query}").json["jobs"]]


# What another tenant sees


@BOTH_WAYS
def test_a_job_of_another_tenant_is_not_there(
    webs: dict[str, FlaskClient], services: Services, mine: str, theirs: str
) -> None:
    job_id = submit(webs[theirs])
    ref = job_ref(theirs, job_id)
    plan_shards(services, ref, [["a", "b"]])
    finish_shard(services, ref, 0)
    paths = [f"/v1/jobs/{job_id}{path}" for path in ("", "/items", "/items/0", "/artifacts/a_res.json")]
    moves = [f"/v1/jobs/{job_id}/{move}" for move in ("pause", "resume", "cancel")]
    before = set(services.storage.list())
    assert {webs[mine].get(path).status_code for path in paths} == {404}
    assert {webs[mine].post(path).status_code for path in moves} == {404}
    assert set(services.storage.list()) == before
    assert webs[theirs].get(paths[0]).json["state"] == "queued"
    assert ids(webs[mine]) == []
    # Its own sees it all.
    assert {webs[theirs].get(path).status_code for path in paths} == {200}
    assert webs[theirs].get(paths[3]).data == b"json of a"
    assert [webs[theirs].post(path).json["state"] for path in moves] == ["paused", "queued", "cancelled"]
    assert ids(webs[theirs]) == [job_id]


@pytest.mark.parametrize("name", ["{ref}", "default.{id}", "..%2Ftenants%2Facme%2Fjobs%2F{id}", "acme%2E{id}"])
def test_no_name_leads_to_a_job_of_another_tenant(webs: dict[str, FlaskClient], services: Services, name: str) -> None:
    job_id = submit(webs[ACME])
    ref = job_ref(ACME, job_id)
    plan_shards(services, ref, [["a"]])
    finish_shard(services, ref, 0)
    path = f"/v1/jobs/{name.format(ref=ref, id=job_id)}"
    for tenant in (DEFAULT_TENANT, "small"):
        for rest in ("", "/items", "/artifacts/a_res.json"):
            assert webs[tenant].get(path + rest).status_code == 404
        assert webs[tenant].post(f"{path}/cancel").status_code == 404
    way = f"../../../tenants/acme/jobs/{job_id}/job.json".replace("/", "%2F")
    own = submit(webs[DEFAULT_TENANT])
    assert webs[DEFAULT_TENANT].get(f"/v1/jobs/{own}/artifacts/{way}").status_code == 404


def test_two_tenants_jobs_of_one_id_are_two(webs: dict[str, FlaskClient], services: Services) -> None:
    job_id = submit(webs[DEFAULT_TENANT])
    job = JobFiles(services.storage, job_id).job()
    assert job
    other = job.model_copy(update={"tenant": ACME, "name": "the other"})
    JobFiles(services.storage, other.ref).store_job(other)
    services.ledger.enter(other.head)
    assert webs[ACME].post(f"/v1/jobs/{job_id}/cancel").json["name"] == "the other"
    shown = webs[DEFAULT_TENANT].get(f"/v1/jobs/{job_id}").json
    assert (shown["name"], shown["state"]) == (None, "queued")
    assert not JobFiles(services.storage, job_id).is_cancelled()


def test_a_tenants_list_goes_on_page_by_page_through_its_own(webs: dict[str, FlaskClient]) -> None:
    own = []
    for _ in range(3):
        own.append(submit(webs[ACME]))
        submit(webs[DEFAULT_TENANT])
    page = webs[ACME].get("/v1/jobs?limit=2").json
    assert [job["id"] for job in page["jobs"]] == own[:0:-1]
    assert ids(webs[ACME], f"?limit=2&after={page['next']}") == own[:1]


# What its own tenant sees, and what is stored


def test_a_tenant_sees_plain_ids_and_its_job_lies_in_a_folder_of_its_own(
    webs: dict[str, FlaskClient], services: Services
) -> None:
    form = {"files": [(io.BytesIO(b"one"), "a.jpg")]}
    answer = webs[ACME].post("/v1/jobs", data=form)
    job_id = answer.json["id"]
    assert "." not in job_id
    assert answer.headers["Location"] == answer.json["links"]["self"] == f"/v1/jobs/{job_id}"
    assert ACME not in answer.text
    stored = set(services.storage.list())
    assert f"open/acme.{job_id}" in stored
    folder = f"tenants/acme/jobs/{job_id}/"
    rest = {key.removeprefix(folder).partition("/")[0] for key in stored if not key.startswith("open/")}
    assert rest == {"job.json", "head.json", "inputs"}
    job = JobFiles(services.storage, f"acme.{job_id}").job()
    assert job
    assert (job.id, job.tenant) == (job_id, ACME)


def test_the_only_tenant_that_a_request_can_be_of_is_the_default_one(web: FlaskClient, services: Services) -> None:
    assert services.tenant() == DEFAULT_TENANT
    refused = web.post("/v1/jobs", json={"sources": [URL], "tenant": ACME})
    assert (refused.status_code, refused.json["errors"][0]["pointer"]) == (422, "/tenant")
    assert list(services.storage.list()) == []


def test_an_idempotency_key_is_its_tenants(webs: dict[str, FlaskClient], services: Services) -> None:
    first = {tenant: submit(web, **KEY) for tenant, web in webs.items()}
    assert len(set(first.values())) == 3
    assert {tenant: submit(web, **KEY) for tenant, web in webs.items()} == first
    # Another tenant's other request with the same key is refused to that tenant alone.
    other = {"sources": [URL], "name": "another"}
    assert webs[ACME].post("/v1/jobs", json=other, headers=KEY).status_code == 422
    assert {tenant: ids(web) for tenant, web in webs.items()} == {tenant: [job_id] for tenant, job_id in first.items()}
    assert len(services.ledger.open_jobs()) == 3


def test_a_replay_finds_its_tenants_job_when_redis_was_lost(webs: dict[str, FlaskClient], services: Services) -> None:
    job_id = submit(webs[ACME], **KEY)
    assert webs[ACME].post(f"/v1/jobs/{job_id}/pause").json["state"] == "paused"
    lose_redis(services)
    assert webs[ACME].get(f"/v1/jobs/{job_id}").json["state"] == "queued"
    assert webs[DEFAULT_TENANT].get(f"/v1/jobs/{job_id}").status_code == 404
    assert submit(webs[ACME], **KEY) == job_id
    assert webs[ACME].get(f"/v1/jobs/{job_id}").json["state"] == "paused"


def test_uploads_that_never_became_a_tenants_job_are_removed(services: Services) -> None:
    files = JobFiles(services.storage, f"acme.{'0' * 24}")
    files.mark_receiving("folder", time.time() - ABANDONED_SECONDS - 1)
    services.storage.put(keys.inputs(files.ref, "folder/000000-a.jpg"), b"never a job's")
    assert list(abandoned_uploads(services.storage, time.time())) == [f"{files.ref}/folder"]
    assert list(services.storage.list()) == []


# How it runs


def test_a_tenants_job_goes_from_planning_to_closing_over_a_loss_of_redis(site: ControlSite) -> None:
    ref = site.plan(4, tenant=ACME)
    assert ref == f"acme.{id_of(ref)}"
    assert site.work(ref, 1) == [0]
    site.redis.flushall()
    site.sweeper().recover()
    assert site.ledger.open_jobs() == [ref]
    site.runner().run()
    assert site.work(ref, 4) == [1, 2, 3]
    site.runner().run()
    report = site.report(ref)
    assert (report.id, report.state, report.counts.done) == (id_of(ref), "completed", 4)
    assert site.status(ref).state == "completed"
    assert site.ledger.open_jobs() == []
    assert {key.rpartition("/jobs/")[0] for key in site.storage.list()} == {"tenants/acme"}
    # It is over: a second loss brings it back to nobody.
    site.redis.flushall()
    site.sweeper().recover()
    assert site.ledger.status(ref) is None


def test_a_pause_and_a_cancel_of_a_tenants_job_outlive_redis(site: ControlSite) -> None:
    paused, cancelled = site.plan(2, tenant=ACME), site.plan(2, tenant=ACME)
    site.files(paused).mark_paused()
    site.files(cancelled).mark_cancelled()
    site.redis.flushall()
    site.sweeper().recover()
    site.runner().run()
    assert site.status(paused).state == "paused"
    assert (site.report(cancelled).state, site.report(cancelled).counts.skipped) == ("cancelled", 2)


def test_a_shard_of_a_tenants_job_whose_worker_died_is_free_again(site: ControlSite) -> None:
    ref = site.plan(1, tenant=ACME)
    lost = site.ledger.claim("shapes", "worker")
    assert lost
    assert lost.ref == ref
    site.redis.zadd("test:leases", {f"{ref}/0": 1})
    site.sweeper().sweep()
    again = site.ledger.claim("shapes", "worker")
    assert again
    assert (again.ref, again.crashes) == (ref, 1)


@pytest.mark.parametrize("stray", [f"default.{'0' * 24}", f".{'0' * 24}", "acme.", "a.b.c"])
def test_a_marker_that_is_no_ref_keeps_no_job_out(services: Services, webs: dict[str, FlaskClient], stray: str) -> None:
    job_id = submit(webs[ACME])
    services.storage.put(keys.open_marker(stray), str(time.time()).encode())
    lose_redis(services)
    Sweeper(services.settings, services.storage, services.ledger, services.doorbell).recover()
    assert services.ledger.open_jobs() == [f"acme.{job_id}"]


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    folder: Path = tmp_path_factory.mktemp("tenants")
    draw_pictures(folder / "pictures", 3)
    with run_redis() as redis, run_workers(settings_for(folder, redis.url)) as running:
        yield running


def test_a_tenants_pictures_and_pages_become_results_in_its_own_folder(
    workers: Workers, file_server: FileServer
) -> None:
    pages = [Pillow.fromarray(draw_scene(number, 90, 60).image) for number in range(2)]
    data = io.BytesIO()
    pages[0].save(data, "PDF", save_all=True, append_images=pages[1:])
    file_server.add("book.pdf", data.getvalue())
    folder = workers.settings.local_roots[0]
    ref = workers.submit([PathSource(path=str(folder)), UrlSource(url=file_server.url("book.pdf"))], tenant=ACME)
    report = workers.wait(ref)
    assert (report.state, report.counts.succeeded) == ("completed", 5)
    assert len(workers.artifacts(ref)) == 10
    assert workers.storage.size(f"tenants/acme/jobs/{id_of(ref)}/inputs/fetched-1")
    assert list(workers.storage.list("jobs/")) == []
