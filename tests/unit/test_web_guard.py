"""Which addresses may be connected to."""

from __future__ import annotations

import ipaddress

import pytest

from smartmem.errors import ConfigError
from smartmem.web.guard import Exemption, is_public, refused, system_resolver

PRIVATE = [
    "127.0.0.1",
    "127.255.255.254",
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "169.254.169.254",  # metadata service of most clouds
    "100.64.0.1",
    "100.100.100.200",  # metadata service in a carrier-grade NAT range
    "0.0.0.0",
    "192.0.0.170",
    "192.0.2.1",
    "198.18.0.1",
    "198.51.100.7",
    "203.0.113.9",
    "224.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "fe80::1",
    "fe80::1%eth0",
    "fc00::1",
    "fd12:3456::1",
    "fec0::1",
    "ff02::1",
    "2001:db8::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b:1::a00:1",
    "2002:7f00:1::",
    "2002:c0a8:101::1",
    "2001:0:4136:e378:8000:63bf:80ff:fffe",  # Teredo, client 127.0.0.1
]
PUBLIC = ["1.1.1.1", "93.184.215.14", "100.63.255.255", "100.128.0.1", "172.32.0.1", "2606:4700::1111"]


@pytest.mark.parametrize("text", PRIVATE)
def test_addresses_off_the_public_internet_are_refused(text: str) -> None:
    assert not is_public(ipaddress.ip_address(text))
    assert refused([("1.1.1.1", 80), (text, 80)], []) == text


@pytest.mark.parametrize("text", [*PUBLIC, "::ffff:1.1.1.1", "64:ff9b::101:101"])
def test_public_addresses_pass(text: str) -> None:
    assert is_public(ipaddress.ip_address(text))
    assert refused([(text, 443)], []) == ""


def test_what_is_no_address_is_refused() -> None:
    assert refused([("localhost", 80)], []) == "localhost"


def test_exemption_covers_its_network_and_port_only() -> None:
    exempt = [Exemption.parse("127.0.0.1:8080"), Exemption.parse("10.1.0.0/16"), Exemption.parse("[::1]:90")]
    assert refused([("127.0.0.1", 8080), ("10.1.2.3", 443), ("::1", 90)], exempt) == ""
    for endpoint in [("127.0.0.1", 8081), ("127.0.0.2", 8080), ("10.2.0.1", 443), ("::1", 91)]:
        assert refused([endpoint], exempt) == endpoint[0]


@pytest.mark.parametrize("text", ["localhost", "127.0.0.1:x", "10.0.0.0/33", "", "1.2.3.4:5:6"])
def test_unusable_exemption_is_a_config_error(text: str) -> None:
    with pytest.raises(ConfigError, match=r"web\.fetch\.allow"):
        Exemption.parse(text)


@pytest.mark.parametrize("host", ["2130706433", "0x7f.1", "0177.0.0.1", "127.1", "localhost"])
def test_old_number_forms_of_loopback_are_seen_through(host: str) -> None:
    assert refused(system_resolver(host, 80), []) in ("127.0.0.1", "::1")
