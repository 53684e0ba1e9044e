"""What a manifest names: its rows as inputs, from any of them on.

A position holds all that is needed to go on: which bytes the manifest had when it was first seen, in which of its files
reading is, and behind which byte of it. Of a plain file only what follows is read again, and its head.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from maskmill.shared.buckets import ObjectUrl
from maskmill.shared.errors import (
    BucketRefused,
    InputError,
    InputNotFound,
    ManifestInvalid,
    MaskmillError,
    ObjectArchived,
    RequestError,
    UrlTimeout,
    UrlUnreachable,
)
from maskmill.shared.folder_inputs import LeftOut, Reason
from maskmill.shared.jobs.sources import Location, ManifestSource, ObjectBytes, UrlBytes
from maskmill.shared.storage.bucket_reader import ListedObject
from maskmill.worker.sources.bucket_listing import own_prefixes, why_no_input
from maskmill.worker.sources.manifest_files import Head, Lying, ManifestFiles
from maskmill.worker.sources.manifest_forms import HEAD_BYTES, Form, form_of
from maskmill.worker.sources.manifest_lines import Place
from maskmill.worker.sources.manifest_rows import Row
from maskmill.worker.sources.row_names import row_name

SHOWN_CHARACTERS = 500
NOWHERE = ObjectBytes(bucket="", key="")
# What is wrong with a manifest for good; of a service that is away only a URL's, which gets a few tries, ends it.
ITS_OWN = (InputError, RequestError, UrlTimeout, UrlUnreachable)


class Named(NamedTuple):
    """An input that a row names, or why there is none; `is_named` is false where a listing named it."""

    position: str
    name: str
    location: Location
    input_path: str
    problem: MaskmillError | None = None
    is_named: bool = True


class Position(NamedTuple):
    """Behind a row: `pin` tells the manifest's bytes from others, `part_pin` those of its file of that number."""

    pin: str | None = None
    part: int = 0
    place: Place = Place()
    part_pin: str | None = None

    def __str__(self) -> str:
        return json.dumps([self.pin, self.part, *self.place, self.part_pin], separators=(",", ":"))

    @classmethod
    def parse(cls, text: str) -> Position:
        """The inverse of `str`."""
        pin, part, offset, number, part_pin = json.loads(text)
        return cls(pin, part, Place(offset, number), part_pin)


