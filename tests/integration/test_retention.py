"""What is kept for so many days: jobs and uploads that expire when they are over, on their day and not before."""

from __future__ import annotations

import dataclasses
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from maskmill.api import create_app
from maskmill.api.services import Services
from maskmill.client.client import Client
from maskmill.client.console import status_line
from maskmill.shared.jobs import keys
from maskmill.shared.jobs.records import DAY_SECONDS, JobHead
from maskmill.worker.control.sweeper import EXPIRED_AT_ONCE
from tests.services.api_server import ApiServer
from tests.services.commands import maskmill
from tests.services.control_site import ControlSite, Killed

URL = {"type": "url", "url": "https://example.org/a.jpg"}


def accept(site: ControlSite, tenant: str = "default", **kept: int) -> JobHead:
    """A job with an upload that is kept so long."""
    head = site.accept(2, tenant=tenant)
    files = site.files(head.ref)
    job = files.job()
    assert job
    job = job.model_copy(update=kept)
    site.storage.put(keys.job(head.ref), job.model_dump_json().encode())
    site.storage.put(keys.head(head.ref), job.head.model_dump_json().encode())
    site.storage.put(keys.inputs(head.ref, "folder/000000-a.jpg"), b"an upload")
    return job.head


def finish(site: ControlSite, tenant: str = "default", **kept: int) -> str:
    """Such a job that is over; its ref."""
    head = accept(site, tenant, **kept)
    site.ledger.enter(head)
    site.runner().run()
    site.work(head.ref, 2)
    site.runner().run()
    assert not site.files(head.ref).is_open()
    return head.ref


def sweep(site: ControlSite, days: float) -> None:
    """Sweep so many days from now, and do what is due then."""
    dataclasses.replace(site.sweeper(), clock=lambda: time.time() + days * DAY_SECONDS).recover()
    site.runner().run()


def markers(site: ControlSite) -> list[str]:
    return list(site.storage.list(keys.EXPIRE))


def is_there(site: ControlSite, ref: str) -> bool:
    return bool(list(site.storage.list(keys.folder(ref))))


def day(days: float) -> str:
    return datetime.fromtimestamp(time.time() + days * DAY_SECONDS, UTC).date().isoformat()


def end_lingering(site: ControlSite) -> None:
    """Go on with what waits for late workers, once they have learned that the job is over."""
    time.sleep(2 * site.settings.lease_seconds)
    site.make_due()
    site.runner().run()


def test_a_job_goes_when_its_days_are_over_and_not_before(site: ControlSite) -> None:
    ref, for_ever, longer = finish(site, keep_days=3), finish(site), finish(site, keep_days=9)
    report = site.report(ref)
    assert report.expires_at == (report.finished_at or 0) + 3 * DAY_SECONDS
    status = site.status(ref)
    assert status.expires_at == pytest.approx(report.expires_at, abs=5)
    assert f"; kept until {day(3)}" in status_line(report)
    assert "kept" not in status_line(site.report(for_ever))
    assert (site.report(for_ever).expires_at, site.status(for_ever).expires_at) == (None, None)
    assert markers(site) == [keys.expire(day(4), ref, "job"), keys.expire(day(10), longer, "job")]
    for days in (0, 1, 2.99):
        sweep(site, days)
        assert is_there(site, ref)
    # From the midnight on that comes after.
    sweep(site, 4)
    end_lingering(site)
    assert [is_there(site, one) for one in (ref, for_ever, longer)] == [False, True, True]
    assert site.ledger.status(ref) is None
    assert markers(site) == [keys.expire(day(10), longer, "job")]
    assert not list(site.storage.list(keys.DELETING))
    sweep(site, 40_000)
    assert [is_there(site, one) for one in (for_ever, longer)] == [True, False]


