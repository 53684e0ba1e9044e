"""A PDF's password opens it for as long as its job runs, and is told to nobody and kept nowhere else."""

from __future__ import annotations

import base64
import contextlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from flask.testing import FlaskClient

from maskmill.api.services import Services
from maskmill.api.submission.job_request import digest
from maskmill.client.client import Client, ClientError
from maskmill.shared.jobs import keys
from maskmill.shared.jobs.job_files import JobFiles
from tests.encrypted_pdf import encrypted_pdf
from tests.services.commands import Up, run_up
from tests.services.workers import wait_until

SECRET, OTHER, WRONG = "tops3cret-of-the-job", "tops3cret-of-a-source", "tops3cret-but-wrong"
MARK = b"tops3cret"


@pytest.fixture(scope="module")
def up() -> Iterator[Up]:
    with run_up("--lanes", "bulk") as running:
        yield running


def source(name: str, password: str, own: str | None = None) -> dict[str, Any]:
    """An encrypted PDF of two pages in a request, with its `own` password or the job's."""
    data = base64.b64encode(encrypted_pdf(password, 2)).decode()
    return {"type": "base64", "name": name, "data": data} | ({"pdf": {"password": own}} if own else {})


def run(up: Up, sources: list[dict[str, Any]], password: str | None) -> tuple[str, dict[str, list[Any]]]:
    """The id of the job that these sources make, once it is over, and its items by input."""
    options = {"pdf": {"password": password}} if password else {}
    answer = requests.post(f"{up.url}/v1/jobs", json={"sources": sources, "options": options}, timeout=60)
    assert answer.status_code == 202, answer.text
    client = Client(up.url)
    job_id = answer.json()["id"]
    wait(up, job_id)
    items: dict[str, list[Any]] = {}
    for item in client.items(job_id):
        items.setdefault(item["input_path"], []).append(item)
    return job_id, items


def wait(up: Up, job_id: str) -> None:
    """Return once the job is over and what only its run needed is removed."""
    Client(up.url).wait(job_id, every=0.1)
    wait_until(lambda: not (up.data / "storage" / keys.open_marker(job_id)).exists(), 60)


def traces(folder: Path) -> list[str]:
    """The files below `folder` in which a password stands, as text or in base64."""
    marks = (MARK, base64.b64encode(MARK)[:8], MARK.hex().encode())
    found = []
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            if path.is_file() and any(mark in path.read_bytes() for mark in marks):
                found.append(str(path.relative_to(folder)))
    return found


def test_the_right_password_runs_the_job_and_is_nowhere_afterwards(up: Up) -> None:
    job_id, items = run(up, [source("a.pdf", SECRET), source("b.pdf", OTHER, own=OTHER)], SECRET)
    assert {name: [item["status"] for item in found] for name, found in items.items()} == {
        "a.pdf": ["succeeded"] * 2,
        "b.pdf": ["succeeded"] * 2,
    }
    assert [item["page_index"] for item in items["b.pdf"]] == [0, 1]
    assert traces(up.data) == []
    for path in ("", f"/{job_id}", f"/{job_id}/items", f"/{job_id}/items/0"):
        assert MARK.decode() not in requests.get(f"{up.url}/v1/jobs{path}", timeout=60).text


def test_a_wrong_password_fails_that_input_alone_and_is_nowhere_afterwards(up: Up) -> None:
    sources = [source("a.pdf", SECRET), source("b.pdf", OTHER, own=WRONG), source("c.pdf", OTHER)]
    _, items = run(up, sources, SECRET)
    assert [item["status"] for item in items["a.pdf"]] == ["succeeded"] * 2
    for name in ("b.pdf", "c.pdf"):
        [item] = items[name]
        assert (item["status"], item["error"]["code"]) == ("failed", "pdf_encrypted")
        assert MARK.decode() not in json.dumps(item)
    assert traces(up.data) == []


def test_a_cancelled_job_keeps_no_password(up: Up) -> None:
    answer = requests.post(
        f"{up.url}/v1/jobs",
        json={"sources": [source("a.pdf", SECRET)], "options": {"pdf": {"password": SECRET}}},
        timeout=60,
    )
    job_id = answer.json()["id"]
    # It may have ended by itself already.
    with contextlib.suppress(ClientError):
        Client(up.url).cancel(job_id)
    wait(up, job_id)
    assert traces(up.data) == []


def test_while_it_runs_one_file_holds_it_and_that_goes_with_the_job(web: FlaskClient, services: Services) -> None:
    document = {"sources": [source("b.pdf", OTHER, own=OTHER)], "options": {"pdf": {"password": SECRET}}}
    form = {"files": [(io.BytesIO(encrypted_pdf(SECRET)), "a.pdf")], "job": json.dumps(document)}
    answer = web.post("/v1/jobs", data=form, headers={"Idempotency-Key": "k"})
    assert answer.status_code == 202
    assert MARK.decode() not in answer.text
    files = JobFiles(services.storage, answer.json["id"])
    head = files.head()
    assert head
    assert files.passwords(head) == {"1": OTHER, "": SECRET}
    holding = [key for key in services.storage.list() if MARK in services.storage.get(key)]
    assert holding == [head.passwords]
    files.forget_open()
    assert [key for key in services.storage.list() if MARK in services.storage.get(key)] == []
    assert services.storage.size(keys.job(files.ref))


def test_a_replay_with_another_password_is_the_same_request(web: FlaskClient, services: Services) -> None:
    first, second = (
        web.post(
            "/v1/jobs",
            json={"sources": [source("a.pdf", SECRET, own=password)]},
            headers={"Idempotency-Key": "k"},
        )
        for password in (SECRET, WRONG)
    )
    assert (first.json["id"], first.status_code, second.status_code) == (second.json["id"], 202, 202)
    files = JobFiles(services.storage, first.json["id"])
    head = files.head()
    assert head
    assert files.passwords(head) == {"0": SECRET}
    assert list(services.storage.list(keys.RECEIVING)) == []


def test_a_refused_request_keeps_no_password_and_does_not_repeat_it(web: FlaskClient, services: Services) -> None:
    for pdf in ({"password": SECRET * 20}, {"password": SECRET, "dpi": 1}, {"password": [SECRET]}):
        answer = web.post("/v1/jobs", json={"sources": [source("a.pdf", SECRET)], "options": {"pdf": pdf}})
        assert answer.status_code == 422
        assert MARK.decode() not in answer.text
    wrong = web.post(
        "/v1/jobs",
        json={"sources": [source("a.pdf", SECRET, own=OTHER), {"type": "base64", "name": "b", "data": "a"}]},
        headers={"Idempotency-Key": "k"},
    )
    assert wrong.status_code == 422
    assert list(services.storage.list()) == []


def test_the_digest_of_a_request_does_not_depend_on_a_password() -> None:
    documents = [
        {"sources": [{"type": "url", "url": "u", "pdf": {"password": a}}], "options": {"pdf": {"password": b}}}
        for a, b in (("1", "2"), ("3", "4"))
    ]
    assert digest(documents[0], []) == digest(documents[1], [])
    plain = {"sources": [{"type": "url", "url": "u", "pdf": {}}], "options": {"pdf": {}}}
    assert digest(documents[0], []) != digest(plain, [])
