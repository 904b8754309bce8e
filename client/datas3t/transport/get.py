"""GET: bytes of an object, to a sink or into memory, and never other bytes than those that were asked for."""

from itertools import chain

import pycurl

from datas3t.transport.handle import ERROR_BODY, Options, Transfer
from datas3t.transport.messages import Response, TransferError, is_another, is_range, parsed
from datas3t.transport.sweep import SMALL

_BATCH = 256 << 10  # bytes that a sink gets at a time; libcurl hands out 16 KiB


class Get(Transfer):
    """GETs on one handle. What is expensive to set is set only where it differs from the request before."""

    __slots__ = (
        "_etag",
        "_fits",
        "_headers",
        "_held",
        "_kept",
        "_limit",
        "_pinned",
        "_received",
        "_small",
    )

    def __init__(self, options: Options) -> None:
        self._kept: list[bytes] = []  # of a large body without a sink, over all tries
        super().__init__(options)
        self._small = True
        self._etag = b""  # in the condition that is set
        self._headers: list[bytes] = []
        self._limit = 0
        self.curl.setopt(pycurl.HTTPGET, 1)
        self.curl.setopt(pycurl.WRITEFUNCTION, self._pieces.append)

    def end(self) -> None:
        super().end()
        self._received = 0  # bytes that need not come again
        self._pinned: str | None = None  # the object they are of
        self._kept.clear()

    def outcome(self, code: int, message: str) -> Response | TransferError:
        request = self.request
        status, headers = parsed(self._lines)
        if status >= 300:
            return self._refused(status, headers)
        if status >= 200:
            if misfit := self._misfit(status, headers):
                return misfit
            if not self._small and not self._pass_on():
                return self._error("the answer is longer than what was asked for", retryable=True)
        size = None if request.stop is None else request.stop - request.start
        # Where a connection broke, the next try goes on from what was passed on, which may have been all.
        if (code and (self._small or self._received != size)) or status < 200:
            return self._broken(code, message)
        body = b"".join(chain(self._kept, self._pieces))
        got = len(body) if self._small else self._received
        if size is not None and got != size:
            return self._error(f"{got} bytes came instead of {size}", retryable=True)
        self._moved(got)
        return self._answered(status, body)

    def _set_up(self) -> None:
        request, curl = self.request, self.curl
        self._pieces.clear()
        self._held = 0  # bytes in the pieces
        self._fits: bool | None = None
        start, stop = request.start, request.stop
        if stop is not None and stop <= start:
            raise ValueError(f"bytes {start} to {stop} of an object are none")
        small = stop is not None and stop - start <= SMALL and request.sink is None
        if small is not self._small:
            curl.setopt(pycurl.WRITEFUNCTION, self._pieces.append if small else self._take)
            self._small = small
        etag = (request.etag or self._pinned or "").encode()
        if etag != self._etag or request.headers or self._headers:
            self._set_headers(etag)
        self._set_limit(stop and stop - start)
        start += self._received
        if stop is not None:
            curl.setopt(pycurl.RANGE, f"{start}-{stop - 1}")
        elif start:
            curl.setopt(pycurl.RANGE, f"{start}-")
        else:
            curl.unsetopt(pycurl.RANGE)

    def _set_headers(self, etag: bytes) -> None:
        self._etag = etag
        extra = self.request.headers or {}
        self._headers = [f"{name}: {value}".encode() for name, value in extra.items()]
        headers = [b'If-Match: "%s"' % etag, *self._headers] if etag else self._headers
        self.curl.setopt(pycurl.HTTPHEADER, headers or None)  # an empty list changes nothing

    def _set_limit(self, size: int | None) -> None:
        """A server that ignores the range would send a whole archive."""
        limit = 0 if size is None else max(size, ERROR_BODY)
        if limit != self._limit:
            self.curl.setopt(pycurl.MAXFILESIZE_LARGE, limit)
            self._limit = limit

    def _take(self, piece: bytes) -> int | None:
        self._pieces.append(piece)
        self._held += len(piece)
        if self._held < _BATCH or self._pass_on():
            return None
        return -1

    def _pass_on(self) -> bool:
        """Hands on what came, if it is what was asked for, which the answer's head tells."""
        if self._fits is None:
            self._fits = self._judge_head()
        stop = self.request.stop
        if not self._fits or (stop is not None and self._received + self._held > stop - self.request.start):
            return False  # more than was asked for would land in its neighbour's place
        if self.request.sink is None:
            self._kept += self._pieces
        elif self._pieces:
            self.request.sink(self._received, self._pieces)
        self._received += self._held
        self._held = 0
        self._pieces.clear()
        self._moved(self._received)
        return True

    def _judge_head(self) -> bool:
        status, headers = parsed(self._lines)
        if not 200 <= status < 300 or self._misfit(status, headers):
            return False
        self._pinned = self._pinned or headers.get("etag", "").strip('"') or None
        return True

    def _misfit(self, status: int, headers: dict[str, str]) -> TransferError | None:
        """Why an answer with success is not one to what was asked for."""
        request = self.request
        if is_another(headers, request.etag or self._pinned):
            return self._error("the object is another one now", status=412, changed=True)
        start = request.start + (0 if self._fits else self._received)
        if self._fits or (request.stop is None and start == 0) or is_range(status, headers, start, request.stop):
            return None
        return self._error(f"the answer has other bytes than {start} to {request.stop}", retryable=True)
