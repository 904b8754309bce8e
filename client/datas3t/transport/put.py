"""PUT: the bytes of a file or of memory, read while they are sent, and read again when they must be sent again."""

import pycurl

from datas3t.transport.bodies import Body, MemoryRange
from datas3t.transport.handle import MAX_ERROR_BODY, Options, Transfer
from datas3t.transport.head import parse_head
from datas3t.transport.messages import Response, TransferError
from datas3t.transport.policy import meaning_of_curl_error
from datas3t.transport.shield import shielded

_MAX_RESPONSE = 16 * MAX_ERROR_BODY  # bytes; S3's responses to PUTs, also to copies of parts, have about 1 KiB
# Without the empty Expect, libcurl would wait for "100 Continue" before it sends a body. SeaweedFS guesses the type of
# what has none, and compresses an archive of small datapoints: each later read of a range then decompresses 4 MiB.
_HEADERS = ("Expect:", "Content-Type: application/octet-stream")
_NO_BODY = MemoryRange(b"")


class Put(Transfer):
    """PUTs on one handle."""

    __slots__ = ("_body", "_rewinds", "_sent")

    def __init__(self, options: Options, raised: list[BaseException]) -> None:
        self._rewinds: dict[int, int] = {}  # the position at which libcurl will continue, until the next read
        super().__init__(options, raised)
        self.curl.setopt(pycurl.UPLOAD, 1)
        self.curl.setopt(pycurl.READFUNCTION, shielded(self._read, pycurl.READFUNC_ABORT, raised))
        # libcurl seeks when an idle connection turns out to be closed.
        self.curl.setopt(pycurl.SEEKFUNCTION, self._rewinds.__setitem__)
        self.curl.setopt(pycurl.WRITEFUNCTION, self._pieces.append)
        self.curl.setopt(pycurl.MAXFILESIZE_LARGE, _MAX_RESPONSE)

    def release(self) -> None:
        """Forget the request and its body."""
        super().release()
        self._body: Body = _NO_BODY
        self._sent = 0
        self._rewinds.clear()

    def outcome(self, error: int, message: str) -> Response | TransferError:
        """Return the response, or the error."""
        status, headers = parse_head(self._lines)
        # S3 can refuse a request before all of its body was sent. Then libcurl reports an error as well.
        if status >= 300:
            return self._refused(status, headers)
        if error == pycurl.E_READ_ERROR:
            cause = f"the data to send ended after {self._sent} of {self._body.size} bytes"
            return self._error(cause, meaning_of_curl_error(error))
        if error or status < 200:
            return self._disconnected(error, message)
        return self._accepted(status, b"".join(self._pieces))

    def _prepare_method(self) -> None:
        """Set size and headers, and start again at the first byte of the body."""
        self._pieces.clear()
        self._body = self.request.content()
        self._sent = 0
        self._rewinds.clear()
        extra = self.request.headers or {}
        self.curl.setopt(pycurl.INFILESIZE_LARGE, self._body.size)
        headers = [*_HEADERS, *(f"{name}: {value}" for name, value in extra.items())]
        self.curl.setopt(pycurl.HTTPHEADER, headers)

    def _read(self, size: int) -> bytes | int:
        """Return the next bytes to send, at most `size`."""
        if self._rewinds:
            self._sent, _ = self._rewinds.popitem()
        piece = self._body.read(self._sent, min(self._sent + size, self._body.size))
        self._sent += len(piece)
        self._report_progress(self._sent)
        return piece
