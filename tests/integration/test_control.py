"""Control work: leased by one, kept while it lasts, given up with its reason; and the tick that makes up for losses."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from maskmill.shared.doorbell import CONTROL_QUEUE, queue_name
from maskmill.shared.errors import StorageUnavailable
from maskmill.shared.folder_inputs import Alike, Reason
from maskmill.shared.jobs import keys
from maskmill.shared.jobs.records import SHARDS_A_PAGE, Entry, JobHead, ListingCursor, PlanCursor, new_job_id
from maskmill.shared.jobs.sources import PathSource, UrlSource
from maskmill.shared.ledger import PlannedPages, ShardLease, Work
from maskmill.worker.control import planner
from maskmill.worker.control.runner import MOST_FAILURES, InHand
from maskmill.worker.shards.leases import Leases
from maskmill.worker.shards.shard_run import Held
from tests.services.control_site import PREFIX, ControlSite, Killed, in_background, kept
from tests.services.process import free_port
from tests.services.workers import wait_until


@dataclass
class Slow:
    """A handler that adds a page when it is let go; `told` is what the ledger said to it."""

    site: ControlSite
    begun: list[int] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    go: threading.Event = field(default_factory=threading.Event)

    def run(self, work: Work, _in_hand: InHand) -> float | None:
        self.begun.append(work.token)
        assert self.site.ledger.begin_plan(work.ref, work)
        if len(self.begun) == 1:
            self.go.wait(30)
        page = PlannedPages(1, 1, 1, PlanCursor(listing=ListingCursor(source=1)))
        self.told.append(self.site.ledger.add_pages(work.ref, work, 0, page)[0])
        return None

    def give_up(self, _work: Work, _reason: str) -> float | None:
        return None


def test_work_that_outlasts_its_lease_is_done_once_while_it_is_kept(site: ControlSite) -> None:
    site.submit(1)
    slow = Slow(site)
    first, second = site.runner({"plan": slow}), site.runner({"plan": slow})
    with kept(first), in_background(first.run, slow.go):
        wait_until(lambda: slow.begun, 10)
        over = time.monotonic() + 4 * site.settings.lease_seconds
        while time.monotonic() < over:
            second.run()
            time.sleep(0.05)
    assert (slow.told, len(slow.begun)) == (["added"], 1)


def test_work_that_is_not_kept_is_taken_over_and_its_first_holder_adds_nothing(site: ControlSite) -> None:
    site.submit(1)
    slow = Slow(site)
    first, second = site.runner({"plan": slow}), site.runner({"plan": slow})
    with in_background(first.run, slow.go):
        wait_until(lambda: slow.begun, 10)
        wait_until(site.ledger.due_work, 10)
        second.run()
    assert slow.told == ["added", "stale"]


def test_a_planner_that_was_overtaken_takes_no_page_away_from_a_job_that_is_over(site: ControlSite) -> None:
    job_id = site.submit(3)
    held, go = threading.Event(), threading.Event()

    def stand_still(kind: str, key: str) -> None:
        if (kind, key) == ("put", keys.page(job_id, 0)) and not held.is_set():
            held.set()
            go.wait(30)

    site.storage.before = stand_still
    with in_background(site.runner().run, go):
        held.wait(30)
        wait_until(site.ledger.due_work, 10)
        site.runner().run()
        site.work(job_id, 3)
        site.runner().run()
        assert site.report(job_id).state == "completed"
    page = site.files(job_id).page(0)
    assert page
    assert len(page.items) == 3


def test_a_page_that_a_cancelled_job_never_counted_is_taken_away(site: ControlSite) -> None:
    job_id = site.submit(3)

    def cancel(kind: str, key: str) -> None:
        if (kind, key) == ("put", keys.page(job_id, 0)):
            site.ledger.cancel(job_id)

    site.storage.before = cancel
    site.runner().run()
    assert (site.report(job_id).counts.total, site.files(job_id).page_count()) == (0, 0)


def fail_on(site: ControlSite, job_id: str, error: BaseException) -> list[str]:
    """Whoever reads the job as it was accepted meets the error; returns the list of those times."""
    met: list[str] = []

    def before(kind: str, key: str) -> None:
        if (kind, key) == ("get", keys.job(job_id)):
            met.append(key)
            raise error

    site.storage.before = before
    return met


def test_a_job_whose_planning_fails_again_and_again_fails_with_the_last_error(site: ControlSite) -> None:
    job_id = site.submit(3)
    met = fail_on(site, job_id, OSError(5, "Input/output error"))
    for _ in range(MOST_FAILURES + 1):
        assert site.status(job_id).state in ("queued", "planning")
        site.runner().run()
        site.make_due()
    assert len(met) == MOST_FAILURES
    error = site.status(job_id).error
    assert error
    assert (error.code, error.reason) == ("cannot_be_planned", "OSError: [Errno 5] Input/output error")


def test_a_job_whose_planners_die_fails_and_no_process_dies_of_it_any_more(site: ControlSite) -> None:
    job_id = site.submit(3)
    met = fail_on(site, job_id, Killed())
    for _ in range(MOST_FAILURES):
        with pytest.raises(Killed):
            site.runner().run()
        site.make_due()
    site.runner().run()
    assert len(met) == MOST_FAILURES
    error = site.status(job_id).error
    assert error
    assert (error.code, error.reason) == ("cannot_be_planned", "whoever had it died of it")


def test_an_outage_of_the_storage_fails_no_job_however_long_it_is(site: ControlSite) -> None:
    job_id = site.submit(3)
    met = fail_on(site, job_id, StorageUnavailable("no answer"))
    for _ in range(3 * MOST_FAILURES):
        site.runner().run()
        site.make_due()
    assert len(met) == 3 * MOST_FAILURES
    site.storage.before = lambda _kind, _key: None
    site.runner().run()
    assert site.status(job_id).counts.total == 3


def test_a_job_that_lies_in_storage_no_more_fails_at_once_with_its_reason(site: ControlSite) -> None:
    job_id = site.submit(3)
    site.storage.delete(keys.job(job_id))
    site.runner().run()
    report = site.report(job_id)
    assert report.error
    assert (report.state, report.error.code) == ("failed", "cannot_be_planned")
    assert "job.json is not in the storage" in report.error.reason


def test_a_job_that_cannot_be_planned_and_is_paused_says_so_when_it_is_resumed(site: ControlSite) -> None:
    job_id = site.submit(3)

    def pause(kind: str, key: str) -> None:
        if (kind, key) == ("get", keys.job(job_id)) and site.status(job_id).state == "planning":
            site.ledger.pause(job_id)

    site.storage.before = pause
    site.storage.delete(keys.job(job_id))
    site.runner().run()
    assert site.status(job_id).state == "paused"
    site.storage.before = lambda _kind, _key: None
    site.ledger.resume(job_id)
    site.make_due()
    site.runner().run()
    assert site.report(job_id).state == "failed"


def test_what_is_left_out_of_a_folder_is_counted_once_whoever_dies(site: ControlSite, tmp_path: Path) -> None:
    for number in range(2 * SHARDS_A_PAGE):
        folder = tmp_path / f"pictures/{number}"
        folder.mkdir(parents=True)
        (folder / "a.jpg").write_bytes(b"")
        (folder / "notes.txt").write_text("no picture")
    (tmp_path / "pictures/.hidden.jpg").write_bytes(b"")
    job_id = site.submit([PathSource(path=str(tmp_path / "pictures"))])
    ends = [keys.page(job_id, number) for number in range(3)]
    site.storage.kill_once("put", *ends)
    for told in (0, SHARDS_A_PAGE, 2 * SHARDS_A_PAGE):
        with pytest.raises(Killed):
            site.runner().run()
        left_out = site.status(job_id).left_out
        assert left_out.root.get(Reason.OTHER, Alike()).count == told
        site.make_due()
    site.runner().run()
    whole = site.status(job_id).left_out
    assert {reason: alike.count for reason, alike in whole.root.items()} == {
        Reason.OTHER: 2 * SHARDS_A_PAGE,
        Reason.HIDDEN: 1,
    }
    assert whole.root[Reason.OTHER].names == ["0/notes.txt", "1/notes.txt", "2/notes.txt"]
    lose_redis(site)
    site.runner().run()
    assert site.status(job_id).left_out == whole
    site.work(job_id, 2 * SHARDS_A_PAGE)
    site.runner().run()
    assert site.report(job_id).left_out == whole


def test_paths_that_cannot_be_followed_fail_alone(site: ControlSite, tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    (pictures / "loop").symlink_to(pictures / "loop")
    bad = [str(pictures / "loop"), str(pictures / ("long" * 100)), str(pictures / "loop/inside")]
    job_id = site.submit([*(PathSource(path=path) for path in bad), UrlSource(url="http://example.com/a.jpg")])
    site.runner().run()
    page = site.files(job_id).page(0)
    assert page
    assert [item.failure.code if item.failure else None for item in page.items] == ["input_not_found"] * 3 + [None]
    assert site.status(job_id).state == "running"


# Sweeping


def open_jobs(site: ControlSite, count: int) -> None:
    """Enter so many jobs of one shard each, all of which are planned and run by a worker that is in no hurry."""
    patient = site.open_ledger(lease_seconds=600)
    for _ in range(count):
        assert patient.enter(JobHead(id=new_job_id(), created_at=time.time(), shard_size=1))
        work = patient.claim_work()
        assert work
        assert patient.begin_plan(work.ref, work)
        patient.add_pages(work.ref, work, 0, PlannedPages(1, 1, 1, None))
        patient.end_work(work)
        assert patient.claim("shapes", "in no hurry")
    patient.disconnect()


def commands_of_a_sweep(site: ControlSite) -> int:
    """How many commands Redis is asked for."""
    before = site.redis.info("stats")["total_commands_processed"]
    site.sweeper().sweep()
    return int(site.redis.info("stats")["total_commands_processed"]) - before


def test_a_sweep_costs_what_is_due_however_many_jobs_are_open(site: ControlSite) -> None:
    open_jobs(site, 1000)
    assert len(site.ledger.open_jobs()) == 1000
    assert commands_of_a_sweep(site) < 50


def test_a_lease_that_is_over_is_freed_and_rung_for(site: ControlSite) -> None:
    job_id = site.plan(2)
    assert site.ledger.claim("shapes", "one that dies")
    assert site.ledger.claim("shapes", "one that dies")
    assert site.ledger.claim("shapes", "another") is None
    site.redis.delete(f"{PREFIX}:{queue_name('bulk', 'shapes')}")
    bells = queue_name("bulk", "shapes")
    wait_until(lambda: site.sweeper().sweep() or site.doorbell.waiting(bells), 10)
    freed = site.ledger.claim("shapes", "another")
    assert freed
    assert (freed.ref, freed.crashes) == (job_id, 1)


def test_control_work_that_is_due_is_rung_for(site: ControlSite) -> None:
    for _ in range(3):
        site.submit(1)
    site.doorbell.listen(CONTROL_QUEUE, "control", 8)
    site.sweeper().sweep()
    assert site.doorbell.waiting(CONTROL_QUEUE) == 3


def lose_redis(site: ControlSite) -> None:
    """Redis comes back empty, and the sweeper enters what is open."""
    site.redis.flushall()
    site.sweeper().recover()


def test_a_job_whose_report_is_stored_is_not_entered_again(site: ControlSite) -> None:
    job_id = site.plan(1)
    site.work(job_id, 1)
    # Whoever closed it died before the marker was gone.
    site.storage.kill_once("delete", keys.open_marker(job_id))
    with pytest.raises(Killed):
        site.runner().run()
    assert site.report(job_id).state == "completed"
    lose_redis(site)
    assert (site.ledger.status(job_id), site.ledger.claim_work()) == (None, None)
    assert site.storage.size(keys.open_marker(job_id)) is None


def test_a_pause_outlives_redis(site: ControlSite) -> None:
    job_id = site.plan(4)
    site.work(job_id, 1)
    site.files(job_id).mark_paused()
    site.ledger.pause(job_id)
    lose_redis(site)
    site.runner().run()
    assert (site.status(job_id).state, site.ledger.claim("shapes", "worker")) == ("paused", None)
    site.files(job_id).mark_paused(paused=False)
    site.ledger.resume(job_id)
    site.runner().run()
    assert site.work(job_id, 4) == [1, 2, 3]
    site.runner().run()
    assert site.report(job_id).counts.done == 4
    lose_redis(site)
    assert site.ledger.status(job_id) is None


def test_a_cancelled_job_stays_cancelled_when_redis_forgets_it(site: ControlSite) -> None:
    job_id = site.plan(4)
    site.work(job_id, 1)
    site.files(job_id).mark_cancelled()
    lose_redis(site)
    site.runner().run()
    report = site.report(job_id)
    assert (report.state, report.counts.done, report.counts.skipped) == ("cancelled", 4, 3)


def test_what_was_never_accepted_is_not_entered(site: ControlSite) -> None:
    site.storage.put(keys.open_marker("neveraccepted"), str(time.time()).encode())
    site.sweeper().recover()
    assert site.ledger.open_jobs() == []
    assert site.storage.size(keys.open_marker("neveraccepted")) is not None


@pytest.mark.parametrize("broken", ["head", "marker", "uploads"])
def test_what_cannot_be_read_of_one_job_keeps_no_other_out(site: ControlSite, broken: str) -> None:
    job_id = site.accept(1).id
    other = "0" * 24
    site.storage.put(keys.receiving(other, "f") if broken == "uploads" else keys.open_marker(other), b"spoiled")
    if broken == "head":
        site.storage.put(keys.job(other), b"spoiled")
        site.storage.put(keys.head(other), b"spoiled")
    site.ledger.serve("gone", [])
    site.redis.zadd(f"{PREFIX}:seen", {"gone": 1})
    site.sweeper().recover()
    assert site.ledger.open_jobs() == [job_id]
    assert site.redis.hgetall(f"{PREFIX}:workers") == {}


def test_an_outage_of_redis_is_said_once_not_at_every_sweep(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    site = ControlSite(tmp_path, f"redis://127.0.0.1:{free_port()}/0")
    sweeps = iter([False] * 5 + [True])
    site.sweeper().sweep_until(lambda _: next(sweeps))
    site.close()
    assert [record.message for record in caplog.records if "Redis" in record.message] == [caplog.records[0].message]
    assert "sweep put off" in caplog.records[0].message


def test_leases_that_cannot_be_renewed_are_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    site = ControlSite(tmp_path, f"redis://127.0.0.1:{free_port()}/0")
    leases, head = Leases(site.ledger), site.accept(1)
    leases.hold(Held(ShardLease(head.id, 0, 1, 0), head))
    for _ in range(3):
        leases.renew()
    site.close()
    assert len([record for record in caplog.records if "not renewed" in record.message]) == 1


def test_a_job_that_is_cancelled_while_nothing_of_it_is_found_is_listed_no_further(
    site: ControlSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = site.submit(1)

    def endless(*how: Any) -> Iterator[Entry]:
        site.ledger.cancel(ref)
        alive = how[3]
        return iter(alive, "never")

    monkeypatch.setattr(planner, "entries", endless)
    monkeypatch.setattr(planner, "ASK_SECONDS", 0)
    site.runner().run()
    assert site.report(ref).state == "cancelled"
