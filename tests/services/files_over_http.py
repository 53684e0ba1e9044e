"""A loopback HTTP server for URL sources: files, redirects, errors, slow and endless bodies."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from tests.services.http_server import serve

Body = Callable[[], Iterable[bytes]]


@dataclass(frozen=True)
class Reply:
    """One route's answer: a status, headers, and the body's pieces."""

    status: int
    headers: dict[str, str]
    pieces: Body


Answer = Reply | Callable[[Message], Reply]


@dataclass
class FileServer:
    """Routes may be added while it runs; `requests` lists the paths asked for and `connections` counts sockets.

    `ranges` lists each request's Range and If-Range.
    """

    port: int = 0
    folder: Path | None = None
    routes: dict[str, Answer] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    ranges: list[tuple[str | None, str | None]] = field(default_factory=list)
    connections: int = 0

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        """The URL of a path on this server."""
        return f"http://{host}:{self.port}/{path.lstrip('/')}"

    def add(self, path: str, body: bytes, *, status: int = 200, headers: dict[str, str] | None = None) -> str:
        """Answer `path` with a body of announced length; returns its URL."""
        return self._route(path, Reply(status, {"Content-Length": str(len(body)), **(headers or {})}, lambda: [body]))

    def redirect(self, path: str, to: str, status: int = 302) -> str:
        """Send `path` on to another URL; returns its URL."""
        return self.add(path, b"", status=status, headers={"Location": to})

    def drip(self, path: str, piece: bytes, pieces: int, pause: float) -> str:
        """Send a body of announced length piece by piece with a pause after each; returns its URL."""

        def slowly() -> Iterator[bytes]:
            for _ in range(pieces):
                yield piece
                time.sleep(pause)

        return self._route(path, Reply(200, {"Content-Length": str(len(piece) * pieces)}, slowly))

    def flood(self, path: str, size: int, *, announced: bool) -> str:
        """Send `size` zero bytes, with or without saying so beforehand; returns its URL."""
        headers = {"Content-Length": str(size)} if announced else {"Connection": "close"}
        return self._route(path, Reply(200, headers, lambda: (bytes(65536) for _ in range(size // 65536))))

    def resumable(self, path: str, body: bytes, *, etag: str | None = '"1"', cuts: Iterable[int] = ()) -> str:
        """Send a body, or the rest that Range and If-Range ask for; the first answers break off after `cuts` bytes."""
        left = list(cuts)

        def answer(asked: Message) -> Reply:
            rest = asked["Range"] and asked["If-Range"] in (None, etag)
            start = int(asked["Range"].removeprefix("bytes=").removesuffix("-")) if rest else 0
            headers = {"Content-Length": str(len(body) - start)} | ({"ETag": etag} if etag else {})
            if rest:
                headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
            end = start + left.pop(0) if left else len(body)
            if end < len(body):
                headers["Connection"] = "close"
            return Reply(206 if rest else 200, headers, lambda: [body[start:end]])

        return self._route(path, answer)

    def reply_to(self, path: str, asked: Message) -> Reply:
        """The answer for a path: its route, else a file of the folder, else 404."""
        if path in self.routes:
            answer = self.routes[path]
            return answer if isinstance(answer, Reply) else answer(asked)
        file = self.folder / path.lstrip("/") if self.folder else None
        if file is None or not file.is_file():
            return Reply(404, {"Content-Length": "0"}, list)
        return Reply(200, {"Content-Length": str(file.stat().st_size)}, lambda: [file.read_bytes()])

    def _route(self, path: str, reply: Answer) -> str:
        self.routes["/" + path.lstrip("/")] = reply
        return self.url(path)


@contextlib.contextmanager
def serve_files(folder: Path | None = None) -> Iterator[FileServer]:
    """A file server on a free loopback port, with the files of `folder` where one is given."""
    files = FileServer(folder=folder)
    with serve(_handler(files)) as files.port:
        yield files


def _handler(files: FileServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def setup(self) -> None:
            super().setup()
            files.connections += 1

        def do_GET(self) -> None:
            files.requests.append(self.path)
            files.ranges.append((self.headers["Range"], self.headers["If-Range"]))
            reply = files.reply_to(self.path, self.headers)
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                for piece in reply.pieces():
                    self.wfile.write(piece)

        def log_message(self, *_: object) -> None:
            """Say nothing: `requests` is the record."""

    return Handler
