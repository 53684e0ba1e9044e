"""Deadline: a fetch ends when its time is up, whatever the other side sends or does not send."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from typing import Any, Self

from maskmill.shared.errors import UrlTimeout


class Deadline:
    """The end of what its thread does inside `with`, for each wait of a socket anew.

    One time limit for a socket is a limit for each wait: a slow drip, of which a header's line needs one for each
    byte, would last for ever.
    """

    _current = threading.local()

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._ends = time.monotonic() + seconds

    @classmethod
    def limit(cls, sock: socket.socket) -> None:
        """Let the socket's next wait end with the deadline of this thread; TimeoutError where that is over."""
        deadline: Deadline | None = getattr(cls._current, "deadline", None)
        if deadline is not None:
            sock.settimeout(deadline.wait())

    @classmethod
    def of_this_thread(cls) -> Deadline:
        """The deadline that this thread is inside of."""
        deadline: Deadline = cls._current.deadline
        return deadline

    def __enter__(self) -> Self:
        self._current.deadline = self
        return self

    def __exit__(self, *_: object) -> None:
        del self._current.deadline

    def extend(self) -> None:
        """Start the time anew."""
        self._ends = time.monotonic() + self._seconds

    def wait(self) -> float:
        """Seconds until the end; TimeoutError when there are none."""
        left = self._ends - time.monotonic()
        if left <= 0:
            raise TimeoutError("time is up")
        return left

    def passed(self) -> bool:
        """Whether time is up."""
        return time.monotonic() >= self._ends

    def error(self, url: str) -> UrlTimeout:
        return UrlTimeout(f"{url}: not delivered within {self._seconds:g} s; MASKMILL_URL_TIMEOUT sets the limit")


class TimedSocket(socket.socket):
    """A socket whose every wait ends with the deadline of the thread that uses it."""

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        Deadline.limit(self)
        return super().recv_into(*args, **kwargs)

    def sendall(self, *args: Any, **kwargs: Any) -> None:
        Deadline.limit(self)
        super().sendall(*args, **kwargs)


class TimedTlsSocket(TimedSocket, ssl.SSLSocket):
    """The same over TLS; a handshake is one wait."""

    def do_handshake(self, *args: Any, **kwargs: Any) -> None:
        Deadline.limit(self)
        super().do_handshake(*args, **kwargs)
