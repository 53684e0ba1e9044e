"""Which names this server answers to.

A page of another site may give its own name this machine's address (DNS rebinding): the browser then takes the API for
a part of that site, and lets the page submit and read jobs. The Host header still tells the page's name.
"""

from __future__ import annotations

import ipaddress
import re

from flask import request

from maskmill.api.services import services
from maskmill.shared.errors import ForeignHost


def refuse_foreign_hosts() -> None:
    """Raise ForeignHost unless the request names loopback or one of MASKMILL_API_TRUSTED_HOSTS.

    Ports do not matter: a tunnel or a proxy may have another one than the API's. A request without a Host, as load
    balancers send, is of no browser.
    """
    host = request.headers.get("Host")
    if host is None or is_loopback(name := name_of(host)):
        return
    if name in map(name_of, services().settings.api_trusted_hosts):
        return
    raise ForeignHost(
        f"this server does not answer to {host[:100]!r}, only to localhost and loopback addresses; "
        "MASKMILL_API_TRUSTED_HOSTS lists further names"
    )


def is_loopback(name: str) -> bool:
    """Whether the name or address is this machine's own, for itself alone."""
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def name_of(host: str) -> str:
    """The name or address of a Host header, without port, brackets and the root's dot."""
    return re.sub(r":\d*$", "", host).strip("[]").lower().removesuffix(".")
