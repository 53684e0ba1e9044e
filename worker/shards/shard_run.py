"""One claimed shard on its way: the outcomes of its items gathered, then committed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from maskmill.shared.jobs.records import Failure, Item, JobHead, JobState, Outcome
from maskmill.shared.ledger import ShardLease
from maskmill.worker.outcomes import outcome_of

STOPPED: frozenset[JobState | None] = frozenset({None, "cancelled", "failed", "paused"})
# What its worker died at so often fails alone.
TOUCHES = 2


@dataclass
class Held:
    """What this worker has a lease of; `state` is its job's, as the last renewal told, None once the lease is lost.

    `renewed_at` is the time of that, of the monotonic clock.
    """

    lease: ShardLease
    job: JobHead
    state: JobState | None = field(default="running", kw_only=True)
    renewed_at: float = field(default_factory=time.monotonic, kw_only=True)

    @property
    def wanted(self) -> bool:
        """Whether the job still runs and the lease is still held."""
        return self.state not in STOPPED


@dataclass
class ShardRun(Held):
    """A shard that this worker holds; `finished` is called once, when the last item has its outcome."""

    items: tuple[Item, ...]
    finished: Callable[[ShardRun], None]
    passwords: dict[str, str] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)
    annotations: dict[int, bytes] = field(default_factory=dict)
    _dropped: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def whole(self) -> bool:
        """Whether every item has its outcome."""
        return len(self.outcomes) == len(self.items)

    def add(self, outcome: Outcome | None, annotation: bytes | None = None) -> None:
        """Take an item's outcome, or None for one that was dropped."""
        with self._lock:
            if outcome is None:
                self._dropped += 1
            else:
                self.outcomes.append(outcome)
            if outcome is not None and annotation is not None:
                self.annotations[outcome.number] = annotation
            over = len(self.outcomes) + self._dropped == len(self.items)
        if over:
            self.finished(self)

    def fail(self, item: Item, failure: Failure) -> None:
        """Take an item's failure."""
        self.add(outcome_of(item, "failed", error=failure))

    def annotation_lines(self) -> bytes:
        """The shard's annotations file: one line for each item that succeeded, in order."""
        return b"".join(self.annotations[number] + b"\n" for number in sorted(self.annotations))
