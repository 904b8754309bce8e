"""A relay in front of any server that loses, cuts, stalls, delays and forges as planned: real servers, a bad wire.

    with relay(services.s3.endpoint) as between:
        between.plan(Fault(cut_after=0), Fault(status=503), Fault())   # one for each request, in order; then none
        ...                                                            # with between.url as the bucket's endpoint

It passes bytes on as they are, so that signatures, which cover the Host the client wrote, hold for the relay's address.
A request begins where the client speaks after the server has answered, which holds for HTTP/1.1 and the like. On
HTTP/2 a connection is a single exchange to it: use `per_connection=True` there, and count bytes of the connection.
"""

import contextlib
import re
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

_CHUNK = 256 * 1024
_REQUEST_LINE = re.compile(rb"[A-Z]+ \S+ HTTP/1\.[01]\r\n")
_HEAD_END = b"\r\n\r\n"
_ETAG = re.compile(rb'(?i)(\r\netag: )"[^"]*"')
_INVERTED = bytes(range(255, -1, -1))


@dataclass(frozen=True)
class Fault:
    """What happens to one request, or to one connection. All fields empty: nothing.

    `only` restricts it to requests whose first line contains it, as b"PUT " or b".index": others pass it by.
    """

    refuse: bool = False  # the connection is reset, and the server never hears of the request
    status: int | None = None  # the relay answers with this HTTP status, and the server never hears of the request
    retry_after: int | None = None  # seconds, in that answer
    delay: float = 0.0  # seconds before the answer's first byte
    cut_after: int | None = None  # the answer ends after so many bytes; with 0 the server has done it, unheard
    stall_after: int | None = None  # the same, but the connection stays open and silent
    cut_request_after: int | None = None  # the request is torn after so many bytes
    another: bool = False  # the answer is about another object: its ETag and each byte of its body are others
    only: bytes = b""


class Relay:
    """Listens on 127.0.0.1 and passes everything on to `target`, but for the faults planned."""

    def __init__(self, target: tuple[str, int], *, per_connection: bool = False) -> None:
        self.always = Fault()  # what happens to requests for which nothing is planned,
        self.rule: Callable[[bytes], Fault] | None = None  # unless this says it, given the first line
        self.requests: list[bytes] = []  # first lines, as far as the first chunk holds them
        self.bytes_to_server = 0
        self.bytes_to_client = 0
        self.waiting = 0  # requests that were passed on, and have no byte of an answer yet
        self.most_waiting = 0
        self._target = target
        self._per_connection = per_connection
        self._planned: deque[Fault] = deque()
        self._lock = threading.Lock()
        self._open: set[_Connection] = set()
        self._listener = self._listen(0)
        self._port: int = self._listener.getsockname()[1]

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def plan(self, *faults: Fault) -> None:
        """Queues faults: each request takes the first one that is meant for it."""
        with self._lock:
            self._planned.extend(faults)

    @property
    def planned(self) -> int:
        """How many planned faults have not happened yet."""
        return len(self._planned)

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """As long as the block, nobody listens at the address, and connections that were open are gone."""
        self.close()
        try:
            yield
        finally:
            self._listener = self._listen(self._port)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread in accept
        self._listener.close()
        self.cut_all()

    def cut_all(self) -> None:
        """Cuts every connection that is open now."""
        with self._lock:
            connections = list(self._open)
        for connection in connections:
            connection.cut()
            connection.join()

    def take(self, head: bytes) -> Fault:
        """The fault for a request that begins with these bytes; notes the request."""
        line = head.partition(b"\r\n")[0]
        with self._lock:
            self.requests.append(line)
            for fault in self._planned:
                if fault.only in line:
                    self._planned.remove(fault)
                    return fault
            if self.rule:
                return self.rule(line)
        return self.always if self.always.only in line else Fault()

    def count(self, *, to_server: int = 0, to_client: int = 0) -> None:
        with self._lock:
            self.bytes_to_server += to_server
            self.bytes_to_client += to_client

    def wait(self, change: int) -> None:
        with self._lock:
            self.waiting += change
            self.most_waiting = max(self.most_waiting, self.waiting)

    def forget(self, connection: "_Connection") -> None:
        with self._lock:
            self._open.discard(connection)

    def _listen(self, port: int) -> socket.socket:
        listener = socket.create_server(("127.0.0.1", port), backlog=512)
        threading.Thread(target=self._accept, args=[listener], name="relay", daemon=True).start()
        return listener

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            fault = self.take(b"") if self._per_connection else None
            try:
                if fault and fault.refuse:
                    raise ConnectionRefusedError
                server = socket.create_connection(self._target)
            except OSError:
                _linger_no_more(client)
                client.close()
                continue
            connection = _Connection(self, client, server, fault)
            with self._lock:
                self._open.add(connection)
                connection.start()  # under the lock: who finds it there may join its threads


