"""What lies behind a job's sources, one entry (a file or URL, not yet its pages) after the other, from any point on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from maskmill.shared.errors import InputNotFound, MaskmillError
from maskmill.shared.folder_inputs import LeftOut, natural, read_folder
from maskmill.shared.jobs.records import Job
from maskmill.shared.jobs.sources import (
    FileBytes,
    Location,
    PathSource,
    PdfOptions,
    Source,
    StoredBytes,
    UploadSource,
    UrlBytes,
    UrlSource,
)
from maskmill.shared.roots import allowed_path
from maskmill.shared.settings import Settings
from maskmill.worker.sources.artifact_names import clean, distinct, stem


@dataclass(frozen=True)
class Entry:
    """One file or URL; `position` is its path inside its source, `siblings` the artifact names beside its own."""

    source: int
    position: str
    input_path: str
    name: str
    siblings: frozenset[str]
    pdf: PdfOptions
    location: Location
    error: MaskmillError | None = None


@dataclass(frozen=True)
class _Root:
    """A source of the job and what its entries share."""

    number: int
    source: Source
    name: str
    siblings: frozenset[str]
    pdf: PdfOptions

    def entry(self, location: Location, input_path: str, error: MaskmillError | None = None) -> Entry:
        return Entry(self.number, "", input_path, self.name, self.siblings, self.pdf, location, error)


def entries(job: Job, settings: Settings, source: int = 0, after: str | None = None) -> Iterator[Entry]:
    """The entries of `job` from its source number `source` on, in that one those behind the position `after`."""
    names = distinct(map(_top_name, job.sources))
    siblings = frozenset(names)
    for number in range(source, len(names)):
        origin = job.sources[number]
        root = _Root(number, origin, names[number], siblings, origin.pdf or job.options.pdf)
        start = after if number == source else None
        if isinstance(origin, PathSource):
            yield from _of_path(root, origin, settings, alone=len(names) == 1, after=start)
        elif start is None:
            yield _of_single(root, origin)


def _top_name(source: Source) -> str:
    if isinstance(source, UploadSource):
        return stem(source.name)
    if isinstance(source, PathSource):
        return stem(source.path)
    parts = urlsplit(source.url)
    return stem(unquote(parts.path)) if parts.path.strip("/") else parts.hostname or "url"


def _of_single(root: _Root, source: UploadSource | UrlSource) -> Entry:
    if isinstance(source, UploadSource):
        return root.entry(StoredBytes(key=source.key), source.name)
    return root.entry(UrlBytes(url=source.url), source.url)


def _of_path(root: _Root, source: PathSource, settings: Settings, *, alone: bool, after: str | None) -> Iterator[Entry]:
    if after == "":
        # Its one entry is done: a file, or a folder without inputs.
        return
    location = FileBytes(path=source.path)
    try:
        path = allowed_path(source.path, settings.local_roots)
    except MaskmillError as error:
        if after is None:
            yield root.entry(location, source.path, error)
        return
    if not path.is_dir():
        if after is None:
            yield root.entry(location, source.path)
        return
    top = "" if alone else f"{root.name}/"
    found, left_out = False, LeftOut()
    for entry in _walk(root, path, Path(source.path), "", _parts(after), left_out):
        found = True
        yield replace(entry, name=top + entry.name)
    if not found and after is None:
        why = f"; left out: {left_out}" if left_out else ""
        yield root.entry(location, source.path, InputNotFound(f"{source.path} holds no image and no PDF{why}"))
    else:
        left_out.warn(source.path)


def _parts(after: str | None) -> list[str]:
    return after.split("/") if after else []


def _walk(root: _Root, folder: Path, shown: Path, below: str, after: list[str], left_out: LeftOut) -> Iterator[Entry]:
    try:
        children = read_folder(folder, below, left_out)
    except OSError as error:
        if not after:
            yield _unreadable(root, folder, shown, below, error)
        return
    inputs = [child.name for child in children if not child.is_folder]
    names = dict(zip(inputs, distinct(map(stem, inputs)), strict=True))
    siblings = frozenset(names.values())
    for child in children:
        here, *rest = after or [""]
        if after and natural(child.name) < natural(here):
            continue
        position, again = f"{below}{child.name}", bool(after) and child.name == here
        path = folder / child.name
        if child.is_folder:
            yield from _walk(root, path, shown / child.name, f"{position}/", rest if again else [], left_out)
        elif not again:
            name = f"{clean(below)}{names[child.name]}"
            said, location = clean(str(shown / child.name)), FileBytes(path=clean(str(path)))
            problem = (
                None if location.path == str(path) else InputNotFound(f"the name of {said} is not UTF-8; rename it")
            )
            yield Entry(root.number, clean(position), said, name, siblings, root.pdf, location, problem)


def _unreadable(root: _Root, folder: Path, shown: Path, below: str, error: OSError) -> Entry:
    """The entry of a folder that cannot be read; its position is inside of it, so that a listing goes on behind it."""
    said, name = clean(str(shown)), clean(below).rstrip("/") or root.name
    problem = InputNotFound(f"{said}: {error.strerror or error}")
    location = FileBytes(path=clean(str(folder)))
    return Entry(root.number, clean(below), said, name, root.siblings, root.pdf, location, problem)
