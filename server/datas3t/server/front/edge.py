"""The server's one port: a connection's first bytes tell gRPC from HTTP/1.1.

HTTP/2 is relayed, byte for byte, to grpcio's unix socket, since grpcio cannot be handed an accepted connection;
anything else is served in place by the HTTP/1.1 server. All of it runs on an event loop in a thread of its own.
"""

import asyncio
import errno
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from datas3t.server.settings import Address, Patience, SettingsError

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
BACKLOG = 1024


class Http(Protocol):
    """Serves HTTP/1.1 connections on the edge's loop."""

    def open(self) -> None:
        """Called on the loop before the first connection."""

    def connection(self) -> asyncio.Protocol:
        """Serves one connection, from its first byte."""

    async def close(self) -> None:
        """Ends all connections."""


class Edge:
    """Listens from the moment it is made; serves between `start` and `close`.

    Raises SettingsError where the address cannot be had.
    """

    def __init__(self, address: Address, rpc_socket: Path, http: Http, patience: Patience) -> None:
        self._sockets = listen(address)
        self._http = http
        self._first_bytes = patience.first_bytes
        self._host = address.host
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._relays = Relays(rpc_socket)
        self._thread = threading.Thread(target=self._run, name="edge", daemon=True)

    @property
    def port(self) -> int:
        return int(self._sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        host = self._host if self._host.strip("0.:") else "127.0.0.1"  # "", "0.0.0.0" and "::" are everywhere
        return f"http://{Address(host, self.port)}"

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Takes no new connections and ends the open ones. May be called again."""
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
        servers = [
            await self._loop.create_server(self._greet, sock=listening, backlog=BACKLOG) for listening in self._sockets
        ]
        await self._stop.wait()
        for server in servers:
            server.close()
        await self._relays.close(seconds=2)
        await self._http.close()

    def _greet(self) -> asyncio.Protocol:
        return _Greeting(self._http.connection, self._relays.begin, self._first_bytes)


def listen(address: Address) -> list[socket.socket]:
    """Listening sockets, all on the same port. Raises SettingsError."""
    try:
        return _everywhere(address.port) if not address.host else _at(address)
    except OSError as error:
        why = "the port is in use" if error.errno == errno.EADDRINUSE else error.strerror or str(error)
        raise SettingsError(f"cannot listen on {address}: {why}; choose another address with --addr") from None


def _everywhere(port: int) -> list[socket.socket]:
    if socket.has_dualstack_ipv6():
        try:
            return [socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=BACKLOG)]
        except OSError as error:
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                raise
    return [socket.create_server(("", port), backlog=BACKLOG)]


def _at(address: Address) -> list[socket.socket]:
    """One socket for each address of the name: `localhost` is often two."""
    found: list[socket.socket] = []
    port = address.port
    try:
        for family, where in dict.fromkeys(
            (family, where[0]) for family, _, _, _, where in socket.getaddrinfo(*address, type=socket.SOCK_STREAM)
        ):
            found.append(socket.create_server((str(where), port), family=family, backlog=BACKLOG))
            port = found[0].getsockname()[1]
    except OSError as error:
        if found and error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            return found
        for listening in found:
            listening.close()
        raise
    return found


class _Greeting(asyncio.Protocol):
    """Waits for the first bytes, then hands the connection and the bytes over."""

    def __init__(
        self,
        http: Callable[[], asyncio.Protocol],
        relay: Callable[[asyncio.Transport, bytes], None],
        seconds: float,
    ) -> None:
        self._http = http
        self._relay = relay
        self._seconds = seconds
        self._seen = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._timer = asyncio.get_running_loop().call_later(self._seconds, transport.abort)

    def data_received(self, data: bytes) -> None:
        self._seen += data
        if len(self._seen) < len(PREFACE) and PREFACE.startswith(self._seen):
            return
        self._timer.cancel()
        if self._seen.startswith(PREFACE):
            self._relay(self._transport, self._seen)
            return
        served = self._http()
        self._transport.set_protocol(served)
        served.connection_made(self._transport)
        served.data_received(self._seen)

    def connection_lost(self, _exc: Exception | None) -> None:
        self._timer.cancel()


class Relays:
    """The HTTP/2 connections that pass through to grpcio."""

    def __init__(self, rpc_socket: Path) -> None:
        self._rpc_socket = str(rpc_socket)
        self._opening: set[asyncio.Task[None]] = set()
        self._open: set[_End] = set()

    def begin(self, client: asyncio.Transport, first: bytes) -> None:
        """Relays a connection whose first bytes were read."""
        client.pause_reading()
        task = asyncio.get_running_loop().create_task(self._connect(client, first))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def close(self, seconds: float) -> None:
        """Lets grpcio, which is to have stopped, end the relays, so that the last answers arrive; then ends them."""
        deadline = time.monotonic() + seconds
        while self._open and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        for end in tuple(self._open):
            end.transport.abort()

    async def _connect(self, client: asyncio.Transport, first: bytes) -> None:
        near, far = _End(self._open), _End(self._open)
        near.other, far.other = far, near
        client.set_protocol(near)
        near.connection_made(client)  # grpcio may speak before create_unix_connection returns
        try:
            await asyncio.get_running_loop().create_unix_connection(lambda: far, self._rpc_socket)
        except OSError:  # the server is about to stop
            client.abort()
            return
        far.transport.write(first)
        client.resume_reading()
        if client.is_closing():
            far.transport.close()


class _End(asyncio.Protocol):
    """One end of a relay: what it reads is written to the other, no faster than that one takes it."""

    transport: asyncio.Transport
    other: "_End"

    def __init__(self, open_ends: "set[_End]") -> None:
        self._open = open_ends

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._open.add(self)

    def data_received(self, data: bytes) -> None:
        self.other.transport.write(data)

    def eof_received(self) -> bool:
        """A client that has said all may still listen; where grpcio closes, it closes for good."""
        near = bool(self.transport.get_extra_info("socket").family != socket.AF_UNIX)
        if near:
            self.other.transport.write_eof()
        return near

    def pause_writing(self) -> None:
        self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        self.other.transport.resume_reading()

    def connection_lost(self, _exc: Exception | None) -> None:
        self._open.discard(self)
        if self.other in self._open:
            self.other.transport.close()
