"""Which network addresses may be connected to. The check is made on the very address that is then connected to.

A host name is looked up once for a hop, every address of the answer is checked, and the connection goes to one of
them by number. No second look-up happens, so a name that changes its answer in between (DNS rebinding) gains nothing.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from smartmem.errors import ConfigError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Endpoint = tuple[str, int]
# Looks up (host, port); gives (address, port) pairs or raises OSError. Tests put a map here in place of DNS.
Resolver = Callable[[str, int], Sequence[Endpoint]]

# IANA special-purpose registries. `is_global` of older Pythons lacks some of these, so they are spelled out.
_REFUSED: tuple[Network, ...] = tuple(
    ipaddress.ip_network(n)
    for n in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT; several clouds put their metadata service here
        "127.0.0.0/8",
        "169.254.0.0/16",  # link-local, with the metadata service of most clouds
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "::/128",
        "::1/128",
        "100::/64",
        "2001:2::/48",
        "2001:db8::/32",
        "3fff::/20",
        "5f00::/16",
        "fc00::/7",
        "fe80::/10",
        "fec0::/10",
        "ff00::/8",
    )
)
_NAT64 = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("64:ff9b:1::/48"))
_COMPATIBLE = ipaddress.ip_network("::/96")


@dataclass(frozen=True, slots=True)
class Exemption:
    """A network, and a port unless it is None, that may be connected to although it is not public."""

    network: Network
    port: int | None = None

    @classmethod
    def parse(cls, text: str) -> Exemption:
        """`127.0.0.1`, `127.0.0.1:8080`, `10.1.0.0/16`, `[::1]:8080`. Raises `ConfigError`."""
        host, port = text.strip(), ""
        if host.startswith("["):
            host, _, port = host[1:].partition("]")
            port = port.removeprefix(":")
        elif host.count(":") == 1:
            host, _, port = host.partition(":")
        try:
            return cls(ipaddress.ip_network(host), int(port) if port else None)
        except ValueError as error:
            raise ConfigError(
                f"web.fetch.allow has {text!r}: {error}; write ADDRESS, NETWORK or ADDRESS:PORT"
            ) from None

    def covers(self, address: Address, port: int) -> bool:
        """Whether this exemption holds for the endpoint."""
        return address.version == self.network.version and address in self.network and self.port in (None, port)


def embedded_ipv4(address: Address) -> list[ipaddress.IPv4Address]:
    """IPv4 addresses inside an IPv6 address (mapped, compatible, NAT64, 6to4, Teredo): routers unwrap them."""
    if isinstance(address, ipaddress.IPv4Address):
        return []
    found = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if any(address in net for net in (*_NAT64, _COMPATIBLE)):
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return [a for a in found if a is not None]


def is_public(address: Address) -> bool:
    """Whether an address is on the public internet, and so is every IPv4 address wrapped in it."""
    if any(address.version == net.version and address in net for net in _REFUSED):
        return False
    wrapped = embedded_ipv4(address)
    if wrapped:
        return all(is_public(inner) for inner in wrapped)
    return address.is_global and not address.is_multicast


def refused(endpoints: Sequence[Endpoint], exemptions: Sequence[Exemption]) -> str:
    """The first address that may not be connected to, or ''. One bad address refuses the whole answer."""
    for host, port in endpoints:
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return host
        if not is_public(address) and not any(e.covers(address, port) for e in exemptions):
            return host
    return ""


def system_resolver(host: str, port: int) -> list[Endpoint]:
    """Ask the system; also understands the old number forms (`0x7f.1`, `2130706433`) as the system does."""
    answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    endpoints = [(str(sockaddr[0]), int(sockaddr[1])) for *_, sockaddr in answers]
    return list(dict.fromkeys(endpoints))
