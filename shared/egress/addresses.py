"""Which network addresses a fetch for a user may reach."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from maskmill.shared.errors import InvalidRequest, UrlRefused

Address = IPv4Address | IPv6Address

# Ranges that lead to, or stand for, private hosts and that `is_global` lets pass in some Python or other:
# shared carrier space, IETF protocol assignments, the 6to4 relay, NAT64, 6to4 and the newer documentation range.
DISGUISED = [
    ip_network(text)
    for text in (
        "100.64.0.0/10", "192.0.0.0/24", "192.88.99.0/24",
        "64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "3fff::/20",
    )
]  # fmt: skip


def is_public(address: Address) -> bool:
    """Whether the address belongs to the public internet and nobody's inner network."""
    address = _unwrapped(address)
    special = not address.is_global or address.is_multicast or address.is_reserved
    return not special and not any(address in network for network in DISGUISED)


class AddressRule:
    """Public addresses and, beyond them, only the networks given as CIDRs; InvalidRequest for a malformed one."""

    def __init__(self, allowed: Sequence[str] = ()) -> None:
        try:
            self._allowed = [ip_network(network, strict=False) for network in allowed]
        except ValueError as error:
            raise InvalidRequest(f"MASKMILL_ALLOW_NETWORKS: {error}; give CIDRs such as 10.0.0.0/8") from None

    def allows(self, address: Address) -> bool:
        """Whether a connection to the address may be made."""
        return is_public(address) or any(_unwrapped(address) in network for network in self._allowed)

    def choose(self, host: str, answers: Sequence[str]) -> list[Address]:
        """The addresses, among those that the name `host` has, to which a connection may be made; else UrlRefused."""
        addresses = list(dict.fromkeys(map(ip_address, answers)))
        allowed = [address for address in addresses if self.allows(address)]
        if not allowed:
            raise UrlRefused(
                f"{host} is at {addresses[0]}, which is no public address; to fetch from there, "
                f"put its network in MASKMILL_ALLOW_NETWORKS"
            )
        return allowed


def _unwrapped(address: Address) -> Address:
    """The IPv4 address that an IPv6 one merely wraps, else the address itself."""
    return getattr(address, "ipv4_mapped", None) or address
