"""Admission: what many threads of one process share is let out in bounded amounts, so that some threads stay free."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from maskmill.shared.errors import Overloaded


class Admission:
    """A bounded amount (of requests that wait, of bytes) that threads hold for a while.

    Who finds no room waits up to `seconds` for it, at most `waiters` threads at once; past that it is Overloaded.
    Nobody waits while holding something of the same Admission, so there is no deadlock.
    """

    def __init__(self, amount: int, refusal: str, *, waiters: int = 0, seconds: float = 0) -> None:
        """`refusal` tells the caller what there is too much of."""
        self._amount, self._refusal = amount, refusal
        self._waiters, self._seconds = waiters, seconds
        self._held = self._waiting = 0
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, amount: int = 1) -> Iterator[None]:
        """Hold `amount` for as long as the context lasts; raises Overloaded."""
        with self._changed:
            if not self._fits(amount) and not self._wait_for_room(amount):
                raise Overloaded(self._refusal)
            self._held += amount
        try:
            yield
        finally:
            with self._changed:
                self._held -= amount
                self._changed.notify_all()

    def _wait_for_room(self, amount: int) -> bool:
        if self._waiting >= self._waiters:
            return False
        self._waiting += 1
        try:
            return self._changed.wait_for(lambda: self._fits(amount), self._seconds)
        finally:
            self._waiting -= 1

    def _fits(self, amount: int) -> bool:
        return self._held == 0 or self._held + amount <= self._amount
