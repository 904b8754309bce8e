"""A small HTTP server on loopback that serves objects like S3, and returns the faults that a test has planned.

    with httpd({"/a": b"..."}) as server:
        server.plan(Fault(status=503), Fault(cut_after=100))     # for the next two requests; none after them
        ...                                                      # use server.url + "/a", then look at server.requests

Objects can be `Pattern`s, which have a size and take no memory. What is PUT is hashed and not stored.
"""

import contextlib
import hashlib
import re
import socket
import socketserver
import ssl
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from tests.support.threaded import ThreadedServer

_PIECE = 1 << 20  # bytes read or written at a time


class Content(Protocol):
    """The bytes of an object."""

    def __len__(self) -> int: ...
    def __getitem__(self, place: slice, /) -> bytes: ...


class Pattern:
    """Bytes that show their position: each 8 of them are their number, big-endian. `size` is a multiple of 8."""

    def __init__(self, size: int) -> None:
        self._size = size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, place: slice) -> bytes:
        start, stop, _ = place.indices(self._size)
        first = start // 8
        words = range(first, -(-stop // 8))
        return struct.pack(f">{len(words)}Q", *words)[start - first * 8 : stop - first * 8]


@dataclass(frozen=True)
class Fault:
    """What is wrong with one response. With all fields empty, nothing is."""

    status: int | None = None  # an error response, with an S3 error document for `code`, or with `body`
    code: str = "Planned"
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)  # added to the headers, or replacing them
    cut_after: int | None = None  # the connection is closed after this many bytes of the body
    extra: int = 0  # this many bytes more than there should be
    stall_after: int | None = None  # nothing more is sent after this many bytes, but the connection stays open
    reset: bool = False  # the connection is reset without a response
    delay: float = 0.0  # seconds before the response
    ignore_range: bool = False
    range_as_200: bool = False  # the range and its Content-Range with status 200
    ignore_if_match: bool = False
    before_body: bool = False  # a PUT gets its response before its body was read


@dataclass(frozen=True)
class Seen:
    """A request that the server received. `stored` is the size and SHA-256 of its body."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    stored: tuple[int, str] = (0, hashlib.sha256().hexdigest())


class Httpd:
    """A server at `url`. `rule` returns the fault for each request for which none is planned."""

    def __init__(self, objects: Mapping[str, Content], tls: ssl.SSLContext | None) -> None:
        self.tls = tls
        self.objects = objects
        self.rule: Callable[[Seen], Fault] = lambda _: Fault()
        self.requests: list[Seen] = []
        self.body_bytes_sent = 0
        self.connections = 0  # that were ever opened
        self.most_at_once = 0  # requests
        self.stopping = threading.Event()
        self._at_once = 0
        self._planned: deque[Fault] = deque()
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._server = _Server(("127.0.0.1", 0), self)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    @property
    def url(self) -> str:
        """The base URL."""
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self._server.server_address[1]}"

    @property
    def open_connections(self) -> int:
        """The number of connections that are open now."""
        return len(self._open)

    def plan(self, *faults: Fault) -> None:
        """Queue faults, one for each of the next requests."""
        with self._lock:
            self._planned.extend(faults)

    def plan_nothing(self) -> None:
        """Forget the faults that were planned and not caused."""
        with self._lock:
            self._planned.clear()

    def seen(self, path: str) -> list[Seen]:
        """Return the requests for this path."""
        return [request for request in self.requests if request.path == path]

    def note(self, request: Seen) -> Fault:
        """Record a request, and return its fault."""
        with self._lock:
            self.requests.append(request)
            return self._planned.popleft() if self._planned else self.rule(request)

    def note_sent(self, size: int) -> None:
        """Record that this many bytes of a body were sent."""
        with self._lock:
            self.body_bytes_sent += size

    @contextlib.contextmanager
    def connection(self, peer: socket.socket) -> Iterator[None]:
        """Count a connection as open during the block."""
        with self._lock:
            self.connections += 1
            self._open.add(peer)
        try:
            yield
        finally:
            with self._lock:
                self._open.discard(peer)

    @contextlib.contextmanager
    def exchange(self) -> Iterator[None]:
        """Count a request as running during the block."""
        with self._lock:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            yield
        finally:
            with self._lock:
                self._at_once -= 1

    def drop_connections(self) -> None:
        """Close all connections, as servers do with idle ones."""
        with self._lock:
            for peer in self._open:
                with contextlib.suppress(OSError):
                    peer.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Stop the server, also in the middle of a response."""
        self.stopping.set()
        self._server.shutdown()
        self._thread.join()
        self.drop_connections()
        self._server.server_close()


class _Server(ThreadedServer):
    request_queue_size = 512

    def __init__(self, address: tuple[str, int], httpd: Httpd) -> None:
        self.httpd = httpd
        super().__init__(address, _Handler)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection, in its own thread, so that an unfinished TLS handshake does not block the others."""
        if self.httpd.tls is None:
            return super().finish_request(request, client_address)
        with contextlib.suppress(OSError), self.httpd.tls.wrap_socket(request, server_side=True) as encrypted:
            super().finish_request(encrypted, client_address)
        return None


class _Handler(socketserver.StreamRequestHandler):
    server: _Server
    disable_nagle_algorithm = True

    def handle(self) -> None:
        """Serve the requests of a connection, one after the other."""
        with self.server.httpd.connection(self.connection), contextlib.suppress(OSError):
            while line := self.rfile.readline():
                with self.server.httpd.exchange():
                    if not self._serve(line):
                        return

    def _serve(self, line: bytes) -> bool:
        """Serve the request with this first line, and return whether the connection stays open."""
        method, target, _ = line.decode().split()
        headers = dict[str, str]()
        while (header := self.rfile.readline().decode("latin-1").strip()) != "":
            name, _, value = header.partition(":")
            headers[name.lower()] = value.strip()
        path, _, query = target.partition("?")
        head = Seen(method, path, query, headers)
        httpd = self.server.httpd
        if method != "PUT":
            return self._serve_get(head, httpd.note(head))
        # Only `rule` can plan a response that comes before the body.
        if httpd.rule(head).before_body:
            return self._refuse_early(httpd.note(head))
        request = Seen(method, path, query, headers, self._read_body(int(headers["content-length"])))
        fault = httpd.note(request)
        if fault.status is not None:
            return self._refuse(fault)
        return self._respond(fault, 200, fault.body or b"", {"ETag": f'"{request.stored[1]}"'})

    def _refuse_early(self, fault: Fault) -> bool:
        self._refuse(fault)
        self.connection.shutdown(socket.SHUT_WR)
        # Closing a socket with unread bytes resets the connection, and the response could be lost.
        while self.connection.recv(_PIECE):
            pass
        return False

    def _read_body(self, size: int) -> tuple[int, str]:
        """Return size and SHA-256 of the body."""
        digest, received = hashlib.sha256(), 0
        while received < size and (piece := self.rfile.read(min(_PIECE, size - received))):
            digest.update(piece)
            received += len(piece)
        return received, digest.hexdigest()

    def _serve_get(self, request: Seen, fault: Fault) -> bool:
        if fault.status is not None:
            return self._refuse(fault)
        content = self.server.httpd.objects.get(request.path)
        if content is None:
            return self._refuse(Fault(status=404, code="NoSuchKey"))
        etag = {"ETag": f'"{etag_of(request.path)}"'}
        required = request.headers.get("if-match")
        if not fault.ignore_if_match and required not in (None, {**etag, **fault.headers}["ETag"]):
            return self._refuse(Fault(status=412, code="PreconditionFailed"))
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
        if span is None or fault.ignore_range:
            return self._respond(fault, 200, content, etag)
        start, stop = int(span[1]), min(len(content), int(span[2] or len(content)) + 1)
        if start >= len(content):
            return self._refuse(Fault(status=416, code="InvalidRange"))
        content_range = {"Content-Range": f"bytes {start}-{stop - 1}/{len(content)}"}
        return self._respond(fault, 200 if fault.range_as_200 else 206, content, etag | content_range, start, stop)

    def _refuse(self, fault: Fault) -> bool:
        body = f"<Error><Code>{fault.code}</Code></Error>".encode() if fault.body is None else fault.body
        return self._respond(fault, fault.status or 500, body, {})

    def _respond(
        self, fault: Fault, status: int, content: Content, headers: Mapping[str, str], start: int = 0, stop: int = -1
    ) -> bool:
        """Send a response with these bytes of the content and with the fault; return whether the connection stays."""
        if fault.reset:
            # With this option, closing the socket sends a reset.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
        self.server.httpd.stopping.wait(fault.delay)

        # The head, with the declared length as it should be.
        stop = len(content) if stop < 0 else stop
        phrase = {200: "OK", 206: "Partial Content"}.get(status, "Planned")
        lines = {"Content-Length": str(stop - start + fault.extra), **headers, **fault.headers}
        head = f"HTTP/1.1 {status} {phrase}\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self.wfile.write(head.encode() + b"\r\n")

        # The body, as far as the fault lets it go.
        ends = [start + end for end in (fault.cut_after, fault.stall_after) if end is not None]
        for at in range(start, min(ends, default=stop), _PIECE):
            piece = content[at : min(at + _PIECE, min(ends, default=stop))]
            self.server.httpd.note_sent(len(piece))
            self.wfile.write(piece)
        self.wfile.write(bytes(fault.extra))
        if fault.stall_after is not None:
            self._stall()
        return not ends and headers.get("Connection") != "close"

    def _stall(self) -> None:
        """Send nothing until the client closes the connection, or the server stops."""
        self.connection.settimeout(0.05)
        while not self.server.httpd.stopping.is_set():
            with contextlib.suppress(TimeoutError):
                if not self.connection.recv(1):
                    return


@contextlib.contextmanager
def httpd(objects: Mapping[str, Content], tls: ssl.SSLContext | None = None) -> Iterator[Httpd]:
    """Yield a server of these objects, which runs during the block."""
    server = Httpd(objects, tls)
    try:
        yield server
    finally:
        server.close()


def etag_of(path: str) -> str:
    """Return the ETag of the object at a path: it depends on the path alone, so that tests know it."""
    return hashlib.md5(path.encode()).hexdigest()
