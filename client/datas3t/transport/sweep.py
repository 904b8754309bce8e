"""Sweep: many small ranged GETs with the least Python for each, about half of what `Get` needs.

A sweep only accepts responses that are exactly as expected. At the first other one it ends, and leaves what is missing
to `Get`, which can judge, resume, retry and explain.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeAlias

import pycurl

from datas3t.transport.handle import Options, new_handle
from datas3t.transport.head import etag_of, is_other_object, is_range, parse_head
from datas3t.transport.messages import SMALL, Range, Request, Url, host_of

_URL_INTERVAL = 0.05  # seconds for which a handle uses a URL without asking whether it is still the current one
_CHECK_INTERVAL = 0.25  # seconds between two searches for requests without a response
# A request without a response is given up when others were sent after it and have their responses, and it has waited
# this many seconds, and this many times as long as the slowest of the others. `Get` then requests its range again.
_MIN_SILENCE = 2.0
_SILENCE_FACTOR = 4

OnBody: TypeAlias = Callable[[int, bytes], None]
"""Receives the number of a range, and its bytes."""
Wait: TypeAlias = Callable[[int], None]
"""Waits until libcurl can do something; is given the number of requests that are running."""


class Sweep:
    """The sweeps of one libcurl multi, whose handles are kept from one sweep to the next."""

    def __init__(self, multi: pycurl.CurlMulti, options: Options) -> None:
        self._multi = multi
        self._options = options
        self._handles: list[_SweepHandle] = []

    def run(
        self, ranges: Sequence[Range], on_body: OnBody, parallelism: int, wait: Wait
    ) -> tuple[list[int], float | None]:
        """Send GETs for small ranges, and give their bodies to `on_body` as they arrive.

        The first response that is not as expected ends the sweep: it starts no other request, and waits only for those
        that are running.

        Args:
            ranges: The ranges, of at most `SMALL` bytes each.
            on_body: Receives the bodies.
            parallelism: How many requests run at a time.
            wait: Waits for libcurl.

        Returns:
            The numbers of the ranges that are left to do, and the seconds that S3 took to the first byte of the first
            response (None if there was none).
        """
        # This loop is what reading small datapoints costs. It has no call of Python per request that it can do without.
        handles = self._take_handles(min(parallelism, len(ranges)))
        perform, add, remove = self._multi.perform, self._multi.add_handle, self._multi.remove_handle
        upcoming, done = enumerate(ranges), bytearray(len(ranges))
        first_byte: float | None = None
        now = checked = time.monotonic()
        newest = 0.0  # when the latest of the requests with a response was sent
        slowest = 0.0  # the seconds that the slowest of them took

        # Fill all places.
        for handle in handles.values():
            handle.begin(*next(upcoming), now)
            add(handle.curl)
        running = len(handles)

        while running:
            perform()
            _, good, bad = self._multi.info_read(running)
            if good:
                now = time.monotonic()
                if first_byte is None:
                    first_byte = good[0].getinfo(pycurl.STARTTRANSFER_TIME) - good[0].getinfo(pycurl.PRETRANSFER_TIME)

            # Start the next request in the place of each that is done, before the caller sees the body.
            for curl in good:
                remove(curl)
                handle = handles[curl]
                number, body, began = handle.number, handle.take_body(), handle.began
                newest, slowest = max(newest, began), max(slowest, now - began)
                if body is None:
                    upcoming = enumerate(())
                elif (numbered := next(upcoming, None)) is not None:
                    handle.begin(*numbered, now)
                    add(curl)
                    running += 1
                running -= 1
                if body is not None:
                    done[number] = 1
                    on_body(number, body)

            # Leave what failed to `Get`.
            for curl, _, _ in bad:
                remove(curl)
                handles[curl].clear()
                running -= 1
                upcoming = enumerate(())

            # Wait only if nothing has ended: more may be ready otherwise.
            if good or not running:
                continue
            wait(running)
            now = time.monotonic()
            if now - checked > _CHECK_INTERVAL:
                checked = now
                deadline = now - max(_MIN_SILENCE, _SILENCE_FACTOR * slowest)
                running -= self._give_up(handles.values(), min(newest, deadline))

        for handle in handles.values():
            handle.address = None  # it may keep much more in memory than a URL
        return [number for number, is_done in enumerate(done) if not is_done], first_byte

    def close(self) -> None:
        """Free the handles."""
        for handle in self._handles:
            handle.curl.close()

    def _take_handles(self, count: int) -> "dict[pycurl.Curl, _SweepHandle]":
        """Return this many handles, and create those that do not exist yet."""
        for _ in range(len(self._handles), count):
            self._handles.append(_SweepHandle(self._options))
        return {handle.curl: handle for handle in self._handles[:count]}

    def _give_up(self, handles: "Iterable[_SweepHandle]", sent_before: float) -> int:
        """Give up the requests that were sent by then and have no byte of a response; return how many."""
        return self._remove(
            handle for handle in handles if handle.began <= sent_before and handle.is_silent and handle.is_running
        )

    def _remove(self, handles: "Iterable[_SweepHandle]") -> int:
        removed = list(handles)
        for handle in removed:
            self._multi.remove_handle(handle.curl)
            handle.clear()
        return len(removed)


def as_range(request: Request) -> Range | None:
    """Return the range that a sweep can do instead of this request, or None if it needs more than a sweep can do."""
    is_plain = (
        request.etag is not None
        and request.stop is not None
        and 0 < request.stop - request.start <= SMALL
        and request.sink is None
        and request.headers is None
        and request.check is None
        and request.stall_timeout is None
    )
    return Range(request.url, request.etag, request.start, request.stop) if is_plain else None  # type: ignore[arg-type]


class _HeadFormat(NamedTuple):
    """How a server writes the head of a response: where the lines that matter are, and what they must be."""

    lines: int
    status: bytes  # the line
    etag_line: int
    etag: tuple[bytes, bytes]  # the line before and after the ETag
    range_line: int
    range: bytes  # the beginning of the line, up to the first byte


def _format_of(lines: list[bytes], etag: bytes) -> _HeadFormat | None:
    """Return the format of this head, which has this ETag, or None if it is not clear which lines matter."""
    names = [line.partition(b":")[0] for line in lines]
    lower = [name.lower() for name in names]
    if lower.count(b"etag") != 1 or lower.count(b"content-range") != 1:
        return None
    etag_line, range_line = lower.index(b"etag"), lower.index(b"content-range")
    before, _, after = lines[etag_line].partition(etag or b"\n")
    if not etag or not after or not before.lower().startswith(b"etag:"):
        return None
    return _HeadFormat(len(lines), lines[0], etag_line, (before, after), range_line, names[range_line] + b": bytes ")


class _SweepHandle:
    """A handle that does one GET after another, and what is set on it.

    A head is compared with the format of the last good one, which is much faster than to parse it. `_format` and
    `_etag_line` (the ETag's line for the present object) hold that format.
    """

    __slots__ = (
        "_compares",
        "_etag",
        "_etag_line",
        "_format",
        "_lines",
        "_pieces",
        "_range",
        "_raw_etag",
        "_start",
        "_stop",
        "_unconditional",
        "_url",
        "_url_until",
        "address",
        "began",
        "curl",
        "number",
    )

    def __init__(self, options: Options) -> None:
        self.curl = curl = new_handle(options, [])
        self._unconditional = options.unconditional
        self.number = 0
        self.began = 0.0
        self.address: Url | None = None  # of `_url`
        self._url_until = 0.0  # by the monotonic clock
        self._start = self._stop = 0
        self._range = ""
        self._compares = False  # whether the response must have an ETag, because there is no If-Match
        self._url = self._etag = ""
        self._raw_etag = self._etag_line = b""
        self._format: _HeadFormat | None = None
        self._lines: list[bytes] = []
        self._pieces: list[bytes] = []
        curl.setopt(pycurl.HEADERFUNCTION, self._lines.append)
        curl.setopt(pycurl.WRITEFUNCTION, self._pieces.append)
        curl.setopt(pycurl.MAXFILESIZE_LARGE, SMALL)
        curl.setopt(pycurl.LOW_SPEED_TIME, max(1, round(options.small_stall_timeout)))

    def begin(self, number: int, wanted: Range, now: float) -> None:
        """Set the handle up for a range, which has this number in its sweep."""
        self.number = number
        self.began = now
        address, etag, start, stop = wanted
        if address is not self.address or now >= self._url_until:
            self.address, self._url_until = address, now + _URL_INTERVAL
            url = address if isinstance(address, str) else address(False)
            if url != self._url:
                self._url = url
                self.curl.setopt(pycurl.URL, url)
        if etag != self._etag or self._unconditional:
            self._etag = etag
            self._raw_etag = etag.encode("latin-1", "replace")
            self._compares = bool(etag and self._unconditional and host_of(self._url) in self._unconditional)
            conditional = etag and not self._compares
            self.curl.setopt(pycurl.HTTPHEADER, [b'If-Match: "%s"' % self._raw_etag] if conditional else None)
            self._remember(self._format)
        self._start, self._stop, self._range = start, stop, f"{start}-{stop - 1}"
        self.curl.setopt(pycurl.RANGE, self._range)

    def take_body(self) -> bytes | None:
        """Return the body if the response is exactly what was requested, else None. Forgets the response."""
        pieces, lines, head = self._pieces, self._lines, self._format
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        # Most heads are written as the last good one was.
        looks_right = (
            head is not None
            and len(lines) == head.lines
            and lines[0] == head.status
            and lines[head.etag_line] == self._etag_line
            and lines[head.range_line].startswith(head.range + self._range.encode() + b"/")
        )
        is_right = len(body) == self._stop - self._start and (looks_right or self._is_right())
        lines.clear()
        pieces.clear()
        return body if is_right else None

    def clear(self) -> None:
        """Forget the response."""
        self._lines.clear()
        self._pieces.clear()

    @property
    def is_silent(self) -> bool:
        """Whether no byte of a response has arrived."""
        return not self._lines

    @property
    def is_running(self) -> bool:
        """Whether the multi has the handle."""
        return self.curl.multi() is not None

    def _is_right(self) -> bool:
        """Whether the head is right according to its parsed headers. Remembers its format if it is."""
        status, headers = parse_head(self._lines)
        if is_other_object(headers, self._etag) or (self._compares and not etag_of(headers)):
            return False
        if not is_range(status, headers, self._start, self._stop):
            return False
        self._remember(_format_of(self._lines, self._raw_etag))
        return True

    def _remember(self, head: _HeadFormat | None) -> None:
        self._format = head
        if head is not None:
            self._etag_line = self._raw_etag.join(head.etag)
