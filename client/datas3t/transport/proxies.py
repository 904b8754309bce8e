"""The choice of a proxy: none for connections to this machine, otherwise as libcurl reads the environment."""

import os
from ipaddress import IPv6Address, ip_address
from urllib.parse import urlsplit

_LOOPBACK = ("localhost", "127.0.0.0/8", "::1")


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine. It is a name, or an address without brackets."""
    host = host.rstrip(".").lower()
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback


def hosts_without_proxy() -> str:
    """Return the value of no_proxy in libcurl's syntax, with loopback added."""
    listed = _first("no_proxy", "NO_PROXY")[1]
    return listed if listed.strip() == "*" else ",".join([*filter(None, [listed]), *_LOOPBACK])


def proxy_variable(url: str) -> str:
    """Return the variable that names the proxy of libcurl's connections to a URL, or "" if they are direct."""
    scheme = urlsplit(url).scheme
    # CGI servers set HTTP_PROXY from the header Proxy of a request, so libcurl reads only http_proxy.
    upper = [] if scheme == "http" else [f"{scheme}_proxy".upper()]
    return _variable(url, [f"{scheme}_proxy", *upper, "all_proxy", "ALL_PROXY"], ["no_proxy", "NO_PROXY"])


def grpc_proxy_variable(url: str) -> str:
    """Return the variable that names the proxy of gRPC's connections to a URL, or "" if they are direct."""
    return _variable(url, ["grpc_proxy", "https_proxy", "http_proxy"], ["no_grpc_proxy", "no_proxy"])


def _variable(url: str, proxies: list[str], exceptions: list[str]) -> str:
    host = urlsplit(url).hostname or ""
    excepted = [name.strip().lower().lstrip(".") for name in _first(*exceptions)[1].split(",")]
    direct = is_loopback(host) or any(name in ("*", host) or (name and host.endswith("." + name)) for name in excepted)
    return "" if direct else _first(*proxies)[0]


def _first(*names: str) -> tuple[str, str]:
    """Return the first of these variables that has a value, with its value, or two empty strings."""
    return next(((name, value) for name in names if (value := os.environ.get(name))), ("", ""))
