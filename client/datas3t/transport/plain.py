"""HEAD and DELETE: requests without a body, whose responses are small."""

import pycurl

from datas3t.transport.handle import MAX_ERROR_BODY, Options, Transfer
from datas3t.transport.head import parse_head
from datas3t.transport.messages import Response, TransferError


class _Plain(Transfer):
    __slots__ = ()

    def __init__(self, options: Options, raised: list[BaseException]) -> None:
        super().__init__(options, raised)
        self.curl.setopt(pycurl.WRITEFUNCTION, self._pieces.append)
        self.curl.setopt(pycurl.MAXFILESIZE_LARGE, 0 if isinstance(self, Head) else MAX_ERROR_BODY)

    def outcome(self, error: int, message: str) -> Response | TransferError:
        """Return the response, or the error."""
        status, headers = parse_head(self._lines)
        if status >= 300:
            return self._refused(status, headers)
        if error or status < 200:
            return self._disconnected(error, message)
        return self._accepted(status, b"".join(self._pieces))

    def _prepare_method(self) -> None:
        self._pieces.clear()
        extra = self.request.headers or {}
        self.curl.setopt(pycurl.HTTPHEADER, [f"{name}: {value}" for name, value in extra.items()] or None)


class Head(_Plain):
    """HEADs on one handle."""

    __slots__ = ()

    def __init__(self, options: Options, raised: list[BaseException]) -> None:
        super().__init__(options, raised)
        self.curl.setopt(pycurl.NOBODY, 1)


class Delete(_Plain):
    """DELETEs on one handle."""

    __slots__ = ()

    def __init__(self, options: Options, raised: list[BaseException]) -> None:
        super().__init__(options, raised)
        self.curl.setopt(pycurl.HTTPGET, 1)
        self.curl.setopt(pycurl.CUSTOMREQUEST, "DELETE")