def test_uploads_go_and_the_results_stay(site: ControlSite) -> None:
    ref = finish(site, keep_uploads_days=2)
    before = set(site.storage.list(keys.folder(ref)))
    sweep(site, 1.9)
    assert set(site.storage.list(keys.folder(ref))) == before
    sweep(site, 3)
    assert before - set(site.storage.list()) == {keys.inputs(ref, "folder/000000-a.jpg")}
    assert site.report(ref).expires_at is None
    assert list(site.storage.list(keys.EXPIRE)) + list(site.storage.list(keys.DELETING)) == []
    # Nothing waits any more.
    assert site.ledger.claim_work() is None


def test_uploads_that_are_kept_as_long_as_the_job_go_with_it(site: ControlSite) -> None:
    ref = finish(site, keep_days=2, keep_uploads_days=2)
    assert [marker.rpartition("/")[2] for marker in markers(site)] == ["job"]
    other = finish(site, keep_days=3, keep_uploads_days=1)
    assert [marker.rpartition("/")[2] for marker in markers(site)] == ["uploads", "job", "job"]
    sweep(site, 10)
    end_lingering(site)
    assert (is_there(site, ref), is_there(site, other)) == (False, False)
    assert list(site.storage.list()) == []


@pytest.mark.parametrize("state", ["running", "paused"])
def test_a_job_that_is_not_over_never_expires(site: ControlSite, state: str) -> None:
    head = accept(site, keep_days=1, keep_uploads_days=1)
    site.ledger.enter(head)
    site.runner().run()
    if state == "paused":
        site.files(head.ref).mark_paused()
        site.ledger.pause(head.ref)
    # As if it had been over before.
    site.storage.put(keys.expire("2020-01-01", head.ref, "job"), b"")
    site.storage.put(keys.expire("2020-01-01", head.ref, "uploads"), b"")
    before = set(site.storage.list()) - set(markers(site))
    for _ in range(2):
        sweep(site, 365)
        site.redis.flushall()
    sweep(site, 365)
    assert set(site.storage.list()) == before
    assert site.status(head.ref).state == state


def test_redis_may_be_lost_and_anybody_die_on_the_way(site: ControlSite) -> None:
    # How long a job is waited for that ended just now.
    site.settings = site.settings.model_copy(update={"lease_seconds": 0.05})
    kept = finish(site)
    untouched = set(site.storage.list())
    number, over = 0, False
    while not over:
        ref = finish(site, tenant="acme", keep_days=3, keep_uploads_days=1)
        number, over = number + 1, kill_while_it_expires(site, number)
        site.redis.flushall()
        for _ in range(2):
            sweep(site, 5)
        end_lingering(site)
        assert set(site.storage.list()) == untouched, number
        assert site.ledger.status(ref) is None
    assert number > 10
    assert site.report(kept).state == "completed"


def kill_while_it_expires(site: ControlSite, number: int) -> bool:
    """Sweep until the call of that number to the storage, at which whoever makes it dies; whether there was none."""
    site.storage.kill_at(number)
    try:
        sweep(site, 5)
    except Killed:
        return False
    finally:
        site.storage.before = lambda _kind, _key: None
    return True


@pytest.mark.parametrize(
    ("kind", "killed_at"), [("put", "expire"), ("put", "report"), ("delete", "open")], ids=["marker", "report", "open"]
)
def test_a_closing_that_is_killed_leaves_a_job_that_expires(site: ControlSite, kind: str, killed_at: str) -> None:
    head = accept(site, keep_days=1)
    site.ledger.enter(head)
    site.runner().run()
    site.work(head.ref, 2)
    ends = {"expire": "/job", "report": keys.report(head.ref), "open": keys.open_marker(head.ref)}
    site.storage.kill_once(kind, ends[killed_at])
    with pytest.raises(Killed):
        site.runner().run()
    if killed_at == "report":
        site.make_due()
    else:
        site.redis.flushall()
    sweep(site, 0)
    if killed_at == "expire":
        assert site.work(head.ref, 2) == []
        site.runner().run()
    assert site.report(head.ref).expires_at
    assert not site.files(head.ref).is_open()
    sweep(site, 2)
    end_lingering(site)
    assert list(site.storage.list()) == []


