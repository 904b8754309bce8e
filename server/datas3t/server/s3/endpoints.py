"""Endpoints of buckets in one spelling, so that a bucket is recognized however its endpoint is written."""

import re
from ipaddress import IPv4Address, IPv6Address

from datas3t.server import values
from datas3t.transport import is_link_local

_DEFAULT_PORTS = {"http": 80, "https": 443}
_ENDPOINT = re.compile(
    r"(?P<scheme>https?)://(?:\[(?P<six>[0-9a-f:.]+)\]|(?P<host>[a-z0-9._-]+))(?::(?P<port>[0-9]*))?/*\??#?"
)
_NUMBER = re.compile(r"0x[0-9a-f]+|[0-9]+")
_MAX_HOST = 253  # characters, and 63 for each label: the limits of DNS
_MAX_LABEL = 63


def normalized(value: str, field: str = "endpoint") -> str:
    """Return scheme, host and port of an endpoint in one spelling.

    Lower case; no port that is the scheme's own; addresses as the system would read them (`127.1` and `2130706433` are
    127.0.0.1, and so is `[::ffff:127.0.0.1]`); no dot at the end of a name, and nothing behind the port.

    Raises INVALID_VALUE, also for addresses that are never connected to: link-local ones, and those of no machine.
    """
    if not value:
        raise values.missing(field)
    lowered = value.lower() if value.isascii() else value
    if not lowered.startswith(("http://", "https://")):
        raise values.invalid(field, "must begin with a scheme: https:// for TLS, or http://")
    match = _ENDPOINT.fullmatch(lowered)
    if match is None:
        raise values.invalid(field, "must have only scheme, host and port, for example https://s3.example.com:9000")
    scheme = match["scheme"]
    host = _address(match["six"], field) if match["six"] else _name(match["host"], field)
    port = int(match["port"] or _DEFAULT_PORTS[scheme])
    if not 1 <= port <= 65_535:
        raise values.invalid(field, "has a port that is not 1 to 65535")
    return f"{scheme}://{host}" if port == _DEFAULT_PORTS[scheme] else f"{scheme}://{host}:{port}"


def _address(text: str, field: str) -> str:
    """Return the host for an address of IPv6."""
    try:
        six = IPv6Address(text)
    except ValueError:
        raise values.invalid(field, "has an address that is not one of IPv6") from None
    return _allowed(six.ipv4_mapped or six, field)


def _name(host: str, field: str) -> str:
    """Return the host for a name, or for an address of IPv4 in one of the forms that systems accept."""
    host = host.removesuffix(".")
    labels = host.split(".")
    if len(host) > _MAX_HOST or not all(0 < len(label) <= _MAX_LABEL for label in labels):
        raise values.invalid(field, "has a host that is neither a name nor an address")
    if not _NUMBER.fullmatch(labels[-1]):
        return host
    return _allowed(_four(labels, field), field)


def _four(labels: list[str], field: str) -> IPv4Address:
    """Return the address of one to four numbers: decimal, hexadecimal, or octal with a leading 0.

    The last number stands for all bytes that are left.
    """
    try:
        numbers = [_number(label) for label in labels]
        *first, last = numbers
        room = 256 ** (4 - len(first))
        if len(numbers) > 4 or max(first, default=0) > 255 or last >= room:
            raise ValueError
    except ValueError:
        raise values.invalid(field, "has an address that is not one of IPv4") from None
    return IPv4Address(sum(number << (24 - 8 * place) for place, number in enumerate(first)) + last)


def _number(text: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise ValueError
    if text.startswith("0x"):
        return int(text, 16)
    return int(text, 8) if text.startswith("0") else int(text)


def _allowed(address: IPv4Address | IPv6Address, field: str) -> str:
    if is_link_local(str(address)):
        raise values.invalid(field, "has a link-local address, which is never allowed")
    if address.is_unspecified or address.is_multicast or address == IPv4Address("255.255.255.255"):
        raise values.invalid(field, "has an address that no machine has")
    return f"[{address}]" if isinstance(address, IPv6Address) else str(address)
