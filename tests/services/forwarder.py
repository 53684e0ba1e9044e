"""A loopback port that leads to another one, and to yet another when it is told so: an address that fails over."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class Forwarder:
    """New connections lead to the port `target`; those that are open stay where they lead."""

    target: int
    port: int = 0
    connections: list[socket.socket] = field(default_factory=list)

    def serve(self, listener: socket.socket) -> None:
        """Take connections until the listener is shut down."""
        with contextlib.suppress(OSError):
            while True:
                taken, _ = listener.accept()
                led = socket.create_connection(("127.0.0.1", self.target))
                self.connections += [taken, led]
                for source, sink in ((taken, led), (led, taken)):
                    threading.Thread(target=_pass_on, args=(source, sink), daemon=True).start()


@contextlib.contextmanager
def forward(target: int) -> Iterator[Forwarder]:
    """A free loopback port whose connections lead to the port `target`."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        forwarder = Forwarder(target, listener.getsockname()[1])
        thread = threading.Thread(target=forwarder.serve, args=(listener,), daemon=True)
        thread.start()
        try:
            yield forwarder
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in forwarder.connections:
                connection.close()


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_RDWR)
