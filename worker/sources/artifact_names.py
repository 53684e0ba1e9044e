"""What an item's results are called: a pure function of its input's own path, so that no neighbour can change it.

    cats/1.jpg             cats/1
    cats/1.png             cats/1.png        beside 1.jpg both have results
    scan.pdf, page 0       scan.pdf_0        beside scan_0.jpg both have results

Two paths never share a name: what is cut off is ".jpg" alone, and only where no other dot is left; a name without any
dot, or one that looks like a page's, gets a dot at its end.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from maskmill.shared.folder_inputs import ARCHIVE_SUFFIXES, suffix_of

# A store takes 255 bytes between two slashes; page numbers and "_res.json" need some of them.
MOST_BYTES = 200
PAGE_LIKE = re.compile(r"_\d+$|\.$")
SHORTENED_LIKE = re.compile(r"~[0-9a-f]{16}(\.[^.]*)?\Z")


def clean(name: str) -> str:
    """The name as text that any store takes: bytes that are no UTF-8 replaced."""
    return os.fsencode(name).decode("utf-8", "replace").replace("\x00", "")


def safe_path(key: str) -> str:
    """An object's key as a path that any store takes, another for each key.

    Parts that are no names (``, `.` and `..`) become `%`, `%2E` and `%2E%2E`, and so that none of the others looks like
    one of these, a `%` that a part begins with becomes `%25`. Parts that are too long are shortened.
    """
    *folders, base = key.split("/")
    return "/".join([*(_shortened(_part(folder)) for folder in folders), _part(base)])


def beside_archives(path: str) -> str:
    """The path of an object, another than that of any file of an archive: a store may hold `x.zip` and `x.zip/1.jpg`.

    `x.zip/1.jpg` becomes `%2Fx.zip/1.jpg`; no part of a `safe_path` begins like that.
    """
    *folders, base = path.split("/")
    return "/".join([*(f"%2F{one}" if suffix_of(one) in ARCHIVE_SUFFIXES else one for one in folders), base])


def _part(part: str) -> str:
    if part.strip("."):
        return f"%25{part[1:]}" if part.startswith("%") else clean(part)
    return part.replace(".", "%2E") if len(part) in (1, 2) else part or "%"


def artifact_name(path: str, page: int | None = None) -> str:
    """The name of the results of the input at `path`, relative to its job, or of a page of it."""
    folder, slash, base = path.rpartition("/")
    base = _shortened(base)
    if page is not None:
        dotted = base if "." in base and not base.endswith(".") else f"{base}."
        return f"{folder}{slash}{dotted}_{page}"
    if base.endswith(".jpg") and "." not in base[:-4] and base != ".jpg":
        return f"{folder}{slash}{base[:-4]}"
    dot = "." if "." not in base or PAGE_LIKE.search(base) else ""
    return f"{folder}{slash}{base}{dot}"


def seed_name(input_path: str, page: int | None = None) -> str:
    """What PaddleX calls the results of an input: its file name without the last suffix, and its page."""
    path = urlsplit(input_path).path if "://" in input_path else input_path
    return stem(path) + (f"_{page}" if page is not None else "")


def stem(path: str) -> str:
    """The file name without its last suffix ("My Pic.v2.jpeg" → "My Pic.v2"), cut to MOST_BYTES."""
    name = clean(PurePosixPath(path).stem or "input")
    return name.encode()[:MOST_BYTES].decode("utf-8", "ignore")


class Names:
    """Gives every name once; one that was there before gets "-2", "-3", ... behind its stem."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken: set[str] = set(taken)
        self._turns: dict[str, int] = {}

    def give(self, wanted: str, suffix: str = "") -> str:
        """`wanted` and `suffix`, or the next name like it that is free."""
        name = wanted + suffix
        while name in self._taken:
            self._turns[wanted + suffix] = self._turns.get(wanted + suffix, 1) + 1
            name = f"{wanted}-{self._turns[wanted + suffix]}{suffix}"
        self._taken.add(name)
        return name


def _shortened(base: str) -> str:
    """The file name, or where it is too long, or could be such a one's, its beginning and a hash of the whole."""
    data = base.encode()
    if len(data) <= MOST_BYTES and not SHORTENED_LIKE.search(base):
        return base
    suffix = PurePosixPath(base).suffix[:16]
    digest = hashlib.sha256(data).hexdigest()[:16]
    return f"{data[: MOST_BYTES - 40].decode('utf-8', 'ignore')}~{digest}{suffix}"
