"""A fetch ends when its time is up, at whatever step the other side stands still or drips, against real servers.

The one place where time is asserted, and generously: a limit of one second must end within five.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain, repeat
from pathlib import Path

import pytest

from maskmill.shared.egress.http import Egress
from maskmill.shared.egress.partial import Partial
from maskmill.shared.errors import UrlTimeout, UrlUnreachable
from maskmill.shared.settings import Settings
from tests.conftest import refuse
from tests.services import FileServer
from tests.services.files_over_http import Reply

LIMIT, BOUND = 1, 5
PAUSE = 0.2
OK = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture
def egress() -> Iterator[Egress]:
    """An egress that may reach the loopback network, and may take LIMIT seconds a URL."""
    egress = Egress(Settings(allow_networks=("127.0.0.0/8",), url_timeout=LIMIT))
    yield egress
    egress.close()


@contextmanager
def ends_in_time() -> Iterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < BOUND


@contextmanager
def dripping(pieces: Callable[[], Iterator[bytes]], tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """A server that reads a request and sends these pieces, each after a pause, to whoever connects; its port."""
    over = threading.Event()

    def answer(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            speaking = tls.wrap_socket(connection, server_side=True) if tls else connection
            with speaking:
                speaking.recv(65536)
                for piece in pieces():
                    if over.wait(PAUSE):
                        return
                    speaking.sendall(piece)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        over.set()
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@contextmanager
def deaf(*addresses: str, port: int) -> Iterator[None]:
    """At each of the addresses a port that lets nobody in: who listens there accepts nothing and its line is full."""
    with contextlib.ExitStack() as stack:
        for address in addresses:
            stack.enter_context(socket.create_server((address, port), backlog=0))
            while True:
                waiting = stack.enter_context(socket.socket())
                waiting.settimeout(0.2)
                try:
                    waiting.connect((address, port))
                except TimeoutError:
                    break
        yield


def resolve_to(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Let the name `many.test` have these addresses."""
    resolve = socket.getaddrinfo

    def resolving(host: str, port: int, *args: object, **kwargs: object) -> object:
        if host != "many.test":
            return resolve(host, port, *args, **kwargs)  # type: ignore[arg-type]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", resolving)


