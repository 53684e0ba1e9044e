"""Fold a retry back: what came of its items takes the place of their failures, in the files of the job's first run.

Each shard's files are rewritten from what is stored of it and of the retry, and so is the roll-up that counts it:
however often a part is folded, the same comes out. What the retry did not run keeps its outcome.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from maskmill.shared.jobs.job_files import JobFiles, count
from maskmill.shared.jobs.records import JobHead, Outcome, Rollup, rollup_of
from maskmill.shared.ledger import Ledger
from maskmill.worker.control.runner import InHand

SHARDS_AT_ONCE = 8
TURN_SECONDS = 10.0


@dataclass(frozen=True)
class Ended:
    """An item that the retry ran: in which of its shards, its outcome, and its line of annotations if it has one."""

    retry_shard: int
    outcome: Outcome
    annotation: bytes | None = None


@dataclass
class Fold:
    """Folds back one retry, so many shards of it; `files` are its own, with where the job's artifacts are."""

    files: JobFiles
    head: JobHead
    shards: int
    ledger: Ledger
    in_hand: InHand
    _pool: ThreadPoolExecutor = field(init=False)

    def run(self) -> bool:
        """Go on with folding; False where the work was lost, or gave way to other work that is due, before the end."""
        begun = time.monotonic()
        with ThreadPoolExecutor(SHARDS_AT_ONCE, thread_name_prefix="fold") as self._pool:
            ended = self._ended(self.ledger.folded(self.files.ref))
            for number, run in itertools.groupby(ended, lambda one: rollup_of(self._shard_of(one))):
                last = self._fold_rollup(number, run)
                if self.in_hand.lost or not self.ledger.note_folded(self.in_hand.work, last):
                    return False
                if time.monotonic() - begun > TURN_SECONDS and self.ledger.due_work():
                    return False
        return True

    def _shard_of(self, one: Ended) -> int:
        return one.outcome.number // self.head.shard_size

    def _ended(self, first: int) -> Iterator[Ended]:
        """What the retry ran from its shard `first` on, by number of the item."""
        shards = self.files.committed_shards(first, self.shards)
        while run := list(itertools.islice(shards, SHARDS_AT_ONCE)):
            for found in self._pool.map(self._read, run):
                yield from found

    def _read(self, retry_shard: int) -> list[Ended]:
        outcomes = self.files.outcomes(retry_shard) or []
        lines = self.files.annotations(retry_shard) if count(outcomes).get("succeeded") else {}
        ran = (outcome for outcome in outcomes if outcome.status != "skipped")
        return [Ended(retry_shard, outcome, lines.get(outcome.number)) for outcome in ran]

    def _fold_rollup(self, number: int, ended: Iterable[Ended]) -> int:
        """Fold back what one roll-up of the job counts; with which shard of the retry that ends."""
        shards = ((shard, list(found)) for shard, found in itertools.groupby(ended, self._shard_of))
        failed: dict[int, int] = {}
        last = 0
        while run := list(itertools.islice(shards, SHARDS_AT_ONCE)):
            if self.in_hand.lost:
                return last
            failed.update(self._pool.map(self._fold_shard, run))
            last = run[-1][1][-1].retry_shard
            self.in_hand.alive()
        files = self.files.first_run
        if (stored := files.rollup(number)) and (folded := folded_rollup(stored, failed)) != stored:
            files.store_rollup(folded)
        return last

    def _fold_shard(self, found: tuple[int, list[Ended]]) -> tuple[int, int]:
        """Rewrite the files of a shard, in the order in which a worker writes them; the shard and its failures now."""
        shard, ended = found
        files = self.files.first_run
        outcomes = folded_outcomes(files.outcomes(shard) or [], ended)
        lines = {one.outcome.number: one.annotation for one in ended if one.annotation is not None}
        if lines:
            kept = files.annotations(shard) | lines
            files.store_annotations(shard, b"".join(kept[number] + b"\n" for number in sorted(kept)))
            files.store_refs(self.head, shard, outcomes)
        files.replace_outcomes(shard, outcomes)
        return shard, count(outcomes).get("failed", 0)


def folded_outcomes(stored: Iterable[Outcome], ended: Iterable[Ended]) -> list[Outcome]:
    """A shard's outcomes, those that ended in the retry in place of those before."""
    by_number = {outcome.number: outcome for outcome in stored}
    return list((by_number | {one.outcome.number: one.outcome for one in ended}).values())


def folded_rollup(stored: Rollup, failed: dict[int, int]) -> Rollup:
    """The roll-up once so many items fail in these shards of it: what failed no more has succeeded."""
    mended = sum(stored.failures.get(shard, 0) - now for shard, now in failed.items())
    failures = {shard: now for shard, now in sorted((stored.failures | failed).items()) if now}
    update = {"succeeded": stored.succeeded + mended, "failed": stored.failed - mended, "failures": failures}
    return stored.model_copy(update=update)
