"""Which files of a folder are inputs: one rule for what is uploaded, what a worker reads by path, and `predict`.

A file is an input if its first bytes are those of a format that is read, or if its name claims that they are: a text
file named .jpg is reported, a README beside the pictures is left out. So is what is hidden, and what operating systems
leave behind. A file that is named by itself is an input whatever it is; nobody asks here.
"""

from __future__ import annotations

import itertools
import logging
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, RootModel

from maskmill.shared.formats import HEAD_BYTES, sniff

PICTURE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".bmp", ".dib", ".webp", ".gif"}
    | {".avif", ".avifs", ".heic", ".heif", ".jp2", ".ico"}
)
PAGED_SUFFIXES = frozenset({".pdf", ".tif", ".tiff"})
ARCHIVE_SUFFIXES = frozenset({".zip", ".tar", ".tgz", ".tar.gz"})
CLAIMS = PICTURE_SUFFIXES | PAGED_SUFFIXES | ARCHIVE_SUFFIXES
# What systems put beside the user's own files, thumbnails of the pictures among it; "._name" is macOS's as well.
LITTER = frozenset(
    {"thumbs.db", "ehthumbs.db", "desktop.ini", ".ds_store", "__macosx", "$recycle.bin", "system volume information"}
    | {"@eadir", "lost+found", "_temporary", "_success"}
)
SHOWN_NAMES, SHOWN_CHARACTERS = 3, 200

logger = logging.getLogger(__name__)


class Reason(StrEnum):
    """Why something in a folder is no input."""

    OTHER = "other"
    HIDDEN = "hidden"
    LITTER = "litter"
    LINK = "folder_link"
    SPECIAL = "special_file"
    UNREADABLE = "unreadable"
    FOLDER = "folder_object"
    RESULT = "result"
    SAMPLE = "not_sampled"
    METADATA = "metadata"
    VERSION = "old_version"
    DONE = "done"


WORDS = {
    Reason.OTHER: "no image and no PDF",
    Reason.HIDDEN: "hidden",
    Reason.LITTER: "of the operating system",
    Reason.LINK: "a link to a folder",
    Reason.SPECIAL: "no regular file",
    Reason.UNREADABLE: "cannot be read",
    Reason.FOLDER: "a folder's own object",
    Reason.RESULT: "a result of Maskmill",
    Reason.SAMPLE: "not of the sample",
    Reason.METADATA: "a data set's own",
    Reason.VERSION: "an older version or a delete marker",
    Reason.DONE: "done, as a report says",
}


class Alike(BaseModel):
    """What was left out for one reason: how many, and the first names."""

    count: int = 0
    names: list[str] = []


class LeftOut(RootModel[dict[Reason, Alike]]):
    """What of a folder is no input, by reason. True where there is something."""

    root: dict[Reason, Alike] = {}

    def add(self, reason: Reason, path: str) -> None:
        """Count one more, at that path inside the folder."""
        self._add(reason, 1, [path])

    def merge(self, other: LeftOut) -> None:
        """Count what the other has as well."""
        for reason, alike in other.root.items():
            self._add(reason, alike.count, alike.names)

    def take(self) -> LeftOut:
        """What there is; nothing is left here."""
        taken = LeftOut(self.root)
        self.root = {}
        return taken

    @property
    def total(self) -> int:
        """How many, for whatever reason."""
        return sum(alike.count for alike in self.root.values())

    def __bool__(self) -> bool:
        return bool(self.root)

    def __str__(self) -> str:
        """In one line."""
        return "; ".join(_line(reason, self.root[reason]) for reason in Reason if reason in self.root)

    def _add(self, reason: Reason, count: int, names: Iterable[str]) -> None:
        alike = self.root.setdefault(reason, Alike())
        alike.count += count
        alike.names += map(_shown, itertools.islice(names, max(SHOWN_NAMES - len(alike.names), 0)))

    def warn(self, folder: str | Path) -> None:
        """Log what was left out of `folder`, where anything was; a program that sets up no log sees it on stderr."""
        if self:
            logger.warning("Left out of %s: %s", _printable(str(folder)), self)


def _line(reason: Reason, alike: Alike) -> str:
    more = ", …" if alike.count > len(alike.names) else ""
    return f"{WORDS[reason]}: {alike.count} ({', '.join(alike.names)}{more})"


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
    read, as a large folder takes long. Raises OSError where the folder cannot be read.
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


def suffix_of(name: str) -> str:
    """The suffix that says what a file is, in small letters: ".tar.gz" counts as one; empty where there is none."""
    lower = name.lower()
    if lower.endswith(".tar.gz"):
        return ".tar.gz"
    suffix = os.path.splitext(lower)[1]  # noqa: PTH122 - a Path for each of ten million names takes long
    return suffix if suffix != "." else ""


def is_litter(name: str) -> bool:
    """Whether a system or program leaves files or folders of that name behind."""
    return name.casefold() in LITTER or name.startswith("._")


def _judge(entry: os.DirEntry[str]) -> tuple[Child, Reason | None]:
    """The entry, and why it is left out, or None."""
    if is_litter(entry.name):
        return Child(entry.name, False), Reason.LITTER
    if entry.name.startswith("."):
        return Child(entry.name, False), Reason.HIDDEN
    claims = suffix_of(entry.name) in CLAIMS
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


def _shown(path: str) -> str:
    """The path in one line, a long one without its middle."""
    text = _printable(path)
    half = SHOWN_CHARACTERS // 2
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:half]}…{text[-half:]}"


def _printable(path: str) -> str:
    """The path as text for one line."""
    text = os.fsencode(path).decode("utf-8", "replace")
    return "".join(character if character.isprintable() else "\ufffd" for character in text)
