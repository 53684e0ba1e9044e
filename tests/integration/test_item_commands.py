"""What became of each item, on the terminal: `items`, and what `status` and `watch` say of failures."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from click.testing import CliRunner, Result
from redis import Redis

from maskmill.api.services import Services
from maskmill.cli import main
from maskmill.client.client import Client
from maskmill.shared.jobs import keys
from maskmill.shared.jobs.job_files import JobFiles
from maskmill.shared.jobs.records import Counts, Failure, Item, JobStatus, Outcome, PlanPage
from maskmill.shared.jobs.sources import StoredBytes
from tests.integration.conftest import finish_shard, plan_shards
from tests.services.api_server import ApiServer
from tests.services.commands import maskmill

URL = "https://example.org/a.jpg"
BROKEN = Failure(stage="decode", code="unreadable", reason='broken, "quite"')
SOME_FAILED = 1


@pytest.fixture
def job_id(api_server: ApiServer) -> str:
    return Client(api_server.url).submit([URL]).id


def end(services: Services, job_id: str, failed: set[int], total: int, model: str = "shapes") -> None:
    """A job of `total` items, two a shard, that is over; those numbers failed."""
    shards = [[f"{2 * number}", f"{2 * number + 1}"] for number in range(total // 2)]
    plan_shards(services, job_id, shards)
    for number, names in enumerate(shards):
        finish_shard(services, job_id, number, {name: BROKEN for name in names if int(name) in failed})
    report(services, job_id, Counts(total=total, succeeded=total - len(failed), failed=len(failed)), model)


def report(services: Services, job_id: str, counts: Counts, model: str = "shapes") -> None:
    over = JobStatus(id=job_id, state="completed", model=model, counts=counts, created_at=1.0)
    services.storage.put(keys.report(job_id), over.model_dump_json().encode())
    with Redis.from_url(services.settings.redis_url) as client:
        client.flushall()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The URLs that a command run in this process asks for."""
    urls: list[str] = []
    send = requests.Session.send

    def note(session: requests.Session, request: requests.PreparedRequest, **rest: Any) -> requests.Response:
        urls.append(str(request.url))
        return send(session, request, **rest)

    monkeypatch.setattr(requests.Session, "send", note)
    return urls


def run_here(*words: str) -> Result:
    return CliRunner().invoke(main, words)


def test_every_reason_can_be_had(api_server: ApiServer, services: Services, job_id: str) -> None:
    end(services, job_id, failed=set(range(33)), total=40)
    done = maskmill("items", job_id, "--status", "failed", "--api", api_server.url)
    header, *rows = done.stdout.splitlines()
    assert (done.returncode, header.split()) == (0, ["number", "input", "page", "outcome", "reason"])
    assert [row.split(maxsplit=3) for row in rows] == [
        [str(number), str(number), "failed", BROKEN.reason] for number in range(33)
    ]


def test_items_come_as_json_lines_and_as_csv(api_server: ApiServer, services: Services, job_id: str) -> None:
    end(services, job_id, failed={1}, total=4)
    lines = maskmill("items", job_id, "--json", "--api", api_server.url).stdout.splitlines()
    assert [json.loads(line)["status"] for line in lines] == ["succeeded", "failed", "succeeded", "succeeded"]
    table = list(csv.DictReader(io.StringIO(maskmill("items", job_id, "--csv", "--api", api_server.url).stdout)))
    assert [row["number"] for row in table] == ["0", "1", "2", "3"]
    assert (table[1]["code"], table[1]["reason"], table[1]["json"]) == ("unreadable", BROKEN.reason, "")
    assert (table[2]["status"], table[2]["image"]) == ("succeeded", "2_res.jpg")


def test_a_page_is_counted_from_one_and_a_name_stays_on_its_line(
    api_server: ApiServer, services: Services, job_id: str
) -> None:
    item = Item(number=0, input_path="two\nlines.pdf", name="a", location=StoredBytes(key="k"), page_index=2)
    files = JobFiles(services.storage, job_id)
    files.store_page(PlanPage(number=0, items=(item,)))
    files.commit(0, [Outcome(number=0, status="succeeded", input_path=item.input_path, page_index=2, instances=3)])
    _, row = maskmill("items", job_id, "--api", api_server.url).stdout.splitlines()
    assert row.split() == ["0", "two", "lines.pdf", "3", "succeeded", "3", "instances"]


def test_items_stop_at_the_limit(api_server: ApiServer, services: Services, job_id: str, asked: list[str]) -> None:
    end(services, job_id, failed=set(), total=200)
    found = run_here("items", job_id, "--json", "--limit", "3", "--api", api_server.url)
    assert [json.loads(line)["number"] for line in found.stdout.splitlines()] == [0, 1, 2]
    assert len(asked) == 1
    assert "limit=3" in asked[0]


def test_failures_that_are_cut_short_say_how_to_see_the_rest(
    api_server: ApiServer, services: Services, job_id: str
) -> None:
    end(services, job_id, failed=set(range(33)), total=40)
    command = f"maskmill items {job_id} --status failed --api {api_server.url}"
    watched = maskmill("watch", job_id, "--api", api_server.url)
    assert watched.returncode == SOME_FAILED
    assert watched.stderr.count(BROKEN.reason) == 5
    assert watched.stderr.splitlines()[-1] == f"  and 28 more: {command}"
    shown = maskmill("status", job_id, "--api", api_server.url)
    assert "33 failed" in shown.stdout
    assert shown.stderr == f"  33 failed: {command}\n"


def test_watching_asks_for_no_more_failures_than_there_are(
    api_server: ApiServer, services: Services, job_id: str, asked: list[str]
) -> None:
    end(services, job_id, failed={0, 1, 2}, total=200)
    found = run_here("watch", job_id, "--api", api_server.url)
    assert found.stderr.count(BROKEN.reason) == 3
    pages = [url for url in asked if "status=failed" in url]
    assert len(pages) == 1
    assert "limit=3" in pages[0]


def test_a_job_can_be_held_and_go_on(api_server: ApiServer, job_id: str) -> None:
    assert f"{job_id}: paused" in maskmill("pause", job_id, "--api", api_server.url).stdout
    assert "paused" in maskmill("status", job_id, "--api", api_server.url).stdout
    assert f"{job_id}: queued" in maskmill("resume", job_id, "--api", api_server.url).stdout


@pytest.mark.parametrize(("model", "said"), [("shapes", True), ("coco", False)])
def test_who_runs_the_embedded_model_is_told_what_it_is_for(
    api_server: ApiServer, services: Services, job_id: str, model: str, said: bool
) -> None:
    plan_shards(services, job_id, [["a", "b"]])
    finish_shard(services, job_id, 0)
    report(services, job_id, Counts(total=2, succeeded=2), model)
    done = maskmill("watch", job_id, "--api", api_server.url)
    expected = (
        "The embedded model shapes finds drawn shapes only; for everyday objects: "
        "maskmill models pull maskrcnn-12-int8, then maskmill up --models maskrcnn-12-int8\n"
    )
    assert (done.returncode, done.stderr) == (0, expected if said else "")


def test_a_folder_that_cannot_be_written_to_is_named(api_server: ApiServer, services: Services, job_id: str) -> None:
    end(services, job_id, failed=set(), total=2)
    done = maskmill("fetch", job_id, "--out", "/dev/null/out", "--api", api_server.url)
    assert (done.returncode, done.stderr) == (2, "Error: cannot write to /dev/null/out: Not a directory\n")
