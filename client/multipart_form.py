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

from maskmill.client.errors import ClientError

PIECE_BYTES = 1 << 18


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file to send, the relative name it is sent under, and the name of its part."""

    name: str
    path: str
    part: str = "files"


class Form:
    """The parts "job", "files" and "manifest" of a submission; may be iterated again, as a second try needs."""

    def __init__(
        self, job: Any, files: Sequence[Attachment], progress: Callable[[int, int], None] | None = None
    ) -> None:
        """`progress` is told the bytes sent and their total, piece after piece."""
        self._progress = progress
        self._boundary = secrets.token_hex(16)
        self._job = self._head('name="job"', "application/json") + json.dumps(job).encode() + b"\r\n"
        self._files = files
        self._sizes = [_size(file.path) for file in files]
        self._end = f"--{self._boundary}--\r\n".encode()

    @property
    def content_type(self) -> str:
        """The Content-Type to send it with."""
        return f"multipart/form-data; boundary={self._boundary}"

    def __len__(self) -> int:
        heads = sum(len(self._file_head(file)) + 2 for file in self._files)
        return len(self._job) + heads + sum(self._sizes) + len(self._end)

    def __iter__(self) -> Iterator[bytes]:
        sent, total = 0, len(self)
        for piece in self._pieces():
            yield piece
            sent += len(piece)
            if self._progress:
                self._progress(sent, total)

    def _pieces(self) -> Iterator[bytes]:
        yield self._job
        for file, size in zip(self._files, self._sizes, strict=True):
            yield self._file_head(file)
            yield from _read(file.path, size)
            yield b"\r\n"
        yield self._end

    def _file_head(self, file: Attachment) -> bytes:
        # RFC 8187's form: a name in quotes is read in three ways where it holds a backslash, a quote or a percent sign.
        name = quote(os.fsencode(file.name), safe="")
        return self._head(f"name=\"{file.part}\"; filename*=utf-8''{name}", "application/octet-stream")

    def _head(self, disposition: str, content_type: str) -> bytes:
        lines = f"--{self._boundary}\r\nContent-Disposition: form-data; {disposition}\r\nContent-Type: {content_type}"
        return lines.encode() + b"\r\n\r\n"


def _size(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except OSError as error:
        raise ClientError(f"{path}: {error.strerror or error}", code="input_not_found") from None


def _read(path: str, size: int) -> Iterator[bytes]:
    """Exactly the announced bytes; raises ClientError where they are not to be had any more."""
    # An OSError would look like one of the connection's.
    try:
        with Path(path).open("rb") as file:
            left = size
            while left:
                piece = file.read(min(PIECE_BYTES, left))
                if not piece:
                    raise ClientError(f"{path} became shorter while it was sent", code="input_not_found")
                left -= len(piece)
                yield piece
    except OSError as error:
        raise ClientError(f"{path}: {error.strerror or error}", code="input_not_found") from None
