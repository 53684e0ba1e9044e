"""Delete a job: its records first, so that it is not there for anybody, then all else that it stored, page by page.

It may be killed anywhere, and done by two at once: what is left is listed anew, and the marker goes last. It costs the
listing and the deletes; of what the job wrote to its own output, a read of each outcomes file too.
"""

from __future__ import annotations

import itertools
import logging
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from maskmill.shared.jobs import deletions, keys, retention
from maskmill.shared.jobs.deletions import JOB, UPLOADS
from maskmill.shared.jobs.job_files import JobFiles
from maskmill.shared.jobs.keys import id_of
from maskmill.shared.jobs.records import Outcome
from maskmill.shared.ledger import Ledger, Work
from maskmill.shared.settings import Settings
from maskmill.shared.storage import Storage
from maskmill.shared.storage.outputs import Outputs
from maskmill.worker.control.runner import InHand

KEYS_AT_ONCE = 1000
# With 32 items a shard and two artifacts an item, they make one request to delete.
SHARDS_AT_ONCE = 15
TURN_SECONDS = 10.0
# Closing it is a matter of seconds.
CLOSING_SECONDS = 2.0
LEFT_SECONDS = 5.0
DELETE_AGAIN_SECONDS = 300.0
# Renewed several times a lease, a worker knows by then that its shard is another's or that the job is over.
SETTLED_LEASES = 2

logger = logging.getLogger(__name__)


class GivesWay(Exception):
    """Others wait and this turn is over, or somebody else has the work."""


@dataclass(frozen=True)
class Deleter:
    """The handler of "delete"; one for the process, safe in many threads and twice for one job."""

    settings: Settings
    storage: Storage
    ledger: Ledger
    outputs: Outputs
    turn_seconds: float = TURN_SECONDS

    def run(self, work: Work, in_hand: InHand) -> float | None:
        """Go on deleting until nothing is left, others wait, or the job has to be closed first."""
        files = JobFiles(self.storage, work.ref)
        # Whoever closes it reads what would be deleted.
        if files.is_open():
            return CLOSING_SECONDS
        turn = _Turn(self.ledger, work, in_hand, time.monotonic() + self.turn_seconds)
        try:
            return self._delete_uploads(files, turn) if work.part == UPLOADS else self._delete_job(files, turn)
        except GivesWay:
            return 0

    def give_up(self, _work: Work, _reason: str) -> float | None:
        """Nothing else can delete it: it is tried anew later."""
        return DELETE_AGAIN_SECONDS

    def _delete_uploads(self, files: JobFiles, turn: _Turn) -> float | None:
        if not deletions.is_under_way(self.storage, files.ref, UPLOADS):
            return None
        uploads = keys.inputs(files.ref, "")
        _delete_below(self.storage, uploads, turn)
        return self._end(files, UPLOADS, uploads, turn)

    def _delete_job(self, files: JobFiles, turn: _Turn) -> float | None:
        deletion = deletions.find(self.storage, files.ref)
        if deletion is None:
            return None
        if not self.ledger.drop(files.ref):
            return CLOSING_SECONDS
        turn.begin()
        retention.forget(files)
        files.forget_records()
        if deletion.with_output and deletion.output:
            self._delete_results(files, self.outputs.of(deletion.output), turn)
        folder = keys.folder(files.ref)
        _delete_below(self.storage, folder, turn)
        # A worker that was late may still store what nobody asks for any more.
        settled = deletion.ended_at + SETTLED_LEASES * self.settings.lease_seconds
        if (left := settled - time.time()) > 0:
            return left
        return self._end(files, JOB, folder, turn)

    def _end(self, files: JobFiles, part: str, prefix: str, turn: _Turn) -> float | None:
        """Take the marker away, once nothing is left below the prefix."""
        if next(_keys_below(self.storage, prefix), None) is not None:
            return LEFT_SECONDS
        turn.begin()
        deletions.end(self.storage, files.ref, part)
        return None

    def _delete_results(self, files: JobFiles, output: Storage, turn: _Turn) -> None:
        """Delete what the job wrote to its output, where others write too: what its outcomes name, and no listing."""
        shards = files.committed_shards(0, sys.maxsize)
        with ThreadPoolExecutor(SHARDS_AT_ONCE, thread_name_prefix="outcomes") as pool:
            while run := tuple(itertools.islice(shards, SHARDS_AT_ONCE)):
                found = tuple(pool.map(lambda shard: _outcomes(files, shard), run))
                turn.delete(output, _artifacts(itertools.chain.from_iterable(found)))
                # What was named there is gone: now they may go as well.
                turn.delete(self.storage, (keys.outcome(files.ref, shard) for shard in run))
        _delete_below(output, f"{keys.REFS}{id_of(files.ref)}/", turn)
        if list(output.list(limit=2)) == [keys.SUCCESS]:
            output.delete(keys.SUCCESS)


@dataclass
class _Turn:
    """The right to delete, shown before each request and again where one takes long.

    Whoever was overtaken must delete nothing of a job that the same Idempotency-Key has made since.
    """

    ledger: Ledger
    work: Work
    in_hand: InHand
    over: float
    kept_at: float = 0.0

    def begin(self) -> None:
        """Keep the lease; raises GivesWay."""
        if time.monotonic() >= self.over and self.ledger.due_work():
            raise GivesWay
        self._keep()

    def delete(self, storage: Storage, found: Iterable[str]) -> None:
        """Delete what was found; raises GivesWay."""
        self.begin()
        storage.delete_all(self._while_kept(found))
        self.in_hand.progress()

    def _while_kept(self, found: Iterable[str]) -> Iterator[str]:
        for key in found:
            if time.monotonic() - self.kept_at > self.ledger.lease_seconds / 4:
                self._keep()
            yield key

    def _keep(self) -> None:
        if not self.ledger.renew_work(self.work):
            raise GivesWay
        self.kept_at = time.monotonic()


def _delete_below(storage: Storage, prefix: str, turn: _Turn) -> None:
    found = _keys_below(storage, prefix)
    while batch := tuple(itertools.islice(found, KEYS_AT_ONCE)):
        turn.delete(storage, batch)


def _keys_below(storage: Storage, prefix: str) -> Iterator[str]:
    """The keys below it, without the objects by which some programs mark a folder: they are none of ours."""
    return (key for key in storage.list(prefix) if not key.endswith("/"))


def _outcomes(files: JobFiles, shard: int) -> Sequence[Outcome]:
    try:
        return files.outcomes(shard) or ()
    except ValueError:
        # Whom they name nobody can tell any more; the job is to go all the same.
        logger.exception("the outcomes of shard %s/%d are spoiled; what they name stays", files.ref, shard)
        return ()


def _artifacts(outcomes: Iterable[Outcome]) -> Iterator[str]:
    return (name for outcome in outcomes for name in outcome.artifacts.values())
