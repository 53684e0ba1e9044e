"""Run control work: what the ledger says is due, each kind by its handler, its lease kept while it lasts."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from maskmill.shared.errors import LedgerUnavailable, RequestError, StorageRefused, Unavailable
from maskmill.shared.ledger import Ledger, Work

MOST_FAILURES = 5
AWAY_SECONDS = 2.0
REFUSED_SECONDS = 15.0
# Longer than any one call to a storage that hangs.
STILL_SECONDS = 600.0

logger = logging.getLogger(__name__)


class Handler(Protocol):
    """One kind of control work."""

    def run(self, work: Work, in_hand: InHand) -> float | None:
        """Do it: None once it is done, else the seconds until it is to be gone on with. May be killed anywhere."""

    def give_up(self, work: Work, reason: str) -> float | None:
        """It cannot be done: end what waits for it, with that reason; or the seconds until it is tried anew."""


@dataclass
class InHand:
    """Control work that this process has: whether it still does, and that it gets on."""

    work: Work
    lost: bool = False
    moved: bool = False
    moved_at: float = field(default_factory=time.monotonic)

    def alive(self) -> None:
        """It gets on, though nothing of it is done for good yet."""
        self.moved_at = time.monotonic()

    def progress(self) -> None:
        """Something of it is done for good: dying after this is no second failure at the same place."""
        self.moved, self.moved_at = True, time.monotonic()


@dataclass
class WorkRunner:
    """Runs due control work; `run` may be called by many threads, `keep` by one several times a lease."""

    ledger: Ledger
    handlers: Mapping[str, Handler]
    draining: Callable[[], bool] = lambda: False
    _in_hand: dict[int, InHand] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self) -> None:
        """Do what is due until nothing is, or Redis is away: then leases end by themselves."""
        try:
            while not self.draining() and (work := self.ledger.claim_work()):
                self._hold(work)
        except LedgerUnavailable as error:
            logger.warning("control work waits: %s", error)

    def _hold(self, work: Work) -> None:
        in_hand = InHand(work)
        with self._lock:
            self._in_hand[work.token] = in_hand
        try:
            self._do(work, in_hand)
        finally:
            with self._lock:
                del self._in_hand[work.token]

    def keep(self) -> None:
        """Renew the lease of all that is in hand."""
        with self._lock:
            held = list(self._in_hand.values())
        for in_hand in held:
            if time.monotonic() - in_hand.moved_at > STILL_SECONDS:
                if not in_hand.lost:
                    logger.error("%s stands still; somebody else may go on with it", in_hand.work.name)
                in_hand.lost = True
            else:
                moved, in_hand.moved = in_hand.moved, False
                in_hand.lost = not self.ledger.renew_work(in_hand.work, progress=moved)

    def _do(self, work: Work, in_hand: InHand) -> None:
        handler = self.handlers[work.kind]
        try:
            if work.failures >= MOST_FAILURES:
                self._give_up(handler, work, work.error or "whoever had it died of it")
                return
            seconds = handler.run(work, in_hand)
        except RequestError as error:
            self._give_up(handler, work, error.reason)
        except Unavailable as error:
            logger.warning("%s waits: %s", work.name, error)
            self.ledger.put_off_work(work, AWAY_SECONDS, error.reason, blameless=True)
        except StorageRefused as error:
            logger.error("%s waits, the storage refuses: %s", work.name, error)
            self.ledger.tell_trouble(work.ref, error.reason)
            self.ledger.put_off_work(work, REFUSED_SECONDS, error.reason, blameless=True)
        except Exception as error:
            logger.exception("%s failed, for the %d. time", work.name, work.failures + 1)
            self.ledger.put_off_work(work, 2.0**work.failures, f"{type(error).__name__}: {error}"[:500])
        else:
            self._end(work, seconds)

    def _give_up(self, handler: Handler, work: Work, reason: str) -> None:
        logger.error("%s is given up: %s", work.name, reason)
        self._end(work, handler.give_up(work, reason))

    def _end(self, work: Work, seconds: float | None) -> None:
        if seconds is None:
            self.ledger.end_work(work)
        else:
            self.ledger.put_off_work(work, seconds)
