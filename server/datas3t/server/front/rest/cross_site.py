"""Rejection of requests from web pages of other sites, except for the origins that the settings name.

A browser sends the requests of a page to any address that it can reach, such as a server on the user's own machine, and
some of them without a preflight request. Its headers name the page's origin, and the page cannot change them. Requests
without these headers do not come from a browser, and are allowed. gRPC needs no check: because of its content type, a
browser sends a preflight request first, which is refused here.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import urlsplit

from datas3t import v1
from datas3t.server.errors import Failure
from datas3t.server.settings import Address, is_loopback

_METHODS = "GET, HEAD, POST, DELETE"
_REQUEST_HEADERS = "authorization, content-type, traceparent, x-request-id"
_RESPONSE_HEADERS = "retry-after, traceparent, x-request-id"
_MAX_AGE = "600"  # seconds for which a browser may cache the response to a preflight request
_MAX_SHOWN = 200  # characters of an origin or a host that an error repeats
_PORTS = {"http": 80, "https": 443}


class RequestInfo(NamedTuple):
    """The parts of a request that are checked: method, whether the path is a page, and headers by lower-case name."""

    method: str
    is_page: bool
    headers: Mapping[str, str]

    @property
    def is_preflight(self) -> bool:
        """Whether this is a preflight request of a browser."""
        return self.method == "OPTIONS" and "access-control-request-method" in self.headers

    @property
    def is_navigation(self) -> bool:
        """Whether a person opens a page, for example by a link."""
        mode, destination = (self.headers.get(f"sec-fetch-{name}", "") for name in ("mode", "dest"))
        return (
            self.is_page and self.method in ("GET", "HEAD") and mode == "navigate" and destination in ("", "document")
        )


class CrossSite:
    """The rules of one server.

    Args:
        addr: The address that it listens on.
        origins: Origins of other web pages that may send requests.
        hosts: Names of this server besides those of loopback, without a port. If there are any, other names are
            refused. If there are no hosts, a server that listens only on loopback accepts only names of loopback.
    """

    def __init__(self, addr: Address, origins: Iterable[str] = (), hosts: Iterable[str] = ()) -> None:
        self._origins = frozenset(_normal(origin) for origin in origins)
        self._hosts = frozenset(host.lower() for host in hosts)
        self._checks_host = bool(self._hosts) or is_loopback(addr.host)

    def check(self, request: RequestInfo) -> None:
        """Raise Failure (CROSS_SITE) for a request that a foreign page may have sent."""
        host, origin = request.headers.get("host", ""), request.headers.get("origin", "")
        if self._checks_host and host and not self._is_own(host):
            message = f"this server is not called {_shown(host)}; use its own address, or start it with --allowed-hosts"
            raise Failure(v1.ERROR_REASON_CROSS_SITE, message, origin=_shown(origin), host=_shown(host))
        if origin and _normal(origin) in self._origins:
            return
        site = request.headers.get("sec-fetch-site")
        if site is None:
            allowed = not origin or _is_same(origin, host)
        else:
            allowed = site in ("same-origin", "none") or request.is_navigation
        if not allowed:
            source = f"the origin {_shown(origin)}" if origin else "another site"
            message = f"the request comes from a web page of {source}; start the server with --cors-origin to allow it"
            raise Failure(v1.ERROR_REASON_CROSS_SITE, message, origin=_shown(origin), host=_shown(host))

    def response_headers(self, request: RequestInfo) -> dict[str, str]:
        """Return the headers that let a page of an allowed origin read the response."""
        if not self._origins:
            return {}
        origin = request.headers.get("origin", "")
        if not origin or _normal(origin) not in self._origins:
            return {"Vary": "Origin"}
        headers = {"Access-Control-Allow-Origin": origin, "Vary": "Origin"}
        if request.is_preflight:
            headers["Access-Control-Allow-Methods"] = _METHODS
            headers["Access-Control-Allow-Headers"] = _REQUEST_HEADERS
            headers["Access-Control-Max-Age"] = _MAX_AGE
            if request.headers.get("access-control-request-private-network") == "true":
                headers["Access-Control-Allow-Private-Network"] = "true"
        else:
            headers["Access-Control-Expose-Headers"] = _RESPONSE_HEADERS
        return headers

    def allows_preflight(self, request: RequestInfo) -> bool:
        """Return whether this is a preflight request of an allowed origin."""
        origin = request.headers.get("origin", "")
        return request.is_preflight and bool(origin) and _normal(origin) in self._origins

    def _is_own(self, host: str) -> bool:
        name = _host_name(host)
        return name in self._hosts or is_loopback(name)


@lru_cache(maxsize=256)
def _host_name(host: str) -> str:
    """Return the name in a Host header, in lower case and without the port."""
    try:
        return (urlsplit(f"//{host}").hostname or "").removesuffix(".")
    except ValueError:
        return ""


def _is_same(origin: str, host: str) -> bool:
    """Return whether an origin's host and port are those of a Host header."""
    scheme, _, _ = origin.partition("://")
    return bool(host) and _normal(origin) == _normal(f"{scheme}://{host}")


def _normal(origin: str) -> str:
    """Return an origin in lower case and with a port. A text that is not an origin, such as `null`, is not changed."""
    try:
        parts = urlsplit(origin.strip().lower())
        port = parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return origin
    return f"{parts.scheme}://{parts.hostname}:{port}" if parts.scheme and parts.hostname else origin


def _shown(text: str) -> str:
    return text[:_MAX_SHOWN].encode("ascii", "backslashreplace").decode()
