"""One transfer: a request set up on a libcurl handle, its bytes moved, its end judged."""

import os
import re
from collections.abc import Callable
from typing import NamedTuple

import pycurl

from datas3t.client._http_messages import Request, Response, TransferError, place, s3_code

_BUFFER = 512 << 10
_COUNTED = 4 << 20  # from this size on a body that stays in memory is counted as it comes
_ERROR_BODY = 64 << 10
_LONGEST_WAIT = 30.0  # seconds that we wait at most where S3 says Retry-After
_RETRYABLE = frozenset((408, 425, 429, 500, 502, 503, 504))
_RETRYABLE_CODES = frozenset(("RequestTimeout", "BadDigest", "IncompleteBody", "SlowDown", "InternalError"))
_HOPELESS = frozenset(
    (
        pycurl.E_URL_MALFORMAT,
        pycurl.E_UNSUPPORTED_PROTOCOL,
        pycurl.E_SSL_CACERT_BADFILE,
        pycurl.E_PEER_FAILED_VERIFICATION,
        pycurl.E_SSL_CERTPROBLEM,
    )
)
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/")
_CA_VARIABLES = ("SSL_CERT_FILE", "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


class Options(NamedTuple):
    """Seconds: to connect, and without a byte in either direction."""

    connect_timeout: float
    stall_timeout: float


class Transfer:
    """A handle that does one request after another. `received`: bytes of a GET that are in its sink."""

    __slots__ = (
        "_body",
        "_chunks",
        "_failure",
        "_headers",
        "_options",
        "_progress",
        "_request",
        "_sent",
        "_streamed",
        "_wanted",
        "curl",
        "received",
    )

    def __init__(self, options: Options) -> None:
        self._options = options
        self.curl = _new_handle(options)

    def begin(self, request: Request, progress: Callable[[int], None] | None, received: int) -> None:
        """Sets the handle up for a request of which `received` bytes are there already."""
        self._request = request
        self._progress = progress
        self._failure: BaseException | None = None
        self._headers: list[bytes] = []
        self._chunks: list[bytes] = []
        self._sent = 0
        self._wanted: bool | None = None
        self.received = received
        set_option = self.curl.setopt
        set_option(pycurl.URL, request.current_url())
        set_option(pycurl.HEADERFUNCTION, self._headers.append)
        set_option(pycurl.LOW_SPEED_TIME, max(1, int(request.patience or self._options.stall_timeout)))
        headers = [f"{name}: {value}" for name, value in request.headers.items()]
        if request.method == "PUT":
            self._set_up_put(request, headers)
        else:
            self._set_up_get(request, headers)

    def outcome(self, code: int, message: str) -> Response | TransferError:
        """How the request ended: libcurl's code (0: it got a whole answer) and message."""
        failure, self._failure = self._failure, None
        if isinstance(failure, TransferError):
            return failure
        if failure is not None:
            raise failure  # a sink's or a body's own
        status, headers = _parsed(self._headers)
        refused = status >= 300
        if code and not refused:  # an upload may be refused before it is sent: then the answer counts
            return self._error(message or f"the connection failed ({code})", retryable=code not in _HOPELESS)
        body = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        if refused or status < 200:
            return self._refused(status, body, headers)
        return self._answered(Response(status, headers, body))

    def _set_up_get(self, request: Request, headers: list[str]) -> None:
        set_option = self.curl.setopt
        size = None if request.stop is None else request.stop - request.start
        self._streamed = request.sink is not None or (self._progress is not None and (size or _COUNTED) >= _COUNTED)
        if request.sink is None:
            self.received = 0
        set_option(pycurl.HTTPGET, 1)
        if request.etag:
            headers.append(f'If-Match: "{request.etag}"')
        set_option(pycurl.HTTPHEADER, headers)
        if size is not None:
            set_option(pycurl.RANGE, f"{request.start + self.received}-{request.start + size - 1}")
        elif request.start + self.received:
            set_option(pycurl.RANGE, f"{request.start + self.received}-")
        else:
            self.curl.unsetopt(pycurl.RANGE)
        # A server that ignores the range would send a whole archive.
        set_option(pycurl.MAXFILESIZE_LARGE, max(size, _ERROR_BODY) if size else 0)
        set_option(pycurl.WRITEFUNCTION, self._take if self._streamed else self._chunks.append)

    def _set_up_put(self, request: Request, headers: list[str]) -> None:
        set_option = self.curl.setopt
        self._streamed = False
        self._body = request.content()
        set_option(pycurl.UPLOAD, 1)
        set_option(pycurl.INFILESIZE_LARGE, self._body.size)
        set_option(pycurl.READFUNCTION, self._give)
        set_option(pycurl.SEEKFUNCTION, self._seek)
        set_option(pycurl.HTTPHEADER, ["Expect:", *headers])
        set_option(pycurl.MAXFILESIZE_LARGE, 16 * _ERROR_BODY)
        set_option(pycurl.WRITEFUNCTION, self._chunks.append)

    def _take(self, piece: bytes) -> int | None:
        """A piece of the body. It goes on only if the answer is what was asked for, which its headers tell."""
        if self._wanted is None:
            self._wanted = self._is_wanted()
        if not self._wanted:
            if len(self._chunks) * len(piece) < _ERROR_BODY:
                self._chunks.append(piece)
            return -1 if self._failure else None
        try:
            if self._request.sink is None:
                self._chunks.append(piece)
            else:
                self._request.sink(self.received, piece)
            self.received += len(piece)
            if self._progress:
                self._progress(self.received)
        except BaseException as error:
            self._failure = error
            return -1
        return None

    def _is_wanted(self) -> bool:
        status, headers = _parsed(self._headers)
        if not 200 <= status < 300:
            return False
        self._failure = self._misfit(status, headers)
        if self._failure is None and self._request.etag is None:
            self._request.etag = headers.get("etag", "").strip('"') or None  # what is resumed must be the same object
        return self._failure is None

    def _misfit(self, status: int, headers: dict[str, str]) -> TransferError | None:
        """Why the headers of an answer with success are not those of what was asked for."""
        request = self._request
        start = request.start + (self.received if self._streamed else 0)
        if request.etag and headers.get("etag", "").strip('"') not in ("", request.etag):
            return self._error("the object is another one now", status=412, changed=True)
        if request.stop is None and start == 0:
            return None
        found = _CONTENT_RANGE.match(headers.get("content-range", ""))
        right = found and int(found[1]) == start and request.stop in (None, int(found[2]) + 1)
        if status != 206 or not right:
            return self._error(f"the answer has other bytes than {start} to {request.stop}", retryable=True)
        return None

    def _answered(self, response: Response) -> Response | TransferError:
        request = self._request
        if (
            request.method == "GET"
            and not self._streamed
            and (misfit := self._misfit(response.status, response.headers))
        ):
            return misfit
        if request.method == "GET" and request.stop is not None:
            got = self.received if self._streamed else len(response.body)
            if got != request.stop - request.start:
                return self._error(f"{got} bytes came instead of {request.stop - request.start}", retryable=True)
        if request.check and (code := request.check(response)):
            return self._error(f"S3 answers {code}", status=response.status, code=code, retryable=True)
        if self._progress and request.method == "GET" and not self._streamed:
            self._progress(len(response.body))
        return response

    def _refused(self, status: int, body: bytes, headers: dict[str, str]) -> TransferError:
        code = s3_code(body)
        wait = headers.get("retry-after", "")
        return self._error(
            f"S3 answers {status}{f' {code}' if code else ''}",
            status=status,
            code=code,
            retryable=status in _RETRYABLE or code in _RETRYABLE_CODES,
            changed=status in (412, 416),
            retry_after=min(float(wait), _LONGEST_WAIT) if wait.isdigit() else 0.0,
        )

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
        what = f"{self._request.method} {place(self._request.current_url())}: {why}"
        return TransferError(what, status, code, retryable, changed, retry_after)

    def _give(self, size: int) -> bytes | int:
        body = self._body
        try:
            piece = bytes(body.read(self._sent, min(self._sent + size, body.size)))
        except BaseException as error:
            self._failure = error
            return int(pycurl.READFUNC_ABORT)
        self._sent += len(piece)
        if self._progress:
            self._progress(self._sent)
        return piece

    def _seek(self, offset: int, _origin: int) -> int:
        """Begins again, as when a connection that was kept turns out to be closed."""
        self._sent = offset
        return int(pycurl.SEEKFUNC_OK)


def _parsed(lines: list[bytes]) -> tuple[int, dict[str, str]]:
    """Status (0: none yet) and headers of the last answer: those of a 100 before it do not count."""
    status, headers = 0, dict[str, str]()
    for line in lines:
        name, colon, value = line.decode("latin-1").partition(":")
        if name.startswith("HTTP/"):
            status = int(name.split()[1])
            headers.clear()
        elif colon:
            headers[name.strip().lower()] = value.strip()
    return status, headers


def _new_handle(options: Options) -> pycurl.Curl:
    """A handle with what is the same for every request. Proxies libcurl finds by itself (http_proxy, no_proxy)."""
    curl = pycurl.Curl()
    curl.setopt(pycurl.NOSIGNAL, 1)
    curl.setopt(pycurl.TCP_NODELAY, 1)
    curl.setopt(pycurl.TCP_KEEPALIVE, 1)
    curl.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)
    curl.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
    curl.setopt(pycurl.FOLLOWLOCATION, 0)  # a signature is for one host
    curl.setopt(pycurl.CONNECTTIMEOUT_MS, int(options.connect_timeout * 1000))
    curl.setopt(pycurl.LOW_SPEED_LIMIT, 1)
    curl.setopt(pycurl.BUFFERSIZE, _BUFFER)
    curl.setopt(pycurl.UPLOAD_BUFFERSIZE, 2 << 20)
    if bundle := next((path for name in _CA_VARIABLES if (path := os.environ.get(name))), None):
        curl.setopt(pycurl.CAINFO, bundle)
    return curl
