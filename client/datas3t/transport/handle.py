"""A libcurl handle that does one request after another: what GET and PUT have in common, and how handles are set up."""

import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import pycurl

from datas3t.transport.addresses import LINK_LOCAL, NEVER_ALLOWED, open_socket
from datas3t.transport.causes import clocks, failed_connection, is_over, refusal
from datas3t.transport.head import retry_after, s3_error_code
from datas3t.transport.messages import Request, Response, TransferError, without_query
from datas3t.transport.policy import Meaning, Remedy, meaning_of_code, meaning_of_curl_error, meaning_of_status
from datas3t.transport.proxies import hosts_without_proxy, proxy_variable
from datas3t.transport.trust import ca_bundle

MAX_ERROR_BODY = 64 << 10  # bytes of an error response that are read; S3's error documents have about 1 KiB
_NO_REQUEST = Request("GET", "")


class Options(NamedTuple):
    """Timeouts in seconds: to connect; without a byte; and without a byte in GETs of small ranges.

    `unconditional` are the hosts that do not understand If-Match as HTTP defines it, found out by requests.
    `link_local`: whether to connect to link-local addresses. `buffer_size` is in bytes, for each multi and direction.
    """

    connect_timeout: float
    stall_timeout: float
    small_stall_timeout: float
    unconditional: set[str]
    link_local: bool
    buffer_size: int


class Transfer(ABC):
    """A handle with its present request, from the first try to the last. `taken` counts the remedies since the first.

    What its callbacks raise is added to `raised`, and ends the transfer; its multi raises it.
    Options that are expensive to set are only set when they differ from those of the request before.
    """

    __slots__ = (
        "_furthest",
        "_lines",
        "_new_connection",
        "_new_connection_set",
        "_on_progress",
        "_options",
        "_pieces",
        "_raised",
        "_refused_addresses",
        "_stall_timeout",
        "_timeout",
        "_url",
        "curl",
        "request",
        "taken",
    )

    def __init__(self, options: Options, raised: list[BaseException]) -> None:
        self._refused_addresses: list[str] = []
        self.curl = new_handle(options, self._refused_addresses)
        self._raised = raised
        self.taken: Counter[Remedy] = Counter()
        self._options = options
        self._url = ""
        self._stall_timeout = 0.0
        self._timeout: float | None = None
        self._new_connection_set = False
        self._on_progress: Callable[[int], None] | None = None
        self._lines: list[bytes] = []  # of the response's head
        self._pieces: list[bytes] = []  # of its body
        self.curl.setopt(pycurl.HEADERFUNCTION, self._lines.append)
        self.release()

    def begin(self, request: Request, on_progress: Callable[[int], None] | None) -> None:
        """Set the handle up for the first try of a request.

        `on_progress` is called with the number of payload bytes that moved, without those that an earlier try moved.
        """
        self.request = request
        self._on_progress = on_progress
        self.prepare()

    def prepare(self) -> None:
        """Set the handle up for the next try, which continues where the last one ended if that is possible."""
        request = self.request
        url = request.current_url()
        if url != self._url:
            self.curl.setopt(pycurl.URL, url)
            self._url = url
        stall_timeout = request.stall_timeout or self._options.stall_timeout
        if stall_timeout != self._stall_timeout:
            self.curl.setopt(pycurl.LOW_SPEED_TIME, max(1, round(stall_timeout)))
            self._stall_timeout = stall_timeout
        if request.timeout != self._timeout:
            self.curl.setopt(pycurl.TIMEOUT_MS, round((request.timeout or 0) * 1000))
            self._timeout = request.timeout
        if self._new_connection is not self._new_connection_set:
            self.curl.setopt(pycurl.FRESH_CONNECT, self._new_connection)
            self._new_connection_set = self._new_connection
        self._lines.clear()
        self._refused_addresses.clear()
        self._prepare_method()

    def release(self) -> None:
        """Forget the request, with its body or sink, so that both can be freed and the handle reused."""
        self.request = _NO_REQUEST
        self.taken.clear()
        self._furthest = 0
        self._new_connection = False
        self._on_progress = None
        self._pieces.clear()

    @abstractmethod
    def outcome(self, error: int, message: str) -> Response | TransferError:
        """Return how the try ended, given libcurl's error (0 if it received a complete response) and its message."""

    @abstractmethod
    def _prepare_method(self) -> None:
        """Set the options that only this method has."""

    def _report_progress(self, position: int) -> None:
        """Report that the payload has moved up to this position."""
        if self._on_progress is not None and position > self._furthest:
            self._on_progress(position - self._furthest)
            self._furthest = position

    def _accepted(self, status: int, body: bytes) -> Response | TransferError:
        """Return the response, unless the request's own check refuses it."""
        response = Response(status, self._lines.copy(), body)
        if self.request.check and (code := self.request.check(response)):
            return self._error(f"S3 returned {code}", Meaning.TEMPORARY | meaning_of_code(code), status, code)
        return response

    def _disconnected(self, error: int, message: str) -> TransferError:
        """Return the error for a try without a complete response."""
        # The server may have closed the other idle connections too, as when it restarts.
        self._new_connection = True
        if self._refused_addresses and error == pycurl.E_COULDNT_CONNECT:
            return self._error(NEVER_ALLOWED, Meaning.FINAL, code=LINK_LOCAL)
        cause = failed_connection(error, message)
        if proxy := proxy_variable(self._url):
            cause += f" (through the proxy that {proxy} names)"
        return self._error(cause, meaning_of_curl_error(error))

    def _refused(self, status: int, headers: dict[str, str]) -> TransferError:
        """Return the error for a response with an error status."""
        body = b"".join(self._pieces)[:MAX_ERROR_BODY]
        code = s3_error_code(body)
        meaning = meaning_of_status(self.request.method, status, code, is_over=is_over(self._url, headers))
        cause = refusal(status, code, headers, body)
        if Meaning.EXPIRED in meaning:
            cause += clocks(code, self._url, headers, body, is_new=self.taken[Remedy.RENEW_URL] > 0)
        error = self._error(cause, meaning, status, code, retry_after(headers))
        error.body, error.headers = body, headers
        return error

    def _error(
        self, cause: str, meaning: Meaning, status: int = 0, code: str = "", retry_after: float = 0.0
    ) -> TransferError:
        message = f"{self.request.method} {without_query(self._url)}: {cause}"
        failed = TransferError(message, status, code, meaning, retry_after, cause)
        if self.request.method == "GET":
            failed.path = unquote(urlsplit(self._url).path)
        return failed


