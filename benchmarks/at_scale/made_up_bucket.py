"""A bucket of made-up pictures behind S3's own protocol: as many keys below N/ as N says, and nothing to get.

Stands in for a store, so that the planner lists as it lists any: boto3, HTTP, XML, a page of 1,000 keys a request. It
runs in a process of its own.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from typing import cast
from urllib.parse import parse_qs, urlsplit

BUCKET, A_FOLDER = "made-up", 1000
HEAD = '<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
MODIFIED = "<LastModified>2026-11-25T00:00:00.000Z</LastModified>"
MORE = f"<Size>150000</Size><StorageClass>STANDARD</StorageClass>{MODIFIED}</Contents>"


@contextlib.contextmanager
def made_up_bucket(seconds: float = 0) -> Iterator[str]:
    """The URL of a server on loopback whose every listing takes so many `seconds` longer."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(there, seconds), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{here.recv()}"
    finally:
        process.kill()
        process.join()


def _serve(line: Connection, seconds: float) -> None:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            time.sleep(seconds)
            asked = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
            body = _page(asked.get("prefix", ""), asked.get("start-after", ""), int(asked.get("max-keys", 1000)))
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Type", "application/xml")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """Say nothing of planners that are killed while they read."""

    server = Server(("127.0.0.1", 0), Handler)
    line.send(cast("tuple[str, int]", server.server_address)[1])
    server.serve_forever()


def _page(prefix: str, start_after: str, most: int) -> bytes:
    count = int(prefix.partition("/")[0])
    first = int(start_after.rpartition("/")[2].partition(".")[0]) + 1 if start_after else 0
    numbers = range(first, min(first + most, count))
    entries = "".join(
        f'<Contents><Key>{count}/{number // A_FOLDER:06d}/{number:010d}.jpg</Key><ETag>"{number:032x}"</ETag>{MORE}'
        for number in numbers
    )
    truncated = str(first + most < count).lower()
    return f"{HEAD}<IsTruncated>{truncated}</IsTruncated>{entries}</ListBucketResult>".encode()
