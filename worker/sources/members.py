"""Which inputs an archive holds, for the plan: each with the place of its bytes, its pages, or why it fails."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from maskmill.shared.errors import ArchiveNested, InputNotFound, MaskmillError, TooManyBytes
from maskmill.shared.folder_inputs import PAGED_SUFFIXES, LeftOut, Reason, suffix_of
from maskmill.shared.jobs import keys
from maskmill.shared.jobs.job_files import JobFiles
from maskmill.shared.jobs.records import Entry, Expansion, Failure, Member
from maskmill.shared.jobs.sources import Location, MemberBytes, Seekable, StoredBytes, UrlBytes
from maskmill.worker.retry import patiently
from maskmill.worker.sources.archive import Archive, Found, files_of
from maskmill.worker.sources.fetch import Fetcher
from maskmill.worker.sources.member_names import MemberNames, is_archive, label_of, why_not
from maskmill.worker.sources.stores import Stores

PIECE = 1 << 20

CountPages = Callable[[bytes], tuple[tuple[int, int], ...] | None]
"""The pages of what may have some, None for a plain picture."""


def member_entry(entry: Entry, member: Member) -> Entry:
    """A file of an archive as an entry of its own; its results lie in a folder that is called as the archive is."""
    return entry.model_copy(
        update={
            "name": f"{entry.name}/{member.name}",
            "input_path": f"{entry.input_path}!/{member.label}",
            "location": member.location,
            "form": "paged" if member.pages is not None else "picture",
            "failure": member.failure,
            "left_out": None,
        }
    )


def stored_once(location: Location, files: JobFiles, source: int, fetcher: Fetcher) -> Seekable:
    """Where the archive can be read by ranges: one behind a URL is stored, as its server may know no ranges.

    It is stored under a name made of its bytes: who is given others stores them beside it.
    """
    if isinstance(location, MemberBytes):
        raise ArchiveNested("an archive inside an archive is not looked into")
    if not isinstance(location, UrlBytes):
        return location
    with tempfile.TemporaryDirectory(prefix="maskmill-") as folder:
        path = Path(folder) / "archive"
        try:
            patiently(fetcher.download, location, path)
        except OSError as error:
            raise TooManyBytes(f"the worker's disk does not take the archive: {error.strerror or error}") from error
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
        stored = StoredBytes(key=keys.inputs(files.ref, f"fetched-{source}-{digest}"))
        files.storage.put_file(stored.key, path)
    return stored


@dataclass
class MemberFinder:
    """Goes through one archive; for one thread. `alive` is called with each file and each range that is read."""

    entry: Entry
    archive: Archive
    kind: str
    files: JobFiles
    fetcher: Fetcher
    count_pages: CountPages
    alive: Callable[[], object]
    _names: MemberNames = field(default_factory=MemberNames)
    _left_out: LeftOut = field(default_factory=LeftOut)
    _stores: Stores = field(init=False)

    def __post_init__(self) -> None:
        settings = self.fetcher.settings
        self._stores = Stores(self.files.storage, settings.store_threads, settings.max_input_bytes)

    def find(self, number: int) -> Expansion:
        """What the entry of that number is; its members are stored as they are found.

        Raises one of the errors of archives, or InputNotFound where no file of it is an input.
        """
        with self._stores:
            members = self.files.store_members(self._identity(), self._members())
        if not members.count:
            why = f"; left out: {self._left_out}" if self._left_out else ""
            raise InputNotFound(f"the archive holds no image and no PDF{why}")
        location = self.archive.location
        return Expansion(entry=number, members=members, location=location, left_out=self._left_out or None)

    def _identity(self) -> str:
        """A name for this state of this entry."""
        said = f"{self.entry.source} {self.entry.position} {self.archive.location!r} {self.archive.changed}"
        return hashlib.sha256(said.encode("utf-8", "surrogateescape")).hexdigest()[:24]

    def _members(self) -> Iterator[Member]:
        archive = Archive(self.archive.location, self.archive.size, self.archive.changed, self._read_range)
        for place, found in enumerate(files_of(archive, self.kind, self.fetcher.settings)):
            self.alive()
            reason = Reason.SPECIAL if found.is_special else why_not(found.name)
            if reason:
                self._left_out.add(reason, f"{self.entry.name}!/{label_of(found.name)}")
            else:
                yield self._member(place, found)

    def _read_range(self, start: int, count: int) -> bytes:
        self.alive()
        return patiently(self.archive.read_range, start, count)

    def _member(self, place: int, found: Found) -> Member:
        nested = ArchiveNested("an archive inside an archive is not looked into; unpack the outer one")
        problem = nested if is_archive(found.name) else found.problem
        make = partial(Member, name=self._names.give(found.name), label=label_of(found.name))
        if problem:
            return make(location=self.archive.location, failure=Failure.of("plan", problem))
        location, data = self._placed(place, found)
        try:
            return make(location=location, pages=self._pages(found.name, location, data))
        except MaskmillError as error:
            return make(location=location, failure=Failure.of("plan", error))

    def _placed(self, place: int, found: Found) -> tuple[Location, bytes | None]:
        """Where its bytes lie from now on, and the bytes where they had to be read for that."""
        if found.location:
            return found.location, None
        assert found.read is not None, "it has a location or can be read"
        data = found.read()
        stored = StoredBytes(key=keys.inputs(self.files.ref, f"unpacked-{self._identity()}/{place:08d}"))
        self._stores.put(stored.key, data)
        return stored, data

    def _pages(self, name: str, location: Location, data: bytes | None) -> tuple[tuple[int, int], ...] | None:
        if suffix_of(name) not in PAGED_SUFFIXES:
            return None
        return self.count_pages(patiently(self.fetcher.fetch, location) if data is None else data)
