"""Which items an entry of a listing is: one picture, or page by page where its bytes have pages."""

from __future__ import annotations

import hashlib
import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

from maskmill.shared.errors import MaskmillError
from maskmill.shared.folder_inputs import suffix_of
from maskmill.shared.formats import HEAD_BYTES, PAGED, archive_kind, sniff
from maskmill.shared.jobs import keys
from maskmill.shared.jobs.job_files import JobFiles
from maskmill.shared.jobs.records import Entry, Expansion, Failure, Item, Job
from maskmill.shared.jobs.sources import PdfOptions, StoredBytes, UrlBytes
from maskmill.shared.settings import Settings
from maskmill.shared.storage import Storage
from maskmill.worker.images.decode import page_count
from maskmill.worker.patient_storage import PatientStorage
from maskmill.worker.retry import patiently
from maskmill.worker.sources.archive import KINDS
from maskmill.worker.sources.artifact_names import artifact_name
from maskmill.worker.sources.fetch import Fetcher
from maskmill.worker.sources.listing import entries
from maskmill.worker.sources.members import MemberFinder, member_entry, stored_once

LOOK_AHEAD = 16
# Of the archives that are looked into at once each takes up to some ten mebibytes.
ARCHIVES_AT_ONCE = 4
A_PICTURE = Expansion(entry=0)


def parts_of(
    entry: Entry, expansion: Expansion | None, files: JobFiles, first: int = 0
) -> Iterator[tuple[int | None, Entry, Expansion | None]]:
    """The entry itself or, of an archive, its members from the place `first` on, each with its place."""
    if expansion is None or expansion.members is None:
        yield None, entry, expansion
        return
    for place, member in enumerate(files.members(expansion.members, first), first):
        yield place, member_entry(entry, member), Expansion(entry=expansion.entry, pages=member.pages)


def items_of(entry: Entry, expansion: Expansion | None) -> Iterator[Item]:
    """The items of an entry, not numbered yet; without an `expansion` it is one picture."""
    found = expansion or A_PICTURE
    if not found.is_input:
        return
    item = Item(
        number=0,
        input_path=entry.input_path,
        name=artifact_name(entry.name),
        location=found.location or entry.location,
        source=entry.source,
        failure=entry.failure or found.failure,
    )
    if found.pages is None or item.failure:
        yield item
        return
    for page in itertools.chain.from_iterable(range(first, last + 1) for first, last in found.pages):
        name = artifact_name(entry.name, page)
        yield item.model_copy(update={"name": name, "page_index": page, "pdf": entry.pdf})


def with_password(pdf: PdfOptions | None, source: int, passwords: dict[str, str]) -> PdfOptions | None:
    """The options with the password of that source of the job, or the job's own."""
    password = passwords.get(str(source), passwords.get(""))
    return (pdf or PdfOptions()).model_copy(update={"password": password}) if password else pdf


