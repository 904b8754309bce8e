"""Requests and their outcomes: what an engine sends, what it returns, and what it raises."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias
from urllib.parse import urlsplit

from datas3t.transport.bodies import Body, MemoryRange, Sink
from datas3t.transport.head import etag_of, parse_head, whole_size
from datas3t.transport.policy import Meaning

SMALL = 256 << 10  # bytes; a small body is fetched again as a whole after an error, a larger one is resumed

Url: TypeAlias = str | Callable[[bool], str]
"""A presigned URL, or a function that returns one. It is called with False for the first URL, which it may share with
other requests, and with True for a new one after S3 has refused the last one as expired."""


@dataclass(slots=True, eq=False)
class Request:
    """A GET of bytes of an object, a PUT of a body, a HEAD or a DELETE.

    Attributes:
        method: "GET", "PUT", "HEAD" or "DELETE".
        url: A presigned URL, or a function that returns one, so that an expired URL can be renewed.
        start: GET: the first byte.
        stop: GET: the byte after the last one; None for all bytes to the end of the object.
        etag: GET: the ETag that the object must have, without quotes (If-Match). None for any.
        headers: Further headers.
        sink: GET: receives the bytes. Without a sink they are in the response.
        body: PUT: the bytes to send.
        check: Returns an S3 error code if a response with a status of success is a failure all the same, else None.
            The request is then retried.
        stall_timeout: Seconds without a byte after which the try has failed. None for the engine's own.
        timeout: Seconds after which the try has failed, however many bytes arrive. None for no limit.
        limit: GET without a `stop`: the maximum size of the response in bytes. None for no limit.
    """

    method: Literal["GET", "PUT", "HEAD", "DELETE"]
    url: Url = field(repr=False)  # its query has a signature
    start: int = 0
    stop: int | None = None
    etag: str | None = None
    headers: Mapping[str, str] | None = None
    sink: Sink | None = None
    body: Body | bytes | bytearray | memoryview | None = None
    check: "Callable[[Response], str | None] | None" = None
    stall_timeout: float | None = None
    timeout: float | None = None
    limit: int | None = None
    _current_url: str | None = field(default=None, init=False, repr=False)

    @property
    def renewable(self) -> bool:
        """Whether another URL can be had after the present one has expired."""
        return callable(self.url)

    def current_url(self) -> str:
        """Return the URL to send the request to."""
        if self._current_url is None:
            self._current_url = self.url(False) if callable(self.url) else self.url
        return self._current_url

    def renew(self) -> None:
        """Replace the URL, which has expired, by a new one."""
        if callable(self.url):
            self._current_url = self.url(True)

    def content(self) -> Body:
        """Return the bytes that a PUT sends."""
        if self.body is None or isinstance(self.body, (bytes, bytearray, memoryview)):
            return MemoryRange(self.body or b"")
        return self.body


class Range(NamedTuple):
    """A GET of bytes `start` to `stop` of the object with this ETag, into memory. Cheaper than a `Request`."""

    url: Url
    etag: str
    start: int
    stop: int

    def __repr__(self) -> str:
        return f"Range(etag={self.etag!r}, start={self.start}, stop={self.stop})"  # the URL has a signature

    def request(self, stall_timeout: float | None = None) -> Request:
        """Return the request that does the same, for what a `Range` alone cannot do: retries, sinks, renewed URLs."""
        return Request("GET", self.url, self.start, self.stop, self.etag, stall_timeout=stall_timeout)


class Response:
    """A response with a status of success. The body is empty if the request has a sink."""

    __slots__ = ("_lines", "body", "status")

    def __init__(self, status: int, lines: Iterable[bytes], body: bytes) -> None:
        self.status = status
        self.body = body
        self._lines = lines

    @property
    def headers(self) -> dict[str, str]:
        """The headers, by lower-case name."""
        return parse_head(self._lines)[1]

    @property
    def whole_size(self) -> int | None:
        """The size of the object of which a GET has returned a range, in bytes; None if the response does not say."""
        return whole_size(self.headers)

    @property
    def etag(self) -> str:
        """The ETag of the object or part, without quotes; "" if the response has no ETag."""
        return etag_of(self.headers)


class TransferError(Exception):
    """A request has failed for good. The message is one line: method, host and path (never the query), and the cause.

    Attributes:
        message: The message.
        status: The HTTP status; 0 if there was no response.
        code: The S3 error code, such as "NoSuchKey"; "" if S3 sent no code.
        meaning: What the engine makes of it; the properties below say it in words.
        retry_after: The seconds that S3 asked to wait; 0 if it did not.
        cause: The message without method, host and path.
        body: The body of the response, as far as it was read.
        headers: The headers of the response, by lower-case name.
        path: The path of the URL of a GET, without quotes; "" if the request had another method.
    """

    def __init__(
        self,
        message: str,
        status: int = 0,
        code: str = "",
        meaning: Meaning = Meaning.FINAL,
        retry_after: float = 0.0,
        cause: str = "",
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, status, code, meaning, retry_after, cause, body, headers)
        self.message = message
        self.status = status
        self.code = code
        self.meaning = meaning
        self.retry_after = retry_after
        self.cause = cause or message
        self.body = body
        self.headers = headers or {}
        self.path = ""

    def __str__(self) -> str:
        return self.message

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed later. The engine has used up its own retries."""
        return Meaning.TEMPORARY in self.meaning

    @property
    def changed(self) -> bool:
        """Whether the object seems to have been replaced or deleted, according to S3 or to a proxy."""
        return Meaning.CHANGED in self.meaning

    @property
    def gone(self) -> bool:
        """Whether S3 itself says that the object does not exist."""
        return Meaning.GONE in self.meaning

    @property
    def expired(self) -> bool:
        """Whether S3 refused the URL. A new one may work: this one has expired, or was signed by a wrong clock."""
        return Meaning.EXPIRED in self.meaning

    @property
    def crowded(self) -> bool:
        """Whether S3 requests a lower rate."""
        return Meaning.CROWDED in self.meaning

    @property
    def final(self) -> bool:
        """Whether S3 has responded, and would respond the same again, even after URLs and credentials were replaced."""
        return self.status != 0 and not self.retryable and not self.expired

    @property
    def declined(self) -> bool:
        """Whether S3 is up and has the object, but will not do this: another kind of request may succeed."""
        return self.status not in (0, 404) and not self.changed and not self.crowded


def host_of(url: str) -> str:
    """Return the host and the port of a URL."""
    return urlsplit(url).netloc.rpartition("@")[2]


def without_query(url: str) -> str:
    """Return host and path of a URL. Messages must not show its user, password or signature."""
    parts = urlsplit(url)
    return f"{parts.netloc.rpartition('@')[2]}{parts.path}"
