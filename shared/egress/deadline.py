"""Deadline: a fetch ends when its time is up, whatever the other side sends or does not send."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import Self

from urllib3.connection import HTTPConnection

from maskmill.shared.errors import UrlTimeout


class Deadline:
    """Cuts the connection that its thread uses when time is up: timeouts a read would let a slow drip last for ever."""

    _current = threading.local()

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._ends = time.monotonic() + seconds
        self._connection: HTTPConnection | None = None
        self._timer: threading.Timer

    @classmethod
    def watch(cls, connection: HTTPConnection) -> None:
        """The fetch of this thread now uses `connection`."""
        deadline: Deadline = cls._current.deadline
        deadline._connection = connection

    def __enter__(self) -> Self:
        self._current.deadline = self
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        self._connection = None

    def extend(self) -> None:
        """Start the time anew."""
        self._timer.cancel()
        self._ends = time.monotonic() + self._seconds
        self._start()

    def left(self, url: str) -> float:
        """Seconds until the end; UrlTimeout when there are none."""
        left = self._ends - time.monotonic()
        if left <= 0:
            raise self.error(url)
        return left

    def passed(self) -> bool:
        """Whether time is up."""
        return time.monotonic() >= self._ends

    def error(self, url: str) -> UrlTimeout:
        return UrlTimeout(f"{url}: not delivered within {self._seconds:g} s; MASKMILL_URL_TIMEOUT sets the limit")

    def _start(self) -> None:
        self._timer = threading.Timer(self._seconds, self._cut)
        self._timer.daemon = True
        self._timer.start()

    def _cut(self) -> None:
        connection = self._connection
        sock = getattr(connection, "sock", None)
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