DRIPS = {
    "headers": (b"HTTP/1.1 200 OK\r\nX-Slow: ", b"x"),
    "header-lines": (OK, b"X-Slow: x\r\n"),
    "status": (b"", b"H"),
    "body-of-known-length": (OK + b"Content-Length: 1000000\r\n\r\n", b"x"),
    "body-until-the-end": (OK + b"Connection: close\r\n\r\n", b"x"),
    "body-of-http-1.0": (b"HTTP/1.0 200 OK\r\n\r\n", b"x"),
    "chunks": (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    "length-of-a-chunk": (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"0"),
    "go-on-answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
}


@pytest.mark.parametrize(("head", "drip"), DRIPS.values(), ids=DRIPS)
def test_a_drip_does_not_outlast_the_deadline(egress: Egress, tmp_path: Path, head: bytes, drip: bytes) -> None:
    with dripping(lambda: chain([head], repeat(drip))) as port:
        url = f"http://127.0.0.1:{port}/"
        for fetch in (egress.fetch, lambda url: egress.download(url, tmp_path / "x")):
            with ends_in_time(), pytest.raises(UrlTimeout, match="MASKMILL_URL_TIMEOUT"):
                fetch(url)


def test_a_dripping_download_that_goes_on_ends_too(egress: Egress, tmp_path: Path) -> None:
    head = OK + b"Content-Length: 1000000\r\nConnection: close\r\n\r\n"
    partial = Partial(tmp_path / "file", tmp_path / "note")
    with dripping(lambda: chain([head], repeat(b"x"))) as port, ends_in_time(), pytest.raises(UrlTimeout):
        egress.resume(f"http://127.0.0.1:{port}/", partial, 1_000_000, lambda _: None)
    assert partial.size > 0


def test_who_takes_a_connection_and_stays_silent_is_left(egress: Egress) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        for scheme in ("http", "https"):
            with ends_in_time(), pytest.raises(UrlTimeout):
                egress.fetch(f"{scheme}://127.0.0.1:{listener.getsockname()[1]}/")


def test_a_dripping_handshake_is_left(egress: Egress) -> None:
    with (
        dripping(lambda: chain([b"\x16\x03\x03\x40\x00"], repeat(b"\x02"))) as port,
        ends_in_time(),
        pytest.raises(UrlTimeout),
    ):
        egress.fetch(f"https://127.0.0.1:{port}/")


@pytest.fixture
def tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A server's side of TLS, with a certificate of its own for 127.0.0.1 that clients made from now on trust."""
    if shutil.which("openssl") is None:
        refuse("no openssl to make a certificate with")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=loopback"
    command += f" -addext subjectAltName=IP:127.0.0.1 -keyout {key} -out {certificate}"
    subprocess.run(command.split(), check=True, capture_output=True)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


def test_over_tls_a_body_comes_whole_and_a_drip_ends_in_time(tls: ssl.SSLContext) -> None:
    egress = Egress(Settings(allow_networks=("127.0.0.0/8",), url_timeout=LIMIT))
    with dripping(lambda: iter([OK + b"Content-Length: 4\r\n\r\nwhol"]), tls) as port:
        assert egress.fetch(f"https://127.0.0.1:{port}/") == b"whol"
    for head, drip in DRIPS.values():
        with (
            dripping(lambda head=head, drip=drip: chain([head], repeat(drip)), tls) as port,  # type: ignore[misc]
            ends_in_time(),
            pytest.raises(UrlTimeout),
        ):
            egress.fetch(f"https://127.0.0.1:{port}/")
    egress.close()


def test_slow_redirects_share_one_deadline(egress: Egress, file_server: FileServer) -> None:
    def slowly() -> Iterator[bytes]:
        time.sleep(0.4)
        yield b""

    def answer(_: object) -> Reply:
        time.sleep(0.4)
        return Reply(302, {"Location": "/next", "Content-Length": "0"}, slowly)

    file_server.routes["/next"] = answer
    with ends_in_time(), pytest.raises(UrlTimeout):
        egress.fetch(file_server.url("next"))


def test_an_address_that_does_not_answer_leaves_time_for_the_next(
    egress: Egress, file_server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve_to(monkeypatch, "127.0.0.2", "127.0.0.1")
    url = file_server.add("x", b"from the second")
    with deaf("127.0.0.2", port=file_server.port), ends_in_time():
        assert egress.fetch(url.replace("127.0.0.1", "many.test")) == b"from the second"


def test_many_addresses_that_do_not_answer_share_one_deadline(
    egress: Egress, file_server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    addresses = [f"127.0.0.{number}" for number in range(2, 10)]
    resolve_to(monkeypatch, *addresses)
    with deaf(*addresses, port=file_server.port), ends_in_time(), pytest.raises((UrlTimeout, UrlUnreachable)):
        egress.fetch(file_server.url("x", host="many.test"))


def test_a_resolver_that_hangs_is_left(egress: Egress, monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: over.wait(2 * BOUND) and [])
    try:
        with ends_in_time(), pytest.raises(UrlTimeout):
            egress.fetch("http://hanging.test/")
    finally:
        over.set()


def test_a_kept_connection_has_the_next_fetchs_time(egress: Egress, file_server: FileServer) -> None:
    first = file_server.drip("first", b"x", 3, 0.2)
    second = file_server.drip("second", b"y", 3, 0.2)
    for url, body in ((first, b"xxx"), (second, b"yyy"), (first, b"xxx")):
        assert egress.fetch(url) == body
    assert file_server.connections == 1


def test_a_fetch_needs_no_thread_of_its_own(egress: Egress, file_server: FileServer) -> None:
    timers: list[threading.Thread] = []

    def answer(_: object) -> Reply:
        timers.extend(thread for thread in threading.enumerate() if isinstance(thread, threading.Timer))
        return Reply(200, {"Content-Length": "1"}, lambda: [b"x"])

    file_server.routes["/x"] = answer
    assert egress.fetch(file_server.url("x")) == b"x"
    assert timers == []
