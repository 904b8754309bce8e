"""Addresses that are taken before anything starts, so that one in use is noticed, and the log lines that name them."""

import logging
import socket
from contextlib import suppress

from datas3t.server.front.edge import listen
from datas3t.server.settings import Address, Settings, SettingsError, is_loopback

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


def warn_if_open(settings: Settings) -> None:
    """Log a warning if other machines may reach a server that asks nobody for a token."""
    addresses = [settings.addr, *([settings.grpc_addr] if settings.grpc_addr else [])]
    if not settings.access.asks and not all(is_loopback(each.host) for each in addresses):
        _log.warning(
            "everyone who reaches this server can read and delete everything: it is not on loopback alone and asks"
            " nobody for a token; start it with --auth tokens (docs/access.md), or with --addr 127.0.0.1:8765"
        )
