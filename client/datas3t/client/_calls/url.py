"""The server's address: a URL, what the environment says, or the default."""

import os
from dataclasses import dataclass
from urllib.parse import urlsplit

from datas3t.client.errors import InvalidArgument

DEFAULT_URL = "http://localhost:8765"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens. `target` is what gRPC dials; `url` is the way people write it."""

    url: str
    target: str
    tls: bool


def address(url: str | None = None) -> Address:
    """The address that `url` names; without one, DATAS3T_SERVER_URL, then http://localhost:8765.

    https means TLS; no port means 443 or 80. Raises InvalidArgument for anything but scheme, host and port.
    """
    url = (url or os.environ.get("DATAS3T_SERVER_URL") or DEFAULT_URL).rstrip("/")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidArgument(f"the server URL {url!r} is not valid: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidArgument(f"the server URL {url!r} needs a scheme and a host, such as {DEFAULT_URL}")
    if parts.path or parts.query or parts.fragment or parts.username is not None:
        raise InvalidArgument(f"the server URL {url!r} has more than scheme, host and port; write it as {DEFAULT_URL}")
    tls = parts.scheme == "https"
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return Address(url, f"{host}:{port or (443 if tls else 80)}", tls)
