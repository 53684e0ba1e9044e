"""What an s3:// URL means: the objects of a bucket that are inputs, in the order of their keys, from any key on.

Nothing but the listing is asked of the bucket: what a key's suffix says is believed.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from maskmill.shared.buckets import ObjectUrl
from maskmill.shared.folder_inputs import CLAIMS, LeftOut, Reason, is_litter, suffix_of
from maskmill.shared.jobs import keys
from maskmill.shared.key_patterns import KeyPattern, is_pattern, unescaped
from maskmill.shared.settings import Settings
from maskmill.shared.storage.bucket_reader import BucketReader, ListedObject

RESULT_MARK = "_res"


@dataclass(frozen=True)
class Wanted:
    """What of a bucket is meant: all keys below `prefixes`, sorted, that `matches` says are.

    `exact` is the one object that the URL may name; `folder` leads to all the others, and their names begin behind it.
    """

    prefixes: tuple[str, ...]
    folder: str
    exact: str | None = None
    pattern: KeyPattern | None = None

    @classmethod
    def of(cls, path: str) -> Wanted:
        """What the path of an s3:// URL means; raises InvalidRequest for a pattern that is none."""
        if is_pattern(path):
            pattern = KeyPattern.parse(path)
            return cls(pattern.prefixes, _common_folder(pattern.prefixes), pattern=pattern)
        key = unescaped(path)
        if key.endswith("/") or not key:
            return cls((key,), key)
        return cls((key + "/",), key + "/", exact=key)

    def name_of(self, key: str) -> str:
        """The path of an object below the folder, another for each of those that are meant."""
        below = key.removeprefix(self.folder)
        exact = self.exact.rpartition("/")[2] if self.exact else None
        if exact is None:
            return below
        if key == self.exact:
            return exact
        # Beside the object `a.jpg` there may be `a.jpg/a.jpg`.
        return f"{exact}/{below}" if below.partition("/")[0] == exact else below

    def matches(self, key: str) -> bool:
        """Whether a key below the prefixes is meant."""
        return self.pattern is None or self.pattern.matches(key)


def list_objects(
    reader: BucketReader,
    wanted: Wanted,
    after: str | None,
    own: tuple[str, ...],
    left_out: LeftOut,
    alive: Callable[[], object],
) -> Iterator[ListedObject]:
    """The inputs behind the key `after`; what is none is added to `left_out`.

    `own` are prefixes below which Maskmill keeps what is its own. `alive` is called with each page of the listing.
    """
    if wanted.exact and after is None:
        yield from (
            one for page in reader.list(wanted.exact, page_size=1) for one in page[:1] if one.key == wanted.exact
        )
    for prefix, start_after in _left_to_list(wanted.prefixes, after):
        for page in _one_ahead(reader.list(prefix, start_after)):
            alive()
            for one in page:
                if not wanted.matches(one.key):
                    continue
                if reason := why_no_input(one, own):
                    left_out.add(reason, one.key.removeprefix(wanted.folder))
                else:
                    yield one


def _one_ahead(pages: Iterator[list[ListedObject]]) -> Iterator[list[ListedObject]]:
    """The pages, each asked for while the one before it is worked on."""
    with ThreadPoolExecutor(1, thread_name_prefix="list") as pool:
        coming = pool.submit(next, pages, None)
        while (page := coming.result()) is not None:
            coming = pool.submit(next, pages, None)
            yield page


def _left_to_list(prefixes: tuple[str, ...], after: str | None) -> Iterator[tuple[str, str]]:
    """The prefixes from that of the key `after` on, each with the key behind which it is to be listed."""
    # No store's order is asked: not every one lists `a.b` before `a/b`.
    of_after = [number for number, prefix in enumerate(prefixes) if after is not None and after.startswith(prefix)]
    for number in range(of_after[0] if of_after else 0, len(prefixes)):
        yield prefixes[number], (after or "") if number in of_after else ""


def own_prefixes(bucket: str, settings: Settings, output: str | None, folder: str = "") -> tuple[str, ...]:
    """Where in that bucket Maskmill's own storage, and the job's output, lie if they do.

    Of an output that the listed `folder` lies in, as where results are to stand beside their inputs, only what is no
    artifact: these are told by their names.
    """
    storage, out = (_prefix_in(bucket, url) for url in (settings.storage_url, output))
    own = [] if storage is None else [storage] if storage else list(keys.TOPS)
    if out is not None:
        own.append(f"{out}{keys.REFS}" if folder.startswith(out) else out)
    return tuple(own)


def _prefix_in(bucket: str, url: str | None) -> str | None:
    """What the keys below the URL begin with, if it is one of that bucket."""
    if not url or not url.startswith("s3://"):
        return None
    at = ObjectUrl.parse(url)
    prefix = at.path.strip("/")
    return (f"{prefix}/" if prefix else "") if at.bucket == bucket else None


def _common_folder(prefixes: tuple[str, ...]) -> str:
    """The folder, with its slash, that all of the sorted prefixes lead through."""
    both = zip(prefixes[0], prefixes[-1], strict=False)
    common = "".join(one for one, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], both))
    folder, slash, _ = common.rpartition("/")
    return folder + slash


def why_no_input(one: ListedObject, own: tuple[str, ...]) -> Reason | None:
    """Why an object that a listing tells of is no input, or None; `own` is what `own_prefixes` gives."""
    name = one.key.rpartition("/")[2]
    if (one.key.endswith("/") and one.size == 0) or name.endswith("_$folder$"):
        return Reason.FOLDER
    suffix = suffix_of(name)
    if one.key.startswith(own) or name[: len(name) - len(suffix)].endswith(RESULT_MARK):
        return Reason.RESULT
    if any(map(is_litter, one.key.split("/"))):
        return Reason.LITTER
    if name.startswith("."):
        return Reason.HIDDEN
    return Reason.OTHER if suffix and suffix not in CLAIMS else None
