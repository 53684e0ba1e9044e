"""What a job would be: its listing counted to the end, and a sample of its pictures to be run for the rate.

Nothing of the listing is kept but counts and the sample, which is the same however often it is listed.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field

from maskmill.shared.jobs.records import Entry, Estimate, Item
from maskmill.shared.jobs.sources import ObjectBytes
from maskmill.worker.control.existing import Existing
from maskmill.worker.sources.pages import items_of

SAMPLE = 32
# Of two hexadecimal numbers, that of the larger one is the smaller.
COMPLEMENT = str.maketrans("0123456789abcdef", "fedcba9876543210")


@dataclass
class Estimating:
    """Counts entries; `existing` is what would be skipped."""

    existing: Existing | None
    estimate: Estimate = field(default_factory=Estimate)
    _sample: list[tuple[str, int, Item]] = field(default_factory=list)

    def count(self, entries: Iterable[Entry]) -> None:
        """Count them all."""
        for entry in entries:
            self._count(entry)

    def sample(self) -> tuple[Item, ...]:
        """Some of the pictures, in the order of the listing, numbered."""
        chosen = sorted((index, item) for _, index, item in self._sample)
        return tuple(item.model_copy(update={"number": number}) for number, (_, item) in enumerate(chosen))

    def _count(self, entry: Entry) -> None:
        size = entry.location.size if isinstance(entry.location, ObjectBytes) else None
        more = {_kind(entry): 1, "size": size or 0, "sized": int(size is not None)}
        if _kind(entry) == "pictures":
            (item,) = items_of(entry, None)
            if self.existing and self.existing.has(item):
                more["existing"] = 1
            else:
                self._choose(entry, item)
        counted = {name: getattr(self.estimate, name) + count for name, count in more.items()}
        self.estimate = self.estimate.model_copy(update=counted)

    def _choose(self, entry: Entry, item: Item) -> None:
        """Keep those whose places' hashes are the smallest: a sample from all over the listing."""
        rank = hashlib.sha256(f"{entry.source}/{entry.position}".encode("utf-8", "replace")).hexdigest()
        push = heapq.heappush if len(self._sample) < SAMPLE else heapq.heappushpop
        push(self._sample, (rank.translate(COMPLEMENT), entry.index, item))


def _kind(entry: Entry) -> str:
    if entry.failure:
        return "failing"
    return {"picture": "pictures", "unknown": "unknown"}.get(entry.form, "paged")
