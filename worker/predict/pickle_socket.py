"""Channel: values to and from a process of ours, pickled, over a pair of connected sockets; arrays go as they lie.

multiprocessing's Connection frames pickles as well, but copies arrays into them and joins what it reads piece by piece:
a picture of 640 x 640 takes it 30 times as long, which is as long as a device takes to segment it.
"""

from __future__ import annotations

import pickle
import socket
import struct
import threading
from typing import Any

import numpy as np

# A message is the number of its parts, the length of each, and the parts: the pickle, then what lies outside of it.
_COUNT = struct.Struct("!I")


class Channel:
    """One end; any thread may send, one may receive. Raises OSError where the other end is gone."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._file = end.makefile("rb")
        self._sending = threading.Lock()

    def send(self, value: Any) -> None:
        """Send a value, waiting while the other end does not receive; of one that cannot be pickled nothing is sent."""
        outside: list[pickle.PickleBuffer] = []
        pickled = pickle.dumps(value, protocol=5, buffer_callback=outside.append)
        parts = [memoryview(pickled), *(buffer.raw() for buffer in outside)]
        with self._sending:
            self._socket.sendall(struct.pack(f"!I{len(parts)}Q", len(parts), *(part.nbytes for part in parts)))
            for part in parts:
                self._socket.sendall(part)

    def receive(self) -> Any:
        """The next value, once there is one."""
        (count,) = _COUNT.unpack(self._read(_COUNT.size))
        lengths = struct.unpack(f"!{count}Q", self._read(count * 8))
        pickled, *outside = (self._read(length) for length in lengths)
        return pickle.loads(pickled, buffers=outside)

    def close(self) -> None:
        """Close this end."""
        self._file.close()
        self._socket.close()

    def _read(self, length: int) -> memoryview:
        # Unlike a bytearray this is not filled with zeros first.
        data = np.empty(length, np.uint8).data
        if self._file.readinto(data) < length:
            raise ConnectionResetError("the other end is gone")
        return data
