"""Partial: a file that is still coming, and what is needed to ask for the rest of it (RFC 9110, 14.2 and 13.1.5)."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from urllib3 import BaseHTTPResponse

from maskmill.shared.errors import UrlFailed

PARTIAL_CONTENT = 206


@dataclass(frozen=True)
class Partial:
    """The bytes so far in `path`, and in `note` which URL sent them and in which version."""

    path: Path
    note: Path

    @property
    def size(self) -> int:
        """How many bytes there are."""
        return self.path.stat().st_size if self.path.exists() else 0

    def conditions(self, url: str) -> dict[str, str]:
        """Headers that ask for the rest, where that URL sent the beginning only of the same version.

        Another URL is trusted to have the same file; whoever wants it checks the whole.
        """
        if not self.size:
            return {}
        version = self._version(url)
        return {"Range": f"bytes={self.size}-"} | ({"If-Range": version} if version else {})

    def open(self, url: str, response: BaseHTTPResponse, size: int) -> BinaryIO:
        """The file at the place where the response's body goes; what is after it is gone.

        Raises UrlFailed, and leaves the file as it is, where the whole is announced to have another size.
        """
        start = self._start(url, response)
        announced = announced_size(response)
        if announced is not None and start + announced != size:
            raise UrlFailed(f"{url}: expected {size} bytes, the server has {start + announced}")
        self.note.write_text(json.dumps({"url": url, "version": _version_of(response)}), encoding="utf-8")
        file = self.path.open("r+b" if self.path.exists() else "w+b")
        file.seek(start)
        file.truncate()
        return file

    def drop(self) -> None:
        """Delete it."""
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)

    def _start(self, url: str, response: BaseHTTPResponse) -> int:
        if response.status != PARTIAL_CONTENT:
            return 0
        given = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
        if given is None or int(given[1]) != self.size:
            raise UrlFailed(f"{url}: asked for bytes from {self.size}, got {response.headers.get('Content-Range')}")
        return self.size

    def _version(self, url: str) -> str | None:
        try:
            note = json.loads(self.note.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return note.get("version") if isinstance(note, dict) and note.get("url") == url else None


def _version_of(response: BaseHTTPResponse) -> str | None:
    """What If-Range compares: a strong ETag, else the date."""
    tag = response.headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified")


def announced_size(response: BaseHTTPResponse) -> int | None:
    """The bytes that the response's header announces; None where it says nothing that is a size."""
    length = response.headers.get("Content-Length", "")
    return int(length) if re.fullmatch("[0-9]{1,18}", length) else None
