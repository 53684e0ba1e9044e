"""What lies behind a job's sources, one entry (a file or URL, not yet its pages) after the other, from any point on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from maskmill.shared.buckets import ObjectUrl
from maskmill.shared.errors import InputNotFound, MaskmillError, ObjectArchived, RequestError
from maskmill.shared.folder_inputs import (
    ARCHIVE_SUFFIXES,
    PAGED_SUFFIXES,
    PICTURE_SUFFIXES,
    LeftOut,
    Reason,
    natural,
    read_folder,
    suffix_of,
)
from maskmill.shared.jobs.records import Entry, EntryForm, Failure, Job, ListingCursor
from maskmill.shared.jobs.sources import (
    FileBytes,
    Location,
    ManifestSource,
    ObjectBytes,
    PathSource,
    PdfOptions,
    S3Source,
    Source,
    StoredBytes,
    UploadSource,
    UrlBytes,
    UrlSource,
)
from maskmill.shared.roots import allowed_path, following
from maskmill.shared.settings import Settings
from maskmill.shared.storage import Storage
from maskmill.shared.storage.bucket_reader import BucketReaders, ListedObject
from maskmill.worker.sources.artifact_names import Names, beside_archives, clean, safe_path
from maskmill.worker.sources.bucket_listing import Wanted, list_objects, own_prefixes
from maskmill.worker.sources.manifest import Manifest
from maskmill.worker.sources.manifest_files import ManifestFiles


@dataclass(frozen=True)
class _Places:
    """What a listing may read, and what it has left out so far."""

    settings: Settings
    buckets: BucketReaders
    left_out: LeftOut
    output: str | None
    storage: Storage | None

    def manifest(self, root: _Root, source: ManifestSource, ref: str) -> Manifest:
        """The manifest of that source."""
        assert self.storage is not None, "who lists a job with a manifest gives its storage"
        files = ManifestFiles(self.settings, self.storage, self.buckets, root.alive)
        return Manifest(source, ref, self.output, root.number, files, self.left_out)


@dataclass(frozen=True)
class _Root:
    """A source of the job and what its entries share."""

    number: int
    source: Source
    name: str
    pdf: PdfOptions
    alive: Callable[[], object]

    def entry(self, location: Location, input_path: str, error: MaskmillError | None = None) -> Entry:
        """The one entry of the source."""
        return self.entry_at("", self.name, location, input_path, error)

    def entry_at(
        self, position: str, name: str, location: Location, input_path: str, error: MaskmillError | None = None
    ) -> Entry:
        """The entry at `position` inside the source."""
        form = self.source.form if isinstance(self.source, UploadSource) else form_of(name)
        return Entry(
            source=self.number,
            position=position,
            input_path=input_path,
            name=name,
            location=location,
            form=form,
            pdf=self.pdf,
            failure=Failure.of("plan", error) if error else None,
        )


def form_of(name: str) -> EntryForm:
    """What the suffix of a name says."""
    suffix = suffix_of(name)
    forms: dict[EntryForm, frozenset[str]] = {
        "picture": PICTURE_SUFFIXES,
        "paged": PAGED_SUFFIXES,
        "archive": ARCHIVE_SUFFIXES,
    }
    return next((form for form, suffixes in forms.items() if suffix in suffixes), "unknown")


def entries(
    job: Job,
    settings: Settings,
    start: ListingCursor | None = None,
    alive: Callable[[], object] = lambda: None,
    readers: BucketReaders | None = None,
    storage: Storage | None = None,
) -> Iterator[Entry]:
    """The entries of `job` behind the cursor `start`; `alive` is called while a folder or bucket is read.

    Manifests need the `storage`, where they are read from or kept.

    Each tells what was left out before it, and the last of all what was left out behind it too.
    """
    left_out = LeftOut()
    last: Entry | None = None
    places = _Places(settings, readers or BucketReaders(settings), left_out, job.output, storage)
    cursor = start or ListingCursor()
    for index, entry in enumerate(_entries(job, places, cursor, alive), cursor.listed):
        if index % (job.options.sample or 1):
            left_out.add(Reason.SAMPLE, entry.name)
            continue
        if last:
            yield last
        last = _telling(entry.model_copy(update={"index": index}), left_out)
    if last:
        yield _telling(last, left_out)


def _telling(entry: Entry, left_out: LeftOut) -> Entry:
    if not left_out:
        return entry
    told = entry.left_out or LeftOut()
    told.merge(left_out.take())
    return entry.model_copy(update={"left_out": told})


def _entries(job: Job, places: _Places, at: ListingCursor, alive: Callable[[], object]) -> Iterator[Entry]:
    names = source_names(job.sources)
    for number in range(at.source, len(names)):
        source = job.sources[number]
        root = _Root(number, source, names[number], source.pdf or job.options.pdf, alive)
        after = at.position if number == at.source else None
        if isinstance(source, PathSource):
            yield from _of_path(root, source, places, alone=len(names) == 1, after=after)
        elif isinstance(source, S3Source):
            top = "" if len(names) == 1 else f"{root.name}/"
            yield from _of_bucket(root, source, places, top, after)
        elif isinstance(source, ManifestSource):
            top = "" if len(names) == 1 else f"{root.name}/"
            yield from _of_manifest(root, places.manifest(root, source, job.ref), top, after)
        elif after is None:
            yield _of_single(root, source)


def source_names(sources: Sequence[Source]) -> list[str]:
    """The path of each source inside its job, none twice; a folder's stands before all that it holds."""
    uploads = [source.name for source in sources if isinstance(source, UploadSource)]
    names = Names([*uploads, *(name.partition("/")[0] for name in uploads)])
    return [source.name if isinstance(source, UploadSource) else _claimed(names, source) for source in sources]


