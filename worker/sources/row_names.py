"""What the results of a manifest's row are called: a pure function of the row, so that no other can change it.

    s3://photos/2026/a.jpg                      s3/photos/2026/a.jpg
    https://example.org/cats/1.png              https/example.org/cats/1.png
    https://example.org/a.jpg?w=1               https/example.org/a~MARK.jpg       what follows `?` is told by the mark
    s3://photos/2026/a.jpg, a version of it     s3/photos/2026/a~MARK.jpg
    the same, called cat-17 by its row          cat-17~MARK.jpg

The mark is 13 letters of a hash of the URI and version: two rows of one name overwrite each other only where they name
the same input. It cannot be left off where a name stands once alone, as only the other rows could tell that.
"""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import PurePosixPath
from urllib.parse import quote, unquote, urlsplit

from maskmill.shared.jobs.sources import ObjectBytes, UrlBytes
from maskmill.worker.sources.artifact_names import beside_archives, safe_path

MARK_LETTERS = 13
MARKED = re.compile(r"~[a-z2-7]{13}(\.[^./]*)?\Z")
PLAIN_IN_PATHS = "/~!$&'()*+,;=:@"


def row_name(location: ObjectBytes | UrlBytes, given: str | None) -> str:
    """The name of the input at `location`, which its row calls `given` if it does."""
    if isinstance(location, ObjectBytes):
        path, is_whole = f"s3/{location.bucket}/{location.key}", location.version is None
        identity = f"{location.url}\0{location.version or ''}"
    else:
        path, is_whole = _of_url(location.url)
        identity = location.url
    # What ends like one with a mark could be another's.
    if not given and is_whole and not MARKED.search(path):
        return beside_archives(safe_path(path))
    suffix = PurePosixPath(path.rpartition("/")[2]).suffix
    return beside_archives(safe_path(f"{given or path.removesuffix(suffix)}~{_mark(identity)}{suffix}"))


def _of_url(url: str) -> tuple[str, bool]:
    """The URL's scheme, host and path as a path, and whether no other URL has the same."""
    parts = urlsplit(url)
    path = unquote(parts.path or "/")
    reversible = "%" not in parts.path or quote(path, safe=PLAIN_IN_PATHS) == parts.path
    is_whole = reversible and not (parts.query or parts.fragment or "@" in parts.netloc)
    return f"{parts.scheme}/{parts.netloc.rpartition('@')[2]}{path}", is_whole


def _mark(identity: str) -> str:
    return base64.b32encode(hashlib.sha256(identity.encode()).digest())[:MARK_LETTERS].decode().lower()
