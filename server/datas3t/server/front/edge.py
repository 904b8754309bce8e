"""The server's one port: the first bytes of a connection distinguish gRPC from HTTP/1.1.

HTTP/2 is relayed, byte for byte, to grpcio's unix socket, because grpcio cannot take over an accepted connection. All
other connections are served by the HTTP/1.1 server in this process. Both run on one event loop in a separate thread.
With TLS, what the client has chosen by ALPN counts.
"""

import asyncio
import contextlib
import errno
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from datas3t.server.front.tls import Certificates, Handshakes, speaks_http1
from datas3t.server.settings import Address, SettingsError, Timeouts

HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_BACKLOG = 1024  # connections that the kernel holds until the loop accepts them
_RELAY_GRACE_SECONDS = 2.0  # for grpcio's last responses to reach their clients


class HttpServer(Protocol):
    """An HTTP/1.1 server on the edge's event loop."""

    def open(self) -> None:
        """Prepare to serve. Called on the loop before the first connection."""

    def connection(self) -> asyncio.Protocol:
        """Return the protocol of a new connection, which receives its bytes from the first one on."""

    def needs_tls(self) -> bytes:
        """Return the response to a client without TLS, where it is needed."""

    async def close(self) -> None:
        """End all connections."""


class Edge:
    """Listens as soon as it is created, and serves between `start` and `close`.

    If there are sockets that listen on the address already, it uses these. With certificates, it speaks TLS.

    Raises:
        SettingsError: if the address cannot be used.
    """

    def __init__(
        self,
        address: Address,
        rpc_socket: Path,
        http: HttpServer,
        timeouts: Timeouts,
        listening: Sequence[socket.socket] = (),
        certificates: Certificates | None = None,
    ) -> None:
        self._sockets = list(listening) or listen(address)
        # Of sockets that processes share, each takes one connection at a time, so that all get their share.
        self._accepted_at_once = 1 if listening else _BACKLOG
        self._http = http
        self._first_bytes_timeout = timeouts.first_bytes
        self._host = address.host
        self._certificates = certificates
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._relays = _Relays(rpc_socket)
        self._thread = threading.Thread(target=self._run, name="edge", daemon=True)

    @property
    def port(self) -> int:
        """The port that it listens on: the one in the settings, or the free one that the system chose."""
        return int(self._sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        """The URL for clients on this machine."""
        return Address(self._host, self.port).url(tls=self._certificates is not None)

    def start(self) -> None:
        """Start serving connections."""
        self._thread.start()

    def close(self) -> None:
        """Accept no new connections and end the open ones. May be called again."""
        if self._thread.ident is None:
            for listening in self._sockets:
                listening.close()
            self._loop.close()
            return
        if self._loop.is_closed():
            return
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._http.open()
        accept = self._new_connection
        if self._certificates:
            refusal = self._http.needs_tls()
            accept = Handshakes(self._certificates, accept, self._first_bytes_timeout, refusal).connection
        servers = [
            await self._loop.create_server(accept, sock=listening, backlog=self._accepted_at_once)
            for listening in self._sockets
        ]
        await self._stop.wait()
        for server in servers:
            server.close()
        await self._relays.close(_RELAY_GRACE_SECONDS)
        await self._http.close()

    def _new_connection(self) -> asyncio.Protocol:
        return _Detector(self._http.connection, self._relays.start, self._first_bytes_timeout)


def listen(address: Address) -> list[socket.socket]:
    """Return listening sockets, all on the same port.

    Raises:
        SettingsError: if the address cannot be used.
    """
    try:
        return _listen_on_all_interfaces(address.port) if not address.host else _listen_on_host(address)
    except OSError as error:
        why = "the port is in use" if error.errno == errno.EADDRINUSE else error.strerror or str(error)
        raise SettingsError(f"cannot listen on {address}: {why}; choose another address with --addr") from None


def _listen_on_all_interfaces(port: int) -> list[socket.socket]:
    if socket.has_dualstack_ipv6():
        try:
            return [socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=_BACKLOG)]
        except OSError as error:  # the machine may have IPv6 switched off
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                raise
    return [socket.create_server(("", port), backlog=_BACKLOG)]


def _listen_on_host(address: Address) -> list[socket.socket]:
    """Return one socket for each IP address of the host: `localhost` often has two."""
    listening: list[socket.socket] = []
    port = address.port
    found = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)
    try:
        for family, ip in dict.fromkeys((family, sockaddr[0]) for family, _, _, _, sockaddr in found):
            listening.append(socket.create_server((str(ip), port), family=family, backlog=_BACKLOG))
            port = listening[0].getsockname()[1]  # if any free port will do, all sockets use the first one's
    except OSError as error:
        if listening and error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            return listening  # the host has an IPv6 address that this machine cannot use
        for each in listening:
            each.close()
        raise
    return listening


