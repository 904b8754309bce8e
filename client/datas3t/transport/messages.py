"""What goes into the engine and what comes out: requests, their bodies and sinks, responses, errors."""

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol, TypeAlias
from urllib.parse import urlsplit

Url: TypeAlias = str | Callable[[bool], str]
"""A presigned URL, or what answers one: called with True after S3 has said that the last one expired."""

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/")
_MOST_VECTORS = 1024  # pieces that one system call takes


class Sink(Protocol):
    """Takes a body's bytes in order: pieces that follow each other, `offset` bytes behind the request's start."""

    def __call__(self, offset: int, pieces: Sequence[bytes], /) -> None: ...


class FileSink:
    """Puts a body where it belongs in a file."""

    __slots__ = ("_fd", "_start")

    def __init__(self, fd: int, start: int) -> None:
        self._fd = fd
        self._start = start

    def __call__(self, offset: int, pieces: Sequence[bytes], /) -> None:
        at = self._start + offset
        for first in range(0, len(pieces), _MOST_VECTORS):
            at = _write(self._fd, pieces[first : first + _MOST_VECTORS], at)


def _write(fd: int, pieces: Sequence[bytes], at: int) -> int:
    """Writes all pieces from position `at` on; where the last one ends."""
    end = at + sum(map(len, pieces))
    at += os.pwritev(fd, pieces, at)
    if at < end:  # a disk that is nearly full, or a signal
        rest = memoryview(b"".join(pieces))[at - end :]
        while rest:
            written = os.pwrite(fd, rest, at)
            at, rest = at + written, rest[written:]
    return end


class MemorySink:
    """Puts a body into memory that is there already, such as a part of a larger buffer."""

    __slots__ = ("_view",)

    def __init__(self, view: memoryview) -> None:
        self._view = view

    def __call__(self, offset: int, pieces: Sequence[bytes], /) -> None:
        for piece in pieces:
            self._view[offset : offset + len(piece)] = piece
            offset += len(piece)


class Body(Protocol):
    """Bytes to send, as often as needed."""

    size: int

    def read(self, start: int, stop: int, /) -> bytes:
        """Exactly these bytes, or the first of them; none where they have gone."""
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


class MemoryRange:
    """Bytes in memory, or in a mapped file."""

    __slots__ = ("_view", "size")

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        self._view = memoryview(data).cast("B")
        self.size = len(self._view)

    def read(self, start: int, stop: int, /) -> bytes:
        return bytes(self._view[start:stop])


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
    headers: Mapping[str, str] | None = None
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
            return MemoryRange(self.body or b"")
        return self.body


class Range(NamedTuple):
    """Bytes `start` up to `stop` of the object with this ETag, to be had in memory: the plainest GET."""

    url: Url
    etag: str
    start: int
    stop: int

    def request(self, patience: float | None = None) -> Request:
        """The same as a request, which can be tried again."""
        return Request("GET", self.url, self.start, self.stop, self.etag, patience=patience)


class Response:
    """An answer with success: its status, and a body that is empty where a sink took it."""

    __slots__ = ("_lines", "body", "status")

    def __init__(self, status: int, lines: Iterable[bytes], body: bytes) -> None:
        self.status = status
        self.body = body
        self._lines = lines

    @property
    def headers(self) -> dict[str, str]:
        """By names in lower case."""
        return parsed(self._lines)[1]

    @property
    def etag(self) -> str:
        """The object's, or the part's, without quotes."""
        return self.headers.get("etag", "").strip('"')


class TransferError(Exception):
    """A request failed. One line: method, host and path, never the query.

    `status` is 0 where no answer came; `code` is S3's, such as NoSuchKey. `changed`: the object is another one now, or
    perhaps gone. `retryable`: it was tried again, or may be, with hope. `retry_after`: the seconds that S3 asked for.
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
        return self.status in (429, 503) or self.code == "SlowDown"


def parsed(lines: Iterable[bytes]) -> tuple[int, dict[str, str]]:
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


def is_another(headers: Mapping[str, str], etag: str | None) -> bool:
    """Whether an answer is about another object than the one with this ETag."""
    return etag is not None and headers.get("etag", "").strip('"') not in ("", etag)


def is_range(status: int, headers: Mapping[str, str], start: int, stop: int | None) -> bool:
    """Whether an answer holds an object's bytes from `start` to `stop`, or to its end, and says so."""
    found = _CONTENT_RANGE.match(headers.get("content-range", ""))
    return status == 206 and found is not None and int(found[1]) == start and stop in (None, int(found[2]) + 1)


def place(url: str) -> str:
    """Host and path of a URL: what a message may show."""
    parts = urlsplit(url)
    return f"{parts.netloc.rpartition('@')[2]}{parts.path}"


def s3_error_code(body: bytes) -> str:
    """The code of S3's error answer; empty where the body is none."""
    found = re.search(rb"<Code>([A-Za-z0-9.]{1,64})</Code>", body)
    return found[1].decode() if found else ""
