"""The tick that makes up for whatever was lost: expired leases, unheard bells, a lost Redis. It costs what is due."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from maskmill.shared.doorbell import Doorbell
from maskmill.shared.errors import MaskmillError, StorageRefused
from maskmill.shared.jobs import deletions, retention
from maskmill.shared.jobs.job_files import JobFiles, abandoned_uploads, open_runs
from maskmill.shared.ledger import Ledger
from maskmill.shared.recovery import enter_stored
from maskmill.shared.settings import Settings
from maskmill.shared.storage import Storage, delete_old_probes
from maskmill.worker.retry import Said

RECOVER_SECONDS = 20.0
REFS_AT_ONCE = 1000
MANY = 1_000_000
EXPIRED_AT_ONCE = 100

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sweeper:
    """What sweeping needs; several may sweep at once."""

    settings: Settings
    storage: Storage
    ledger: Ledger
    doorbell: Doorbell
    clock: Callable[[], float] = time.time

    def sweep_until(self, stopped_within: Callable[[float], bool]) -> None:
        """Sweep every few seconds, until `stopped_within` that time; an outage is logged and waited out."""
        recovered_at, said = -RECOVER_SECONDS, Said()
        while not stopped_within(self.settings.sweep_seconds):
            try:
                self.sweep()
                if time.monotonic() - recovered_at >= min(RECOVER_SECONDS, 10 * self.settings.sweep_seconds):
                    self.recover(stopped_within)
                    recovered_at = time.monotonic()
            except StorageRefused as error:
                if said.is_news(error):
                    logger.error("sweep put off, the storage refuses: %s", error)
            except MaskmillError as error:
                if said.is_news(error):
                    logger.warning("sweep put off: %s", error)
                recovered_at = -RECOVER_SECONDS
            except Exception:
                # Nothing may end what frees leases.
                logger.exception("sweep failed")

    def sweep(self) -> None:
        """Free what expired, and ring for what waits without a bell."""
        for ref, shard in self.ledger.expire():
            logger.warning("shard %s/%s was not renewed; it is free again", ref, shard)
        if due := self.ledger.due_work():
            self.doorbell.ring_control(due)
        for model in self.ledger.models_with_work():
            self.doorbell.ring("bulk", model, MANY)

    def recover(self, stopped_within: Callable[[float], bool] = lambda _: False) -> None:
        """Enter open jobs and deletions that storage knows and the ledger does not, and forget what is long over."""
        runs = open_runs(self.storage)
        while some := list(itertools.islice(runs, REFS_AT_ONCE)):
            for files, is_open in zip(some, self.ledger.are_open(files.ref for files in some), strict=True):
                if stopped_within(0):
                    return
                if not is_open:
                    self._try_to_enter(files)
        self._delete_expired()
        self._go_on_deleting()
        for folder in abandoned_uploads(self.storage, time.time()):
            logger.warning("uploads of a request that never became a job are removed: %s", folder)
        delete_old_probes(self.storage, time.time())
        self.ledger.forget()

    def _delete_expired(self) -> None:
        """Begin to delete what has expired: some at a time, since leases wait to be freed meanwhile."""
        now = self.clock()
        for one in itertools.islice(retention.due(self.storage, now), EXPIRED_AT_ONCE):
            try:
                if retention.delete_expired(self.storage, one, now):
                    logger.info("%s of job %s has expired and is being deleted", one.part, one.ref)
            except ValueError as error:
                # Nor will it be: it stays until somebody deletes it.
                self.storage.delete(one.marker)
                logger.error("whether job %s has expired is not known: %s", one.ref, " ".join(str(error).split())[:500])

    def _go_on_deleting(self) -> None:
        """Let the deletions be due that the ledger does not know of."""
        found = deletions.all_work(self.storage)
        while run := list(itertools.islice(found, REFS_AT_ONCE)):
            if added := self.ledger.add_work(run):
                self.doorbell.ring_control(added)

    def _try_to_enter(self, files: JobFiles) -> None:
        try:
            if self._enter_again(files):
                logger.warning("job %s entered again from storage", files.ref)
        except ValueError as error:
            # What one job keeps there is spoiled, which is no reason to leave the others out.
            logger.error("job %s cannot be entered again: %s", files.ref, " ".join(str(error).split())[:500])

    def _enter_again(self, files: JobFiles) -> bool:
        if not files.is_accepted():
            files.forget_unaccepted(time.time())
            return False
        if files.is_over():
            files.forget_open()
            return False
        if not enter_stored(self.ledger, files):
            return False
        self.doorbell.ring_control()
        return True
