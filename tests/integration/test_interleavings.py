"""What happens between two steps of control work: Redis lost, another that comes first, a state that changes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from maskmill.shared.egress.http import Egress
from maskmill.shared.jobs import keys
from maskmill.shared.jobs.records import (
    SHARDS_A_PAGE,
    SHARDS_A_ROLLUP,
    Chunk,
    Entry,
    Failure,
    ListingCursor,
    Outcome,
    PlanCursor,
    PlanPage,
    Rollup,
)
from maskmill.shared.jobs.sources import PathSource, StoredBytes, UrlBytes
from maskmill.shared.ledger import ShardLease
from maskmill.shared.recovery import enter_stored
from maskmill.worker.control.runner import InHand
from maskmill.worker.pipeline.progress import Progress
from maskmill.worker.shards.expansion import ChunkExpander
from maskmill.worker.shards.leases import Leases
from maskmill.worker.shards.shard_run import Held
from maskmill.worker.sources.fetch import Fetcher
from maskmill.worker.sources.listing import entries
from maskmill.worker.sources.pages import Expander, items_of
from tests.services.control_site import PREFIX, ControlSite, Killed, in_background, kept
from tests.services.files_over_http import serve_files
from tests.services.workers import wait_until


@pytest.fixture
def narrow(tmp_path: Path, redis_url: str) -> Iterator[ControlSite]:
    """A site where two shards of a job can be claimed at once."""
    held = ControlSite(tmp_path, redis_url, window=2)
    yield held
    held.close()


def stored_counts(site: ControlSite, job_id: str, shards: int) -> dict[str, int]:
    """How many items ended how, by the files of outcomes; those of shards without one count as skipped."""
    found = [outcome.status for shard in range(shards) for outcome in site.files(job_id).outcomes(shard) or []]
    return {
        "succeeded": found.count("succeeded"),
        "failed": found.count("failed"),
        "skipped": shards - len(found) + found.count("skipped"),
    }


def test_redis_lost_while_a_job_is_closed_leaves_no_half_of_it(site: ControlSite) -> None:
    job_id = site.plan(2)
    site.work(job_id, 2)

    def lose(kind: str, key: str) -> None:
        if (kind, key) == ("put", keys.report(job_id)):
            site.redis.flushall()

    site.storage.before = lose
    site.runner().run()
    assert site.report(job_id).counts.done == 2
    assert site.ledger.status(job_id) is None
    assert site.redis.keys(f"{PREFIX}:job:*") == []


def test_a_job_that_was_entered_anew_while_it_was_closed_ends_once_more(site: ControlSite) -> None:
    job_id = site.plan(2)
    site.work(job_id, 2)

    def lose(kind: str, key: str) -> None:
        if (kind, key) == ("put", keys.report(job_id)):
            site.storage.before = lambda _kind, _key: None
            site.redis.flushall()
            site.sweeper().recover()

    site.storage.before = lose
    site.runner().run()
    assert site.work(job_id, 2) == []
    site.runner().run()
    assert site.status(job_id).state == "completed"
    assert site.status(job_id).counts.done == 2


def test_a_cancelled_job_is_entered_as_such_in_one_move(site: ControlSite) -> None:
    job_id = site.plan(2)
    site.files(job_id).mark_cancelled()
    site.redis.flushall()
    # Redis notes every move that is made of it.
    site.redis.config_set("slowlog-log-slower-than", 0)
    site.redis.slowlog_reset()
    assert enter_stored(site.ledger, site.files(job_id))
    made = [entry["command"] for entry in site.redis.slowlog_get(100) if entry["command"].startswith(b"EVAL")]
    site.redis.config_set("slowlog-log-slower-than", -1)
    # One: whoever enters it may be killed before it makes another.
    assert len(made) == 1
    assert site.ledger.claim("shapes", "worker") is None
    site.runner().run()
    assert site.report(job_id).state == "cancelled"


def test_a_rollup_of_a_closing_that_redis_forgot_is_counted_anew(narrow: ControlSite) -> None:
    job_id = narrow.plan(10)
    narrow.work(job_id, 2)
    narrow.ledger.fail(job_id, Failure(stage="run", code="internal", reason="a page could not be read"))
    narrow.storage.kill_once("put", keys.report(job_id))
    with pytest.raises(Killed):
        narrow.runner().run()
    narrow.redis.flushall()
    narrow.sweeper().recover()
    narrow.runner().run()
    narrow.work(job_id, 10)
    narrow.runner().run()
    counts = narrow.report(job_id).counts.model_dump(include={"succeeded", "failed", "skipped"})
    assert counts == stored_counts(narrow, job_id, 10)
    assert counts["succeeded"] > 5


def test_what_ran_far_ahead_of_a_slow_shard_counts_when_redis_forgets_and_the_job_is_cancelled(
    site: ControlSite,
) -> None:
    shards = 3 * SHARDS_A_ROLLUP + 100
    job_id = site.plan(shards)
    for number in (1, 2):
        site.files(job_id).store_rollup(Rollup(number=number, shards=SHARDS_A_ROLLUP, succeeded=SHARDS_A_ROLLUP))
    ahead = range(3 * SHARDS_A_ROLLUP + 1, 3 * SHARDS_A_ROLLUP + 6)
    for shard in ahead:
        site.files(job_id).commit(shard, [Outcome(number=shard, status="succeeded", input_path="x")])
    site.files(job_id).mark_cancelled()
    site.redis.flushall()
    site.sweeper().recover()
    site.runner().run()
    counts = site.report(job_id).counts
    assert (counts.total, counts.succeeded) == (shards, 2 * SHARDS_A_ROLLUP + len(ahead))


def test_a_shard_that_is_counted_while_its_job_is_closed_leaves_no_key(site: ControlSite) -> None:
    job_id = site.plan(2)
    lease = site.ledger.claim("shapes", "worker")
    assert lease
    counts = site.commit(site.files(job_id), lease.shard)
    site.ledger.cancel(job_id)

    def finish(kind: str, key: str) -> None:
        if (kind, key) == ("put", keys.report(job_id)):
            site.ledger.finish(lease, counts)

    site.storage.before = finish
    site.runner().run()
    assert site.report(job_id).counts.done == 2
    assert site.redis.keys(f"{PREFIX}:job:{job_id}:*") == []


def test_who_had_work_before_redis_was_lost_has_none_of_it_after(site: ControlSite) -> None:
    job_id = site.submit(1)
    before = site.ledger.claim_work()
    assert before
    site.redis.flushall()
    site.sweeper().recover()
    now = site.ledger.claim_work()
    assert now
    assert (before.name, now.name) == (f"plan/{job_id}",) * 2
    assert not site.ledger.end_work(before)
    assert site.ledger.renew_work(now)


def test_a_shard_claimed_again_by_its_own_worker_stays_held_when_its_first_run_ends(site: ControlSite) -> None:
    job_id = site.plan(1)
    head = site.files(job_id).head()
    assert head
    held = [Held(ShardLease(job_id, 0, attempt, 0), head) for attempt in (1, 2)]
    leases = Leases(site.ledger)
    for one in held:
        leases.hold(one)
    leases.drop(held[0])
    assert len(leases) == 1


def test_a_page_that_another_planner_stored_first_is_gone_on_from(site: ControlSite, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(SHARDS_A_PAGE + 8):
        (folder / f"{number}.jpg").touch()
    job_id = site.submit([PathSource(path=str(folder))])

    def overtake(kind: str, key: str) -> None:
        if (kind, key) == ("put", keys.page(job_id, 0)):
            site.storage.before = lambda _kind, _key: None
            # One that listed earlier, before the first two came, and stands still since.
            site.files(job_id).store_page(pages[0])

    (folder / "0.jpg").unlink()
    (folder / "1.jpg").unlink()
    pages = planned_pages(site, job_id)
    (folder / "0.jpg").touch()
    (folder / "1.jpg").touch()
    site.storage.before = overtake
    site.runner().run()
    names = []
    for number in range(site.files(job_id).page_count()):
        page = site.files(job_id).page(number)
        assert page
        names += [item.input_path for item in page.items]
    assert len(names) == len(set(names)) == site.status(job_id).counts.total == SHARDS_A_PAGE + 6


def planned_pages(site: ControlSite, job_id: str) -> list[PlanPage]:
    """The pages of the job as it lies there now."""
    job = site.files(job_id).job()
    assert job
    listed = list(entries(job, site.settings))[:SHARDS_A_PAGE]
    items = [next(items_of(entry, None)).model_copy(update={"number": n}) for n, entry in enumerate(listed)]
    cursor = PlanCursor(listing=ListingCursor(source=0, position=listed[-1].position))
    return [PlanPage(number=0, items=tuple(items), cursor=cursor)]


# Looking into a chunk


PDF = b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj 2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj "
PDF += b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"


def looker(site: ControlSite) -> ChunkExpander:
    """What a worker looks into chunks with."""
    fetcher = Fetcher(site.settings, site.storage, Egress(site.settings))
    return ChunkExpander(site.ledger, Expander(site.settings, site.storage, fetcher), Progress())


def chunk_of_pdfs(site: ControlSite, job_id: str, count: int) -> Chunk:
    """A stored chunk of so many PDFs of one page each, in the storage."""
    locations = [StoredBytes(key=keys.inputs(job_id, f"{number}.pdf")) for number in range(count)]
    for location in locations:
        site.storage.put(location.key, PDF)
    found = tuple(
        Entry(source=0, position=str(n), input_path=f"{n}.pdf", name=f"{n}.pdf", location=location, form="paged")
        for n, location in enumerate(locations)
    )
    chunk = Chunk(number=0, after=None, entries=found)
    site.files(job_id).store_chunk(chunk)
    return chunk


class AskedHeld(Held):
    """One that counts how often it was asked whether it is wanted."""

    asked = 0

    @property
    def wanted(self) -> bool:
        self.asked += 1
        return super().wanted


def test_a_chunk_whose_job_was_paused_and_resumed_meanwhile_is_not_taken_for_looked_into(site: ControlSite) -> None:
    job_id = site.submit(1)
    head = site.files(job_id).head()
    assert head
    chunk = chunk_of_pdfs(site, job_id, 40)
    held = AskedHeld(ShardLease(job_id, 0, 1, 0, expands=True), head)

    def pause(kind: str, key: str) -> None:
        if (kind, key) == ("get", keys.inputs(job_id, "0.pdf")):
            held.state = "paused"
            wait_until(lambda: held.asked == len(chunk.entries), 10)
            held.state = "planning"

    site.storage.before = pause
    assert not looker(site).expand(held, site.files(job_id))
    assert site.files(job_id).expansions(0) is None


def test_a_chunk_that_was_looked_into_before_is_not_looked_into_again(site: ControlSite) -> None:
    job_id = site.submit(1)
    head = site.files(job_id).head()
    assert head
    chunk_of_pdfs(site, job_id, 3)
    assert looker(site).expand(Held(ShardLease(job_id, 0, 1, 0, expands=True), head), site.files(job_id))
    found = site.files(job_id).expansions(0)
    assert found
    assert [found[number].pages for number in range(3)] == [((0, 0),)] * 3
    site.storage.calls.clear()
    again = Held(ShardLease(job_id, 0, 2, 1, expands=True, look=True), head)
    assert looker(site).expand(again, site.files(job_id))
    assert not [key for kind, key in site.storage.calls if kind == "get" and key.endswith(".pdf")]


def test_the_bytes_of_a_url_stay_those_whose_pages_were_counted_first(site: ControlSite, tmp_path: Path) -> None:
    two_pages = PDF.replace(b"/Kids[3 0 R]/Count 1", b"/Kids[3 0 R 3 0 R]/Count 2")
    (tmp_path / "a.pdf").write_bytes(two_pages)
    settings = site.settings.model_copy(update={"allow_networks": ("127.0.0.0/8",)})
    expander = Expander(settings, site.storage, Fetcher(settings, site.storage, Egress(settings)))
    with serve_files(tmp_path) as server:
        location = UrlBytes(url=f"http://127.0.0.1:{server.port}/a.pdf")
        entry = Entry(source=0, position="", input_path="a", name="a.pdf", location=location, form="paged")
        first = expander.look_into("01ab2345", 0, entry, None)
        (tmp_path / "a.pdf").write_bytes(PDF)
        # By another worker, for whom the first one's lease was over.
        second = expander.look_into("01ab2345", 0, entry, None)
    assert first == second
    assert first.pages == ((0, 1),)
    assert site.storage.get(keys.inputs("01ab2345", "fetched-0")) == two_pages


# A planner that takes long


def test_a_planner_is_seen_to_get_on_while_it_reads_a_folder(site: ControlSite, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "a.jpg").touch()
    job_id = site.submit([PathSource(path=str(folder))])
    work = site.ledger.claim_work()
    assert work
    in_hand, seen = InHand(work, moved_at=0.0), []

    def look(kind: str, key: str) -> None:
        if (kind, key) == ("put", keys.page(job_id, 0)):
            seen.append((in_hand.moved_at > 0, in_hand.moved))

    site.storage.before = look
    site.handlers()["plan"].run(work, in_hand)
    # It gets on, but nothing of it is done for good: whoever dies of that folder again and again is given up.
    assert seen == [(True, False)]


def test_a_cancelled_job_is_closed_after_its_planner_let_go_of_it(site: ControlSite) -> None:
    job_id = site.submit(3)
    stands, go = threading.Event(), threading.Event()

    def stand_still(kind: str, key: str) -> None:
        if (kind, key) == ("put", keys.page(job_id, 0)):
            stands.set()
            go.wait(30)

    site.storage.before = stand_still
    planner, closer = site.runner(), site.runner()
    with kept(planner), in_background(planner.run, go):
        stands.wait(30)
        site.ledger.cancel(job_id)
        closer.run()
        assert site.files(job_id).report() is None
    site.make_due()
    closer.run()
    assert site.report(job_id).counts.total == sum(
        len(page.items) for page in map(site.files(job_id).page, range(site.files(job_id).page_count())) if page
    )
