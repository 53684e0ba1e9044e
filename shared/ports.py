"""Loopback ports: one that is free, or the one asked for if nobody has it."""

from __future__ import annotations

import socket

from maskmill.shared.errors import CannotStart


def pick(host: str, port: int, option: str) -> int:
    """`port`, or any free one for 0; raises CannotStart where it is taken, naming the `option` that changes it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise CannotStart(
                f"{host} port {port} cannot be used: {error.strerror}; name another with {option} (0: any free one)"
            ) from None
        return int(probe.getsockname()[1])
