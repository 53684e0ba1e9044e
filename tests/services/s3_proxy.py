"""A loopback port before an S3-compatible server: it refuses what it is told to, and counts what it is asked."""

from __future__ import annotations

import contextlib
import http.client
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler
from urllib.parse import urlsplit

from tests.services.http_server import serve

DENIED = '<?xml version="1.0"?><Error><Code>{0}</Code><Message>{0} is what it says.</Message></Error>'
HOP_BY_HOP = ("connection", "keep-alive", "transfer-encoding")


@dataclass
class S3Proxy:
    """`refuses(method, path)` is asked about each request; `requests` lists those that came, refused ones too.

    A refusal has the status 403 and the code `refusal`.

    A batch of deletes is answered with the status and the body that `deletes(body)` returns, if it returns some.

    With `every_writer_wins` a conditional write that lost is answered like one that won, as some stores do.
    """

    server: str
    port: int = 0
    refuses: Callable[[str, str], bool] = lambda _method, _path: False
    refusal: str = "AccessDenied"
    deletes: Callable[[bytes], tuple[int, bytes] | None] = lambda _body: None
    every_writer_wins: bool = False
    requests: list[tuple[str, str]] = field(default_factory=list)

    @property
    def endpoint(self) -> str:
        """Its URL."""
        return f"http://127.0.0.1:{self.port}"

    def count(self, method: str, part: str) -> int:
        """How many requests of that method had `part` in their path."""
        return sum(asked == method and part in path for asked, path in self.requests)


@contextlib.contextmanager
def s3_proxy(server: str) -> Iterator[S3Proxy]:
    """A proxy on a free loopback port before the server at that URL."""
    proxy = S3Proxy(server)
    with serve(type("Handler", (_Handler,), {"proxy": proxy})) as proxy.port:
        yield proxy


class _Handler(BaseHTTPRequestHandler):
    proxy: S3Proxy
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def parse_request(self) -> bool:
        parsed = super().parse_request()
        if parsed:
            # Every method is answered in one way, not each by a `do_` of its own.
            setattr(self, f"do_{self.command}", self._answer)
        return parsed

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        self.proxy.requests.append((self.command, self.path))
        status, headers, content = self._ask(body)
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _ask(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        if self.proxy.refuses(self.command, self.path):
            denied = DENIED.format(self.proxy.refusal).encode()
            return 403, {"Content-Length": str(len(denied))}, denied
        if self.path.endswith("?delete") and (answer := self.proxy.deletes(body)):
            return answer[0], {"Content-Length": str(len(answer[1]))}, answer[1]
        try:
            status, headers, content = _passed_on(self.proxy.server, self.command, self.path, self.headers, body)
        except OSError:
            return 502, {"Content-Length": "0"}, b""
        if status == 412 and self.proxy.every_writer_wins:
            return 200, {"Content-Length": "0"}, b""
        return status, headers, content

    def log_message(self, *_: object) -> None:
        """Say nothing: `requests` is the record."""


def _passed_on(server: str, method: str, path: str, asked: Message, body: bytes) -> tuple[int, dict[str, str], bytes]:
    # The host stays the proxy's own, since the caller has signed it.
    headers = {name: value for name, value in asked.items() if name.lower() != "expect"}
    with contextlib.closing(http.client.HTTPConnection(urlsplit(server).netloc, timeout=30)) as connection:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
    kept = {name: value for name, value in answer.getheaders() if name.lower() not in HOP_BY_HOP}
    return answer.status, {"Content-Length": str(len(content)), **kept}, content
