"""Addresses that are taken before anything starts, so that one in use is noticed, and the log lines that name them."""

import logging
import socket
from contextlib import suppress

from datas3t.server.front.edge import listen
from datas3t.server.settings import Address, SettingsError

_log = logging.getLogger(__name__)


def reserve(address: Address) -> list[socket.socket]:
    """Return sockets that keep the port of an address for processes that share it. They do not listen.

    Raises:
        SettingsError: if the address cannot be used.
    """
    try:
        listening = listen(address)  # which fails if another server listens there
        return [_reserved(each) for each in listening]
    except (SettingsError, OSError):
        raise SettingsError(f"cannot listen on {address} for gRPC; choose another address with --grpc-addr") from None


def _reserved(listening: socket.socket) -> socket.socket:
    """Replace a listening socket by one on the same address that other sockets may share."""
    reserved = socket.socket(listening.family)
    name = listening.getsockname()
    if listening.family == socket.AF_INET6:
        only_six = listening.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
        reserved.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only_six)
    listening.close()
    for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
        with suppress(OSError):
            reserved.setsockopt(socket.SOL_SOCKET, option, 1)
    reserved.bind(name)
    return reserved


def log_addresses(url: str, grpc_port: int | None) -> None:
    """Log where a server listens."""
    _log.info("listening on %s", url)
    if grpc_port:
        _log.info("listening for gRPC alone on port %d", grpc_port)
