"""PUT: bytes of a file or of memory, read as they are sent, and again from their beginning where that is needed."""

import pycurl

from datas3t.transport.handle import ERROR_BODY, Options, Transfer
from datas3t.transport.messages import Body, MemoryRange, Response, TransferError, parsed

_EMPTY = MemoryRange(b"")


class Put(Transfer):
    """PUTs on one handle."""

    __slots__ = ("_body", "_sent")

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self.curl.setopt(pycurl.UPLOAD, 1)
        self.curl.setopt(pycurl.READFUNCTION, self._give)
        self.curl.setopt(pycurl.SEEKFUNCTION, self._seek)
        self.curl.setopt(pycurl.WRITEFUNCTION, self._pieces.append)
        self.curl.setopt(pycurl.MAXFILESIZE_LARGE, 16 * ERROR_BODY)

    def end(self) -> None:
        super().end()
        self._body: Body = _EMPTY
        self._sent = 0

    def outcome(self, code: int, message: str) -> Response | TransferError:
        status, headers = parsed(self._lines)
        if status >= 300:  # perhaps before everything was sent
            return self._refused(status, headers)
        if code == pycurl.E_READ_ERROR:
            return self._error(f"what is sent ended after {self._sent} of {self._body.size} bytes")
        if code or status < 200:
            return self._broken(code, message)
        return self._answered(status, b"".join(self._pieces))

    def _set_up(self) -> None:
        self._pieces.clear()
        self._body = self.request.content()
        self._sent = 0
        extra = self.request.headers or {}
        self.curl.setopt(pycurl.INFILESIZE_LARGE, self._body.size)
        self.curl.setopt(pycurl.HTTPHEADER, ["Expect:", *(f"{name}: {value}" for name, value in extra.items())])

    def _give(self, size: int) -> bytes:
        piece = self._body.read(self._sent, min(self._sent + size, self._body.size))
        self._sent += len(piece)
        self._moved(self._sent)
        return piece

    def _seek(self, offset: int, _origin: int) -> int:
        """Begins again, as when a connection that was kept turns out to be closed."""
        self._sent = offset
        return int(pycurl.SEEKFUNC_OK)
