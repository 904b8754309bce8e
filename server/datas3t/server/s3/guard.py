"""Connections of boto3: host names are looked up in bounded time, and link-local addresses are refused."""

import contextlib
import socket
from typing import Any, cast

from botocore.exceptions import HTTPClientError
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

from datas3t.server.s3.names import addresses_of
from datas3t.transport import is_link_local


class LinkLocalError(Exception):
    """The host has no other than link-local addresses."""


class LinkLocalGuard:
    """A mixin for connections of urllib3 that looks up names itself, and refuses link-local addresses.

    urllib3 would look up a name without a time limit. It connects to the addresses that were found and judged here.
    """

    def _new_conn(self) -> socket.socket:
        connection: Any = self
        host = connection._dns_host
        try:
            found = addresses_of(host, connection.port)
        except OSError as error:
            raise NameResolutionError(host, connection, error) from error  # type: ignore[arg-type] # a subclass does
        addresses = [address for address in found if not is_link_local(address)]
        if not addresses:
            raise LinkLocalError
        try:
            for address in addresses[:-1]:
                connection._dns_host = address
                with contextlib.suppress(NewConnectionError, ConnectTimeoutError):
                    return cast(socket.socket, super()._new_conn())  # type: ignore[misc] # of what it is mixed into
            connection._dns_host = addresses[-1]
            return cast(socket.socket, super()._new_conn())  # type: ignore[misc]
        finally:
            connection._dns_host = host  # for the Host header, and for the name in the certificate


def is_refusal(error: BaseException) -> bool:
    """Return whether botocore's error was caused by a LinkLocalError."""
    return isinstance(error, HTTPClientError) and isinstance(error.kwargs.get("error"), LinkLocalError)
