"""Finalize a job: count its shards by roll-ups, give every item its outcome, write the report.

A roll-up is made when the last of its shards is committed, and those that are missing when the job ends. Closing reads
roll-ups only: for ten million items some hundred requests, whatever became of them, and one roll-up in memory.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from maskmill.shared.jobs import retention
from maskmill.shared.jobs.job_files import JobFiles, count, remember_alike
from maskmill.shared.jobs.records import (
    FINAL_STATES,
    SHARDS_A_ROLLUP,
    Counts,
    JobHead,
    JobStatus,
    PlanPage,
    Rollup,
    page_of,
    shards_of,
)
from maskmill.shared.jobs.sources import S3Source
from maskmill.shared.ledger import Ledger, Work
from maskmill.shared.settings import Settings
from maskmill.shared.storage import Storage
from maskmill.shared.storage.outputs import Outputs
from maskmill.worker.control.fold import Fold
from maskmill.worker.control.runner import InHand
from maskmill.worker.outcomes import outcome_of

READS_AT_ONCE = 16
CLOSE_AGAIN_SECONDS = 300.0
# A planner finds with its next page that the job is over.
PLANNER_SECONDS = 1.0


@dataclass(frozen=True)
class RollupMaker:
    """The handler of "rollup": what became of a run of shards, from the ledger or from what is stored.

    `recounts` is for a store whose conditional write lets two writers win at once: there the ledger may have counted
    what the other has overwritten, so the stored outcomes are counted.
    """

    storage: Storage
    ledger: Ledger
    recounts: Callable[[], bool] = lambda: False

    def run(self, work: Work, _in_hand: InHand) -> float | None:
        """Store the roll-up whose last shard was committed, unless closing has: what that stored may be folded into."""
        number, status = int(work.part), self.ledger.status(work.ref)
        finished = self.ledger.finished(work.ref, number)
        if status and len(finished) == SHARDS_A_ROLLUP:
            files = JobFiles(self.storage, work.ref, retry=status.retries)
            if files.store_rollup(self._counted(files, number, SHARDS_A_ROLLUP), if_absent=True):
                self.ledger.forget_finished(files.ref, number)
        return None

    def give_up(self, _work: Work, _reason: str) -> float | None:
        """Closing makes it again."""
        return None

    def make(self, files: JobFiles, number: int, shards: int) -> Rollup:
        """Store the roll-up of so many shards, all of which are committed."""
        rollup = self._counted(files, number, shards)
        files.store_rollup(rollup)
        self.ledger.forget_finished(files.ref, number)
        return rollup

    def _counted(self, files: JobFiles, number: int, shards: int) -> Rollup:
        first = number * SHARDS_A_ROLLUP
        known = {} if self.recounts() else self.ledger.finished(files.ref, number)
        missing = [shard for shard in range(first, first + shards) if shard not in known]
        return _sum_up(number, itertools.chain(known.items(), _stored_counts(files, missing)))


@dataclass(frozen=True)
class Finalizer:
    """The handler of "close"; one for the process, safe in many threads and twice for one job."""

    settings: Settings
    storage: Storage
    ledger: Ledger
    rollups: RollupMaker
    outputs: Outputs

    def run(self, work: Work, in_hand: InHand) -> float | None:
        """Close the job if it is over and still open, and no planner stores pages of it any more."""
        ref = work.ref
        status = self.ledger.status(ref)
        if status is None or not self.ledger.is_open(ref) or not _is_over(status):
            return None
        if status.state != "finalizing" and self.ledger.is_planned_now(ref):
            return PLANNER_SECONDS
        return self._close(JobFiles(self.storage, ref, retry=status.retries), status, in_hand)

    def _close(self, files: JobFiles, status: JobStatus, in_hand: InHand) -> float | None:
        head = files.head()
        plan = _Plan.read(files, head) if head else None
        counts = self._count(files, plan, status, in_hand) if plan else Counter[str]()
        if files.retry and plan and not files.is_over() and not self._fold(files, plan, in_hand):
            return 0
        if in_hand.lost:
            return None
        report = _after_retry(files, head, status, counts) if files.retry else _final(status, counts)
        if head:
            # Before the report: once that is stored, a job is not closed again.
            report = retention.mark(self.storage, head, report)
        files.store_report(report)
        if head and report.state == "completed":
            self._tell_of_results(files, head)
        self.ledger.close(files.ref, report, self.settings.keep_seconds)
        files.forget_open()
        return None

    def _fold(self, files: JobFiles, plan: _Plan, in_hand: InHand) -> bool:
        if in_hand.lost:
            return False
        return Fold(self._with_output(files, plan.head), plan.head, plan.shards, self.ledger, in_hand).run()

    def _with_output(self, files: JobFiles, head: JobHead) -> JobFiles:
        return replace(files, output=self.outputs.of(head.output)) if head.output else files

    def _tell_of_results(self, files: JobFiles, head: JobHead) -> None:
        """Everything is there: say so where the results are, and to jobs that skip what this one has done."""
        self._with_output(files, head).mark_success()
        # What was sampled is not what the sources mean.
        is_whole = not (head.dry_run or head.options.sample)
        digest = self._digest(files, head) if is_whole else None
        job = files.job() if digest else None
        if job and digest and any(isinstance(source, S3Source) for source in job.sources):
            remember_alike(self.storage, job, digest)

    def _digest(self, files: JobFiles, head: JobHead) -> str | None:
        """That of the model which the whole job was run with; None where another may have come in between."""
        card = self.ledger.models().get(head.options.model)
        ends = ((run, number) for run in (files.first_run, files) for number in (0, run.page_count() - 1))
        planned = {page.digest for run, number in ends if (page := run.page(number))}
        return card.digest if card and planned == {card.digest} else None

    def give_up(self, _work: Work, _reason: str) -> float | None:
        """Nothing else can close it: it is tried anew later."""
        return CLOSE_AGAIN_SECONDS

    def _count(self, files: JobFiles, plan: _Plan, status: JobStatus, in_hand: InHand) -> Counter[str]:
        counted: Counter[str] = Counter()
        admitted, recovered = self.ledger.admitted(files.ref)
        claimed = plan.shards
        if status.state != "finalizing":
            claimed = min(plan.shards, self._reach(files, plan.shards, admitted) if recovered else admitted)
        for number in range(-(-plan.shards // SHARDS_A_ROLLUP)):
            counted.update(self._rollup(files, plan, number, claimed, recovered=recovered))
            in_hand.progress()
            if in_hand.lost:
                break
        return counted

    def _reach(self, files: JobFiles, planned: int, admitted: int) -> int:
        """How many of the first shards a worker may have claimed, of a ledger that was lost too.

        That let a window of them be claimed behind the last that was committed, however far behind a slow one was.
        """
        numbers = itertools.count()
        whole = next(number for number in numbers if (stored := files.rollup(number)) is None or _is_short(stored))
        last = max(files.committed_shards(whole * SHARDS_A_ROLLUP, planned), default=-1)
        return max(admitted, whole * SHARDS_A_ROLLUP, last + 1) + self.ledger.window

    def _rollup(self, files: JobFiles, plan: _Plan, number: int, claimed: int, *, recovered: bool) -> dict[str, int]:
        first, last = plan.span(number)
        stored = files.rollup(number)
        if recovered and stored and _is_short(stored):
            # A closing that the lost ledger asked for made it. What it skipped may have run since.
            stored = None
        if stored is None or stored.shards < last - first:
            self._skip_uncommitted(files, plan, range(first, min(last, claimed)))
            ran = self.rollups.make(files, number, max(min(last, claimed) - first, 0))
            # What nobody can have claimed has no file of outcomes: its items are skipped, and the roll-up says so.
            left = plan.items_from(max(first, claimed), last)
            stored = ran.model_copy(update={"shards": last - first, "skipped": ran.skipped + left})
            if stored != ran:
                files.store_rollup(stored)
        else:
            # Who stored it may have died before it did this.
            self.ledger.forget_finished(files.ref, number)
        return {"succeeded": stored.succeeded, "failed": stored.failed, "skipped": stored.skipped}

    def _skip_uncommitted(self, files: JobFiles, plan: _Plan, shards: range) -> None:
        """Settle what will not run: its items are skipped, unless a worker commits it at the last moment."""
        if not shards:
            return
        known = self.ledger.finished(files.ref, shards.start // SHARDS_A_ROLLUP)
        if len(known) >= len(shards):
            return
        committed = set(files.committed_shards(shards.start, shards.stop))
        for shard in (shard for shard in shards if shard not in committed):
            skipped = [outcome_of(item, "skipped") for item in plan.page(page_of(shard)).shard(shard, plan.head)]
            self.ledger.count_stored(files.ref, shard, files.commit(shard, skipped))


class _Plan:
    """The plan of a job that is over: how many items and shards, and its pages, the last that was read kept."""

    def __init__(self, files: JobFiles, head: JobHead, items: int) -> None:
        self.head, self.items, self.shards = head, items, shards_of(items, head)
        self._files = files
        self._page: PlanPage | None = None

    @classmethod
    def read(cls, files: JobFiles, head: JobHead) -> _Plan:
        pages = files.page_count()
        last = files.page(pages - 1) if pages else None
        return cls(files, head, last.planned(head) if last else 0)

    def span(self, rollup: int) -> tuple[int, int]:
        """The first shard of a roll-up, and that behind its last."""
        return rollup * SHARDS_A_ROLLUP, min((rollup + 1) * SHARDS_A_ROLLUP, self.shards)

    def items_from(self, first: int, last: int) -> int:
        """How many items the shards from `first` to before `last` hold."""
        size = self.head.shard_size
        return max(min(last * size, self.items) - min(first * size, self.items), 0)

    def page(self, number: int) -> PlanPage:
        if self._page is None or self._page.number != number:
            self._page = self._files.page(number)
        assert self._page is not None, "pages are numbered without a gap"
        return self._page


def _is_over(status: JobStatus) -> bool:
    return status.state == "finalizing" or status.state in FINAL_STATES


def _is_short(rollup: Rollup) -> bool:
    return rollup.shards < SHARDS_A_ROLLUP


def _stored_counts(files: JobFiles, shards: list[int]) -> Iterator[tuple[int, dict[str, int]]]:
    with ThreadPoolExecutor(READS_AT_ONCE, thread_name_prefix="count") as pool:
        for shard, outcomes in zip(shards, pool.map(files.outcomes, shards), strict=True):
            yield shard, count(outcomes or [])


def _sum_up(number: int, counts: Iterator[tuple[int, dict[str, int]]]) -> Rollup:
    total: Counter[str] = Counter()
    failures: dict[int, int] = {}
    shards = 0
    for shard, counted in counts:
        shards += 1
        total.update(counted)
        if counted.get("failed"):
            failures[shard] = counted["failed"]
    return Rollup(number=number, shards=shards, failures=dict(sorted(failures.items())), **total)


def _final(status: JobStatus, counted: Counter[str]) -> JobStatus:
    """The final status, its counts taken from what is stored."""
    total = sum(counted.values())
    counts = Counts(total=total, planned=total, **counted)
    state = "completed" if status.state == "finalizing" else status.state
    update = {"state": state, "counts": counts, "finished_at": time.time(), "eta_seconds": None, "trouble": None}
    return status.model_copy(update=update)


def _after_retry(files: JobFiles, head: JobHead | None, status: JobStatus, counted: Counter[str]) -> JobStatus:
    """The final status of a job after a retry whose items ended so: the one before it, with what is better now.

    A retry that ran to its end leaves a job completed that has every input's result or failure. One that was cut short,
    of which some were never run, stays what it was.
    """
    before = files.report()
    assert before is not None, "what is retried was over"
    if before.retries >= files.retry:
        # Who stored it died before the ledger knew.
        return before
    mended = counted["succeeded"]
    counts = before.counts.model_copy(
        update={"succeeded": before.counts.succeeded + mended, "failed": before.counts.failed - mended}
    )
    state, error = status.state, status.error
    if state == "finalizing":
        whole = head is not None and files.first_run.has_page(counts.planned // head.page_size)
        state, error = ("completed", None) if whole and not counts.skipped else (before.state, before.error)
    now = {"state": state, "error": error, "counts": counts, "retries": files.retry, "finished_at": time.time()}
    return before.model_copy(update=now | {"priority": status.priority})
