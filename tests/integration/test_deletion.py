"""Deleting a job: nothing of it is left and nothing else is touched, whoever dies and whatever Redis loses."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from maskmill.shared.buckets import Buckets
from maskmill.shared.errors import StorageRefused
from maskmill.shared.jobs import deletions, keys
from maskmill.shared.jobs.deletions import Deletion
from maskmill.shared.jobs.job_files import JobFiles
from maskmill.shared.jobs.keys import DEFAULT_TENANT, id_of, job_ref
from maskmill.shared.jobs.records import Job
from maskmill.shared.ledger import Work
from maskmill.shared.settings import Settings
from maskmill.shared.storage import Storage, open_storage
from maskmill.shared.storage.outputs import Outputs
from maskmill.worker.control.deleter import KEYS_AT_ONCE, SETTLED_LEASES, SHARDS_AT_ONCE, Deleter
from maskmill.worker.control.runner import InHand
from maskmill.worker.outcomes import outcome_of
from tests.services import SeaweedServer
from tests.services.control_site import ControlSite, Killed, in_background
from tests.services.s3_proxy import S3Proxy
from tests.services.workers import wait_until

LONG_AGO = 1_000_000.0


def finish(site: ControlSite, items: int = 3, *, tenant: str = DEFAULT_TENANT, output: str | None = None) -> str:
    """A job that is over and closed, with something under every key that a job may have; its ref."""
    head = site.accept(items, tenant=tenant, output=output)
    site.ledger.enter(head)
    site.runner().run()
    files = site.files(head.ref)
    site.storage.put(keys.inputs(head.ref, "folder/000000-a.jpg"), b"an upload")
    site.storage.put(keys.chunk(head.ref, 0), b"a chunk")
    site.storage.put(keys.expanded(head.ref, 0), b"what was found in it")
    site.storage.put(keys.paused(head.ref), b"")
    for shard in range(items):
        files.store_artifact(f"cats/{shard}_res.json", b"a result", "application/json")
        files.store_annotations(shard, b"an annotation")
    site.work(head.ref, items)
    site.runner().run()
    assert site.report(head.ref).state == "completed"
    assert not files.is_open()
    return head.ref


def begin(site: ControlSite, ref: str, *, with_output: bool = False, ended_at: float = LONG_AGO) -> None:
    """What the API does of a deletion."""
    report = site.report(ref)
    deletions.begin(site.storage, ref, Deletion(ended_at=ended_at, with_output=with_output, output=report.output))
    site.ledger.add_work([deletions.work_of(ref)])


def stored(storage: Storage) -> dict[str, bytes]:
    return {key: storage.get(key) for key in storage.list()}


def without(before: dict[str, bytes], ref: str) -> dict[str, bytes]:
    return {key: data for key, data in before.items() if not key.startswith(keys.folder(ref))}


def folders(site: ControlSite) -> set[str]:
    """The folders below jobs/ and tenants/ that are there."""
    root = Path(site.settings.storage_url.removeprefix("file://"))
    return {path.relative_to(root).as_posix() for path in root.glob("*/**/") if path.parent != root} - {"."}


def test_nothing_of_the_job_is_left_and_nothing_else_is_touched(site: ControlSite) -> None:
    ref = finish(site)
    # One that is called alike by another tenant, one whose id begins with this one's, one that runs.
    other = Job.model_validate_json(site.storage.get(keys.job(ref))).model_copy(update={"tenant": "acme"})
    site.files(other.ref).store_job(other)
    site.storage.put(keys.job(f"{ref}0"), b"another's")
    finish(site, tenant="acme")
    running = site.plan(2)
    before = stored(site.storage)
    begin(site, ref)
    site.runner().run()
    assert stored(site.storage) == without(before, ref)
    assert not [folder for folder in folders(site) if folder.startswith(f"jobs/{ref}") and folder != f"jobs/{ref}0"]
    assert site.ledger.status(ref) is None
    assert ref not in [job.id for job in site.ledger.jobs(DEFAULT_TENANT)[0]]
    assert site.redis.keys(f"test:job:{ref}*") == []
    assert (site.status(running).state, site.redis.hkeys("test:work:rows")) == ("running", [])


def test_a_deletion_goes_on_wherever_it_was_killed_and_is_never_half_a_job(site: ControlSite) -> None:
    kept_one = finish(site, tenant="acme")
    untouched = stored(site.storage)
    calls = calls_of_a_deletion(site)
    assert calls > 20
    for number in range(calls):
        ref = finish(site)
        begin(site, ref)
        site.storage.kill_at(number)
        with pytest.raises(Killed):
            site.runner().run()
        site.storage.before = lambda _kind, _key: None
        if number % 2:
            site.redis.flushall()
        else:
            site.make_due()
        # What is left of it is entered by nobody, nor does it wait to be.
        site.sweeper().recover()
        assert site.ledger.open_jobs() == []
        assert site.files(ref).report() is not None or site.files(ref).head() is None
        site.runner().run()
        assert stored(site.storage) == untouched, number
        assert site.ledger.claim_work() is None
    assert site.report(kept_one).state == "completed"


def calls_of_a_deletion(site: ControlSite) -> int:
    ref = finish(site)
    begin(site, ref)
    site.storage.calls.clear()
    site.runner().run()
    return len(site.storage.calls)


def test_a_marker_alone_is_enough(site: ControlSite) -> None:
    """Whoever was asked to delete the job died, or Redis was away, right after the marker was stored."""
    ref = finish(site)
    report = site.report(ref)
    deletions.begin(site.storage, ref, Deletion(ended_at=LONG_AGO, output=report.output))
    site.runner().run()
    assert site.files(ref).report() is not None
    site.sweeper().recover()
    site.runner().run()
    assert stored(site.storage) == {}
    assert site.ledger.status(ref) is None


@pytest.mark.parametrize("stray", ["deleting/a", "deleting/a/b", "deleting/a.b.c/job", "deleting/A/job"])
def test_a_marker_that_is_none_deletes_nothing(site: ControlSite, stray: str) -> None:
    site.storage.put(stray, b"stray")
    assert list(deletions.all_work(site.storage)) == []
    site.sweeper().recover()
    assert site.ledger.claim_work() is None


def test_a_job_that_is_being_closed_is_deleted_once_it_is(site: ControlSite) -> None:
    ref = site.plan(3)
    site.files(ref).mark_cancelled()
    site.ledger.cancel(ref)
    deletions.begin(site.storage, ref, Deletion(ended_at=LONG_AGO))
    site.ledger.add_work([deletions.work_of(ref)])
    # Closing is due as well; whichever comes first, nothing is deleted before it is closed.
    seen: list[bool] = []

    def note(kind: str, key: str) -> None:
        if kind == "delete" and key == keys.job(ref):
            seen.append(site.files(ref).is_open())

    site.storage.before = note
    site.runner().run()
    site.make_due()
    site.runner().run()
    assert seen == [False]
    assert stored(site.storage) == {}


def test_what_a_late_worker_stores_goes_too(site: ControlSite) -> None:
    ref = finish(site)
    begin(site, ref, ended_at=time.time())
    site.runner().run()
    assert list(site.storage.list()) == [keys.deleting(ref, "job")]
    site.files(ref).store_artifact("late_res.json", b"late", "application/json")
    site.make_due()
    site.runner().run()
    assert list(site.storage.list()) == [keys.deleting(ref, "job")]
    time.sleep(SETTLED_LEASES * site.settings.lease_seconds)
    site.runner().run()
    assert stored(site.storage) == {}


def test_who_was_overtaken_deletes_nothing_of_a_job_of_the_same_id(site: ControlSite) -> None:
    ref = finish(site)
    job = site.files(ref).job()
    assert job
    begin(site, ref)
    begun, go = threading.Event(), threading.Event()

    def stand_still(kind: str, key: str) -> None:
        if (kind, key) == ("delete", keys.artifact(ref, "cats/1_res.json")) and not begun.is_set():
            begun.set()
            go.wait(30)

    site.storage.before = stand_still
    first, second = site.runner(), site.runner()
    with in_background(first.run, go):
        assert begun.wait(30)
        wait_until(site.ledger.due_work, 10)
        second.run()
        assert stored(site.storage) == {}
        # The same Idempotency-Key makes the same id.
        site.files(ref).store_job(job)
        site.ledger.enter(job.head)
        site.runner().run()
        site.work(ref, 3)
        site.runner().run()
        before = stored(site.storage)
    assert stored(site.storage) == before
    assert site.report(ref).state == "completed"


class Never:
    """A handler of work that nobody else may get; `got` is what it got."""

    def __init__(self) -> None:
        self.got: list[Work] = []

    def run(self, work: Work, _in_hand: InHand) -> float | None:
        self.got.append(work)
        return None

    def give_up(self, _work: Work, _reason: str) -> float | None:
        return None


def test_many_objects_go_page_by_page_and_the_lease_is_kept(site: ControlSite) -> None:
    ref, never = finish(site), Never()
    for number in range(2 * KEYS_AT_ONCE):
        site.storage.put(keys.artifact(ref, f"many/{number:05d}_res.json"), b"")
    begin(site, ref)
    # Without renewals, another would have it before the end.
    site.storage.before = lambda kind, _key: time.sleep(0.001 if kind == "delete" else 0)
    first, second = site.runner(), site.runner({"delete": never})
    with in_background(first.run, threading.Event()):
        while deletions.is_under_way(open_storage(site.settings), ref):
            second.run()
            time.sleep(0.05)
    assert (stored(site.storage), never.got) == ({}, [])
    assert max(site.storage.batches) == KEYS_AT_ONCE < sum(site.storage.batches)


def test_a_long_deletion_gives_way_to_other_control_work(site: ControlSite) -> None:
    ref = finish(site)
    for number in range(2 * KEYS_AT_ONCE):
        site.storage.put(keys.artifact(ref, f"{number:05d}"), b"")
    begin(site, ref)
    hasty = Deleter(site.settings, site.storage, site.ledger, Outputs(Buckets.of(site.settings)), turn_seconds=0)
    planned: list[bool] = []

    def submit(kind: str, key: str) -> None:
        if kind == "delete" and key == keys.artifact(ref, "00500"):
            waiting.append(site.submit(1))
        if kind == "put" and "/plan/" in key:
            planned.append(bool(list(site.storage.list(keys.folder(ref), limit=1))))

    waiting: list[str] = []
    site.storage.before = submit
    site.runner({**site.handlers(), "delete": hasty}).run()
    # It was planned before the deletion was at its end, which came all the same.
    assert (len(waiting), planned) == (1, [True])
    assert not list(site.storage.list(keys.folder(ref)))


def test_a_storage_that_refuses_is_waited_for(site: ControlSite, caplog: pytest.LogCaptureFixture) -> None:
    ref = finish(site)
    begin(site, ref)

    def refuse(kind: str, key: str) -> None:
        if kind == "delete" and "artifacts" in key:
            raise StorageRefused("access denied")

    site.storage.before = refuse
    for _ in range(10):
        site.runner().run()
        site.make_due()
    assert "delete" in caplog.text
    assert "access denied" in caplog.text
    site.storage.before = lambda _kind, _key: None
    site.runner().run()
    assert stored(site.storage) == {}


# What the job wrote to its own output


@pytest.fixture
def output_site(site: ControlSite, s3_server: SeaweedServer, tmp_path: Path) -> ControlSite:
    """A site that may write to the bucket of `masks`."""
    given = Settings.from_env({**s3_server.env, "MASKMILL_BUCKETS": str(tmp_path / "buckets.toml")})
    update = {name: getattr(given, name) for name in given.model_fields_set}
    site.settings = site.settings.model_copy(update=update)
    return site


@pytest.fixture
def masks(s3_server: SeaweedServer, tmp_path: Path) -> str:
    name = s3_server.make_bucket()
    (tmp_path / "buckets.toml").write_text(f"[{name}]\nwrite = true\n")
    return name


def finish_with_output(site: ControlSite, output: str, names: Sequence[str]) -> str:
    """A job that is over, of an item and a shard for each name, whose results lie in the output; its ref."""
    head = site.accept(len(names), output=output)
    site.ledger.enter(head)
    site.runner().run()
    files = JobFiles(site.storage, head.ref, Outputs(Buckets.of(site.settings)).of(output))
    page = files.page(0)
    assert page
    for shard, name in enumerate(names):
        lease = site.ledger.claim("shapes", "worker")
        assert lease
        artifacts = {"json": f"{name}_res.json", "image": f"{name}_res.jpg"}
        for artifact in artifacts.values():
            files.store_artifact(artifact, head.id.encode(), "image/jpeg")
        outcome = outcome_of(page.items[shard], "succeeded", artifacts=artifacts)
        files.store_refs(head, shard, [outcome])
        site.ledger.finish(lease, files.commit(shard, [outcome]))
    site.runner().run()
    assert site.report(head.ref).state == "completed"
    return head.ref


def results(ref: str, names: Sequence[str]) -> set[str]:
    pictures = {f"{name}_res.{suffix}" for name in names for suffix in ("json", "jpg")}
    return pictures | {f"_maskmill/{ref}/{shard:08d}.jsonl" for shard in range(len(names))}


def test_of_an_output_that_is_shared_only_what_the_job_wrote_goes(output_site: ControlSite, masks: str) -> None:
    site, url = output_site, f"s3://{masks}/shared/"
    output = Outputs(Buckets.of(site.settings)).of(url)
    output.put("by hand/notes.txt", b"a user's")
    output.put("a_res.json.bak", b"a user's too")
    first = finish_with_output(site, url, ["a", "cats/1"])
    second = finish_with_output(site, url, ["b", "cats/2"])
    before = stored(output)
    begin(site, first)
    site.runner().run()
    assert stored(output) == before
    third = finish_with_output(site, url, ["c"])
    before = stored(output)
    begin(site, third, with_output=True)
    site.runner().run()
    assert set(before) - set(stored(output)) == results(third, ["c"])
    begin(site, second, with_output=True)
    site.runner().run()
    kept_names = results(first, ["a", "cats/1"]) | {"by hand/notes.txt", "a_res.json.bak", "_SUCCESS"}
    assert set(stored(output)) == kept_names
    assert stored(site.storage) == {}


def test_success_goes_with_the_last_that_is_there(output_site: ControlSite, masks: str) -> None:
    url = f"s3://{masks}/alone"
    output = Outputs(Buckets.of(output_site.settings)).of(url)
    jobs = [finish_with_output(output_site, url, [name]) for name in ("a", "b")]
    left = []
    for ref in jobs:
        begin(output_site, ref, with_output=True)
        output_site.runner().run()
        left.append(len(stored(output)))
    assert left == [4, 0]


def test_results_in_an_output_are_found_wherever_the_deletion_was_killed(output_site: ControlSite, masks: str) -> None:
    site, url, names = output_site, f"s3://{masks}/killed/", [f"{number:02d}" for number in range(SHARDS_AT_ONCE + 2)]
    output = Outputs(Buckets.of(site.settings)).of(url)
    ends = [
        "report.json",
        "outcomes/00000000.jsonl",
        "outcomes/00000007.jsonl",
        f"outcomes/{SHARDS_AT_ONCE:08d}.jsonl",
        "plan/00000000.jsonl",
    ]
    for number, end in enumerate(ends):
        ref = finish_with_output(site, url, names)
        begin(site, ref, with_output=True)
        site.storage.kill_once("delete", end)
        with pytest.raises(Killed):
            site.runner().run()
        if number % 2:
            site.redis.flushall()
        site.make_due()
        site.sweeper().recover()
        site.runner().run()
        assert (stored(output), stored(site.storage)) == ({}, {})


def test_an_output_that_refuses_is_waited_for_and_its_outcomes_stay(
    output_site: ControlSite, masks: str, proxied: S3Proxy
) -> None:
    site, url = output_site, f"s3://{masks}/refused/"
    ref = finish_with_output(site, url, ["a"])
    direct = Outputs(Buckets.of(site.settings)).of(url)
    site.settings = site.settings.model_copy(update={"s3_endpoint": proxied.endpoint})
    proxied.refuses = lambda method, _path: method in ("POST", "DELETE")
    begin(site, ref, with_output=True)
    for _ in range(7):
        site.runner().run()
        site.make_due()
    assert site.files(ref).outcomes(0)
    assert len(stored(direct)) == 4
    proxied.refuses = lambda _method, _path: False
    site.runner().run()
    assert (stored(direct), stored(site.storage)) == ({}, {})


# Over a bucket


def test_three_thousand_objects_of_a_bucket_cost_a_listing_and_a_few_deletes(
    site: ControlSite, s3_settings: Settings, proxied: S3Proxy
) -> None:
    direct = open_storage(s3_settings)
    ref = finish(site)
    report = site.report(ref)
    for key, data in stored(site.storage).items():
        direct.put(key, data)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda number: direct.put(keys.artifact(ref, f"{number:05d}"), b""), range(3000)))
    direct.put(keys.artifact(f"{ref}0", "another's"), b"kept")
    storage = open_storage(s3_settings.model_copy(update={"s3_endpoint": proxied.endpoint}))
    deletions.begin(storage, ref, Deletion(ended_at=LONG_AGO, output=report.output))
    site.ledger.add_work([deletions.work_of(ref)])
    proxied.requests.clear()
    deleter = Deleter(site.settings, storage, site.ledger, Outputs(Buckets.of(site.settings)))
    site.runner({"delete": deleter}).run()
    assert list(direct.list()) == [keys.artifact(f"{ref}0", "another's")]
    assert proxied.count("POST", "?delete") == 4
    assert len(proxied.requests) <= 20


# Asked for


def test_two_deletions_of_a_job_are_one(site: ControlSite) -> None:
    ref = finish(site)
    for _ in range(3):
        begin(site, ref)
    assert site.ledger.due_work() == 1
    runners = [threading.Thread(target=site.runner().run) for _ in range(2)]
    for runner in runners:
        runner.start()
    for runner in runners:
        runner.join()
    assert (stored(site.storage), site.ledger.claim_work()) == ({}, None)


def test_the_ref_of_a_tenant_leads_to_its_own_folder(site: ControlSite) -> None:
    ref = finish(site, tenant="acme")
    same_id = job_ref(DEFAULT_TENANT, id_of(ref))
    site.storage.put(keys.artifact(same_id, "kept"), b"another tenant's")
    begin(site, ref)
    site.redis.flushall()
    site.sweeper().recover()
    site.runner().run()
    assert list(site.storage.list()) == [keys.artifact(same_id, "kept")]
