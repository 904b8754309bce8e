"""Which addresses are never connected to."""

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

# Networks of IPv6 whose addresses end with the IPv4 address that a gateway connects to.
_TRANSLATED = tuple(map(IPv6Network, ("::/96", "64:ff9b::/96", "64:ff9b:1::/48")))


def is_link_local(address: str) -> bool:
    """Return whether an address of IPv4 or IPv6 is link-local, or leads to one that is.

    There is no S3 at such addresses, but the service that hands out a cloud machine's credentials (169.254.169.254).
    """
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:  # no address of the internet: a unix socket
        return False
    return parsed.is_link_local or any(inner.is_link_local for inner in _inner(parsed))


def _inner(address: IPv4Address | IPv6Address) -> list[IPv4Address]:
    """Return the IPv4 addresses that an IPv6 address stands for."""
    if isinstance(address, IPv4Address):
        return []
    inner = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if any(address in network for network in _TRANSLATED):
        inner.append(IPv4Address(int(address) & 0xFFFFFFFF))
    return [each for each in inner if each is not None]
