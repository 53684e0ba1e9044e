"""A Segmenter in a process of its own, pinned to its device; the two processes share a pair of connected sockets.

Run as `python -m maskmill.worker.predict.segmenter_process SOCKET DEVICE`; SegmenterProcess does. Down the socket go
the model's name and the settings, then requests, each with a number. Up come the model's labels once it is loaded, then
numbers, each with how its request ended; an exception in their place says why nothing more can be expected. Each ends
when the other is gone.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from maskmill.shared.egress.http import Egress
from maskmill.shared.errors import MaskmillError, ModelError
from maskmill.shared.jobs.records import Failure
from maskmill.shared.settings import Settings
from maskmill.shared.storage import open_storage
from maskmill.worker.device import Device, opencv_environment, parse_devices
from maskmill.worker.pipeline.budget import Budget
from maskmill.worker.pipeline.task import Done
from maskmill.worker.predict.pickle_socket import Channel
from maskmill.worker.predict.segmenter import Request, Segmenter
from maskmill.worker.sources.fetch import Fetcher

ROOT = Path(__file__).resolve().parents[2]


class SegmenterProcess:
    """A Segmenter that runs elsewhere on this machine; `wait_until_loaded` comes before the first request."""

    def __init__(self, model: str, device: Device, settings: Settings, on_broken: Callable[[Exception], None]) -> None:
        """Starts the process; `on_broken` is called where the device or the process is lost."""
        self.labels: tuple[str, ...] = ()
        self._device = device
        self._on_broken = on_broken
        self._frames = Budget(settings.bytes_in_flight)
        self._numbers = itertools.count()
        self._under_way: dict[int, Callable[[Done], None]] = {}
        self._gone = False
        self._changing = threading.Lock()
        self._outbox: queue.SimpleQueue[tuple[int, Request] | None] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=target, daemon=True) for target in (self._send, self._receive)]
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            # A program's socket.setdefaulttimeout() is not meant for these.
            end.settimeout(None)
        self._channel = Channel(ours)
        with theirs:
            self._process = _start(theirs.fileno(), device, settings)
        with contextlib.suppress(OSError):
            self._channel.send((model, settings))

    def wait_until_loaded(self) -> None:
        """Raises what a Segmenter raises, and ModelError where the process has died."""
        try:
            answer = self._channel.receive()
        except OSError:
            self._process.kill()
            raise ModelError(f"device {self._device}: {self._how_it_ended()} before the model was loaded") from None
        if isinstance(answer, Exception):
            raise answer
        self.labels = answer
        for thread in self._threads:
            thread.start()

    @property
    def under_way(self) -> int:
        """How many requests have not ended."""
        return len(self._under_way)

    def put(self, request: Request, done: Callable[[Done], None]) -> None:
        """Take a request on, waiting while too many pixels are on their way; `done` is called exactly once."""
        held = self._frames.acquire(request.nbytes)

        def ended(how: Done) -> None:
            self._frames.release(held)
            done(how)

        with self._changing:
            if not self._gone:
                number = next(self._numbers)
                self._under_way[number] = ended
                self._outbox.put((number, request))
                return
        ended(Done())

    def close(self) -> None:
        """End the process at once; it keeps nothing."""
        self._process.kill()
        self._process.wait()
        self._outbox.put(None)
        for thread in self._threads:
            if thread.is_alive() and thread is not threading.current_thread():
                thread.join()
        self._channel.close()

    def _send(self) -> None:
        """In a thread of its own: a KeyboardInterrupt amid a message would make all that follow unreadable."""
        while (message := self._outbox.get()) is not None:
            try:
                self._channel.send(message)
            except OSError:
                # The process is gone, or is of no use; whoever receives from it finds out.
                self._process.kill()
                return
            except Exception as error:  # noqa: BLE001 - whatever an input does, it ends its own request only
                self._end(message[0], Done(failure=Failure.of("fetch", error), error=error))

    def _receive(self) -> None:
        try:
            while True:
                answer = self._channel.receive()
                if isinstance(answer, Exception):
                    self._on_broken(answer)
                else:
                    self._end(*answer)
        except Exception:  # noqa: BLE001 - mostly the process's end; and without this thread no request would have one
            self._process.kill()
            self._on_broken(ModelError(self._how_it_ended()))
        finally:
            with self._changing:
                self._gone = True
            for number in tuple(self._under_way):
                self._end(number, Done())

    def _end(self, number: int, how: Done) -> None:
        ended = self._under_way.pop(number, None)
        if ended is not None:
            ended(how)

    def _how_it_ended(self) -> str:
        code = self._process.wait()
        names = {-number: number.name for number in signal.Signals}
        how = names.get(code, f"signal {-code}") if code < 0 else f"exit code {code}"
        return f"its process {self._process.pid} ended with {how}"


def _start(descriptor: int, device: Device, settings: Settings) -> subprocess.Popen[bytes]:
    # The child finds its packages where this process did, whose program may lie beside them or have changed sys.path.
    paths = {"PYTHONPATH": os.pathsep.join([*filter(None, sys.path), str(ROOT)])}
    # A session of its own: Ctrl-C in the terminal is for the parent alone.
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "maskmill.worker.predict.segmenter_process", str(descriptor), str(device)],
        env={**os.environ, **paths, **opencv_environment(settings), **device.environment()},
        stdin=subprocess.DEVNULL,
        pass_fds=(descriptor,),
        start_new_session=True,
    )


class _Child:
    """The process's own side."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._received: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for target in (self._listen, _end_with_parent):
            threading.Thread(target=target, name=target.__name__, daemon=True).start()

    def serve(self, device: Device) -> None:
        """Load the model and run requests for as long as the parent lives."""
        try:
            segmenter = self._load(device)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is for the parent to raise
            self._send_error(error)
            return
        self._send(segmenter.labels)
        while True:
            number, request = self._received.get()
            segmenter.put(request, partial(self._answer, number))

    def _load(self, device: Device) -> Segmenter:
        model, settings = self._received.get()
        fetcher = Fetcher(settings, open_storage(settings), Egress(settings))
        return Segmenter(model, device.alone(), settings, fetcher, self._send_error)

    def _listen(self) -> None:
        """Take in whatever comes, as much as the parent lets be under way: so its end is noticed at once."""
        try:
            while True:
                self._received.put(self._channel.receive())
        except Exception:  # noqa: BLE001 - mostly the parent's end; and without this thread nothing more would come
            os._exit(1)

    def _answer(self, number: int, done: Done) -> None:
        # What an error holds may not be possible to send; the failure says the same in words.
        how = replace(done, error=None)
        try:
            self._send((number, how))
        except Exception as error:  # noqa: BLE001 - a result that cannot be sent ends its own request only
            self._send((number, Done(failure=Failure.of("deliver", error))))

    def _send_error(self, error: Exception) -> None:
        self._send(error if isinstance(error, MaskmillError) else ModelError(Failure.of("load", error).reason))

    def _send(self, message: Any) -> None:
        try:
            self._channel.send(message)
        except OSError:
            os._exit(1)


def _end_with_parent() -> None:
    """The channel's end says so sooner, unless a process that the parent forked holds a copy of its socket."""
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


if __name__ == "__main__":
    _Child(Channel(socket.socket(fileno=int(sys.argv[1])))).serve(parse_devices(sys.argv[2])[0])
