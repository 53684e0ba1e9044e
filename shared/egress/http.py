"""The only way out to URLs that users name: public addresses, a few redirects, so many bytes, so many seconds."""

from __future__ import annotations

import contextlib
import io
import socket
import ssl
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from urllib.parse import urljoin

from urllib3 import BaseHTTPResponse, HTTPConnectionPool, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError, LocationValueError, SSLError
from urllib3.exceptions import TimeoutError as NoAnswer

from maskmill.shared.egress.addresses import AddressRule
from maskmill.shared.egress.connect import Connector
from maskmill.shared.egress.deadline import Deadline, TimedTlsSocket
from maskmill.shared.egress.partial import Partial, announced_size
from maskmill.shared.errors import (
    CannotStart,
    MaskmillError,
    UrlFailed,
    UrlNotFound,
    UrlRefused,
    UrlTooLarge,
    UrlUnreachable,
)
from maskmill.shared.settings import Settings

MAX_REDIRECTS = 5
PIECE, MEBIBYTE = 1 << 16, 1 << 20
# What is not sent is as important: no cookies, no .netrc, no proxy of the environment, no compression to blow up.
HEADERS = {"User-Agent": "maskmill", "Accept": "*/*", "Accept-Encoding": "identity"}
REDIRECTS = {301, 302, 303, 307, 308}
PASSING = {408, 429}


class Egress:
    """Fetches URLs within the settings' limits; connections are kept alive, and threads may share one.

    Raises UrlRefused, UrlNotFound, UrlFailed and UrlTooLarge, which will not get better, and UrlTimeout and
    UrlUnreachable, which may.
    """

    def __init__(self, settings: Settings) -> None:
        self._seconds = settings.url_timeout
        self._max_bytes = settings.max_input_bytes
        threads = settings.fetch_threads + settings.api_threads
        self._pools = _pools(Connector(AddressRule(settings.allow_networks), threads), threads)

    def fetch(self, url: str) -> bytes:
        """The whole body."""
        body = io.BytesIO()
        for piece in self._pieces(url):
            body.write(piece)
        return body.getvalue()

    def head_bytes(self, url: str, count: int) -> bytes:
        """The first `count` bytes of the body; the rest is not fetched."""
        head = bytearray()
        with contextlib.closing(self._pieces(url)) as pieces:
            while len(head) < count and (piece := next(pieces, b"")):
                head += piece
        return bytes(head[:count])

    def download(self, url: str, path: Path, most: int | None = None) -> None:
        """Write the body to `path` without holding it all; after an error there is no file.

        It may have `most` bytes, or as many as any input.
        """
        try:
            with path.open("wb") as file:
                file.writelines(self._pieces(url, most))
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    def resume(self, url: str, partial: Partial, size: int, report: Callable[[int], None]) -> None:
        """Complete a file of `size` bytes, from what it holds already; `report` is told how many there are.

        Not the whole but each mebibyte has the time limit, and `size` is the limit of bytes. After an error the file
        holds what has come, and a call with this URL or a mirror's goes on from there. UrlFailed: another size;
        CannotStart: the disk does not take it.
        """
        with Deadline(self._seconds) as deadline, _errors(url, deadline):
            response = self._follow(url, {**HEADERS, **partial.conditions(url)})
            with contextlib.closing(response), _disk(partial.path), partial.open(url, response, size) as file:
                renewed = done = file.tell()
                while done < size and (piece := response.read1(PIECE)):
                    done += file.write(piece[: size - done])
                    report(done)
                    if done - renewed >= MEBIBYTE:
                        renewed = done
                        deadline.extend()
        if done < size:
            raise UrlUnreachable(f"{url}: the body ended after {done} of {size} bytes")

    def close(self) -> None:
        """Close the kept connections."""
        self._pools.clear()

    def _pieces(self, url: str, most: int | None = None) -> Generator[bytes, None, None]:
        with Deadline(self._seconds) as deadline, _errors(url, deadline):
            response = self._follow(url)
            with contextlib.closing(response):
                yield from self._body(url, response, most or self._max_bytes)

    def _follow(self, url: str, headers: Mapping[str, str] = HEADERS) -> BaseHTTPResponse:
        for _ in range(MAX_REDIRECTS + 1):
            response = self._ask(url, headers)
            location = response.headers.get("Location")
            if response.status not in REDIRECTS or location is None:
                _check_status(url, response)
                return response
            response.close()
            url = _joined(url, location)
        raise UrlFailed(f"{url}: more than {MAX_REDIRECTS} redirects")

    def _ask(self, url: str, headers: Mapping[str, str]) -> BaseHTTPResponse:
        if not url.lower().startswith(("http://", "https://")):
            raise UrlRefused(f"{url}: only http:// and https:// are fetched")
        return self._pools.request(
            "GET",
            url,
            headers=headers,
            retries=False,
            redirect=False,
            preload_content=False,
            decode_content=False,
        )

    def _body(self, url: str, response: BaseHTTPResponse, most: int) -> Iterator[bytes]:
        announced, size = announced_size(response) or 0, 0
        while announced <= most and (piece := response.read1(PIECE)):
            size += len(piece)
            if size > most:
                break
            yield piece
        if max(announced, size) > most:
            setting = "MASKMILL_MAX_INPUT_BYTES" if most == self._max_bytes else "MASKMILL_MAX_ARCHIVE_BYTES"
            raise UrlTooLarge(f"{url}: more than {most} bytes; {setting} sets the limit")


def _pools(connector: Connector, threads: int) -> PoolManager:
    """A pool manager all of whose connections are made, and so judged and timed, by `connector`."""

    class Plain(HTTPConnection):
        def _new_conn(self) -> socket.socket:
            return connector.connect(self.host, self.port)

    class Secure(Plain, HTTPSConnection):
        pass

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = Secure

    context = ssl.create_default_context()
    context.sslsocket_class = TimedTlsSocket
    manager = PoolManager(num_pools=64, maxsize=threads, ssl_context=context)
    manager.pool_classes_by_scheme = {"http": PlainPool, "https": SecurePool}
    return manager


def _joined(url: str, location: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError:
        raise UrlFailed(f"{url}: redirects to {location[:80]!r}, which is no URL") from None


@contextlib.contextmanager
def _disk(path: Path) -> Iterator[None]:
    """Around reading a body into a file: what the network does is an HTTPError here, so an OSError is the disk's."""
    try:
        yield
    except OSError as error:
        raise CannotStart(f"{path}: {error.strerror}; the next try goes on from what is there") from None


def _check_status(url: str, response: BaseHTTPResponse) -> None:
    status = response.status
    if 200 <= status < 300:
        return
    response.close()
    if status in (404, 410):
        raise UrlNotFound(f"{url}: the server says {status}")
    if status >= 500 or status in PASSING:
        raise UrlUnreachable(f"{url}: the server says {status}")
    raise UrlFailed(f"{url}: the server says {status}")


@contextlib.contextmanager
def _errors(url: str, deadline: Deadline) -> Iterator[None]:
    try:
        yield
    except MaskmillError:
        raise
    except (HTTPError, OSError) as error:
        if deadline.passed() or isinstance(error, NoAnswer):
            raise deadline.error(url) from error
        if isinstance(error, SSLError | LocationValueError):
            raise UrlFailed(f"{url}: {error}") from error
        raise UrlUnreachable(f"{url}: {error}") from error