@dataclass(frozen=True)
class Expander:
    """Looks into entries; safe in many threads."""

    settings: Settings
    storage: Storage
    fetcher: Fetcher
    _archives: threading.Semaphore = field(default_factory=partial(threading.Semaphore, ARCHIVES_AT_ONCE))

    def items(self, job: Job) -> Iterator[Item]:
        """The items of a job whose listing and looking into is one and the same, numbered; a few entries ahead."""
        number, files = itertools.count(), JobFiles(self.storage, job.id)
        for entry, expansion in self._looked_ahead(job):
            if expansion.left_out:
                expansion.left_out.warn(entry.input_path)
            for _, part, of_part in parts_of(entry, expansion, files):
                for item in items_of(part, of_part):
                    yield item.model_copy(update={"number": next(number)})

    def _looked_ahead(self, job: Job) -> Iterator[tuple[Entry, Expansion]]:
        with ThreadPoolExecutor(LOOK_AHEAD, thread_name_prefix="look") as pool:
            waiting: deque[tuple[Entry, Future[Expansion]]] = deque()
            for number, entry in enumerate(entries(job, self.settings)):
                waiting.append((entry, pool.submit(self.look_into, job.ref, number, entry, entry.pdf)))
                if len(waiting) >= LOOK_AHEAD:
                    first, looked = waiting.popleft()
                    yield first, looked.result()
            for first, looked in waiting:
                yield first, looked.result()

    def look_into(
        self,
        ref: str,
        number: int,
        entry: Entry,
        pdf: PdfOptions | None,
        alive: Callable[[], object] = lambda: None,
    ) -> Expansion:
        """What the entry, of that number in its chunk, is; `pdf` holds its password where it needs one.

        `alive` is called again and again while an archive is looked into; what it raises ends that. An entry whose
        first bytes cannot be had is one picture: the worker that fetches it will say why not.
        """
        if entry.failure:
            return Expansion(entry=number)
        try:
            head = patiently(self.fetcher.head, entry.location, HEAD_BYTES)
        except MaskmillError:
            return Expansion(entry=number)
        form = sniff(head)
        kind = _kind_of_archive(entry, head) if form is None else None
        if form not in PAGED and not kind:
            return Expansion(entry=number, is_input=entry.named or form is not None)
        # An outage must not become what is wrong with the entry.
        files = JobFiles(PatientStorage(self.storage), ref)
        try:
            if kind:
                return self._of_archive(files, number, entry, kind, pdf, alive)
            return self._with_pages(files, number, entry, pdf)
        except MaskmillError as error:
            return Expansion(entry=number, failure=Failure.of("plan", error))

    def _of_archive(
        self,
        files: JobFiles,
        number: int,
        entry: Entry,
        kind: str,
        pdf: PdfOptions | None,
        alive: Callable[[], object],
    ) -> Expansion:
        def count_pages(data: bytes) -> tuple[tuple[int, int], ...] | None:
            return _ranges(page_count(data, pdf, self.settings))

        with self._archives:
            location = stored_once(entry.location, files, entry.source, self.fetcher)
            archive = patiently(self.fetcher.archive, location)
            return MemberFinder(entry, archive, kind, files, self.fetcher, count_pages, alive).find(number)

    def _with_pages(self, files: JobFiles, number: int, entry: Entry, pdf: PdfOptions | None) -> Expansion:
        data = patiently(self.fetcher.fetch, entry.location)
        pages = page_count(data, pdf, self.settings)
        if pages is None or not isinstance(entry.location, UrlBytes):
            return Expansion(entry=number, pages=_ranges(pages))
        # Each page would fetch it again, and might be given something else.
        location = StoredBytes(key=keys.inputs(files.ref, f"fetched-{_place(entry)}"))
        if not files.storage.put(location.key, data, if_absent=True):
            # Another worker came first, and pages of its bytes may be planned already.
            pages = page_count(files.storage.get(location.key), pdf, self.settings)
        return Expansion(entry=number, pages=_ranges(pages), location=location)


def _kind_of_archive(entry: Entry, head: bytes) -> str | None:
    """What kind of archive the entry is: by its content, else by the name that it was given."""
    if not head:
        return None
    by_name = KINDS.get(suffix_of(entry.name))
    return (archive_kind(head) if entry.named or by_name else None) or by_name


def _place(entry: Entry) -> str:
    """Where its job names the entry, as a part of a key; of most sources it is the only one."""
    place = hashlib.sha256(entry.position.encode()).hexdigest()[:32]
    return f"{entry.source}-{place}" if entry.position else str(entry.source)


def _ranges(pages: list[int] | None) -> tuple[tuple[int, int], ...] | None:
    """The page numbers as (first, last) pairs, in their order."""
    if pages is None:
        return None
    ranges: list[tuple[int, int]] = []
    for page in pages:
        if ranges and page == ranges[-1][1] + 1:
            ranges[-1] = (ranges[-1][0], page)
        else:
            ranges.append((page, page))
    return tuple(ranges)
