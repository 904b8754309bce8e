"""Which addresses are never connected to, and how libcurl is kept from them."""

import os
import socket
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any, NamedTuple

import pycurl


class CurlAddress(NamedTuple):
    """Where libcurl is about to connect; `addr` is what `socket.connect` takes."""

    family: int
    socktype: int
    protocol: int
    addr: tuple[Any, ...]


# Networks of IPv6 whose addresses end with the IPv4 address that a gateway connects to.
NEVER_ALLOWED = "it has a link-local address, which is never allowed"
LINK_LOCAL = "LinkLocalAddress"  # in the place of an error code of S3

# Where clouds hand out a machine's credentials, besides 169.254.169.254 (Alibaba; AWS and Google over IPv6).
_METADATA = frozenset(map(ip_address, ("100.100.100.200", "fd00:ec2::254", "fd20:ce::254")))

_TRANSLATED = tuple(map(IPv6Network, ("::/96", "64:ff9b::/96", "64:ff9b:1::/48")))


def is_link_local(address: str) -> bool:
    """Return whether an address of IPv4 or IPv6 is link-local, or leads to one that is.

    No S3 has such an address, but the service that hands out a cloud machine's credentials (169.254.169.254). Other
    addresses of such services are taken for link-local ones.
    """
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:  # no address of the internet: a unix socket
        return False
    return any(each.is_link_local or each in _METADATA for each in (parsed, *_inner(parsed)))


def open_socket(refused: list[str], _purpose: int, address: CurlAddress) -> "_Socket | int":
    """Open a socket for libcurl, which is about to connect it. A link-local address is added to `refused` instead."""
    host = str(address.addr[0])
    if is_link_local(host):
        refused.append(host)
        return pycurl.SOCKET_BAD
    return _Socket(socket.socket(address.family, address.socktype, address.protocol).detach())


class _Socket:
    """A socket that pycurl duplicates, and then lets go."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def fileno(self) -> int:
        return self._descriptor

    def __del__(self) -> None:
        os.close(self._descriptor)


def _inner(address: IPv4Address | IPv6Address) -> list[IPv4Address]:
    """Return the IPv4 addresses that an IPv6 address stands for."""
    if isinstance(address, IPv4Address):
        return []
    inner = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if any(address in network for network in _TRANSLATED):
        inner.append(IPv4Address(int(address) & 0xFFFFFFFF))
    return [each for each in inner if each is not None]
