"""Look into a chunk of a listing, where a planner may not: count the pages of what may have some."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from maskmill.shared.errors import WorkerCrashed
from maskmill.shared.jobs.job_files import JobFiles
from maskmill.shared.jobs.records import Entry, Expansion, Failure
from maskmill.shared.ledger import Ledger
from maskmill.worker.pipeline.progress import Progress
from maskmill.worker.retry import patiently
from maskmill.worker.shards.shard_run import TOUCHES, Held
from maskmill.worker.sources.pages import LOOK_AHEAD, Expander, with_password


class _GivenUp(Exception):
    """Nobody waits any more for what is looked into."""


@dataclass(frozen=True)
class ChunkExpander:
    """Looks into the chunks of one process; `progress` tells whether it gets on."""

    ledger: Ledger
    expander: Expander
    progress: Progress

    def expand(self, held: Held, files: JobFiles) -> bool:
        """Store what the chunk's entries are; False where nobody waits for it any more, or did not for a while.

        After a crash each entry is noted before it is touched, one at a time: what kills its worker twice fails alone.
        """
        chunk = files.chunk(held.lease.shard)
        if chunk is None or (held.lease.look and files.expansions(chunk.number) is not None):
            # Who looked into it died before that counted.
            return True
        passwords = files.passwords(held.job)
        self.progress.count(1)
        try:
            look = self._carefully if held.lease.crashes else self._at_once
            found = [one for one in look(held, chunk.entries, passwords) if one is not None]
        finally:
            self.progress.count(-1)
        # A job that was paused for a moment may be wanted again, and still some of its entries were passed over.
        if not held.wanted or len(found) < len(chunk.entries):
            return False
        files.store_expansions(chunk.number, found)
        return True

    def _at_once(self, held: Held, entries: tuple[Entry, ...], passwords: dict[str, str]) -> Iterator[Expansion | None]:
        with ThreadPoolExecutor(LOOK_AHEAD, thread_name_prefix="expand") as pool:
            numbers = range(len(entries))
            yield from pool.map(lambda number: self._look(held, number, entries[number], passwords), numbers)

    def _carefully(
        self, held: Held, entries: tuple[Entry, ...], passwords: dict[str, str]
    ) -> Iterator[Expansion | None]:
        for number, entry in enumerate(entries):
            if patiently(self.ledger.touch, held.lease, number) >= TOUCHES:
                reason = f"the worker died {TOUCHES} times while it counted the pages of this input"
                yield Expansion(entry=number, failure=Failure.of("plan", WorkerCrashed(reason)))
                continue
            yield self._look(held, number, entry, passwords)
            patiently(self.ledger.survived, held.lease, number)

    def _look(self, held: Held, number: int, entry: Entry, passwords: dict[str, str]) -> Expansion | None:
        """What the entry is; None where nobody waits for it any more."""
        if not held.wanted:
            return None
        if entry.form == "picture":
            return Expansion(entry=number)
        pdf = with_password(entry.pdf, entry.source, passwords)

        def alive() -> None:
            self.progress.moved()
            if not held.wanted:
                raise _GivenUp

        try:
            found = self.expander.look_into(held.lease.ref, number, entry, pdf, alive)
        except _GivenUp:
            return None
        self.progress.moved()
        return found
