"""Outages are waited out: a service that is away pauses the work, and one that refuses pauses it loudly."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import ParamSpec, TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_exponential, wait_random

from maskmill.shared.errors import (
    LedgerUnavailable,
    StorageRefused,
    StorageUnavailable,
    UrlTimeout,
    UrlUnreachable,
)

P = ParamSpec("P")
R = TypeVar("R")

URL_TRIES = 3
LONGEST_PAUSE = 5.0
QUIET_SECONDS = 60

OURS = (StorageUnavailable, StorageRefused, LedgerUnavailable)
THEIRS = (UrlTimeout, UrlUnreachable)

logger = logging.getLogger(__name__)


def patiently(call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call until storage and ledger answer, and do not refuse; a URL that does not answer gets URL_TRIES tries.

    What is refused is waited for as well: without the storage no outcome could be kept, and an operator, who is told
    by the log and by `trouble`, can mend it. Whoever reads or puts an item's own object asks by `for_one_object`,
    which tells a refusal of that object from one of the storage.
    """
    retrying = Retrying(
        retry=retry_if_exception_type(OURS + THEIRS),
        stop=_gives_up,
        wait=wait_exponential(multiplier=0.2, max=LONGEST_PAUSE) + wait_random(0, 0.2),
        before_sleep=_waits.begin,
        reraise=True,
    )
    try:
        return retrying(call, *args, **kwargs)
    finally:
        _waits.end()


def outage() -> bool:
    """Whether a thread of this process waits for a service: then standing still is no fault of the process."""
    return _waits.any()


def trouble() -> str:
    """What refuses its service to this process, since when and what to do about it; empty where nothing does."""
    return _waits.refusal()


def _gives_up(state: RetryCallState) -> bool:
    return isinstance(_error(state), THEIRS) and state.attempt_number >= URL_TRIES


def _error(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


@dataclass(frozen=True)
class _Wait:
    """What a thread waits for: the latest error, and when it was the first time of that kind."""

    error: BaseException
    since: float


class Said:
    """What a log was told lately: an outage is worth one line in QUIET_SECONDS, not one for each try."""

    def __init__(self) -> None:
        self._said: dict[type[BaseException], float] = {}

    def is_news(self, error: BaseException) -> bool:
        """Whether the log has not had an error of that kind for QUIET_SECONDS; from now on it has."""
        now = time.monotonic()
        news = now - self._said.get(type(error), float("-inf")) >= QUIET_SECONDS
        if news:
            self._said[type(error)] = now
        return news


class _Waits:
    """Which threads of the process wait, from a call's first failure until it succeeds or gives up."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waits: dict[int, _Wait] = {}
        self._said = Said()

    def begin(self, state: RetryCallState) -> None:
        """This thread waits, or goes on to, because of the call's latest error."""
        error = _error(state)
        assert error is not None
        thread = threading.get_ident()
        with self._lock:
            before = self._waits.get(thread)
            same = before is not None and type(before.error) is type(error)
            self._waits[thread] = _Wait(error, before.since if before and same else time.time())
            news = self._said.is_news(error)
        if news:
            level = logging.ERROR if isinstance(error, StorageRefused) else logging.WARNING
            logger.log(level, "the work waits: %s", error)

    def end(self) -> None:
        """This thread waits no more."""
        with self._lock:
            self._waits.pop(threading.get_ident(), None)

    def any(self) -> bool:
        """Whether a thread waits."""
        with self._lock:
            return bool(self._waits)

    def refusal(self) -> str:
        """The refusal that a thread waits on longest; empty where there is none."""
        with self._lock:
            refused = [wait for wait in self._waits.values() if isinstance(wait.error, StorageRefused)]
        first = min(refused, key=lambda wait: wait.since, default=None)
        if first is None:
            return ""
        since = datetime.fromtimestamp(first.since, UTC).isoformat(timespec="seconds")
        return f"refused since {since}: {first.error}"


_waits = _Waits()
