"""A TCP relay in front of any server that loses, cuts, stalls, delays, damages and forges responses as a test plans.

    with relay(services.s3.endpoint) as between:
        between.plan(Fault(cut_after=0), Fault(status=503), Fault())   # for the next three requests; none after them
        ...                                                            # with between.url as the bucket's endpoint

Bytes pass unchanged, so signatures, which cover the Host that the client wrote, are made for the relay's address.
A request begins where the client sends after the server has responded, which is right for HTTP/1.1 and its like. A
connection with HTTP/2 is a single exchange: use `per_connection=True`, which counts the bytes of the connection.
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

_CHUNK = 256 * 1024  # bytes read at a time
_REQUEST_LINE = re.compile(rb"[A-Z]+ \S+ HTTP/1\.[01]\r\n")
_HEAD_END = b"\r\n\r\n"
_ETAG = re.compile(rb'(?i)(\r\netag: )"[^"]*"')
_INVERTED = bytes(range(255, -1, -1))  # a table for bytes.translate


@dataclass(frozen=True)
class Fault:
    """What happens to one request, or to one connection. With all fields empty, nothing does.

    `only` limits the fault to requests whose first line contains it, such as b"PUT " or b".index".
    """

    refuse: bool = False  # the connection is reset; the server does not receive the request
    status: int | None = None  # the relay responds with this HTTP status; the server does not receive the request
    retry_after: int | None = None  # seconds, in that response
    delay: float = 0.0  # seconds before the first byte of the response
    cut_after: int | None = None  # the connection is cut after this many bytes of the response; 0 loses the response
    stall_after: int | None = None  # nothing more passes after this many bytes, but the connection stays open
    cut_request_after: int | None = None  # the connection is cut after this many bytes of the request
    other_object: bool = False  # the ETag and each byte of the body are replaced by others
    flip: int | None = None  # this bit of the response's body is wrong
    only: bytes = b""


class Relay:
    """A relay that listens on 127.0.0.1 and passes everything on to `target`, apart from the faults.

    A request gets the first planned fault that is meant for it. Without one, it gets the fault that `rule` returns for
    its first line, or `always` if there is no rule.
    """

    def __init__(self, target: tuple[str, int], *, per_connection: bool = False) -> None:
        self.always = Fault()
        self.rule: Callable[[bytes], Fault] | None = None
        self.requests: list[bytes] = []  # first lines, as far as they are in the first chunk
        self.turns = 0  # how often a client sent something after the server had responded: round trips of any protocol
        self.bytes_to_server = 0
        self.bytes_to_client = 0
        self.waiting = 0  # requests that were passed on, without a byte of the response so far
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
        """Host and port."""
        return f"127.0.0.1:{self._port}"

    @property
    def url(self) -> str:
        """The base URL."""
        return f"http://{self.address}"

    def plan(self, *faults: Fault) -> None:
        """Queue faults: each request takes the first one that is meant for it."""
        with self._lock:
            self._planned.extend(faults)

    @property
    def planned(self) -> int:
        """The number of planned faults that have not happened yet."""
        return len(self._planned)

    @contextlib.contextmanager
    def down(self) -> Iterator[None]:
        """Refuse connections during the block, and cut those that are open."""
        self.close()
        try:
            yield
        finally:
            self._listener = self._listen(self._port)

    def close(self) -> None:
        """Stop listening, and cut all connections."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes up the thread that is in accept()
        self._listener.close()
        self.cut_all()

    def cut_all(self) -> None:
        """Cut all connections that are open now."""
        with self._lock:
            connections = list(self._open)
        for connection in connections:
            connection.cut()
            connection.join()

    def note(self, head: bytes) -> Fault:
        """Record a request that begins with these bytes, and return its fault."""
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

    def note_passed(self, *, to_server: int = 0, to_client: int = 0) -> None:
        """Record that this many bytes were passed on."""
        with self._lock:
            self.bytes_to_server += to_server
            self.bytes_to_client += to_client

    def note_turn(self) -> None:
        """Record that a client began to send, first or after a response."""
        with self._lock:
            self.turns += 1

    def note_waiting(self, change: int) -> None:
        """Record that a request has begun (1) or ended (-1) to wait for its response."""
        with self._lock:
            self.waiting += change
            self.most_waiting = max(self.most_waiting, self.waiting)

    def forget(self, connection: "_Connection") -> None:
        """Remove a connection that has ended."""
        with self._lock:
            self._open.discard(connection)

    def _listen(self, port: int) -> socket.socket:
        listener = socket.create_server(("127.0.0.1", port), backlog=512)
        threading.Thread(target=self._accept, args=[listener], name="relay", daemon=True).start()
        return listener

    def _accept(self, listener: socket.socket) -> None:
        """Accept connections until the listener is closed."""
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            fault = self.note(b"") if self._per_connection else None
            try:
                if fault and fault.refuse:
                    raise ConnectionRefusedError
                server = socket.create_connection(self._target)
            except OSError:
                _reset_on_close(client)
                client.close()
                continue
            connection = _Connection(self, client, server, fault)
            with self._lock:
                self._open.add(connection)
                connection.start()  # under the lock, because `cut_all` joins the threads of those that it finds


