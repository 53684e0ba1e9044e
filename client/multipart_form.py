"""A multipart/form-data body that is read from disk while it is sent, with its length known beforehand."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

PIECE_BYTES = 1 << 18


@dataclass(frozen=True)
class Attachment:
    """A file to send, and the relative name it is sent under."""

    name: str
    path: Path


class Form:
    """The parts "job" and "files" of a submission; may be iterated again, as a second try needs."""

    def __init__(
        self, job: Any, files: Sequence[Attachment], progress: Callable[[int, int], None] | None = None
    ) -> None:
        """`progress` is told the bytes sent and their total, piece after piece."""
        self._progress = progress
        self._boundary = secrets.token_hex(16)
        self._job = self._head('name="job"', "application/json") + json.dumps(job).encode() + b"\r\n"
        self._files = [(self._file_head(file), file.path, file.path.stat().st_size) for file in files]
        self._end = f"--{self._boundary}--\r\n".encode()

    @property
    def content_type(self) -> str:
        """The Content-Type to send it with."""
        return f"multipart/form-data; boundary={self._boundary}"

    def __len__(self) -> int:
        return len(self._job) + sum(len(head) + size + 2 for head, _, size in self._files) + len(self._end)

    def __iter__(self) -> Iterator[bytes]:
        sent, total = 0, len(self)
        for piece in self._pieces():
            yield piece
            sent += len(piece)
            if self._progress:
                self._progress(sent, total)

    def _pieces(self) -> Iterator[bytes]:
        yield self._job
        for head, path, size in self._files:
            yield head
            yield from _read(path, size)
            yield b"\r\n"
        yield self._end

    def _file_head(self, file: Attachment) -> bytes:
        # RFC 8187's form: a name in quotes is read in three ways where it holds a backslash, a quote or a percent sign.
        name = quote(os.fsencode(file.name), safe="")
        return self._head(f"name=\"files\"; filename*=utf-8''{name}", "application/octet-stream")

    def _head(self, disposition: str, content_type: str) -> bytes:
        lines = f"--{self._boundary}\r\nContent-Disposition: form-data; {disposition}\r\nContent-Type: {content_type}"
        return lines.encode() + b"\r\n\r\n"


def _read(path: Path, size: int) -> Iterator[bytes]:
    """Exactly the announced bytes; raises OSError where the file has shrunk meanwhile."""
    with path.open("rb") as file:
        left = size
        while left:
            piece = file.read(min(PIECE_BYTES, left))
            if not piece:
                raise OSError(f"{path} became shorter while it was sent")
            left -= len(piece)
            yield piece
