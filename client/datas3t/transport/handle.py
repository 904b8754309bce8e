"""One request on a libcurl handle, from its first try to its last: what GET and PUT have in common."""

import os
import ssl
from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import NamedTuple

import pycurl

from datas3t.transport.messages import Request, Response, TransferError, place, s3_error_code

ERROR_BODY = 64 << 10  # as much of an answer that is an error is looked at
_LONGEST_WAIT = 30.0  # seconds that we wait at most where S3 says Retry-After
_RETRYABLE = frozenset((408, 425, 429, 500, 502, 503, 504))
_RETRYABLE_CODES = frozenset(("RequestTimeout", "BadDigest", "IncompleteBody", "SlowDown", "InternalError"))
_HOPELESS = frozenset(
    (
        pycurl.E_URL_MALFORMAT,
        pycurl.E_SSL_CACERT_BADFILE,
        pycurl.E_PEER_FAILED_VERIFICATION,
        pycurl.E_SSL_CERTPROBLEM,
        pycurl.E_READ_ERROR,
    )
)
_CA_VARIABLES = ("SSL_CERT_FILE", "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
# The wheel's libcurl knows only where Red Hat keeps them.
_CA_PLACES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
_NOTHING = Request("GET", "")


class Options(NamedTuple):
    """Seconds: to connect, without a byte in either direction, and the same for small ranges, which are soon asked for
    again."""

    connect_timeout: float
    stall_timeout: float
    patience: float


class Transfer(ABC):
    """A handle that does one request after another. `failures`, `renewals` and `doubts` count the tries of the present
    one."""

    __slots__ = (
        "_count",
        "_fresh",
        "_furthest",
        "_lines",
        "_options",
        "_patience",
        "_pieces",
        "_suspicious",
        "_url",
        "curl",
        "doubts",
        "failures",
        "renewals",
        "request",
    )

    def __init__(self, options: Options) -> None:
        self.curl = new_handle(options)
        self._options = options
        self._url = ""
        self._patience = 0.0
        self._fresh = False
        self._count: Callable[[int], None] | None = None
        self._lines: list[bytes] = []  # of the answer's head
        self._pieces: list[bytes] = []  # of its body
        self.curl.setopt(pycurl.HEADERFUNCTION, self._lines.append)
        self.end()

    def begin(self, request: Request, count: Callable[[int], None] | None) -> None:
        """Sets the handle up. `count` is told of payload bytes that went further than in any try before."""
        self.request = request
        self._count = count
        self.again()

    def again(self) -> None:
        """Sets the handle up for another try, which goes on where the last one ended, if it can."""
        request = self.request
        url = request.current_url()
        if url != self._url:
            self.curl.setopt(pycurl.URL, url)
            self._url = url
        patience = request.patience or self._options.stall_timeout
        if patience != self._patience:
            self.curl.setopt(pycurl.LOW_SPEED_TIME, max(1, round(patience)))
            self._patience = patience
        if self._suspicious is not self._fresh:
            self.curl.setopt(pycurl.FRESH_CONNECT, self._suspicious)
            self._fresh = self._suspicious
        self._lines.clear()
        self._set_up()

    def end(self) -> None:
        """Lets go of the request, and of its body or sink."""
        self.request = _NOTHING
        self.failures = self.renewals = self.doubts = self._furthest = 0
        self._suspicious = False
        self._count = None
        self._pieces.clear()

    @abstractmethod
    def outcome(self, code: int, message: str) -> Response | TransferError:
        """How the try ended: libcurl's code (0: it got a whole answer) and message."""

    @abstractmethod
    def _set_up(self) -> None:
        """Sets the handle up for the request, as far as its method asks for."""

    def _moved(self, position: int) -> None:
        """The payload is moved up to here."""
        if self._count is not None and position > self._furthest:
            self._count(position - self._furthest)
            self._furthest = position

    def _answered(self, status: int, body: bytes) -> Response | TransferError:
        """The answer is what was asked for, unless the request's own check finds otherwise."""
        response = Response(status, self._lines.copy(), body)
        if self.request.check and (code := self.request.check(response)):
            return self._error(f"S3 answers {code}", status=status, code=code, retryable=True)
        return response

    def _broken(self, code: int, message: str) -> TransferError:
        self._suspicious = True  # of all idle connections: perhaps the server has closed them
        return self._error(message or f"the connection failed ({code})", retryable=code not in _HOPELESS)

    def _refused(self, status: int, headers: dict[str, str]) -> TransferError:
        code = s3_error_code(b"".join(self._pieces)[:ERROR_BODY])
        return self._error(
            f"S3 answers {status}{f' {code}' if code else ''}",
            status=status,
            code=code,
            retryable=status in _RETRYABLE or code in _RETRYABLE_CODES,
            changed=status in (412, 416) or self._is_gone(status, code),
            retry_after=_seconds(headers.get("retry-after", "")),
        )

    def _is_gone(self, status: int, code: str) -> bool:
        """A GET's 404 without S3's word for it, as from a proxy in between. With NoSuchKey nothing is in doubt."""
        return self.request.method == "GET" and status == 404 and not code

    def _error(
        self,
        why: str,
        *,
        status: int = 0,
        code: str = "",
        retryable: bool = False,
        changed: bool = False,
        retry_after: float = 0.0,
    ) -> TransferError:
        what = f"{self.request.method} {place(self._url)}: {why}"
        return TransferError(what, status, code, retryable, changed, retry_after)


def _seconds(retry_after: str) -> float:
    """What a Retry-After header asks for, within reason."""
    if retry_after.isdigit():
        return min(float(retry_after), _LONGEST_WAIT)
    try:
        wait = parsedate_to_datetime(retry_after) - datetime.now(UTC)
    except (ValueError, TypeError):
        return 0.0
    return min(max(wait.total_seconds(), 0.0), _LONGEST_WAIT)


def new_handle(options: Options) -> pycurl.Curl:
    """A handle with what is the same for every request. Proxies libcurl finds by itself (http_proxy, no_proxy)."""
    curl = pycurl.Curl()
    curl.setopt(pycurl.NOSIGNAL, 1)
    curl.setopt(pycurl.TCP_NODELAY, 1)
    curl.setopt(pycurl.TCP_KEEPALIVE, 1)
    curl.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)
    curl.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
    curl.setopt(pycurl.FOLLOWLOCATION, 0)  # a signature is for one host
    curl.setopt(pycurl.CONNECTTIMEOUT_MS, round(options.connect_timeout * 1000))
    curl.setopt(pycurl.LOW_SPEED_LIMIT, 1)
    curl.setopt(pycurl.BUFFERSIZE, 2 << 20)
    curl.setopt(pycurl.UPLOAD_BUFFERSIZE, 2 << 20)
    _trust(curl)
    return curl


def _trust(curl: pycurl.Curl) -> None:
    """Has the handle believe in the authorities that the environment names, or the system."""
    named = (path for name in _CA_VARIABLES if (path := os.environ.get(name)))
    usual = (path for path in (ssl.get_default_verify_paths().cafile, *_CA_PLACES) if path and Path(path).is_file())
    bundle = next(named, None)
    if bundle and Path(bundle).is_dir():
        curl.setopt(pycurl.CAPATH, bundle)
    elif found := bundle or next(usual, None):
        curl.setopt(pycurl.CAINFO, found)
    if folder := os.environ.get("SSL_CERT_DIR"):
        curl.setopt(pycurl.CAPATH, folder)
