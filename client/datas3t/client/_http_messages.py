"""What goes into the engine and what comes out: requests, their bodies and sinks, responses, errors."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias
from urllib.parse import urlsplit

Url: TypeAlias = str | Callable[[bool], str]
"""A presigned URL, or what answers one: called with True after S3 has said that the last one expired."""


class Sink(Protocol):
    """Takes a body's bytes in order. `offset` is from the request's own start."""

    def __call__(self, offset: int, piece: bytes, /) -> None: ...


class FileSink:
    """Puts a body where it belongs in a file, by pwrite."""

    __slots__ = ("_fd", "_start")

    def __init__(self, fd: int, start: int) -> None:
        self._fd = fd
        self._start = start

    def __call__(self, offset: int, piece: bytes, /) -> None:
        at, view = self._start + offset, memoryview(piece)
        while view:
            written = os.pwrite(self._fd, view, at)
            at, view = at + written, view[written:]


class Body(Protocol):
    """Bytes to send, as often as needed."""

    size: int

    def read(self, start: int, stop: int, /) -> bytes | memoryview:
        """Exactly these bytes, or the first of them."""
        ...


class FileRange:
    """Bytes of a file, read when they are sent."""

    __slots__ = ("_fd", "_start", "size")

    def __init__(self, fd: int, place: range) -> None:
        self._fd = fd
        self._start = place.start
        self.size = len(place)

    def read(self, start: int, stop: int, /) -> bytes:
        return os.pread(self._fd, stop - start, self._start + start)


class _Memory:
    """Bytes in memory."""

    __slots__ = ("_view", "size")

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        self._view = memoryview(data)
        self.size = len(self._view)

    def read(self, start: int, stop: int, /) -> memoryview:
        return self._view[start:stop]


@dataclass(slots=True, eq=False)
class Request:
    """A GET of bytes `start` up to `stop` of an object (all of it where `stop` is None), or a PUT of `body`.

    A GET's bytes go to `sink`, or without one into the response. `etag` is what If-Match says, without quotes: another
    object is an error. `check` looks at an answer with success in its status: what it returns is an error in S3's
    words, and the request is tried again. `patience` is a stall timeout of its own, in seconds.
    """

    method: Literal["GET", "PUT"]
    url: Url
    start: int = 0
    stop: int | None = None
    etag: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    sink: Sink | None = None
    body: Body | bytes | bytearray | memoryview | None = None
    check: "Callable[[Response], str | None] | None" = None
    patience: float | None = None
    _current: str | None = field(default=None, init=False)

    @property
    def renewable(self) -> bool:
        """Whether another URL can be had."""
        return callable(self.url)

    def current_url(self) -> str:
        """The URL to use now."""
        if self._current is None:
            self._current = self.url(False) if callable(self.url) else self.url
        return self._current

    def renew(self) -> None:
        """Gets another URL."""
        if callable(self.url):
            self._current = self.url(True)

    def content(self) -> Body:
        """What a PUT sends."""
        if self.body is None or isinstance(self.body, (bytes, bytearray, memoryview)):
            return _Memory(self.body or b"")
        return self.body


@dataclass(slots=True)
class Response:
    """An answer with success. Header names are lower case; `etag` is without quotes."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def etag(self) -> str:
        """The object's, or the part's."""
        return self.headers.get("etag", "").strip('"')


class TransferError(Exception):
    """A request failed. One line: method, host and path, never the query.

    `status` is 0 where no answer came; `code` is S3's, such as NoSuchKey. `changed`: the object is another one now.
    """

    def __init__(
        self,
        message: str,
        status: int = 0,
        code: str = "",
        retryable: bool = False,
        changed: bool = False,
        retry_after: float = 0.0,
    ) -> None:
        super().__init__(message, status, code, retryable, changed, retry_after)
        self.message = message
        self.status = status
        self.code = code
        self.retryable = retryable
        self.changed = changed
        self.retry_after = retry_after

    def __str__(self) -> str:
        return self.message

    @property
    def expired(self) -> bool:
        """The URL's time has come, or the clock was wrong: a new one may do."""
        return self.status == 403

    @property
    def crowded(self) -> bool:
        """S3 asks for fewer requests."""
        return self.status in (429, 503)


def place(url: str) -> str:
    """Host and path of a URL: what a message may show."""
    parts = urlsplit(url)
    return f"{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}{parts.path}"


def s3_code(body: bytes) -> str:
    """The code of S3's error answer."""
    found = re.search(rb"<Code>([A-Za-z0-9]{1,64})</Code>", body)
    return found[1].decode() if found else ""
