"""Control work in the test's own process: what a control worker holds, over a folder whose calls are watched."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from redis import Redis

from maskmill.shared.buckets import Buckets
from maskmill.shared.doorbell import Doorbell
from maskmill.shared.jobs.job_files import JobFiles
from maskmill.shared.jobs.keys import DEFAULT_TENANT
from maskmill.shared.jobs.records import Counts, Job, JobHead, JobState, JobStatus, Options, new_job_id, page_of
from maskmill.shared.jobs.sources import Source, UrlSource
from maskmill.shared.ledger import Ledger
from maskmill.shared.settings import Settings
from maskmill.shared.storage.bucket_reader import BucketReaders
from maskmill.shared.storage.local import LocalStorage
from maskmill.shared.storage.outputs import Outputs
from maskmill.shared.storage.protocol import BYTES
from maskmill.worker.control.deleter import Deleter
from maskmill.worker.control.finalizer import Finalizer, RollupMaker
from maskmill.worker.control.planner import Planner
from maskmill.worker.control.runner import Handler, WorkRunner
from maskmill.worker.control.sweeper import Sweeper
from maskmill.worker.outcomes import outcome_of

PREFIX = "test"
FAILS_EVERY = 10


class Killed(BaseException):
    """What a process that is killed does of a handler: nothing after it runs."""


class WatchedStorage(LocalStorage):
    """A folder that lists its calls as (kind, key), and calls `before` with each, which may wait or raise.

    `batches` are the numbers of keys that were to be deleted at once.
    """

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.calls: list[tuple[str, str]] = []
        self.batches: list[int] = []
        self.before: Callable[[str, str], None] = lambda _kind, _key: None

    def put(self, key: str, data: bytes, *, content_type: str = BYTES, if_absent: bool = False) -> bool:
        self._note("put", key)
        return super().put(key, data, content_type=content_type, if_absent=if_absent)

    def get(self, key: str) -> bytes:
        self._note("get", key)
        return super().get(key)

    def size(self, key: str) -> int | None:
        self._note("size", key)
        return super().size(key)

    def list(self, prefix: str = "", start_after: str = "", limit: int | None = None) -> Iterator[str]:
        self._note("list", prefix)
        return super().list(prefix, start_after, limit)

    def delete(self, key: str) -> None:
        self._note("delete", key)
        super().delete(key)

    def delete_all(self, keys: Iterable[str]) -> None:
        self.batches.append(0)
        for key in keys:
            self.batches[-1] += 1
            self.delete(key)

    def keys_of(self, kind: str) -> Counter[str]:
        """How often each key was asked for in calls of that kind."""
        return Counter(key for called, key in self.calls if called == kind)

    def kill_once(self, kind: str, *ends: str) -> None:
        """Kill whoever makes a call of that kind for a key with one of these ends, once for each."""
        left = set(ends)

        def before(called: str, key: str) -> None:
            for end in [end for end in left if called == kind and key.endswith(end)]:
                left.remove(end)
                raise Killed(key)

        self.before = before

    def kill_at(self, number: int) -> None:
        """Kill whoever makes the call of that number from now on, counted from 0."""
        left = iter(range(number + 1))

        def before(_kind: str, key: str) -> None:
            if next(left, None) == number:
                raise Killed(key)

        self.before = before

    def _note(self, kind: str, key: str) -> None:
        self.calls.append((kind, key))
        self.before(kind, key)


class ControlSite:
    """Settings, storage, ledger and doorbell of one test, and what works on them."""

    def __init__(self, folder: Path, redis_url: str, *, window: int = 64) -> None:
        self.settings = Settings(
            redis_url=redis_url,
            redis_prefix=PREFIX,
            storage_url=f"file://{folder}/storage",
            local_roots=(folder / "pictures",),
            lease_seconds=1.0,
            window_shards=window,
        )
        self.storage = WatchedStorage(folder / "storage")
        self.ledger = self.open_ledger()
        self.doorbell = Doorbell(self.settings)
        self.redis: Redis = Redis.from_url(redis_url, decode_responses=True)

    def close(self) -> None:
        """Close every connection."""
        self.ledger.disconnect()
        self.doorbell.close()
        self.redis.close()

    def open_ledger(self, lease_seconds: float = 1.0) -> Ledger:
        """A ledger over connections of its own."""
        window = self.settings.window_shards
        return Ledger(self.settings.redis_url, PREFIX, lease_seconds=lease_seconds, window=window)

    def handlers(self, *, recounts: bool = False) -> dict[str, Handler]:
        """The handlers as a control worker has them."""
        rollups = RollupMaker(self.storage, self.ledger, lambda: recounts)
        outputs = Outputs(Buckets.of(self.settings))
        return {
            "plan": Planner(self.settings, self.storage, self.ledger, self.doorbell, BucketReaders(self.settings)),
            "rollup": rollups,
            "close": Finalizer(self.settings, self.storage, self.ledger, rollups, outputs),
            "delete": Deleter(self.settings, self.storage, self.ledger, outputs),
        }

    def runner(self, handlers: Mapping[str, Handler] | None = None) -> WorkRunner:
        """A control worker."""
        return WorkRunner(self.ledger, handlers or self.handlers())

    def sweeper(self) -> Sweeper:
        """A sweeper."""
        return Sweeper(self.settings, self.storage, self.ledger, self.doorbell)

    def files(self, ref: str, retry: int = 0) -> JobFiles:
        """The job's files, or those of a retry of it."""
        return JobFiles(self.storage, ref, retry=retry)

    def accept(
        self,
        sources: Sequence[Source] | int,
        *,
        shard_size: int = 1,
        tenant: str = DEFAULT_TENANT,
        output: str | None = None,
        **options: object,
    ) -> JobHead:
        """Store a job as the API does: of these sources, or of so many pictures behind URLs."""
        given = (
            [UrlSource(url=f"http://example.com/{number}.jpg") for number in range(sources)]
            if isinstance(sources, int)
            else sources
        )
        job = Job(
            id=new_job_id(),
            tenant=tenant,
            created_at=time.time(),
            sources=tuple(given),
            options=Options.model_validate(options),
            shard_size=shard_size,
            output=output,
        )
        assert self.files(job.ref).store_job(job)
        return job.head

    def submit(
        self,
        sources: Sequence[Source] | int,
        *,
        shard_size: int = 1,
        tenant: str = DEFAULT_TENANT,
        **options: object,
    ) -> str:
        """Accept a job and enter it; its ref."""
        head = self.accept(sources, shard_size=shard_size, tenant=tenant, **options)
        assert self.ledger.enter(head)
        return head.ref

    def plan(self, items: int, *, shard_size: int = 1, tenant: str = DEFAULT_TENANT) -> str:
        """Submit a job of so many pictures, and plan it; its ref."""
        ref = self.submit(items, shard_size=shard_size, tenant=tenant)
        self.runner().run()
        assert self.status(ref).counts.total == items
        return ref

    def status(self, ref: str) -> JobStatus:
        """The job's status in the ledger."""
        status = self.ledger.status(ref)
        assert status
        return status

    def report(self, ref: str) -> JobStatus:
        """The job's report."""
        report = self.files(ref).report()
        assert report
        return report

    def make_due(self) -> None:
        """Let all control work be due now, as if the leases and pauses of it were over."""
        for name in self.redis.zrange(f"{PREFIX}:work:due", 0, -1):
            self.redis.zadd(f"{PREFIX}:work:due", {name: 0}, xx=True)

    def work(self, ref: str, shards: int, *, store_from: int = 0) -> list[int]:
        """Claim so many shards and commit them as a worker does, every tenth item failed; those that were run.

        Outcomes of the shards before `store_from` are not stored, as if they had been tidied away.
        """
        files, ran = self.files(ref), []
        for _ in range(shards):
            lease = self.ledger.claim("shapes", "worker")
            assert lease
            assert lease.ref == ref
            stored = files.outcomes(lease.shard) if lease.look else None
            if stored is None:
                ran.append(lease.shard)
                counts = self.commit(files, lease.shard, store=lease.shard >= store_from)
            else:
                counts = dict(Counter[str](outcome.status for outcome in stored))
            assert self.ledger.finish(lease, counts).verdict == "finished"
        return ran

    def commit(self, files: JobFiles, shard: int, *, store: bool = True) -> dict[str, int]:
        """Store the outcomes of a shard, every tenth item failed; the counts."""
        head, page = files.head(), files.page(page_of(shard))
        assert head
        assert page
        outcomes = [
            outcome_of(item, "succeeded" if item.number % FAILS_EVERY else "failed") for item in page.shard(shard, head)
        ]
        if store:
            files.commit(shard, outcomes)
        return dict(Counter[str](outcome.status for outcome in outcomes))


def close(ledger: Ledger, ref: str, counts: Counts, keep_seconds: float) -> JobState | None:
    """Close a job with these counts, as if its report were stored."""
    status = ledger.status(ref)
    assert status
    state = "completed" if status.state == "finalizing" else status.state
    return ledger.close(ref, status.model_copy(update={"state": state, "counts": counts}), keep_seconds)


@contextlib.contextmanager
def kept(runner: WorkRunner, pause: float = 0.2) -> Iterator[None]:
    """Keep the leases of what the runner has in hand, as a control worker does."""
    over = threading.Event()

    def keep() -> None:
        while not over.wait(pause):
            runner.keep()

    thread = threading.Thread(target=keep)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextlib.contextmanager
def in_background(call: Callable[[], None], go: threading.Event) -> Iterator[None]:
    """Run it in a thread, which has ended at the end; it waits for `go` no longer than that."""
    thread = threading.Thread(target=call)
    thread.start()
    try:
        yield
    finally:
        go.set()
        thread.join(30)
        assert not thread.is_alive()
