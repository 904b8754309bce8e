"""Normalization of endpoints, so that a bucket is recognized whichever way its endpoint is written."""

import re
from collections.abc import Iterable
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


class AllowedEndpoints:
    """Which endpoints bucket configurations may name: those that a pattern matches, or all if there is no pattern.

    A pattern is compared with scheme, host and port as `normalized` spells them, without the scheme if it has none
    itself. `*` stands for any characters.
    """

    def __init__(self, patterns: Iterable[str] = ()) -> None:
        self._patterns = [
            ("://" in each, re.compile(".*".join(map(re.escape, each.lower().split("*"))))) for each in patterns
        ]

    def __contains__(self, endpoint: str) -> bool:
        short = endpoint.partition("://")[2]
        return not self._patterns or any(
            pattern.fullmatch(endpoint if has_scheme else short) for has_scheme, pattern in self._patterns
        )


def normalized(value: str, field: str = "endpoint") -> str:
    """Return the normalized scheme, host and port of an endpoint.

    The result is in lower case. The default port of the scheme, a dot at the end of the name and slashes after the port
    are removed. Addresses are parsed as systems do: `127.1`, `2130706433` and `[::ffff:127.0.0.1]` become 127.0.0.1.

    Raises INVALID_VALUE, also for link-local addresses and for those that no machine can have.
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
    """Return the host for an IPv6 address."""
    try:
        six = IPv6Address(text)
    except ValueError:
        raise values.invalid(field, "has an IPv6 address that is not valid") from None
    return _allowed(six.ipv4_mapped or six, field)


def _name(host: str, field: str) -> str:
    """Return the host for a name, or for an IPv4 address in any form that systems accept."""
    host = host.removesuffix(".")
    labels = host.split(".")
    if len(host) > _MAX_HOST or not all(0 < len(label) <= _MAX_LABEL for label in labels):
        raise values.invalid(field, "has a host that is neither a name nor an address")
    if not _NUMBER.fullmatch(labels[-1]):
        return host
    return _allowed(_ipv4(labels, field), field)


def _ipv4(labels: list[str], field: str) -> IPv4Address:
    """Return the IPv4 address that is written as one to four numbers: decimal, hexadecimal, or octal with a leading 0.

    The last number stands for all bytes that are left.
    """
    try:
        numbers = [_number(label) for label in labels]
        *first, last = numbers
        room = 256 ** (4 - len(first))
        if len(numbers) > 4 or max(first, default=0) > 255 or last >= room:
            raise ValueError
    except ValueError:
        raise values.invalid(field, "has an IPv4 address that is not valid") from None
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
        raise values.invalid(field, "has an address that no machine can have")
    return f"[{address}]" if isinstance(address, IPv6Address) else str(address)