@dataclass(frozen=True)
class Manifest:
    """A manifest of the job called `ref`: `number` is that of its source. What it leaves out is added to `left_out`."""

    source: ManifestSource
    ref: str
    output: str | None
    number: int
    files: ManifestFiles
    left_out: LeftOut

    def inputs(self, after: str | None) -> Iterator[Named]:
        """What its rows name behind the position `after`; one that cannot be read, or names nothing, is one failure."""
        if after == "":
            # Its one failure is told.
            return
        begun = Position.parse(after) if after else Position()
        try:
            top, pin = self._top(begun.pin)
            head = self.files.head(top, HEAD_BYTES)
            form = form_of(head.data, top.bucket if isinstance(top, ObjectBytes) else None)
        except ITS_OWN as error:
            yield self._failed("", self.source.name, _of(error, self.source.name))
            return
        if isinstance(head.pinned, ObjectBytes):
            pin = head.pinned.etag
        found, newly = after is not None, LeftOut()
        for one in self._of_parts(form, head, begun._replace(pin=pin), newly):
            found = True
            self.left_out.merge(newly.take())
            yield one
        why = f"; left out: {newly}" if newly else ""
        self.left_out.merge(newly)
        if not found:
            nothing = InputNotFound(f"{self.source.name} names no input{why}")
            yield self._failed("", self.source.name, nothing)

    def _top(self, pin: str | None) -> tuple[Lying, str | None]:
        """Where the manifest itself lies, and its pin where that is known already."""
        location = self.source.location
        if isinstance(location, UrlBytes):
            if pin is None:
                return self.files.fetched(location.url, self.ref, self.number)
            return self.files.copy(pin, self.ref, self.number), pin
        if isinstance(location, ObjectBytes):
            return location.model_copy(update={"etag": pin}), pin
        return location, pin

    def _of_parts(self, form: Form, head: Head, begun: Position, newly: LeftOut) -> Iterator[Named]:
        """What the manifest's files name; one that is broken is a failure, and those behind it are read."""
        for number in range(begun.part, 1 if form.parts is None else len(form.parts)):
            at = begun if number == begun.part else Position(begun.pin, number)
            title = form.parts[number].url if form.parts else self.source.name
            try:
                part, at = self._begun(form, head, at)
                yield from self._of_part(form, part, at, title, newly)
            except ITS_OWN as error:
                yield self._failed(str(Position(begun.pin, number + 1)), title, _of(error, title))

    def _begun(self, form: Form, head: Head, at: Position) -> tuple[Head, Position]:
        """The file that `at` lies in, and where its rows are to be read from."""
        if form.parts is None:
            return head, at if at.place.number else at._replace(place=form.begin)
        part = self.files.head(form.parts[at.part].model_copy(update={"etag": at.part_pin}), 1)
        assert isinstance(part.pinned, ObjectBytes)
        return part, at._replace(part_pin=part.pinned.etag)

    def _of_part(self, form: Form, part: Head, at: Position, title: str, newly: LeftOut) -> Iterator[Named]:
        own = cache(lambda bucket: own_prefixes(bucket, self.files.settings, self.output))
        place = at.place
        with self.files.content(part.pinned, place.offset, is_packed=part.is_packed) as stream:
            try:
                for row in form.rows(stream, place):
                    place = row.behind
                    position, where = str(at._replace(place=place)), f"{title}, {form.unit} {place.number}"
                    if row.location is None:
                        yield self._failed(position, row.text or where, ManifestInvalid(f"{where}: {row.problem}"))
                    elif reason := _why_left_out(row, own):
                        newly.add(reason, row.location.url)
                    else:
                        yield self._named(position, row, row.location)
            except ManifestInvalid as error:
                raise ManifestInvalid(f"behind {form.unit} {place.number}: {error.reason}") from None

    def _named(self, position: str, row: Row, location: ObjectBytes | UrlBytes) -> Named:
        problem = self._problem(row, location)
        return Named(position, row_name(location, row.name), location, location.url, problem, not row.is_listed)

    def _problem(self, row: Row, location: ObjectBytes | UrlBytes) -> MaskmillError | None:
        if isinstance(location, UrlBytes):
            return None
        try:
            self.files.buckets.check(ObjectUrl(location.bucket, location.key))
        except BucketRefused as refused:
            return refused
        if _listed(row, location).is_archived:
            return ObjectArchived(f"it is of storage class {row.storage_class}; restore it")
        return None

    def _failed(self, position: str, input_path: str, problem: MaskmillError) -> Named:
        shown = input_path[:SHOWN_CHARACTERS].encode("utf-8", "replace").decode().replace("\0", "")
        return Named(position, f"manifest-{self.number}", NOWHERE, shown, problem)


def _of(error: MaskmillError, title: str) -> MaskmillError:
    """The error, which of a manifest's own bytes does not say yet whose they are."""
    return ManifestInvalid(f"{title}: {error.reason}") if isinstance(error, ManifestInvalid) else error


def _why_left_out(row: Row, own: Callable[[str], tuple[str, ...]]) -> Reason | None:
    if row.left_out or not row.is_listed or not isinstance(row.location, ObjectBytes):
        return row.left_out
    return why_no_input(_listed(row, row.location), own(row.location.bucket))


def _listed(row: Row, location: ObjectBytes) -> ListedObject:
    """The object as a bucket's listing would tell it."""
    return ListedObject(location.key, location.size or 0, location.etag or "", row.storage_class)
