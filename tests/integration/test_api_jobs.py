"""Submitting a job and asking about it."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from werkzeug.test import TestResponse

from maskmill.api import create_app
from maskmill.api.services import Services
from maskmill.client.multipart_form import Attachment, Form
from maskmill.shared.jobs import keys
from maskmill.shared.jobs.keys import DEFAULT_TENANT
from maskmill.shared.jobs.records import Counts, Job, JobStatus
from maskmill.shared.jobs.sources import PathSource, UploadSource, UrlSource
from maskmill.shared.settings import Settings
from tests.integration.conftest import SHAPES
from tests.services import RedisServer, run_redis
from tests.services.control_site import close
from tests.services.process import free_port

BROKEN_BASE64 = {"type": "base64", "name": "a", "data": "abcde"}
URL = {"type": "url", "url": "https://example.org/a.jpg"}


def submit(web: FlaskClient, sources: list[Any], **rest: Any) -> TestResponse:
    headers = rest.pop("headers", {})
    return web.post("/v1/jobs", json={"sources": sources, **rest}, headers=headers)


def stored_job(services: Services, answer: TestResponse) -> Job:
    assert answer.status_code == 202, answer.text
    return Job.model_validate_json(services.storage.get(keys.job(answer.json["id"])))


def test_a_job_of_every_kind_of_json_source_is_accepted(web: FlaskClient, services: Services) -> None:
    picture = {"type": "base64", "name": "b.png", "data": base64.encodebytes(b"x" * 100).decode()}
    path = {"type": "path", "path": f"{services.settings.local_roots[0]}/c"}
    answer = submit(web, [URL, path, picture], options={"threshold": 0.3}, name="mixed")
    job = stored_job(services, answer)
    assert answer.headers["Location"] == f"/v1/jobs/{job.id}"
    assert [type(source) for source in job.sources] == [UrlSource, PathSource, UploadSource]
    assert job.options.threshold == 0.3
    assert job.name == "mixed"
    assert isinstance(job.sources[2], UploadSource)
    assert services.storage.get(job.sources[2].key) == b"x" * 100


def test_an_accepted_job_is_marked_open_entered_and_rung(web: FlaskClient, services: Services) -> None:
    job = stored_job(services, submit(web, [URL]))
    assert services.storage.size(keys.open_marker(job.id)) is not None
    status = services.ledger.status(job.id)
    assert status
    assert status.state == "queued"
    # Nothing of it can be done yet, so nobody need look.
    assert services.ledger.admitted(job.id) == (0, False)
    assert services.doorbell.waiting("maskmill.control") == 1


def test_files_and_json_sources_are_mixed_in_one_job(web: FlaskClient, services: Services) -> None:
    form = {
        "files": [(io.BytesIO(b"one"), "deep/a.jpg"), (io.BytesIO(b"two"), "b.pdf")],
        "job": '{"sources": [{"type": "url", "url": "https://example.org/a.jpg"}], "options": {"priority": 3}}',
    }
    job = stored_job(services, web.post("/v1/jobs", data=form))
    first, second, third = job.sources
    assert isinstance(first, UploadSource)
    assert isinstance(second, UploadSource)
    assert (first.name, second.name) == ("deep/a.jpg", "b.pdf")
    assert services.storage.get(first.key) == b"one"
    assert services.storage.get(second.key) == b"two"
    assert isinstance(third, UrlSource)
    assert job.options.priority == 3


def test_uploads_of_one_name_keep_distinct_names(web: FlaskClient, services: Services) -> None:
    files = [(io.BytesIO(str(number).encode()), name) for number, name in enumerate(["a.jpg", "a.jpg", "A.JPG"])]
    job = stored_job(services, web.post("/v1/jobs", data={"files": files}))
    uploads = [source for source in job.sources if isinstance(source, UploadSource)]
    assert [upload.name for upload in uploads] == ["a.jpg", "a-2.jpg", "A-3.JPG"]
    assert [services.storage.get(upload.key) for upload in uploads] == [b"0", b"1", b"2"]


@pytest.mark.parametrize(
    ("body", "status", "code", "pointer"),
    [
        ({"sources": []}, 422, "invalid_request", "/sources"),
        ({"sources": [URL] * 21}, 413, "body_too_large", "/sources"),
        ({"sources": [{"type": "url", "url": "ftp://example.org/a.jpg"}]}, 422, "invalid_request", "/sources/0/url"),
        ({"sources": [{"type": "url", "url": "https:///a.jpg"}]}, 422, "invalid_request", "/sources/0/url"),
        ({"sources": [{"type": "url", "url": "https://[::1/a.jpg"}]}, 422, "invalid_request", "/sources/0/url"),
        ({"sources": [{"type": "path", "path": "/etc/passwd"}]}, 403, "path_refused", "/sources/0/path"),
        ({"sources": [{"type": "path", "path": "a.jpg"}]}, 422, "invalid_request", "/sources/0/path"),
        (
            {"sources": [URL, {"type": "base64", "name": "a", "data": "abcde"}]},
            422,
            "invalid_request",
            "/sources/1/data",
        ),
        ({"sources": [{"type": "upload", "name": "a", "key": "k"}]}, 422, "invalid_request", "/sources/0"),
        ({"sources": [URL], "options": {"treshold": 1}}, 422, "invalid_request", "/options/treshold"),
        ({"sources": [URL], "options": {"threshold": 1}}, 422, "invalid_request", "/options/threshold"),
        ({"sources": [URL], "options": {"threshold": 0}}, 422, "invalid_request", "/options/threshold"),
        ({"sources": [URL], "options": {"pdf": {"pages": "3-1"}}}, 422, "invalid_request", "/options/pdf/pages"),
        ({"sources": [URL], "options": {"model": "coco"}}, 422, "unknown_model", "/options/model"),
        ({"sources": [URL], "options": {"classes": []}}, 422, "invalid_request", "/options/classes"),
        ({"sources": [URL], "options": {"classes": ["star", 1.5]}}, 422, "invalid_request", "/options/classes/1"),
        ({"sources": [URL], "options": {"classes": ["star", "moon"]}}, 422, "unknown_class", "/options/classes"),
        ({"sources": [URL], "options": {"classes": [2]}}, 422, "unknown_class", "/options/classes"),
        ({"sources": [URL], "options": {"thresholds": {"moon": 0.3}}}, 422, "unknown_class", "/options/thresholds"),
        (
            {"sources": [URL], "options": {"thresholds": {"star": 1}}},
            422,
            "invalid_request",
            "/options/thresholds/star",
        ),
        ({"sources": [URL], "options": {"max_instances": 0}}, 422, "invalid_request", "/options/max_instances"),
        ({"sources": [URL], "extra": 1}, 422, "invalid_request", "/extra"),
        ([URL], 422, "invalid_request", ""),
    ],
)
def test_what_is_wrong_with_a_request_is_named(
    web: FlaskClient, services: Services, body: Any, status: int, code: str, pointer: str
) -> None:
    answer = web.post("/v1/jobs", json=body)
    assert answer.status_code == status
    assert answer.content_type == "application/problem+json"
    assert answer.json["code"] == code
    assert [error["pointer"] for error in answer.json["errors"]] == [pointer]
    assert not list(services.storage.list())


@pytest.mark.parametrize(
    ("body", "said"),
    [(b"{", "line 1, column 2"), (b"\xff", "byte 0"), (b"[" * 200_000, "too deeply"), (b"1" * 5000, "too many digits")],
)
def test_a_body_that_cannot_be_parsed_is_a_400_that_says_why(web: FlaskClient, body: bytes, said: str) -> None:
    answer = web.post("/v1/jobs", data=body)
    assert (answer.status_code, answer.json["code"]) == (400, "bad_request")
    assert said in answer.json["detail"]


def test_a_path_may_not_climb_out_of_its_root(web: FlaskClient, services: Services) -> None:
    answer = submit(web, [{"type": "path", "path": f"{services.settings.local_roots[0]}/../../secret"}])
    assert answer.status_code == 403


def test_an_unknown_option_lists_those_that_are_known(web: FlaskClient) -> None:
    answer = submit(web, [URL], options={"treshold": 0.4})
    assert "threshold" in answer.json["detail"]


def test_an_unknown_class_is_told_with_the_labels_of_the_jobs_model(web: FlaskClient, services: Services) -> None:
    services.ledger.serve("host/cpu/bulk/1", [SHAPES.model_copy(update={"name": "pets", "labels": ("cat", "dog")})])
    asked = {"classes": ["dog", 0], "thresholds": {"1": 0.3}, "max_instances": 5}
    refused = submit(web, [URL], options=asked)
    assert refused.json["detail"] == "classes: no class 'dog'; the model has 0 to 1: disc, star"
    options = stored_job(services, submit(web, [URL], options={**asked, "model": "pets"})).options
    assert (options.classes, options.thresholds, options.max_instances) == (("dog", 0), {"1": 0.3}, 5)


def test_without_a_worker_the_answer_is_503_and_says_so(web: FlaskClient, services: Services) -> None:
    services.ledger.leave("worker-of-the-test")
    answer = submit(web, [URL])
    assert answer.status_code == 503
    assert "no worker is running" in answer.json["detail"]
    assert answer.headers["Retry-After"]


def test_a_file_past_the_byte_limit_is_refused_and_nothing_is_left(
    web: FlaskClient, services: Services, tmp_path: Path
) -> None:
    sizes = {"a.jpg": 2_000_000, "b.jpg": 3_000_001}
    for name, size in sizes.items():
        (tmp_path / name).write_bytes(bytes(size))
    form = Form({}, [Attachment(name, tmp_path / name) for name in sizes])
    answer = web.post("/v1/jobs", data=b"".join(form), content_type=form.content_type)
    assert answer.status_code == 413
    assert answer.json["errors"][0]["pointer"] == "/files/1"
    assert not list(services.storage.list())


def test_more_files_than_allowed_are_refused(web: FlaskClient) -> None:
    files = [(io.BytesIO(b"x"), f"{number}.jpg") for number in range(21)]
    assert web.post("/v1/jobs", data={"files": files}).status_code == 413


@pytest.mark.parametrize("key", [None, "a-key"])
def test_a_broken_form_is_refused_and_its_files_deleted(web: FlaskClient, services: Services, key: str | None) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.jpg"\r\n\r\nhello\r\n--x\r\nContent-Dispo'
    headers = {"Idempotency-Key": key} if key else {}
    answer = web.post("/v1/jobs", data=body, content_type="multipart/form-data; boundary=x", headers=headers)
    assert answer.status_code == 400
    assert not [name for name in services.storage.list() if "inputs" in name]


def test_the_same_key_and_request_make_one_job(web: FlaskClient, services: Services) -> None:
    headers = {"Idempotency-Key": "f6d2-1"}
    files = lambda: {"files": [(io.BytesIO(b"one"), "a.jpg")]}  # noqa: E731
    first = web.post("/v1/jobs", data=files(), headers=headers)
    inputs = [name for name in services.storage.list() if "inputs" in name]
    second = web.post("/v1/jobs", data=files(), headers=headers)
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json["id"] == second.json["id"]
    assert [name for name in services.storage.list() if "inputs" in name] == inputs
    assert len(services.ledger.jobs(DEFAULT_TENANT)[0]) == 1


def test_a_key_used_for_another_request_is_refused_and_harms_nothing(web: FlaskClient, services: Services) -> None:
    headers = {"Idempotency-Key": "f6d2-2"}
    first = web.post("/v1/jobs", data={"files": [(io.BytesIO(b"one"), "a.jpg")]}, headers=headers)
    other = web.post("/v1/jobs", data={"files": [(io.BytesIO(b"two"), "a.jpg")]}, headers=headers)
    assert other.status_code == 422
    source = stored_job(services, first).sources[0]
    assert isinstance(source, UploadSource)
    assert services.storage.get(source.key) == b"one"


def test_a_job_that_names_no_model_takes_the_one_that_is_served(services: Services) -> None:
    card = services.ledger.models()["shapes"]
    services.ledger.serve("worker-of-the-test", [card.model_copy(update={"name": "coco"})])
    web = create_app(services.settings, services).test_client()
    assert submit(web, [URL]).json["model"] == "coco"


def test_status_comes_from_the_report_once_the_ledger_has_forgotten(web: FlaskClient, services: Services) -> None:
    job = stored_job(services, submit(web, [URL]))
    report = JobStatus(
        id=job.id, state="completed", model="shapes", counts=Counts(total=1, succeeded=1), created_at=job.created_at
    )
    services.storage.put(keys.report(job.id), report.model_dump_json().encode())
    forgetful = Services.open(services.settings.model_copy(update={"redis_prefix": "another"}))
    shown = create_app(services.settings, forgetful).test_client().get(f"/v1/jobs/{job.id}").json
    forgetful.close()
    assert shown["state"] == "completed"
    assert shown["counts"]["succeeded"] == 1


@pytest.mark.parametrize("job_id", ["0123456789", "..", "UPPER-CASE", "x" * 300])
def test_a_job_that_never_was_is_not_found(web: FlaskClient, job_id: str) -> None:
    for path in ("", "/items", "/items/0", "/artifacts/a.json"):
        answer = web.get(f"/v1/jobs/{job_id}{path}")
        assert answer.status_code == 404
        assert answer.content_type == "application/problem+json"
    assert web.post(f"/v1/jobs/{job_id}/cancel").status_code == 404


def test_jobs_are_listed_newest_first_page_by_page(web: FlaskClient) -> None:
    ids = [submit(web, [URL], name=str(number)).json["id"] for number in range(5)]
    seen: list[str] = []
    after = None
    while True:
        page = web.get("/v1/jobs", query_string={"limit": 2, **({"after": after} if after else {})}).json
        seen += [job["id"] for job in page["jobs"]]
        after = page["next"]
        if after is None:
            break
    assert seen == ids[::-1]


def test_a_page_behind_a_job_that_is_forgotten_does_not_start_over(web: FlaskClient, services: Services) -> None:
    ids = [submit(web, [URL]).json["id"] for _ in range(5)][::-1]
    first = web.get("/v1/jobs", query_string={"limit": 2}).json
    assert [job["id"] for job in first["jobs"]] == ids[:2]
    services.ledger.cancel(ids[1])
    close(services.ledger, ids[1], Counts(), 0)
    services.ledger.forget()
    assert web.get("/v1/jobs", query_string={"limit": 5}).json["next"] is None
    second = web.get("/v1/jobs", query_string={"limit": 2, "after": first["next"]}).json
    assert [job["id"] for job in second["jobs"]] == ids[2:4]
    last = web.get("/v1/jobs", query_string={"limit": 2, "after": second["next"]}).json
    assert ([job["id"] for job in last["jobs"]], last["next"]) == (ids[4:], None)


def test_a_page_of_jobs_passes_over_those_that_are_forgotten(web: FlaskClient, services: Services) -> None:
    ids = [submit(web, [URL]).json["id"] for _ in range(6)][::-1]
    for job_id in ids[1:4]:
        # It is off the ledger, but not yet off the list.
        services.ledger.cancel(job_id)
        close(services.ledger, job_id, Counts(), 0)
    page = web.get("/v1/jobs", query_string={"limit": 2}).json
    assert [job["id"] for job in page["jobs"]] == [ids[0], ids[4]]


@pytest.mark.parametrize(
    "cursor", ["x", "~", "1.0", "1.0~", "nan~0123456789", "inf~0123456789", "-inf~0123456789", "1.0~UPPER-CASE", "%00"]
)
def test_what_is_no_cursor_of_jobs_is_named(web: FlaskClient, cursor: str) -> None:
    submit(web, [URL])
    answer = web.get("/v1/jobs", query_string={"after": cursor})
    assert (answer.status_code, answer.json["errors"][0]["pointer"]) == (422, "?after")
    assert "`next`" in answer.json["detail"]


def test_a_job_is_paused_resumed_and_cancelled(web: FlaskClient) -> None:
    links = submit(web, [URL]).json["links"]
    assert web.post(links["pause"]).json["state"] == "paused"
    assert web.post(links["resume"]).json["state"] == "queued"
    assert web.post(links["cancel"]).json["state"] == "cancelled"
    again = web.post(links["cancel"])
    assert again.status_code == 409
    assert "cancelled already" in again.json["detail"]


def test_a_job_that_is_paused_twice_stays_paused_without_redis(web: FlaskClient, services: Services) -> None:
    answer = submit(web, [URL])
    job_id, links = answer.json["id"], answer.json["links"]
    assert web.post(links["pause"]).status_code == 200
    assert web.post(links["pause"]).status_code == 409
    assert services.storage.size(keys.paused(job_id)) is not None
    assert web.post(links["resume"]).json["state"] == "queued"
    assert services.storage.size(keys.paused(job_id)) is None


def test_a_job_that_two_cancel_at_once_stays_cancelled_without_redis(
    web: FlaskClient, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = submit(web, [URL])
    job_id, put = answer.json["id"], services.storage.put

    def overtaken(key: str, data: bytes, **how: Any) -> bool:
        if key == keys.cancelled(job_id):
            services.ledger.cancel(job_id)
        return put(key, data, **how)

    # The other's move comes between this one's look at the state and its own.
    monkeypatch.setattr(services.storage, "put", overtaken)
    assert web.post(answer.json["links"]["cancel"]).status_code == 409
    assert services.storage.size(keys.cancelled(job_id)) is not None


def test_a_page_of_another_site_may_not_submit(web: FlaskClient) -> None:
    assert submit(web, [URL], headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert submit(web, [URL], headers={"Sec-Fetch-Site": "same-origin"}).status_code == 202


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    with run_redis() as server:
        yield server


def test_a_job_is_accepted_while_redis_is_down_and_controlled_after(
    own_redis: RedisServer, api_settings: Settings
) -> None:
    held = Services.open(api_settings.model_copy(update={"redis_url": own_redis.url}))
    web = create_app(held.settings, held).test_client()
    own_redis.kill()
    answer = submit(web, [URL])
    job = stored_job(held, answer)
    assert answer.json["state"] == "queued"
    asked = web.get(f"/v1/jobs/{job.id}")
    assert asked.status_code == 503
    assert "safe" in asked.json["detail"]
    own_redis.start()
    assert web.get(f"/v1/jobs/{job.id}").json["state"] == "queued"
    assert web.post(f"/v1/jobs/{job.id}/cancel").json["state"] == "cancelled"
    held.close()


def test_without_storage_nothing_is_accepted(services: Services) -> None:
    nowhere = {"storage_url": "s3://bucket", "s3_endpoint": f"http://127.0.0.1:{free_port()}"}
    keys_of_it = {"s3_access_key": "someone", "s3_secret_key": SecretStr("secret")}
    broken = Services.open(services.settings.model_copy(update=nowhere | keys_of_it))
    answer = submit(create_app(broken.settings, broken).test_client(), [URL])
    broken.close()
    assert answer.status_code == 503
    assert answer.json["code"] == "storage_unavailable"
    assert answer.headers["Retry-After"]
    assert not services.ledger.jobs(DEFAULT_TENANT)[0]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10) | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
)
FIELDS = st.sampled_from(["type", "url", "path", "base64", "name", "data", "pdf", "pages", "dpi", "threshold", "model"])
WISHES = st.sampled_from(["classes", "thresholds", "max_instances"])
SOURCES = st.lists(st.dictionaries(FIELDS, JSON | FIELDS | st.just("https://example.org"), max_size=4), max_size=3)
OPTIONS = st.dictionaries(FIELDS | WISHES, JSON, max_size=3)
REQUESTS = st.fixed_dictionaries({}, optional={"sources": SOURCES | JSON, "options": OPTIONS | JSON, "name": JSON})


@given(document=REQUESTS | JSON)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_document_whatsoever_is_an_error_of_the_servers(web: FlaskClient, document: Any) -> None:
    answer = web.post("/v1/jobs", data=json.dumps(document))
    assert answer.status_code < 500


def test_a_job_goes_into_a_bucket_as_into_a_folder(services: Services, s3_settings: Settings) -> None:
    own = {"redis_url": services.settings.redis_url}
    held = Services.open(s3_settings.model_copy(update=own))
    web = create_app(held.settings, held).test_client()
    job = stored_job(held, web.post("/v1/jobs", data={"files": [(io.BytesIO(b"one"), "deep/ä.jpg")]}))
    assert isinstance(job.sources[0], UploadSource)
    assert held.storage.get(job.sources[0].key) == b"one"
    held.storage.put(keys.artifact(job.id, "deep/ä_res.json"), b"{}")
    assert web.get(f"/v1/jobs/{job.id}/artifacts/deep/ä_res.json").data == b"{}"
    assert web.get(f"/v1/jobs/{job.id}/artifacts/none.json").status_code == 404
    held.close()
