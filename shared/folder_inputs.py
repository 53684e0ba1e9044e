"""Which files of a folder are inputs: one rule for what is uploaded, what a worker reads by path, and `predict`.

A file is an input if its first bytes are those of a format that is read, or if its name claims that they are: a text
file named .jpg is reported, a README beside the pictures is left out. So is what is hidden, and what operating systems
leave behind. A file that is named by itself is an input whatever it is; nobody asks here.
"""

from __future__ import annotations

import logging
import os
import re
import stat
from collections import defaultdict
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path, PurePath
from typing import NamedTuple

from maskmill.shared.formats import HEAD_BYTES, sniff

PICTURE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".bmp", ".dib", ".webp", ".gif"}
    | {".avif", ".avifs", ".heic", ".heif", ".jp2", ".ico"}
)
PAGED_SUFFIXES = frozenset({".pdf", ".tif", ".tiff"})
CLAIMS = PICTURE_SUFFIXES | PAGED_SUFFIXES
# What systems put beside the user's own files, thumbnails of the pictures among it; "._name" is macOS's as well.
LITTER = frozenset(
    {"thumbs.db", "ehthumbs.db", "desktop.ini", ".ds_store", "__macosx", "$recycle.bin", "system volume information"}
    | {"@eadir", "lost+found"}
)
SHOWN_NAMES = 3

logger = logging.getLogger(__name__)


class Reason(StrEnum):
    """Why something in a folder is no input."""

    OTHER = "no image and no PDF"
    HIDDEN = "hidden"
    LITTER = "of the operating system"
    LINK = "a link to a folder"
    SPECIAL = "no regular file"
    UNREADABLE = "cannot be read"


class LeftOut:
    """What of a folder is no input: how many, and the first names, by reason. True where there is something."""

    def __init__(self) -> None:
        self.counts: defaultdict[Reason, int] = defaultdict(int)
        self._names: defaultdict[Reason, list[str]] = defaultdict(list)

    def add(self, reason: Reason, path: str) -> None:
        """Count one more, at that path inside the folder."""
        self.counts[reason] += 1
        if self.counts[reason] <= SHOWN_NAMES:
            self._names[reason].append(_printable(path))

    def __bool__(self) -> bool:
        return bool(self.counts)

    def __str__(self) -> str:
        """In one line."""
        return "; ".join(self._line(reason) for reason in Reason if reason in self.counts)

    def _line(self, reason: Reason) -> str:
        names = self._names[reason]
        more = ", …" if self.counts[reason] > len(names) else ""
        return f"{reason}: {self.counts[reason]} ({', '.join(names)}{more})"

    def warn(self, folder: str | Path) -> None:
        """Log what was left out of `folder`, where anything was; a program that sets up no log sees it on stderr."""
        if self:
            logger.warning("Left out of %s: %s", _printable(str(folder)), self)


class Child(NamedTuple):
    """A sub-folder, or an input."""

    name: str
    is_folder: bool


def natural(name: str) -> list[tuple[int, int, str]]:
    """A sort key in which "page 2" comes before "page 10"."""
    parts = re.split(r"(\d+)", name)
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts if part]


def read_folder(folder: Path, below: str, left_out: LeftOut, alive: Callable[[], object] = lambda: None) -> list[Child]:
    """The sub-folders and the inputs of one folder in natural order; the rest is added to `left_out`.

    `below` is "" or leads, with its last slash, to this folder from the one that was named. Names alone are kept;
    only a file whose name claims nothing is opened, once, for its first bytes. `alive` is called with each that is
    read, as a large folder takes long. Raises OSError where the folder
    cannot be read.
    """
    children = []
    with os.scandir(folder) as entries:
        for entry in entries:
            alive()
            child, reason = _judge(entry)
            if reason:
                left_out.add(reason, f"{below}{entry.name}")
            else:
                children.append(child)
    return sorted(children, key=lambda child: natural(child.name))


def inputs_below(folder: Path, left_out: LeftOut) -> Iterator[str]:
    """The inputs of a folder and of all below it, as paths inside it, in natural order; folders are read one by one.

    Raises OSError where the folder itself cannot be read; a sub-folder that cannot is left out.
    """
    levels = [("", iter(read_folder(folder, "", left_out)))]
    while levels:
        below, children = levels[-1]
        child = next(children, None)
        if child is None:
            levels.pop()
        elif child.is_folder:
            levels.append((f"{below}{child.name}/", iter(_read_sub_folder(folder, f"{below}{child.name}", left_out))))
        else:
            yield f"{below}{child.name}"


def _read_sub_folder(folder: Path, path: str, left_out: LeftOut) -> list[Child]:
    try:
        return read_folder(folder / path, f"{path}/", left_out)
    except OSError:
        left_out.add(Reason.UNREADABLE, path)
        return []


def _judge(entry: os.DirEntry[str]) -> tuple[Child, Reason | None]:
    """The entry, and why it is left out, or None."""
    if entry.name.casefold() in LITTER or entry.name.startswith("._"):
        return Child(entry.name, False), Reason.LITTER
    if entry.name.startswith("."):
        return Child(entry.name, False), Reason.HIDDEN
    claims = PurePath(entry.name).suffix.lower() in CLAIMS
    try:
        if entry.is_dir(follow_symlinks=False):
            return Child(entry.name, True), None
        return Child(entry.name, False), _judge_file(entry, claims=claims)
    except OSError:
        # What claims to be a picture is an input, which fails with its reason where it is read.
        return Child(entry.name, False), None if claims else Reason.UNREADABLE


def _judge_file(entry: os.DirEntry[str], *, claims: bool) -> Reason | None:
    if not entry.is_file(follow_symlinks=False):
        mode = entry.stat().st_mode
        if not stat.S_ISREG(mode):
            return Reason.LINK if stat.S_ISDIR(mode) else Reason.SPECIAL
    if claims:
        return None
    with Path(entry.path).open("rb") as file:
        return None if sniff(file.read(HEAD_BYTES)) else Reason.OTHER


def _printable(path: str) -> str:
    """The path as text for one line."""
    text = os.fsencode(path).decode("utf-8", "replace")
    return "".join(character if character.isprintable() else "\ufffd" for character in text)
