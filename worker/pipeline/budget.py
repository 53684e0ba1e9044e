"""Admission: who wants to hold more than fits waits until others have let go."""

from __future__ import annotations

import threading


class Budget:
    """A bounded amount (of pixels, of bytes) shared by threads; one larger than the whole is let in alone.

    Who asks first is let in first: were a large amount overtaken by small ones, it might wait for ever.
    """

    def __init__(self, amount: int) -> None:
        self._amount = amount
        self._held = 0
        self._turn = threading.Lock()
        self._changed = threading.Condition()

    def acquire(self, amount: int) -> int:
        """Wait until `amount` fits, and hold it; returns what to give back."""
        with self._turn, self._changed:
            self._changed.wait_for(lambda: self._held == 0 or self._held + amount <= self._amount)
            self._held += amount
        return amount

    def release(self, amount: int) -> None:
        """Give `amount` back."""
        with self._changed:
            self._held -= amount
            self._changed.notify_all()
