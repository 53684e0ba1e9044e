"""Progress: whether a pipeline moves, and where its time goes."""

from __future__ import annotations

import threading
import time

STAGES = ("fetch", "decode", "infer", "finish", "deliver")


class Progress:
    """When something last moved, seconds spent in each stage, and how often it ran: for a batch, once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._moved = time.monotonic()
        self.under_way = 0
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self.runs = dict.fromkeys(STAGES, 0)

    def moved(self) -> None:
        """Something moved, or waits for a reason that is not its own."""
        self._moved = time.monotonic()

    def stalled(self, seconds: float) -> bool:
        """Whether work is under way and nothing has moved for so long."""
        return self.under_way > 0 and time.monotonic() - self._moved > seconds

    def count(self, change: int) -> None:
        with self._lock:
            self.under_way += change
        self.moved()

    def spent(self, stage: str, seconds: float) -> None:
        with self._lock:
            self.seconds[stage] += seconds
            self.runs[stage] += 1
        self.moved()
