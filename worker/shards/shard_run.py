"""One claimed shard on its way: its items as tasks of the pipeline, their outcomes gathered, then committed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from maskmill.shared.jobs import keys
from maskmill.shared.jobs.records import Failure, Item, Job, JobState, Options, Outcome
from maskmill.shared.jobs.sources import PdfOptions
from maskmill.shared.ledger import ShardLease
from maskmill.shared.storage import Storage
from maskmill.worker.masks.segmented import Segmented
from maskmill.worker.models import Model
from maskmill.worker.outcomes import outcome_of
from maskmill.worker.pipeline.task import Done
from maskmill.worker.rendering.artifacts import Rendered, render
from maskmill.worker.retry import patiently
from maskmill.worker.sources.fetch import Fetcher

STOPPED: frozenset[JobState | None] = frozenset({None, "cancelled", "failed", "paused"})


@dataclass
class ShardRun:
    """A shard that this worker holds; `finished` is called once, when the last item has its outcome."""

    lease: ShardLease
    job: Job
    items: tuple[Item, ...]
    finished: Callable[[ShardRun], None]
    state: JobState | None = "running"
    outcomes: list[Outcome] = field(default_factory=list)
    annotations: dict[int, bytes] = field(default_factory=dict)
    _dropped: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def wanted(self) -> bool:
        """Whether the job still runs and the lease is still held."""
        return self.state not in STOPPED

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


@dataclass
class ItemTask:
    """An item of a shard, as the pipeline sees it; its artifacts go to storage."""

    run: ShardRun
    item: Item
    model: Model
    storage: Storage
    fetcher: Fetcher
    after: Callable[[], None] | None = None

    @property
    def options(self) -> Options:
        return self.run.job.options

    @property
    def page_index(self) -> int | None:
        return self.item.page_index

    @property
    def pdf(self) -> PdfOptions | None:
        return self.item.pdf

    def wanted(self) -> bool:
        return self.run.wanted

    def fetch(self) -> bytes:
        return patiently(self.fetcher.fetch, self.item.location)

    def finish(self, segmented: Segmented) -> Rendered:
        return render(segmented, self.item, self.options, self.model)

    def deliver(self, rendered: Rendered) -> Rendered:
        for artifact in rendered.artifacts.values():
            key = keys.artifact(self.run.job.id, artifact.name)
            patiently(self.storage.put, key, artifact.data, content_type=artifact.content_type)
        return rendered

    def done(self, done: Done) -> None:
        if self.after:
            self.after()
        if done.failure:
            self.run.fail(self.item, done.failure)
        elif done.error is not None:
            self.run.add(None)
        else:
            self.run.add(_succeeded(self.item, done.value), done.value.annotation)


def _succeeded(item: Item, rendered: Rendered) -> Outcome:
    return outcome_of(
        item,
        "succeeded",
        artifacts={kind: artifact.name for kind, artifact in rendered.artifacts.items()},
        width=rendered.width,
        height=rendered.height,
        instances=rendered.instances,
    )