def _send_at_once(transport: asyncio.Transport) -> None:
    """Send each small packet at once, even if earlier ones are not acknowledged yet.

    A response of gRPC is several of them, and many clients acknowledge only after 40 ms. asyncio does this by itself
    only for sockets that were created with a protocol number, which the listening ones are not.
    """
    with contextlib.suppress(OSError):  # the client has left already
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class _Detector(asyncio.Protocol):
    """Waits for the first bytes of a connection, then passes both on to the relay or to the HTTP/1.1 server."""

    def __init__(
        self,
        http: Callable[[], asyncio.Protocol],
        relay: Callable[[asyncio.Transport, bytes], None],
        timeout: float,
    ) -> None:
        self._http = http
        self._relay = relay
        self._timeout = timeout
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        _send_at_once(transport)
        self._is_http1 = speaks_http1(transport)
        self._timer = asyncio.get_running_loop().call_later(self._timeout, transport.abort)

    def data_received(self, data: bytes) -> None:
        self._received += data
        # The bytes so far may still become the preface.
        may_be_http2 = self._is_http1 is not True
        if may_be_http2 and len(self._received) < len(HTTP2_PREFACE) and HTTP2_PREFACE.startswith(self._received):
            return
        self._timer.cancel()
        if may_be_http2 and self._received.startswith(HTTP2_PREFACE):
            self._relay(self._transport, self._received)
            return
        if self._is_http1 is False:
            self._transport.abort()
            return
        connection = self._http()
        self._transport.set_protocol(connection)
        connection.connection_made(self._transport)
        connection.data_received(self._received)

    def connection_lost(self, _exc: Exception | None) -> None:
        self._timer.cancel()


class _Relays:
    """The HTTP/2 connections that are relayed to grpcio."""

    def __init__(self, rpc_socket: Path) -> None:
        self._rpc_socket = str(rpc_socket)
        self._connecting: set[asyncio.Task[None]] = set()  # asyncio itself holds tasks by weak references only
        self._open: set[_RelayEnd] = set()

    def start(self, client: asyncio.Transport, first_bytes: bytes) -> None:
        """Relay a connection from which `first_bytes` were already read."""
        client.pause_reading()
        task = asyncio.get_running_loop().create_task(self._connect(client, first_bytes))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def close(self, seconds: float) -> None:
        """Wait for grpcio, which has been stopped, to end its connections, then end those that remain.

        If they were ended at once, the last responses would not reach their clients.
        """
        deadline = time.monotonic() + seconds
        while self._open and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        for end in tuple(self._open):
            end.transport.abort()

    async def _connect(self, client: asyncio.Transport, first_bytes: bytes) -> None:
        client_end, grpc_end = _RelayEnd(self._open), _RelayEnd(self._open)
        client_end.other, grpc_end.other = grpc_end, client_end
        client.set_protocol(client_end)
        client_end.connection_made(client)  # grpcio may send before create_unix_connection returns
        try:
            to_grpc = await _connected(self._rpc_socket, client)
            await asyncio.get_running_loop().create_unix_connection(lambda: grpc_end, sock=to_grpc)
        except OSError:  # the gRPC server has stopped
            client.abort()
            return
        grpc_end.transport.write(first_bytes)
        client.resume_reading()
        if client.is_closing():
            grpc_end.transport.close()


async def _connected(path: str, client: asyncio.Transport) -> socket.socket:
    """Return a connection to grpcio, which on Linux has the client's address in its name, for the audit log."""
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.setblocking(False)
        peer = client.get_extra_info("peername")
        if peer and sys.platform == "linux":
            connection.bind(f"\0datas3t/{secrets.token_hex(8)}/{peer[0]}:{peer[1]}")
        await asyncio.get_running_loop().sock_connect(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


class _RelayEnd(asyncio.Protocol):
    """One end of a relay. It writes what it reads to the other end, and reads no faster than that end can write."""

    transport: asyncio.Transport
    other: "_RelayEnd"

    def __init__(self, open_ends: "set[_RelayEnd]") -> None:
        self._open = open_ends

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._open.add(self)

    def data_received(self, data: bytes) -> None:
        self.other.transport.write(data)

    def eof_received(self) -> bool:
        """Keep the connection open for the response if the client closed its half; close it if grpcio did.

        A connection with TLS has no halves: it ends.
        """
        is_client = bool(self.transport.get_extra_info("socket").family != socket.AF_UNIX)
        if is_client:
            self.other.transport.write_eof()
        return is_client and self.transport.get_extra_info("ssl_object") is None

    def pause_writing(self) -> None:
        self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        self.other.transport.resume_reading()

    def connection_lost(self, _exc: Exception | None) -> None:
        self._open.discard(self)
        if self.other in self._open:
            self.other.transport.close()
