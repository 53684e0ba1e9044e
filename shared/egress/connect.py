"""Connections to hosts by name: resolved, judged and made within the deadline of the fetch that needs them."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address

from maskmill.shared.egress.addresses import Address, AddressRule
from maskmill.shared.egress.deadline import Deadline, TimedSocket
from maskmill.shared.errors import UrlFailed, UrlUnreachable

CONNECT_SECONDS = 10.0


class Connector:
    """Connects to addresses that `rule` allows; at most `lookups` names are resolved at once."""

    def __init__(self, rule: AddressRule, lookups: int) -> None:
        self._rule = rule
        # No time limit reaches into the system's resolver: it is left behind in its thread, and ends by its own.
        self._resolver = ThreadPoolExecutor(lookups, thread_name_prefix="resolve")

    def connect(self, host: str, port: int) -> TimedSocket:
        """A connection to one of the host's allowed addresses, within the deadline of this thread.

        The address that was judged is the address connected to, so a name that resolves differently the next time
        gains nothing. Each address gets its share of the time that is left, so that a silent one leaves some to the
        next. Raises UrlRefused, UrlFailed for no possible name, UrlUnreachable, TimeoutError at the deadline.
        """
        deadline = Deadline.of_this_thread()
        addresses = self._rule.choose(host, self._resolve(host.strip("[]"), port, deadline))
        problem: OSError | None = None
        for number, address in enumerate(addresses):
            share = deadline.wait() / (len(addresses) - number)
            try:
                return _connected(address, port, min(share, CONNECT_SECONDS))
            except OSError as error:
                problem = error
        deadline.wait()
        raise UrlUnreachable(f"{host}:{port}: {problem}") from problem

    def _resolve(self, host: str, port: int, deadline: Deadline) -> Sequence[str]:
        with contextlib.suppress(ValueError):
            return [str(ip_address(host))]
        found = self._resolver.submit(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        try:
            return [str(answer[4][0]) for answer in found.result(deadline.wait())]
        except socket.gaierror as error:
            raise UrlUnreachable(f"{host}: the name does not resolve ({error.strerror})") from error
        except UnicodeError as error:
            raise UrlFailed(f"{host!r} is no host name") from error
        finally:
            found.cancel()


def _connected(address: Address, port: int, seconds: float) -> TimedSocket:
    sock = TimedSocket(socket.AF_INET6 if address.version == 6 else socket.AF_INET)
    try:
        sock.settimeout(seconds)
        sock.connect((str(address), port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        sock.close()
        raise
    return sock
