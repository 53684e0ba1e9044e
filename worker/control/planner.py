"""Plan a job: its listing becomes items, its items pages of shards, each stored before it can be claimed.

The planner only lists. Entries that may have pages are stored as a chunk, and a worker looks into them. It goes on from
the ledger's cursor and may be killed anywhere: a page or chunk that is stored already is adopted as it is, never made
anew. It lists as fast as it can, but gives way, once its turn is over, to other control work that is due; how many
shards can be claimed at once is the ledger's to bound. Of a retry it lists what failed in the job.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from maskmill.shared.doorbell import Doorbell
from maskmill.shared.errors import IllegalMove, NotFound, RequestError
from maskmill.shared.folder_inputs import LeftOut, Reason
from maskmill.shared.jobs.job_files import JobFiles
from maskmill.shared.jobs.records import (
    FINAL_STATES,
    SHARDS_A_ROLLUP,
    Chunk,
    Entry,
    Expansion,
    Failure,
    Item,
    Job,
    ListingCursor,
    PlanCursor,
    PlanPage,
    shards_of,
)
from maskmill.shared.ledger import Ledger, PlannedPages, PlanStart, Work
from maskmill.shared.settings import Settings
from maskmill.shared.storage import Storage
from maskmill.shared.storage.bucket_reader import BucketReaders
from maskmill.worker.control.estimate import Estimating
from maskmill.worker.control.existing import Existing, existing_of
from maskmill.worker.control.failed_items import failed_items
from maskmill.worker.control.runner import InHand
from maskmill.worker.sources.listing import entries
from maskmill.worker.sources.pages import items_of, parts_of

CHUNK_ENTRIES = 1024
# A planner that lists and finds nothing to plan sees as soon that the job is cancelled.
ASK_SECONDS = 2.0
# Items of a job that is listed whole before it is planned, and shards that are enough to share it out evenly.
SMALL_JOB, SHARDS_A_WORKER = 8192, 12
CHUNK_ARCHIVES = 16
# A worker that looks into a chunk makes the planning due again; these are for one that does not come.
WAIT_SECONDS, LOOK_AGAIN_SECONDS = 3.0, 30.0
# A cursor is made for the last item of a page alone.
CursorMaker = Callable[[], PlanCursor]


@dataclass(frozen=True)
class Turn:
    """How long a planner lists before it gives way: so many seconds, and so many times as long as its first page took.

    Where a large folder has to be read first, the next turn begins with that again.
    """

    seconds: float = 10.0
    first_pages: float = 4.0

    def end(self, begun: float, first_page: float) -> float:
        """When it is over; `begun` and `first_page` are times too."""
        return begun + max(self.seconds, self.first_pages * (first_page - begun))


class Found(NamedTuple):
    """An item that is listed, what makes the cursor behind it, and what was left out before it."""

    item: Item
    cursor: CursorMaker
    left_out: LeftOut


class NotWanted(Exception):
    """The job is not planned any more, or by another."""


class NotExpandedYet(Exception):
    """No worker has looked into the chunk yet."""


@dataclass(frozen=True)
class Planner:
    """The handler of "plan"; one for the process, safe in many threads."""

    settings: Settings
    storage: Storage
    ledger: Ledger
    doorbell: Doorbell
    buckets: BucketReaders
    turn: Turn = Turn()

    def run(self, work: Work, in_hand: InHand) -> float | None:
        """Go on planning the job until it is planned, others wait, or a worker has to look into a chunk first."""
        start = self.ledger.begin_plan(work.ref, work)
        if start is None:
            return None
        files = JobFiles(self.storage, work.ref, retry=start.retry)
        job, head = files.job(), files.head()
        if job is None or head is None:
            raise RequestError("its job.json is not in the storage any more")
        sized = job.model_copy(update={"shard_size": head.shard_size})
        try:
            whole = Planning(self, work, in_hand, files, sized, start).run()
        except NotExpandedYet:
            return LOOK_AGAIN_SECONDS
        except NotWanted:
            return None
        return None if whole else 0

    def give_up(self, work: Work, reason: str) -> float | None:
        """The job fails."""
        # One that is paused is planned again when it is resumed, and fails then; one that is over stays as it ended.
        with suppress(IllegalMove, NotFound):
            self.ledger.fail(work.ref, Failure(stage="plan", code="cannot_be_planned", reason=reason))
            self.doorbell.ring_control()
        return None


@dataclass
class Planning:
    """One planner's work on one job."""

    planner: Planner
    work: Work
    in_hand: InHand
    files: JobFiles
    job: Job
    at: PlanStart
    _going: bool = field(default=True)
    _asked_at: float = field(default_factory=time.monotonic)
    # Up to the item that was listed last.
    _left_out: LeftOut = field(default_factory=LeftOut)

    def run(self) -> bool:
        """Adopt what is stored, then list on; False where it gave way before all was listed."""
        if self.at.recovered and not self.at.pages:
            self._adopt_rollups()
        cursor = self._adopt_pages()
        if cursor is None:
            return True
        begun, turn_over = time.monotonic(), None
        for page in self._estimated() if self.job.dry_run and not self.files.retry else self._pages(cursor):
            turn_over = turn_over or self.planner.turn.end(begun, time.monotonic())
            if not self.files.store_page(page):
                # Another's, from a listing of its own: this one would go on in the wrong place.
                return False
            shards = shards_of(len(page.items), self.job)
            self._add(PlannedPages(1, shards, len(page.items), page.cursor, page.left_out))
            if not self._going or page.cursor is None:
                break
            if time.monotonic() >= turn_over and self.planner.ledger.due_work():
                return False
        return True

    def _alive(self) -> None:
        """The listing gets on, though perhaps to nothing that is planned; raises NotWanted where nobody waits."""
        self.in_hand.alive()
        if time.monotonic() - self._asked_at < ASK_SECONDS:
            return
        self._asked_at = time.monotonic()
        status = self.planner.ledger.status(self.job.ref)
        if self.in_hand.lost or status is None or status.state != "planning":
            raise NotWanted

    def _adopt_rollups(self) -> None:
        # Another planner may have died among them.
        admitted, _ = self.planner.ledger.admitted(self.job.ref)
        for number in itertools.count(admitted // SHARDS_A_ROLLUP):
            rollup = self.files.rollup(number)
            if rollup is None or rollup.shards < SHARDS_A_ROLLUP:
                return
            first = number * SHARDS_A_ROLLUP
            if not self.planner.ledger.adopt_rollup(self.job.ref, self.work, first, rollup):
                return
            self.in_hand.progress()

    def _adopt_pages(self) -> PlanCursor | None:
        """Count the pages that are stored and not counted; where to go on, None where that was all."""
        count = self.files.page_count(self.at.pages)
        last = self.files.page(count - 1) if count > self.at.pages else None
        if last is None:
            return self.at.cursor
        items = last.planned(self.job)
        shards = shards_of(items, self.job)
        more = (count - self.at.pages, shards - self.at.shards, items - self.at.planned)
        self._add(PlannedPages(*more, last.cursor, last.left_out))
        return last.cursor if self._going else None

    def _add(self, added: PlannedPages) -> None:
        verdict, claimable = self.planner.ledger.add_pages(self.job.ref, self.work, self.at.pages, added)
        if verdict == "added":
            self.at = PlanStart(
                self.at.pages + added.pages,
                self.at.shards + added.shards,
                self.at.planned + added.items,
                added.cursor or self.at.cursor,
                False,
                added.left_out,
            )
            self.in_hand.progress()
            if claimable:
                self.planner.doorbell.ring("bulk", self.job.options.model, claimable)
            if added.cursor is None:
                self.planner.doorbell.ring_control()
            return
        self._going = False
        # A retry that ends reads what it ran; a page of it that never counted changes nothing.
        if added.pages == 1 and not self.files.retry and self._never_counts():
            self.files.drop_page(self.at.pages)

    def _never_counts(self) -> bool:
        """Whether the next page is of a job that was over before it counted: no item of it is to have an outcome.

        Another planner may have counted it, and workers have run it, while this one stood still.
        """
        status = self.planner.ledger.status(self.job.ref)
        return status is not None and status.state in FINAL_STATES and status.counts.planned <= self.at.planned

    def _pages(self, cursor: PlanCursor) -> Iterator[PlanPage]:
        """The pages behind the cursor; all are full but the last, which has no cursor and may be empty."""
        found = self._with_left_out(self._failed_items(cursor) if self.files.retry else self._items(cursor))
        digest = self._digest()
        existing = None if self.files.retry else existing_of(self.planner.storage, self.job, digest)
        self._left_out = self.at.left_out.model_copy(deep=True)
        if not self.at.pages and not self.files.retry:
            found = self._sized(found)
        for number in itertools.count(self.at.pages):
            run = list(itertools.islice(found, self.job.page_size))
            first = number * self.job.page_size
            if first + len(run) > self.planner.settings.max_items:
                most = self.planner.settings.max_items
                raise RequestError(f"the job has more than {most} items, the most one job may have")
            numbered = [self._numbered(one.item, first + place) for place, one in enumerate(run)]
            items = tuple(_marked(item, existing) for item in numbered) if existing else tuple(numbered)
            last = len(run) < self.job.page_size
            left_out = self._left_out.model_copy(deep=True) if last else run[-1].left_out
            behind = None if last else run[-1].cursor()
            yield PlanPage(number=number, items=items, cursor=behind, left_out=left_out, digest=digest)
            if last:
                return

    def _estimated(self) -> Iterator[PlanPage]:
        """The one page of a dry run: some of its pictures. The listing is counted to its end first, in one turn."""
        at, digest = self.planner, self._digest()
        estimating = Estimating(existing_of(at.storage, self.job, digest))
        listed = entries(self.job, at.settings, None, self._alive, at.buckets, at.storage)
        estimating.count(self._noting_left_out(listed))
        self.files.store_estimate(estimating.estimate)
        settled = self.files.settle_size(self.job.head, 1)
        self.job = self.job.model_copy(update={"shard_size": settled})
        items, left_out = estimating.sample(), self._left_out.model_copy(deep=True)
        yield PlanPage(number=0, items=items, cursor=None, left_out=left_out, digest=digest)

    def _noting_left_out(self, listed: Iterator[Entry]) -> Iterator[Entry]:
        for entry in listed:
            self._note_left_out(entry)
            yield entry

    def _with_left_out(self, found: Iterator[tuple[Item, CursorMaker]]) -> Iterator[Found]:
        """Each item with what was left out up to it, however far ahead of its page it is listed."""
        left_out, counted = LeftOut(), -1
        for item, cursor in found:
            if self._left_out.total != counted:
                left_out, counted = self._left_out.model_copy(deep=True), self._left_out.total
            yield Found(item, cursor, left_out)

    def _sized(self, found: Iterator[Found]) -> Iterator[Found]:
        """The same, once the size of the job's shards is settled: small ones for a job that is small for its workers.

        Else some workers would wait while others run the last shards.
        """
        ahead, rest = self._listed_ahead(found)
        size, workers = self.job.shard_size, self._workers()
        if rest is None and workers > 1:
            size = max(min(len(ahead) // (workers * SHARDS_A_WORKER), size), 1)
        settled = self.files.settle_size(self.job.head, size)
        self.job = self.job.model_copy(update={"shard_size": settled})
        return itertools.chain(ahead, rest or ())

    def _listed_ahead(self, found: Iterator[Found]) -> tuple[list[Found], Iterator[Found] | None]:
        """As many items as a small job has, and the rest; None where that was all."""
        ahead: list[Found] = []
        try:
            for one in found:
                ahead.append(one)
                if len(ahead) > SMALL_JOB:
                    return ahead, found
        except NotExpandedYet as unknown:
            if not ahead:
                raise
            # What is known need not wait for it.
            return ahead, _raising(unknown)
        return ahead, None

    def _workers(self) -> int:
        """How many bulk workers serve the job's model."""
        serving = self.planner.ledger.workers().items()
        model = self.job.options.model
        return sum("/bulk/" in owner and any(card.name == model for card in cards) for owner, cards in serving)

    def _digest(self) -> str | None:
        """That of the model, as a worker serves it now."""
        card = self.planner.ledger.models().get(self.job.options.model)
        return card.digest if card else None

    def _numbered(self, item: Item, number: int) -> Item:
        return item if self.files.retry else item.model_copy(update={"number": number})

    def _failed_items(self, cursor: PlanCursor) -> Iterator[tuple[Item, CursorMaker]]:
        """As `_items`, what a retry runs again; its cursor holds the number of an item."""
        retry = self.files.accepted_retry(self.files.retry)
        assert retry is not None, "it is stored before it is entered"
        behind = int(cursor.listing.position or -1) if cursor.listing else -1
        for item in failed_items(self.files.first_run, self.job, retry, behind, self.in_hand.alive):
            yield item, partial(PlanCursor, listing=ListingCursor(position=str(item.number)))

    def _items(self, cursor: PlanCursor) -> Iterator[tuple[Item, CursorMaker]]:
        """The items behind the cursor, not numbered yet, each with what makes the cursor behind it."""
        chunks = cursor.chunks
        if cursor.inside is not None:
            chunk = self.files.chunk(chunks - 1)
            assert chunk is not None, "a page is stored after the chunk that it is made of"
            yield from self._items_inside(chunk, cursor)
        if cursor.listing is None:
            return
        at = self.planner
        listed = entries(self.job, at.settings, cursor.listing, self._alive, at.buckets, at.storage)
        while run := _next_run(listed):
            if all(_is_plain(entry) for entry in run):
                yield from (self._found(entry, partial(_cursor_behind, entry, chunks)) for entry in run)
                continue
            after = run[-1].behind if _may_go_on(run) else None
            chunk = self._stored(Chunk(number=chunks, after=after, entries=tuple(run)))
            chunks += 1
            yield from self._items_inside(chunk, PlanCursor())
            if chunk.entries[-1].behind != run[-1].behind:
                # The one that is stored was listed earlier, when the folder held something else.
                yield from self._items(PlanCursor(listing=chunk.after, chunks=chunks))
                return

    def _found(self, entry: Entry, cursor: CursorMaker) -> tuple[Item, CursorMaker]:
        self._note_left_out(entry)
        (item,) = items_of(entry, None)
        return item, cursor

    def _note_left_out(self, entry: Entry) -> None:
        if entry.left_out:
            self._left_out.merge(entry.left_out)

    def _stored(self, chunk: Chunk) -> Chunk:
        """The chunk as it is stored: by whoever came first."""
        if self.files.store_chunk(chunk):
            return chunk
        stored = self.files.chunk(chunk.number)
        assert stored is not None, "it was found stored just now"
        return stored

    def _items_inside(self, chunk: Chunk, at: PlanCursor) -> Iterator[tuple[Item, CursorMaker]]:
        """The items of the chunk's entries that stand behind the cursor `at`, all where it is inside of none."""
        expansions = self._expansions(chunk.number)
        cursor = partial(PlanCursor, listing=chunk.after, chunks=chunk.number + 1)
        first = at.inside[0] if at.inside else -1
        for number in range(max(first, 0), len(chunk.entries)):
            entry, found = chunk.entries[number], expansions.get(number)
            if number > first:
                self._note_left_out(entry)
                self._note_found(entry, found)
            for member, part, of_part in parts_of(entry, found, self.files, (at.member or 0) if number == first else 0):
                for item in items_of(part, of_part):
                    inside = (number, item.page_index)
                    if number > first or _place(inside, member) > _place(at.inside, at.member):
                        yield item, partial(cursor, inside=inside, member=member)

    def _note_found(self, entry: Entry, found: Expansion | None) -> None:
        if found and not found.is_input:
            self._left_out.add(Reason.OTHER, entry.name)
        if found and found.left_out:
            self._left_out.merge(found.left_out)

    def _expansions(self, chunk: int) -> dict[int, Expansion]:
        """What a worker found; it is asked where none has looked yet. Raises NotExpandedYet after a while."""
        found = self.files.expansions(chunk)
        if found is not None:
            return found
        if self.planner.ledger.add_expansion(self.job.ref, self.work, chunk) != "added":
            raise NotExpandedYet
        self.planner.doorbell.ring("bulk", self.job.options.model)
        give_up = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < give_up and not self.in_hand.lost:
            time.sleep(0.02)
            if not self.planner.ledger.is_looked_into(self.job.ref, chunk):
                continue
            found = self.files.expansions(chunk)
            if found is not None:
                self.in_hand.progress()
                return found
        raise NotExpandedYet


def _raising(error: Exception) -> Iterator[Found]:
    """An iterator whose first step raises that."""

    def fail() -> Found:
        raise error

    return iter(fail, None)


def _marked(item: Item, existing: Existing) -> Item:
    return item.model_copy(update={"existing": True}) if existing.has(item) else item


def _next_run(listed: Iterator[Entry]) -> list[Entry]:
    """The next entries that are looked into together: not many where there are archives, each of which takes long."""
    run: list[Entry] = []
    archives = 0
    for entry in itertools.islice(listed, CHUNK_ENTRIES):
        run.append(entry)
        archives += entry.form == "archive"
        if archives == CHUNK_ARCHIVES:
            break
    return run


def _may_go_on(run: list[Entry]) -> bool:
    """Whether the listing need not have ended with that run."""
    return len(run) == CHUNK_ENTRIES or sum(entry.form == "archive" for entry in run) == CHUNK_ARCHIVES


def _place(inside: tuple[int, int | None] | None, member: int | None) -> tuple[int, int, int]:
    """The place inside a chunk in an order that can be compared: entry, member, page."""
    entry, page = inside or (-1, None)
    return entry, -1 if member is None else member, -1 if page is None else page


def _is_plain(entry: Entry) -> bool:
    """Whether it is one item, by what its name says or because it has failed already."""
    return entry.form == "picture" or entry.failure is not None


def _cursor_behind(entry: Entry, chunks: int) -> PlanCursor:
    return PlanCursor(listing=entry.behind, chunks=chunks)
