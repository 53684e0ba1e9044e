"""Probe: a check of a service that may hang, asked by many and never waited for longer than a few seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

from maskmill.shared.errors import Unavailable

T = TypeVar("T")

SECONDS = 3.0


class Probe(Generic[T]):
    """Runs a check in a thread of its own, once at a time: who asks meanwhile shares its result.

    Else a service that hangs would hold a thread for each time that a load balancer asks how it is.
    """

    def __init__(self, check: Callable[[], T]) -> None:
        self._check = check
        self._starting = threading.Lock()
        self._result: Future[T] | None = None

    def start(self) -> Future[T]:
        """The result of the check that is under way, or of a new one."""
        with self._starting:
            if self._result is None or self._result.done():
                self._result = Future()
                threading.Thread(target=self._run, args=(self._result,), name="probe", daemon=True).start()
            return self._result

    def _run(self, result: Future[T]) -> None:
        try:
            result.set_result(self._check())
        except Exception as error:  # noqa: BLE001 - whoever asked gets it
            result.set_exception(error)


def by(deadline: float, result: Future[T]) -> T:
    """The result, by `deadline` on the monotonic clock; raises what the check raised, Unavailable where it hangs."""
    try:
        return result.result(max(deadline - time.monotonic(), 0))
    except TimeoutError:
        raise Unavailable(f"no answer within {SECONDS:g} s") from None