def test_a_marker_of_a_job_of_this_id_before_says_nothing(site: ControlSite) -> None:
    ref = finish(site, keep_days=30)
    forever = finish(site)
    for one in (ref, forever, "0" * 24):
        for part in ("job", "uploads"):
            site.storage.put(keys.expire("2020-01-01", one, part), b"")
    site.storage.put("expire/2020-01-01/A.b/job", b"stray")
    site.storage.put("expire/stray", b"stray")
    sweep(site, 0)
    assert is_there(site, ref)
    assert is_there(site, forever)
    assert markers(site) == ["expire/2020-01-01/A.b/job", keys.expire(day(31), ref, "job"), "expire/stray"]


def test_a_spoiled_job_keeps_no_other_from_expiring(site: ControlSite, caplog: pytest.LogCaptureFixture) -> None:
    spoiled, ref = sorted([finish(site, keep_days=1), finish(site, keep_days=1)])
    site.storage.put(keys.report(spoiled), b"spoiled")
    sweep(site, 3)
    end_lingering(site)
    assert (is_there(site, spoiled), is_there(site, ref), markers(site)) == (True, False, [])
    assert f"whether job {spoiled} has expired is not known" in caplog.text


def test_a_deleted_job_leaves_no_markers(site: ControlSite) -> None:
    ref = finish(site, keep_days=9, keep_uploads_days=2)
    assert len(markers(site)) == 2
    sweep(site, 4)
    assert len(markers(site)) == 1
    site.storage.put(keys.deleting(ref, "job"), b'{"ended_at": 1}')
    sweep(site, 0)
    assert list(site.storage.list()) == []


def test_a_sweep_costs_what_is_due_however_many_jobs_there_are(site: ControlSite) -> None:
    for number in range(300):
        site.storage.put(keys.expire("9999-01-01", f"{number:024d}", "job"), b"")
    sweep(site, 0)
    site.storage.calls.clear()
    sweep(site, 0)
    assert len(site.storage.calls) < 10
    for number in range(2 * EXPIRED_AT_ONCE):
        site.storage.put(keys.expire("2020-01-01", f"{number:024d}", "job"), b"")
    left = []
    for _ in range(2):
        sweep(site, 0)
        left.append(len(list(site.storage.list(f"{keys.EXPIRE}2020"))))
    assert left == [EXPIRED_AT_ONCE, 0]


# Asked for


def web_with(services: Services, **update: int) -> FlaskClient:
    settings = services.settings.model_copy(update=update)
    return create_app(settings, dataclasses.replace(services, settings=settings)).test_client()


@pytest.mark.parametrize(
    ("setting", "asked", "kept"), [(0, None, None), (7, None, 7), (7, 2, 2), (7, 0, None), (0, 2, 2)]
)
def test_a_job_says_how_long_it_is_kept_or_the_setting_does(
    services: Services, setting: int, asked: int | None, kept: int | None
) -> None:
    web = web_with(services, keep_days=setting, keep_uploads_days=3)
    given = {} if asked is None else {"keep_days": asked}
    job = web.post("/v1/jobs", json={"sources": [URL], **given}).json
    assert job["expires_at"] is None
    head = JobHead.model_validate_json(services.storage.get(keys.head(job["id"])))
    assert (head.keep_days, head.keep_uploads_days) == (kept, 3)


@pytest.mark.parametrize("days", [-1, 1.5, "x", 40_000])
def test_other_days_are_refused(web: FlaskClient, days: object) -> None:
    answer = web.post("/v1/jobs", json={"sources": [URL], "keep_days": days})
    assert (answer.status_code, answer.json["errors"][0]["pointer"]) == (422, "/keep_days")


def test_the_client_and_the_command_say_how_long(api_server: ApiServer, services: Services, tmp_path: Path) -> None:
    first = Client(api_server.url).submit([URL["url"]], keep_days=5).id
    second = maskmill("submit", URL["url"], "--keep-days", "0", "--api", api_server.url, folder=tmp_path).stdout.strip()
    heads = [JobHead.model_validate_json(services.storage.get(keys.head(job_id))) for job_id in (first, second)]
    assert [head.keep_days for head in heads] == [5, None]
