"""Prevents boto3 from connecting to link-local addresses, also through names that resolve to one."""

import contextlib
import socket
from typing import Any

from botocore.exceptions import HTTPClientError

from datas3t.transport import is_link_local

LINK_LOCAL = "it has a link-local address, which is never allowed; correct the endpoint"


class LinkLocalError(Exception):
    """The host has a link-local address. If it was connected, the connection was closed before a byte was sent."""


class LinkLocalGuard:
    """A mixin for connections of urllib3 that refuses link-local addresses."""

    def _new_conn(self) -> socket.socket:
        connection: Any = self
        with contextlib.suppress(OSError):  # urllib3 raises the same error when it connects
            addresses = socket.getaddrinfo(connection.host, connection.port, type=socket.SOCK_STREAM)
            if addresses and all(is_link_local(str(address[0])) for *_, address in addresses):
                raise LinkLocalError
        connected: socket.socket = super()._new_conn()  # type: ignore[misc] # of the connection it is mixed into
        # By now the name may resolve to other addresses.
        if is_link_local(str(connected.getpeername()[0])):
            connected.close()
            raise LinkLocalError
        return connected


def is_refusal(error: BaseException) -> bool:
    """Return whether botocore's error was caused by a LinkLocalError."""
    return isinstance(error, HTTPClientError) and isinstance(error.kwargs.get("error"), LinkLocalError)
