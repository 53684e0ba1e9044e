"""The shards that this process holds, kept by renewing them; a renewal also tells of cancel and pause."""

from __future__ import annotations

import logging
import threading

from maskmill.shared.errors import LedgerUnavailable
from maskmill.shared.ledger import Ledger
from maskmill.worker.shards.shard_run import ShardRun

logger = logging.getLogger(__name__)


class Leases:
    """Held shards; `renew` is to be called several times within a lease's length."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._held: dict[tuple[str, int], ShardRun] = {}
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return len(self._held)

    def hold(self, run: ShardRun) -> None:
        """Renew this shard from now on."""
        with self._changed:
            self._held[run.lease.job_id, run.lease.shard] = run

    def drop(self, run: ShardRun) -> None:
        """Renew it no longer."""
        with self._changed:
            self._held.pop((run.lease.job_id, run.lease.shard), None)
            self._changed.notify_all()

    def wait_for_change(self, seconds: float) -> None:
        """Wait until a shard is dropped, `seconds` at most."""
        with self._changed:
            self._changed.wait(seconds)

    def renew(self) -> None:
        """Renew every held shard; where Redis is away the work goes on, since storage decides what counts."""
        for run in list(self._held.values()):
            try:
                run.state = self._ledger.renew(run.lease)
            except LedgerUnavailable as error:
                logger.warning("lease not renewed: %s", error)
                return