class _Connection:
    """Two threads, one for each direction. `shutdown` of both sockets wakes both; `close` alone would not."""

    def __init__(self, relay: Relay, client: socket.socket, server: socket.socket, fault: Fault | None) -> None:
        self._relay = relay
        self._client = client
        self._server = server
        self._once = fault is not None  # the whole connection is one exchange
        self._fault = fault
        self._asked = 0  # bytes of the request
        self._answered = 0  # bytes of its answer
        self._waits = False  # for the first of these
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=[way], daemon=True) for way in (self._up, self._down)]
        self._running = len(self._threads)
        self._lock = threading.Lock()
        for each in (client, server):
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(10)

    def cut(self) -> None:
        self._over.set()
        for each in (self._client, self._server):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _run(self, way: Callable[[], None]) -> None:
        try:
            way()
        except OSError:
            self.cut()
        finally:
            with self._lock:
                self._running -= 1
                last = self._running == 0
            if last:
                self._wait(False)
                self._client.close()
                self._server.close()
                self._relay.forget(self)

    def _up(self) -> None:
        """Client to server. Ends with the connection."""
        while chunk := self._client.recv(_CHUNK):
            if self._begins(chunk):
                self._fault = self._relay.take(chunk)
                self._asked = self._answered = 0
                if self._fault.refuse:
                    return self._reset()
                if self._fault.status is not None:
                    return self._answer(self._fault, bodiless=chunk.startswith(b"HEAD "))
                self._wait(True)
            limit = self._fault.cut_request_after if self._fault else None
            passed = chunk if limit is None else chunk[: limit - self._asked]
            self._server.sendall(passed)
            self._asked += len(passed)
            self._relay.count(to_server=len(passed))
            if self._asked == limit:
                break
        return self.cut()

    def _begins(self, chunk: bytes) -> bool:
        """Whether a request begins here. An answer may come before all of the request's body has gone."""
        if self._fault is None:
            return True
        return not self._once and self._answered > 0 and _REQUEST_LINE.match(chunk) is not None

    def _down(self) -> None:
        """Server to client."""
        while chunk := self._server.recv(_CHUNK):
            fault = self._fault or Fault()
            if self._answered == 0:
                chunk = self._pass_interim(chunk)
                if chunk and fault.delay:
                    self._over.wait(fault.delay)
                if chunk:
                    self._wait(False)
            if fault.another:
                chunk = self._forged(chunk)
            limit = fault.cut_after if fault.cut_after is not None else fault.stall_after
            passed = chunk if limit is None else chunk[: limit - self._answered]
            self._answered += len(passed)  # before the client can have seen it, and ask again
            self._client.sendall(passed)
            self._relay.count(to_client=len(passed))
            if self._answered == limit and chunk:
                if fault.cut_after is not None:
                    return self.cut()
                self._over.wait()
        if not self._over.is_set():
            self._client.shutdown(socket.SHUT_WR)
        return None

    def _pass_interim(self, chunk: bytes) -> bytes:
        """Passes on "100 Continue", which is no answer yet, and returns the rest."""
        if not chunk.startswith(b"HTTP/1.1 100"):
            return chunk
        interim, end, rest = chunk.partition(b"\r\n\r\n")
        self._client.sendall(interim + end)
        return rest

    def _forged(self, chunk: bytes) -> bytes:
        """The answer as if it were about another object."""
        if self._answered:
            return chunk.translate(_INVERTED)
        while _HEAD_END not in chunk and (more := self._server.recv(_CHUNK)):
            chunk += more
        head, end, body = chunk.partition(_HEAD_END)
        return _ETAG.sub(rb'\1"00000000000000000000000000000000"', head) + end + body.translate(_INVERTED)

    def _wait(self, waits: bool) -> None:
        if waits is not self._waits:
            self._waits = waits
            self._relay.wait(1 if waits else -1)

    def _answer(self, fault: Fault, *, bodiless: bool) -> None:
        body = b"" if bodiless else b"<Error><Code>Planned</Code><Message>planned by a test</Message></Error>"
        lines = [f"HTTP/1.1 {fault.status} Planned", f"Content-Length: {len(body)}", "Connection: close"]
        if fault.retry_after is not None:
            lines.append(f"Retry-After: {fault.retry_after}")
        self._client.sendall("\r\n".join(lines).encode() + _HEAD_END + body)
        self._client.shutdown(socket.SHUT_WR)
        while self._client.recv(_CHUNK):  # closed with bytes unread, the answer would be lost
            pass
        self.cut()

    def _reset(self) -> None:
        self._over.set()
        _linger_no_more(self._client)
        self._server.shutdown(socket.SHUT_RDWR)


def _linger_no_more(connection: socket.socket) -> None:
    """What closes it from now on resets it."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@contextlib.contextmanager
def relay(target: str, *, per_connection: bool = False) -> Iterator[Relay]:
    """A relay to `host:port` or to the host of a URL, as long as the block."""
    parts = urlsplit(target if "//" in target else f"//{target}")
    between = Relay((parts.hostname or "127.0.0.1", parts.port or 80), per_connection=per_connection)
    try:
        yield between
    finally:
        between.close()