def _claimed(names: Names, source: UrlSource | PathSource | S3Source | ManifestSource) -> str:
    if isinstance(source, PathSource):
        path = source.path
    elif isinstance(source, S3Source):
        path = _folder_meant(source.url)
    elif isinstance(source, ManifestSource):
        path = _path_of(source.name) if "://" in source.name else source.name
    else:
        path = _path_of(source.url)
    name = PurePosixPath(clean(PurePosixPath(path).name) or "input")
    return names.give(name.stem, name.suffix)


def _path_of(url: str) -> str:
    parts = urlsplit(url)
    return unquote(parts.path) if parts.path.strip("/") else parts.hostname or "url"


def _folder_meant(url: str) -> str:
    """The folder that an s3:// URL leads to, from its bucket on; the URL itself where it cannot be read."""
    try:
        bucket, path = ObjectUrl.parse(url)
        wanted = Wanted.of(path)
    except RequestError:
        return url
    return f"{bucket}/{wanted.folder}".rstrip("/")


def _of_bucket(root: _Root, source: S3Source, places: _Places, top: str, after: str | None) -> Iterator[Entry]:
    if after == "":
        # Its one entry is done: the URL means nothing that can be had.
        return
    try:
        url = ObjectUrl.parse(source.url)
        wanted, reader = Wanted.of(url.path), places.buckets.reader(url)
    except RequestError as refused:
        yield root.entry(ObjectBytes(bucket="", key=""), source.url, refused)
        return
    found, newly = after is not None, LeftOut()
    own = own_prefixes(url.bucket, places.settings, places.output, wanted.folder)
    for one in list_objects(reader, wanted, after, own, newly, root.alive):
        found = True
        places.left_out.merge(newly.take())
        yield _of_object(root, url.bucket, one, wanted, top)
    why = f"; left out: {newly}" if newly else ""
    places.left_out.merge(newly)
    if not found:
        nothing = InputNotFound(f"{source.url} means no image and no PDF{why}")
        yield root.entry(ObjectBytes(bucket=url.bucket, key=url.path), source.url, nothing)