def new_handle(options: Options, refused_addresses: list[str]) -> pycurl.Curl:
    """Return a handle with the options that all requests share. libcurl finds proxies itself (http_proxy, ...).

    Addresses to which it does not connect are added to `refused_addresses`.
    """
    curl = pycurl.Curl()
    curl.setopt(pycurl.NOSIGNAL, 1)
    curl.setopt(pycurl.TCP_NODELAY, 1)
    curl.setopt(pycurl.TCP_KEEPALIVE, 1)
    curl.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)
    curl.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
    curl.setopt(pycurl.NOPROXY, hosts_without_proxy())
    curl.setopt(pycurl.FOLLOWLOCATION, 0)  # a signature holds for one host only
    curl.setopt(pycurl.CONNECTTIMEOUT_MS, round(options.connect_timeout * 1000))
    curl.setopt(pycurl.LOW_SPEED_LIMIT, 1)
    curl.setopt(pycurl.BUFFERSIZE, options.buffer_size)
    curl.setopt(pycurl.UPLOAD_BUFFERSIZE, options.buffer_size)
    if not options.link_local:
        curl.setopt(pycurl.OPENSOCKETFUNCTION, partial(open_socket, refused_addresses))
    _set_ca_bundle(curl)
    return curl


def _set_ca_bundle(curl: pycurl.Curl) -> None:
    trusted = ca_bundle()
    if trusted and Path(trusted.path).is_dir():
        curl.setopt(pycurl.CAPATH, trusted.path)
    elif trusted:
        curl.setopt(pycurl.CAINFO, trusted.path)
    if folder := os.environ.get("SSL_CERT_DIR"):
        curl.setopt(pycurl.CAPATH, folder)
