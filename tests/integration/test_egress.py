"""Fetching a user's URL stays within addresses, redirects, bytes and time, against real loopback servers."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from maskmill.shared.egress.http import Egress
from maskmill.shared.errors import (
    InputError,
    MaskmillError,
    Unavailable,
    UrlFailed,
    UrlNotFound,
    UrlRefused,
    UrlTimeout,
    UrlTooLarge,
    UrlUnreachable,
)
from maskmill.shared.settings import Settings
from tests.services import FileServer
from tests.services.process import free_port

LIMIT = 1 << 20


@pytest.fixture
def egress() -> Iterator[Egress]:
    """An egress that may reach 127.0.0.1 and no other loopback address."""
    egress = Egress(Settings(allow_networks=("127.0.0.1/32",), max_input_bytes=LIMIT, url_timeout=10))
    yield egress
    egress.close()


@pytest.fixture
def hasty_egress() -> Iterator[Egress]:
    """One that allows a URL a single second."""
    egress = Egress(Settings(allow_networks=("127.0.0.1/32",), max_input_bytes=LIMIT, url_timeout=1))
    yield egress
    egress.close()


@contextmanager
def raw_server(*answers: bytes) -> Iterator[int]:
    """A server that writes these bytes, one a connection, and closes each when it is told to stop."""
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for answer in answers:
                connection, _ = listener.accept()
                # Whoever asked has had enough, and may hang up while the next byte is on its way.
                with connection, contextlib.suppress(ConnectionError):
                    connection.recv(65536)
                    for byte in answer:
                        connection.sendall(bytes([byte]))
                        if stop.wait(0.05):
                            break

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        stop.set()
        thread.join()


def test_a_body_is_fetched_whole(egress: Egress, file_server: FileServer, tmp_path: Path) -> None:
    url = file_server.add("a.bin", b"\0\xff" * 200_000)
    assert egress.fetch(url) == b"\0\xff" * 200_000
    egress.download(url, tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == b"\0\xff" * 200_000


def test_an_empty_body_is_fetched_as_such(egress: Egress, file_server: FileServer) -> None:
    assert egress.fetch(file_server.add("empty", b"")) == b""


def test_only_the_head_is_fetched_when_only_the_head_is_asked_for(egress: Egress, file_server: FileServer) -> None:
    url = file_server.drip("slow", b"x" * 1000, 1000, 0.05)
    assert egress.head_bytes(url, 1500) == b"x" * 1500
    assert egress.head_bytes(file_server.add("short", b"abc"), 1500) == b"abc"


def test_a_private_address_is_refused_and_the_setting_named(file_server: FileServer) -> None:
    closed = Egress(Settings())
    for host in ("127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]", "0.0.0.0"):
        with pytest.raises(UrlRefused, match="MASKMILL_ALLOW_NETWORKS"):
            closed.fetch(file_server.url("a", host=host))
    assert file_server.requests == []


def test_a_redirect_is_followed(egress: Egress, file_server: FileServer) -> None:
    file_server.add("end", b"here")
    file_server.redirect("relative", "/end", status=307)
    assert egress.fetch(file_server.redirect("start", file_server.url("relative"))) == b"here"


def test_a_redirect_to_an_address_that_is_not_allowed_is_refused(egress: Egress, file_server: FileServer) -> None:
    file_server.add("secret", b"secret")
    with pytest.raises(UrlRefused, match=r"127\.0\.0\.2"):
        egress.fetch(file_server.redirect("start", file_server.url("secret", host="127.0.0.2")))
    assert file_server.requests == ["/start"]


def test_a_redirect_to_another_scheme_is_refused(egress: Egress, file_server: FileServer) -> None:
    for target in ("file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://127.0.0.1/x"):
        with pytest.raises(UrlRefused, match="only http"):
            egress.fetch(file_server.redirect("start", target))


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://example.org/x", "example.org/x", "", "javascript:1"])
def test_another_scheme_is_refused(egress: Egress, url: str) -> None:
    with pytest.raises(UrlRefused, match="only http"):
        egress.fetch(url)


def test_redirects_in_a_circle_end(egress: Egress, file_server: FileServer) -> None:
    url = file_server.redirect("loop", file_server.url("loop"))
    with pytest.raises(UrlFailed, match="5 redirects"):
        egress.fetch(url)
    assert len(file_server.requests) == 6


@pytest.mark.parametrize("announced", [True, False])
def test_too_big_a_body_is_not_taken(egress: Egress, file_server: FileServer, tmp_path: Path, announced: bool) -> None:
    url = file_server.flood("flood", LIMIT + 65536, announced=announced)
    with pytest.raises(UrlTooLarge, match=str(LIMIT)):
        egress.fetch(url)
    with pytest.raises(UrlTooLarge):
        egress.download(url, tmp_path / "flood")
    assert not (tmp_path / "flood").exists()


def test_a_body_of_exactly_the_limit_is_taken(egress: Egress, file_server: FileServer) -> None:
    assert len(egress.fetch(file_server.flood("full", LIMIT, announced=True))) == LIMIT
    assert len(egress.fetch(file_server.flood("full", LIMIT, announced=False))) == LIMIT


def test_a_dripping_body_ends_at_the_deadline(hasty_egress: Egress, file_server: FileServer) -> None:
    with pytest.raises(UrlTimeout, match="MASKMILL_URL_TIMEOUT"):
        hasty_egress.fetch(file_server.drip("slow", b"x", 100_000, 0.05))


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\nX-Slow: ", b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"])
def test_neither_dripping_headers_nor_a_dripping_endless_body_outlast_the_deadline(
    hasty_egress: Egress, head: bytes
) -> None:
    with raw_server(head + b"x" * 100_000) as port, pytest.raises(UrlTimeout):
        hasty_egress.fetch(f"http://127.0.0.1:{port}/")


def test_a_silent_server_times_out(hasty_egress: Egress) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(UrlTimeout):
        hasty_egress.fetch(f"http://127.0.0.1:{listener.getsockname()[1]}/")


def test_a_body_cut_short_is_no_success(egress: Egress, file_server: FileServer) -> None:
    headers = {"Content-Length": "1000", "Connection": "close"}
    with pytest.raises(UrlUnreachable):
        egress.fetch(file_server.add("cut", b"x" * 10, headers=headers))


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (404, UrlNotFound),
        (410, UrlNotFound),
        (401, UrlFailed),
        (403, UrlFailed),
        (304, UrlFailed),
        (429, UrlUnreachable),
        (500, UrlUnreachable),
        (503, UrlUnreachable),
    ],
)
def test_a_status_says_whether_to_try_again(
    egress: Egress, file_server: FileServer, status: int, error: type[MaskmillError]
) -> None:
    with pytest.raises(error, match=str(status)) as caught:
        egress.fetch(file_server.add("x", b"", status=status))
    assert isinstance(caught.value, Unavailable if error is UrlUnreachable else InputError)


def test_a_server_that_is_not_there_may_be_tried_again(egress: Egress) -> None:
    with pytest.raises(UrlUnreachable):
        egress.fetch(f"http://127.0.0.1:{free_port()}/")


def test_a_name_that_does_not_resolve_may_be_tried_again(egress: Egress) -> None:
    with pytest.raises(UrlUnreachable, match="resolve"):
        egress.fetch("http://no-such-host.invalid/a.jpg")


@pytest.mark.parametrize("url", ["http://", "http://[::1", "http://127.0.0.1:99999/", f"http://{'a' * 70}.org/"])
def test_a_malformed_url_is_a_failure_of_that_input(egress: Egress, url: str) -> None:
    with pytest.raises(InputError):
        egress.fetch(url)


def test_a_name_is_judged_and_connected_to_in_one_go(
    egress: Egress, file_server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve, asked = socket.getaddrinfo, []

    def rebinding(host: str, *args: object, **kwargs: object) -> object:
        if host != "rebinding.test":
            return resolve(host, *args, **kwargs)
        asked.append(host)
        return resolve("127.0.0.1" if len(asked) == 1 else "127.0.0.2", *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    file_server.add("x", b"from the address that was judged")
    assert egress.fetch(file_server.url("x", host="rebinding.test")) == b"from the address that was judged"
    assert len(asked) == 1
    egress.close()
    with pytest.raises(UrlRefused, match=r"127\.0\.0\.2"):
        egress.fetch(file_server.url("x", host="rebinding.test"))


def test_the_proxies_of_the_environment_are_not_used(
    egress: Egress, file_server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    assert egress.fetch(file_server.add("x", b"direct")) == b"direct"


def test_threads_share_kept_connections(egress: Egress, file_server: FileServer) -> None:
    url = file_server.add("x", b"y" * 1000)
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda _: egress.fetch(url), range(100))) == {b"y" * 1000}
    assert file_server.connections <= 4