class _Connection:
    """A connection through the relay, with a thread for each direction.

    Only `shutdown` of a socket wakes up a thread that waits for it; `close` does not.
    """

    def __init__(self, relay: Relay, client: socket.socket, server: socket.socket, fault: Fault | None) -> None:
        self._relay = relay
        self._client = client
        self._server = server
        self._is_one_exchange = fault is not None
        self._fault = fault
        self._request_size = 0  # bytes of the present request that were passed on
        self._response_size = 0  # bytes of its response
        self._head_size = 0  # of these, the bytes before its body, if a bit of that is wrong
        self._is_waiting = False  # for the first byte of the response
        self._is_clients_turn = True
        self._cut = threading.Event()
        directions = (self._pass_requests, self._pass_responses)
        self._threads = [threading.Thread(target=self._run, args=[direction], daemon=True) for direction in directions]
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
        """Close both sides."""
        self._cut.set()
        for each in (self._client, self._server):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _run(self, direction: Callable[[], None]) -> None:
        """Relay one direction. The thread that ends last closes the sockets."""
        try:
            direction()
        except OSError:
            self.cut()
        finally:
            with self._lock:
                self._running -= 1
                is_last = self._running == 0
            if is_last:
                self._set_waiting(False)
                self._client.close()
                self._server.close()
                self._relay.forget(self)

    def _pass_requests(self) -> None:
        """Pass on what the client sends. Ends the connection when the client has closed it."""
        while chunk := self._client.recv(_CHUNK):
            if self._is_clients_turn:
                self._is_clients_turn = False
                self._relay.note_turn()
            if self._begins_request(chunk):
                self._fault = self._relay.note(chunk)
                self._request_size = self._response_size = 0
                if self._fault.refuse:
                    return self._reset()
                if self._fault.status is not None:
                    return self._respond(self._fault, has_body=not chunk.startswith(b"HEAD "))
                self._set_waiting(True)
            limit = self._fault.cut_request_after if self._fault else None
            passed = chunk if limit is None else chunk[: limit - self._request_size]
            self._server.sendall(passed)
            self._request_size += len(passed)
            self._relay.note_passed(to_server=len(passed))
            if self._request_size == limit:
                break
        return self.cut()

    def _begins_request(self, chunk: bytes) -> bool:
        """Whether a request begins here. A response can come before all of the request's body was sent."""
        if self._fault is None:
            return True
        return not self._is_one_exchange and self._response_size > 0 and _REQUEST_LINE.match(chunk) is not None

    def _pass_responses(self) -> None:
        """Pass on what the server sends."""
        while chunk := self._server.recv(_CHUNK):
            fault = self._fault or Fault()
            self._is_clients_turn = True
            # Delay the first bytes of the response, and note that it has begun.
            if self._response_size == 0:
                chunk = self._pass_interim(chunk)
                if chunk and fault.delay:
                    self._cut.wait(fault.delay)
                if chunk:
                    self._set_waiting(False)
            if fault.other_object:
                chunk = self._forged(chunk)
            if fault.flip is not None:
                chunk = self._flipped(chunk, *divmod(fault.flip, 8))
            # Pass on as much as the fault allows.
            limit = fault.cut_after if fault.cut_after is not None else fault.stall_after
            passed = chunk if limit is None else chunk[: limit - self._response_size]
            self._response_size += len(passed)  # both before the client can have it, and go on
            self._relay.note_passed(to_client=len(passed))
            self._client.sendall(passed)
            if self._response_size == limit and chunk:
                if fault.cut_after is not None:
                    return self.cut()
                self._cut.wait()
        if not self._cut.is_set():
            self._client.shutdown(socket.SHUT_WR)
        return None

    def _pass_interim(self, chunk: bytes) -> bytes:
        """Pass on "100 Continue", which is not the response yet, and return the rest."""
        if not chunk.startswith(b"HTTP/1.1 100"):
            return chunk
        interim, end, rest = chunk.partition(_HEAD_END)
        self._client.sendall(interim + end)
        return rest

    def _forged(self, chunk: bytes) -> bytes:
        """Return the chunk as if the response were about another object."""
        if self._response_size:
            return chunk.translate(_INVERTED)
        while _HEAD_END not in chunk and (more := self._server.recv(_CHUNK)):
            chunk += more
        head, end, body = chunk.partition(_HEAD_END)
        return _ETAG.sub(rb'\1"00000000000000000000000000000000"', head) + end + body.translate(_INVERTED)

    def _flipped(self, chunk: bytes, byte: int, bit: int) -> bytes:
        """Return the chunk with another value of a bit of the response's body, if it is in the chunk."""
        if not self._response_size:
            while _HEAD_END not in chunk and (more := self._server.recv(_CHUNK)):
                chunk += more
            self._head_size = chunk.index(_HEAD_END) + len(_HEAD_END)
        at = self._head_size + byte - self._response_size
        if not 0 <= at < len(chunk):
            return chunk
        return chunk[:at] + bytes([chunk[at] ^ 1 << bit]) + chunk[at + 1 :]

    def _set_waiting(self, is_waiting: bool) -> None:
        if is_waiting is not self._is_waiting:
            self._is_waiting = is_waiting
            self._relay.note_waiting(1 if is_waiting else -1)

    def _respond(self, fault: Fault, *, has_body: bool) -> None:
        """Respond with an error in place of the server, and end the connection."""
        body = b"<Error><Code>Planned</Code><Message>planned by a test</Message></Error>" if has_body else b""
        lines = [f"HTTP/1.1 {fault.status} Planned", f"Content-Length: {len(body)}", "Connection: close"]
        if fault.retry_after is not None:
            lines.append(f"Retry-After: {fault.retry_after}")
        self._client.sendall("\r\n".join(lines).encode() + _HEAD_END + body)
        self._client.shutdown(socket.SHUT_WR)
        # Closing a socket with unread bytes resets the connection, and the response could be lost.
        while self._client.recv(_CHUNK):
            pass
        self.cut()

    def _reset(self) -> None:
        self._cut.set()
        _reset_on_close(self._client)
        self._server.shutdown(socket.SHUT_RDWR)


def _reset_on_close(connection: socket.socket) -> None:
    """Make a later `close` of this socket send a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@contextlib.contextmanager
def relay(target: str, *, per_connection: bool = False) -> Iterator[Relay]:
    """Yield a relay to `host:port`, or to the host of a URL, which runs during the block."""
    parts = urlsplit(target if "//" in target else f"//{target}")
    between = Relay((parts.hostname or "127.0.0.1", parts.port or 80), per_connection=per_connection)
    try:
        yield between
    finally:
        between.close()
