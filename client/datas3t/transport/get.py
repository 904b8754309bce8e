"""GET: bytes of an object, into a sink or into memory, and never other bytes than those that were requested."""

from collections.abc import Callable, Mapping
from itertools import chain

import pycurl

from datas3t.transport.handle import MAX_ERROR_BODY, Options, Transfer
from datas3t.transport.head import ends_before, etag_of, is_other_object, is_range, parse_head
from datas3t.transport.messages import SMALL, Response, TransferError, host_of
from datas3t.transport.policy import Meaning
from datas3t.transport.shield import shielded

_BATCH = 256 << 10  # bytes per call of a sink; libcurl delivers 16 KiB at a time, which costs more calls


class Get(Transfer):
    """GETs on one handle.

    A small body without a sink is collected in `_pieces` and judged at the end. Any other body is judged by its head,
    before its first bytes go to the sink, and is resumed after an error.
    """

    __slots__ = (
        "_collected",
        "_compares",
        "_etag_set",
        "_headers_set",
        "_is_expected",
        "_is_small",
        "_limit_set",
        "_pending",
        "_received",
        "_resumed_at",
        "_resumed_etag",
        "_take",
    )

    def __init__(self, options: Options, raised: list[BaseException]) -> None:
        self._collected: list[bytes] = []  # of a large body without a sink, from all tries
        super().__init__(options, raised)
        self._take: Callable[[bytes], int | None] = shielded(self._receive, -1, raised)
        self._is_small = True
        self._etag_set = b""
        self._headers_set: list[bytes] = []
        self._limit_set = 0
        self.curl.setopt(pycurl.HTTPGET, 1)
        self.curl.setopt(pycurl.WRITEFUNCTION, self._pieces.append)

    def release(self) -> None:
        """Forget the request, its sink, and the bytes received for it."""
        super().release()
        self._received = 0  # bytes that are delivered, and need not be requested again
        self._resumed_etag: str | None = None  # of the object that they belong to
        self._compares = False  # whether the response must have the right ETag, because there is no If-Match
        self._collected.clear()

    def outcome(self, error: int, message: str) -> Response | TransferError:
        """Return the response if it is what was requested, otherwise the error."""
        status, headers = parse_head(self._lines)
        if status >= 300:
            # Some stores compare an If-Match otherwise than HTTP says. The next try does without, and compares itself.
            self._compares = self._compares or (status == 412 and bool(self._etag_set))
            return self._refused(status, headers)
        # What has arrived is delivered even if the connection broke, so that the next try continues after it.
        if status >= 200:
            if mismatch := self._mismatch(status, headers):
                return mismatch
            is_too_long = error == pycurl.E_FILESIZE_EXCEEDED and self.request.limit is not None
            if is_too_long or (not self._is_small and not self._deliver()):
                return self._too_long()
        # The connection may break after the last byte that was requested: then nothing is missing.
        size = self._size(headers)
        if (error and (self._is_small or self._received != size)) or status < 200:
            return self._disconnected(error, message)
        body = b"".join(chain(self._collected, self._pieces))
        received = len(body) if self._is_small else self._received
        if size is not None and received != size:
            return self._error(f"received {received} bytes instead of {size}", Meaning.TEMPORARY)
        self._report_progress(received)
        if self._compares:
            self._options.unconditional.add(host_of(self._url))
        return self._accepted(status, body)

    def _too_long(self) -> TransferError:
        if (limit := self.request.limit) is not None:
            return self._error(f"the response has more than {limit} bytes", Meaning.FINAL)
        return self._error("the response is longer than the requested range", Meaning.TEMPORARY)

    def _size(self, headers: Mapping[str, str]) -> int | None:
        """Return how many bytes are requested; without a `stop`, those that the response declares, if any."""
        request = self.request
        if request.stop is not None:
            return request.stop - request.start
        declared = headers.get("content-length", "")
        return self._resumed_at + int(declared) if declared.isdigit() and "content-encoding" not in headers else None

    def _prepare_method(self) -> None:
        """Set method, headers and range for the bytes that are still missing."""
        request, curl = self.request, self.curl
        self._pieces.clear()
        self._pending = 0  # bytes in the pieces
        self._is_expected: bool | None = None  # unknown until the head was judged
        start, stop = request.start, request.stop
        if stop is not None and stop <= start:
            raise ValueError(f"bytes {start} to {stop} are an empty range; stop must be greater than start")
        is_small = stop is not None and stop - start <= SMALL and request.sink is None
        if is_small is not self._is_small:
            curl.setopt(pycurl.WRITEFUNCTION, self._pieces.append if is_small else self._take)
            self._is_small = is_small
        etag = (request.etag or self._resumed_etag or "").encode("latin-1", "replace")
        unconditional = self._options.unconditional
        if etag and unconditional and host_of(self._url) in unconditional:
            self._compares = True
        if self._compares:
            etag = b""
        if etag != self._etag_set or request.headers or self._headers_set:
            self._set_headers(etag)
        self._set_limit(request.limit if stop is None else stop - start)
        self._resumed_at = self._received
        start += self._received
        if stop is not None:
            curl.setopt(pycurl.RANGE, f"{start}-{stop - 1}")
        elif start:
            curl.setopt(pycurl.RANGE, f"{start}-")
        else:
            curl.unsetopt(pycurl.RANGE)

    def _set_headers(self, etag: bytes) -> None:
        self._etag_set = etag
        extra = self.request.headers or {}
        self._headers_set = [f"{name}: {value}".encode() for name, value in extra.items()]
        headers = [b'If-Match: "%s"' % etag, *self._headers_set] if etag else self._headers_set
        self.curl.setopt(pycurl.HTTPHEADER, headers or None)  # an empty list would leave the old headers

    def _set_limit(self, size: int | None) -> None:
        """Limit the length of the response: a server that ignores the range would send the whole object."""
        limit = 0 if size is None else max(size, MAX_ERROR_BODY)
        if limit != self._limit_set:
            self.curl.setopt(pycurl.MAXFILESIZE_LARGE, limit)
            self._limit_set = limit

    def _receive(self, piece: bytes) -> int | None:
        """Take a piece from libcurl. Returning -1 ends the try, and None continues."""
        self._pieces.append(piece)
        self._pending += len(piece)
        if self._pending < _BATCH or self._deliver():
            return None
        return -1

    def _deliver(self) -> bool:
        """Give the pending pieces to the sink and return True, or return False if they are not what was requested."""
        if self._is_expected is None:
            self._is_expected = self._judge_head()
        # Bytes beyond the range would overwrite the memory or file next to it.
        start, stop, limit = self.request.start, self.request.stop, self.request.limit
        most = limit if stop is None else stop - start
        if not self._is_expected or (most is not None and self._received + self._pending > most):
            return False
        if self.request.sink is None:
            self._collected += self._pieces
        elif self._pieces:
            self.request.sink(self._received, self._pieces)
        self._received += self._pending
        self._pending = 0
        self._pieces.clear()
        self._report_progress(self._received)
        return True

    def _judge_head(self) -> bool:
        """Whether the head announces the requested bytes. Remembers the ETag, so that later tries must match it."""
        status, headers = parse_head(self._lines)
        if not 200 <= status < 300 or self._mismatch(status, headers):
            return False
        self._resumed_etag = self._resumed_etag or etag_of(headers) or None
        return True

    def _mismatch(self, status: int, headers: dict[str, str]) -> TransferError | None:
        """Return why a response of success is not the one to this request, or None if it is."""
        request = self.request
        etag = request.etag or self._resumed_etag
        if is_other_object(headers, etag) or (self._compares and etag_of(headers) != etag):
            code = "PreconditionFailed" if self._compares else ""
            return self._error("the object has changed: it has another ETag", Meaning.CHANGED, 412, code)
        start = request.start + (0 if self._is_expected else self._received)
        if self._is_expected or (request.stop is None and start == 0) or is_range(status, headers, start, request.stop):
            return None
        if request.stop is not None and (size := ends_before(headers, start, request.stop)) is not None:
            return self._error(f"the object has changed: it has only {size} bytes", Meaning.CHANGED, 416)
        return self._error(f"the response does not hold bytes {start} to {request.stop}", Meaning.TEMPORARY)
