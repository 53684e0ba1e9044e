"""Artifact names: two inputs of a job never share one, and the same job always gets the same names."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from pathlib import PurePosixPath

# A store takes 255 bytes between two slashes; page numbers and "_res.json" need some of them.
MOST_BYTES = 200


def clean(name: str) -> str:
    """The name as text that any store takes: bytes that are no UTF-8 replaced."""
    return os.fsencode(name).decode("utf-8", "replace").replace("\x00", "")


def stem(path: str) -> str:
    """The file name without its last suffix ("My Pic.v2.jpeg" → "My Pic.v2"), cut to MOST_BYTES."""
    name = clean(PurePosixPath(path).stem or "input")
    return name.encode()[:MOST_BYTES].decode("utf-8", "ignore")


class Names:
    """Gives every name once; one that was there before gets "-2", "-3", ... behind it."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._turns: dict[str, int] = {}

    def claim(self, wanted: str) -> str:
        """`wanted`, or the next name like it that is free."""
        name = wanted
        while name in self._taken:
            self._turns[wanted] = self._turns.get(wanted, 1) + 1
            name = f"{wanted}-{self._turns[wanted]}"
        self._taken.add(name)
        return name


def distinct(stems: Iterable[str]) -> list[str]:
    """The stems in order, each made a name of its own as `Names` does."""
    names = Names()
    return [names.claim(wanted) for wanted in stems]


def paged(name: str, pages: Collection[int], siblings: Collection[str]) -> str:
    """`name`, or a longer one where a page of it ("scan_0") would meet a sibling of that name in its folder."""
    folder, slash, base = name.rpartition("/")
    while any(f"{base}_{page}" in siblings for page in pages):
        base += "-pages"
    return f"{folder}{slash}{base}"
