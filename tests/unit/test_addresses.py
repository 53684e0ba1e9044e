"""Only addresses of the public internet may be reached, unless a network is opened by name."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from maskmill.shared.egress.addresses import AddressRule, is_public
from maskmill.shared.errors import InvalidRequest

PUBLIC = ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "2a00:1450:4001:800::200e", "::ffff:8.8.8.8"]
PRIVATE = {
    "127.0.0.1": "loopback",
    "127.255.0.3": "loopback",
    "0.0.0.0": "this host",
    "10.0.0.1": "private",
    "172.16.5.4": "private",
    "192.168.1.1": "private",
    "169.254.169.254": "link-local, cloud metadata",
    "100.64.0.1": "carrier-grade NAT",
    "100.100.100.200": "carrier-grade NAT, cloud metadata",
    "192.0.0.192": "protocol assignments, cloud metadata",
    "192.88.99.1": "6to4 relay",
    "198.18.0.1": "benchmarking",
    "203.0.113.9": "documentation",
    "224.0.0.1": "multicast",
    "239.255.255.250": "multicast",
    "240.0.0.1": "reserved",
    "255.255.255.255": "broadcast",
    "::1": "loopback",
    "::": "unspecified",
    "::7f00:1": "IPv4-compatible loopback",
    "::ffff:127.0.0.1": "mapped loopback",
    "::ffff:169.254.169.254": "mapped link-local",
    "64:ff9b::a9fe:a9fe": "NAT64 of link-local",
    "64:ff9b:1::a00:1": "local NAT64",
    "2002:a9fe:a9fe::": "6to4 of link-local",
    "2001::1": "Teredo",
    "fe80::1": "link-local",
    "fc00::1": "unique local",
    "fd00:ec2::254": "unique local, cloud metadata",
    "ff02::1": "multicast",
    "3fff::1": "documentation",
    "5f00::1": "segment routing",
}


@pytest.mark.parametrize("text", PUBLIC)
def test_a_public_address_may_be_reached(text: str) -> None:
    assert is_public(ip_address(text))
    assert AddressRule().allows(ip_address(text))


@pytest.mark.parametrize("text", PRIVATE)
def test_an_address_of_no_public_network_may_not_be_reached(text: str) -> None:
    assert not is_public(ip_address(text))
    assert not AddressRule().allows(ip_address(text))


def test_an_allowed_network_opens_itself_and_nothing_else() -> None:
    rule = AddressRule(["10.1.0.0/16", "fd00::/8"])
    assert rule.allows(ip_address("10.1.2.3"))
    assert rule.allows(ip_address("::ffff:10.1.2.3"))
    assert rule.allows(ip_address("fd12::1"))
    assert not rule.allows(ip_address("10.2.0.1"))
    assert not rule.allows(ip_address("127.0.0.1"))


def test_a_malformed_network_is_named_with_its_setting() -> None:
    with pytest.raises(InvalidRequest, match=r"MASKMILL_ALLOW_NETWORKS.*tennis"):
        AddressRule(["tennis"])
