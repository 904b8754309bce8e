"""Small ranged GETs in the quickest way: nearly bare libcurl, for as long as each answer is exactly the expected one.

What is not is left to `Get`, which judges, resumes and explains. This costs half of the Python that `Get` does.
"""

from typing import NamedTuple

import pycurl

from datas3t.transport.messages import Range, Request, is_another, is_range, parsed

SMALL = 256 << 10  # bytes; a larger body is worth resuming
_PARTIAL = b"HTTP/1.1 206 Partial Content\r\n"


class _Head(NamedTuple):
    """How a server writes the head of an answer: which lines matter, and what they must be."""

    lines: int
    etag_at: int
    etag: bytes
    range_at: int
    range: bytes


def _head(lines: list[bytes]) -> _Head | None:
    """Learnt from an answer; None where it is not plain enough to learn from."""
    names = [line.partition(b":")[0] for line in lines]
    lower = [name.lower() for name in names]
    if lower.count(b"etag") != 1 or lower.count(b"content-range") != 1:
        return None
    etag_at, range_at = lower.index(b"etag"), lower.index(b"content-range")
    return _Head(len(lines), etag_at, names[etag_at] + b': "%s"\r\n', range_at, names[range_at] + b": bytes %d-%d/")


def plain(request: Request) -> Range | None:
    """The request as a sweep does it: a small range of a known object, into memory. None where it is not such."""
    fits = (
        request.etag is not None
        and request.stop is not None
        and 0 < request.stop - request.start <= SMALL
        and request.sink is None
        and request.headers is None
        and request.check is None
        and request.patience is None
    )
    return Range(request.url, request.etag, request.start, request.stop) if fits else None  # type: ignore[arg-type]


class Sweeper:
    """A handle for one request after another, and what is set on it already."""

    __slots__ = (
        "_etag",
        "_etag_line",
        "_head",
        "_lines",
        "_pieces",
        "_start",
        "_stop",
        "_url",
        "began",
        "curl",
        "number",
    )

    def __init__(self, curl: pycurl.Curl, patience: float) -> None:
        self.curl = curl
        self.number = 0
        self.began = 0.0
        self._url = self._etag = ""
        self._etag_line = b""
        self._head: _Head | None = None
        self._lines: list[bytes] = []
        self._pieces: list[bytes] = []
        curl.setopt(pycurl.HEADERFUNCTION, self._lines.append)
        curl.setopt(pycurl.WRITEFUNCTION, self._pieces.append)
        curl.setopt(pycurl.MAXFILESIZE_LARGE, SMALL)
        curl.setopt(pycurl.LOW_SPEED_TIME, max(1, round(patience)))

    def begin(self, number: int, place: Range, now: float) -> None:
        """Sets the handle up for a range, which has this number."""
        self.number = number
        self.began = now
        address, etag, self._start, self._stop = place
        url = address if isinstance(address, str) else address(False)
        if url != self._url:
            self._url = url
            self.curl.setopt(pycurl.URL, url)
        if etag != self._etag:
            self._etag = etag
            self.curl.setopt(pycurl.HTTPHEADER, [f'If-Match: "{etag}"'])
            self._know(self._head)
        self.curl.setopt(pycurl.RANGE, f"{self._start}-{self._stop - 1}")

    def body(self) -> bytes | None:
        """The body, if the answer is exactly what was asked for."""
        pieces = self._pieces
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        right = (self._is_familiar() or self._is_right()) and len(body) == self._stop - self._start
        self.clear()
        return body if right else None

    @property
    def silent(self) -> bool:
        """Whether no answer has begun."""
        return not self._lines

    def clear(self) -> None:
        """Forgets the answer."""
        self._lines.clear()
        self._pieces.clear()

    def _is_familiar(self) -> bool:
        """Whether the head reads like that of the last right answer, for this range and object."""
        lines, head = self._lines, self._head
        return (
            head is not None
            and len(lines) == head.lines
            and lines[0] == _PARTIAL
            and lines[head.etag_at] == self._etag_line
            and lines[head.range_at].startswith(head.range % (self._start, self._stop - 1))
        )

    def _is_right(self) -> bool:
        """The same, by the book; learns how this server writes."""
        status, headers = parsed(self._lines)
        if is_another(headers, self._etag) or not is_range(status, headers, self._start, self._stop):
            return False
        self._know(_head(self._lines))
        return True

    def _know(self, head: _Head | None) -> None:
        self._head = head
        if head is not None:
            self._etag_line = head.etag % self._etag.encode()
