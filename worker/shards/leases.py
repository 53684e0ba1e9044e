"""The leases that this process holds, kept by renewing them; a renewal also tells of cancel and pause."""

from __future__ import annotations

import logging
import threading
import time

from maskmill.shared.errors import LedgerUnavailable
from maskmill.shared.ledger import Ledger
from maskmill.worker.retry import Said
from maskmill.worker.shards.shard_run import Held

logger = logging.getLogger(__name__)


class Leases:
    """Held leases; `renew` is to be called several times within a lease's length."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        # Not by shard: a lease that was lost may be followed by another while its run is still on the way.
        self._held: dict[int, Held] = {}
        self._changed = threading.Condition()
        self._said = Said()

    def __len__(self) -> int:
        return len(self._held)

    def hold(self, held: Held) -> None:
        """Renew this lease from now on."""
        with self._changed:
            self._held[id(held)] = held

    def drop(self, held: Held) -> None:
        """Renew it no longer."""
        with self._changed:
            self._held.pop(id(held), None)
            self._changed.notify_all()

    def wait_for_change(self, seconds: float) -> None:
        """Wait until a lease is dropped, `seconds` at most."""
        with self._changed:
            self._changed.wait(seconds)

    def renew(self, trouble: str = "") -> None:
        """Renew every lease, saying what this worker waits for.

        Where Redis is away the work goes on, since storage decides what counts.
        """
        with self._changed:
            held_now = list(self._held.values())
        for held in held_now:
            asked_at = time.monotonic()
            try:
                held.state = self._ledger.renew(held.lease, trouble)
                held.renewed_at = asked_at
            except LedgerUnavailable as error:
                if self._said.is_news(error):
                    logger.warning("lease not renewed: %s", error)
                return
