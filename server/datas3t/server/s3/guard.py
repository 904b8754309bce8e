"""Keeps boto3 from link-local addresses, whatever a name resolves to at the moment when it connects."""

import contextlib
import socket
from typing import Any

from botocore.exceptions import HTTPClientError

from datas3t.transport import is_link_local

LINK_LOCAL = "it has a link-local address, which is never allowed; correct the endpoint"


class LinkLocalError(Exception):
    """A connection would lead to a link-local address, or did, and was closed before a byte was sent."""


class Guarded:
    """A mixin for connections of urllib3, which refuse link-local addresses."""

    def _new_conn(self) -> socket.socket:
        connection: Any = self
        with contextlib.suppress(OSError):  # urllib3 finds out the same, and says it
            found = socket.getaddrinfo(connection.host, connection.port, type=socket.SOCK_STREAM)
            if found and all(is_link_local(str(address[0])) for *_, address in found):
                raise LinkLocalError
        connected: socket.socket = super()._new_conn()  # type: ignore[misc] # of the connection it is mixed into
        # By now the name may resolve to other addresses.
        if is_link_local(str(connected.getpeername()[0])):
            connected.close()
            raise LinkLocalError
        return connected


def is_refusal(error: BaseException) -> bool:
    """Return whether botocore's error comes from here."""
    return isinstance(error, HTTPClientError) and isinstance(error.kwargs.get("error"), LinkLocalError)