def _of_object(root: _Root, bucket: str, one: ListedObject, wanted: Wanted, top: str) -> Entry:
    location = ObjectBytes(bucket=bucket, key=one.key, etag=one.etag, size=one.size)
    is_exact = one.key == wanted.exact
    below = wanted.name_of(one.key)
    problem = ObjectArchived(f"it is of storage class {one.storage_class}; restore it") if one.is_archived else None
    entry = root.entry_at(one.key, f"{top}{beside_archives(safe_path(below))}", location, location.url, problem)
    return entry if is_exact or entry.form != "unknown" else entry.model_copy(update={"named": False})


def _of_manifest(root: _Root, manifest: Manifest, top: str, after: str | None) -> Iterator[Entry]:
    for one in manifest.inputs(after):
        entry = root.entry_at(one.position, f"{top}{one.name}", one.location, one.input_path, one.problem)
        is_named = one.is_named or entry.form != "unknown"
        yield entry if is_named else entry.model_copy(update={"named": False})


def _of_single(root: _Root, source: UploadSource | UrlSource) -> Entry:
    if isinstance(source, UploadSource):
        return root.entry(StoredBytes(key=source.key), source.name)
    return root.entry(UrlBytes(url=source.url), source.url)


def _of_path(root: _Root, source: PathSource, places: _Places, *, alone: bool, after: str | None) -> Iterator[Entry]:
    if after == "":
        # Its one entry is done: a file, or a folder without inputs.
        return
    location = FileBytes(path=source.path)
    try:
        with following(source.path):
            path = allowed_path(source.path, places.settings.local_roots)
            is_folder = path.is_dir()
    except MaskmillError as error:
        if after is None:
            yield root.entry(location, source.path, error)
        return
    if is_folder:
        yield from _of_folder(root, source, path, "" if alone else f"{root.name}/", after, places.left_out)
    elif after is None:
        yield root.entry(location, source.path)


def _of_folder(
    root: _Root, source: PathSource, path: Path, top: str, after: str | None, left_out: LeftOut
) -> Iterator[Entry]:
    found, whole, newly = False, LeftOut(), LeftOut()
    for entry in _walk(replace(root, name=top), path, Path(source.path), "", _parts(after), newly):
        found = True
        if newly:
            whole.merge(newly)
            left_out.merge(newly.take())
        yield entry
    whole.merge(newly)
    left_out.merge(newly)
    if not found and after is None:
        why = f"; left out: {whole}" if whole else ""
        error = InputNotFound(f"{source.path} holds no image and no PDF{why}")
        yield root.entry(FileBytes(path=source.path), source.path, error)
    else:
        whole.warn(source.path)


def _parts(after: str | None) -> list[str]:
    return after.split("/") if after else []


def _walk(root: _Root, folder: Path, shown: Path, below: str, after: list[str], left_out: LeftOut) -> Iterator[Entry]:
    try:
        # What lies in a folder was told before its first entry.
        children = read_folder(folder, f"{root.name}{below}", LeftOut() if after else left_out, root.alive)
    except OSError as error:
        if not after:
            yield _unreadable(root, folder, shown, below, error)
        return
    for child in children:
        here, *rest = after or [""]
        if after and natural(child.name) < natural(here):
            continue
        position, again = f"{below}{child.name}", bool(after) and child.name == here
        path = folder / child.name
        if child.is_folder:
            yield from _walk(root, path, shown / child.name, f"{position}/", rest if again else [], left_out)
        elif not again:
            said, location = clean(str(shown / child.name)), FileBytes(path=clean(str(path)))
            problem = (
                None if location.path == str(path) else InputNotFound(f"the name of {said} is not UTF-8; rename it")
            )
            yield root.entry_at(clean(position), f"{root.name}{clean(position)}", location, said, problem)


def _unreadable(root: _Root, folder: Path, shown: Path, below: str, error: OSError) -> Entry:
    """The entry of a folder that cannot be read; its position is inside of it, so that a listing goes on behind it."""
    said = clean(str(shown))
    problem = InputNotFound(f"{said}: {error.strerror or error}")
    return root.entry_at(
        clean(below), f"{root.name}{clean(below)}".rstrip("/"), FileBytes(path=clean(str(folder))), said, problem
    )
