"""The tick that makes up for whatever was lost: expired leases, unheard bells, stalled planners, a lost Redis."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from maskmill.shared.doorbell import CONTROL_QUEUE, Doorbell, queue_name
from maskmill.shared.errors import MaskmillError
from maskmill.shared.jobs.records import JobStatus
from maskmill.shared.ledger import Ledger
from maskmill.shared.settings import Settings
from maskmill.shared.storage import Storage
from maskmill.worker.control.finalizer import enter_again

CONTROL_BACKLOG = 100
RECOVER_EVERY = 10

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sweeper:
    """What sweeping needs; several may sweep at once."""

    settings: Settings
    storage: Storage
    ledger: Ledger
    doorbell: Doorbell

    def sweep_until(self, stopped_within: Callable[[float], bool]) -> None:
        """Sweep every few seconds, until `stopped_within` that time; an outage is logged and waited out."""
        tick = 0
        while not stopped_within(self.settings.sweep_seconds):
            try:
                if tick % RECOVER_EVERY == 0:
                    self.recover()
                self.sweep()
                tick += 1
            except MaskmillError as error:
                logger.warning("sweep put off: %s", error)
                tick = 0

    def recover(self) -> None:
        """Enter open jobs that storage knows and the ledger does not, and forget what is long over."""
        for job_id in enter_again(self.storage, self.ledger):
            logger.warning("job %s entered again from storage", job_id)
            self.doorbell.ring_plan(job_id)
        self.ledger.trim()

    def sweep(self) -> None:
        """Free what expired and ring for every open job that waits without a message."""
        for job_id, shard in self.ledger.expire():
            logger.warning("shard %s/%d was not renewed; it is free again", job_id, shard)
        room = CONTROL_BACKLOG - self.doorbell.waiting(CONTROL_QUEUE)
        hungry: set[str] = set()
        for status in filter(None, map(self.ledger.status, self.ledger.open_jobs())):
            if status.state in ("planning", "running") and self.ledger.ready(status.id):
                hungry.add(status.model)
            if room > 0 and self._ring_control(status):
                room -= 1
        for model in hungry:
            if not self.doorbell.waiting(queue_name("bulk", model)):
                self.doorbell.ring("bulk", model)

    def _ring_control(self, status: JobStatus) -> bool:
        if status.state in ("queued", "planning"):
            if self.ledger.plan_is_held(status.id):
                return False
            self.doorbell.ring_plan(status.id)
        elif status.state in ("finalizing", "completed", "failed", "cancelled"):
            self.doorbell.ring_close(status.id)
        else:
            return False
        return True
