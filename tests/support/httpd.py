"""An object store's HTTP in a few lines, on loopback, that errs as it is told to: short bodies, other ranges, refusals.

    with httpd({"/a": b"..."}) as server:
        server.plan(Fault(status=503), Fault(cut_after=100))     # one for each request, in order; then none
        ...                                                      # server.url + "/a"; then server.requests

Objects may be `Pattern`s, which have a size and no memory. What is PUT is hashed, and kept nowhere.
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

_PIECE = 1 << 20


class Content(Protocol):
    def __len__(self) -> int: ...
    def __getitem__(self, place: slice, /) -> bytes: ...


class Pattern:
    """Bytes that tell their position: each 8 of them are its number, big-endian. `size` is a multiple of 8."""

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
    """What is wrong with one answer. All fields empty: nothing."""

    status: int | None = None  # with S3's XML for `code`, or `body`
    code: str = "Planned"
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)  # beside, or instead of, those that belong there
    cut_after: int | None = None  # the body breaks off
    extra: int = 0  # so many bytes too many
    stall_after: int | None = None  # the body stops, and the connection stays
    reset: bool = False  # no answer at all
    delay: float = 0.0  # seconds before the answer
    whole: bool = False  # the range is ignored
    unconditional: bool = False  # If-Match is ignored
    before_body: bool = False  # a PUT is answered before its body is read


@dataclass(frozen=True)
class Seen:
    """A request; `stored` is the size and SHA-256 of its body."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    stored: tuple[int, str] = (0, hashlib.sha256().hexdigest())


class Httpd:
    """Answers on `url`. `rule`, where it is set, gives the fault of each request for which none is planned."""

    def __init__(self, objects: Mapping[str, Content], tls: ssl.SSLContext | None) -> None:
        self.tls = tls
        self.objects = objects
        self.rule: Callable[[Seen], Fault] = lambda _: Fault()
        self.requests: list[Seen] = []
        self.body_bytes_sent = 0
        self.connections = 0
        self.most_at_once = 0
        self._at_once = 0
        self._planned: deque[Fault] = deque()
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self.over = threading.Event()
        self._server = _Server(("127.0.0.1", 0), self)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self._server.server_address[1]}"

    @property
    def open_connections(self) -> int:
        return len(self._open)

    def plan(self, *faults: Fault) -> None:
        with self._lock:
            self._planned.extend(faults)

    def seen(self, path: str) -> list[Seen]:
        return [request for request in self.requests if request.path == path]

    def take(self, request: Seen) -> Fault:
        with self._lock:
            self.requests.append(request)
            return self._planned.popleft() if self._planned else self.rule(request)

    @contextlib.contextmanager
    def connection(self, peer: socket.socket) -> Iterator[None]:
        with self._lock:
            self.connections += 1
            self._open.add(peer)
        try:
            yield
        finally:
            with self._lock:
                self._open.discard(peer)

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        with self._lock:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            yield
        finally:
            with self._lock:
                self._at_once -= 1

    def count(self, size: int) -> None:
        with self._lock:
            self.body_bytes_sent += size

    def drop_connections(self) -> None:
        """Closes those that are open, as a server does with idle ones."""
        with self._lock:
            for peer in self._open:
                with contextlib.suppress(OSError):
                    peer.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.over.set()
        self._server.shutdown()
        self._thread.join()
        self.drop_connections()
        self._server.server_close()


class _Server(socketserver.ThreadingTCPServer):
    request_queue_size = 512

    def __init__(self, address: tuple[str, int], httpd: Httpd) -> None:
        self.httpd = httpd
        super().__init__(address, _Handler)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """In the connection's own thread: a handshake that is not finished holds up nobody."""
        if self.httpd.tls is None:
            return super().finish_request(request, client_address)
        with contextlib.suppress(OSError), self.httpd.tls.wrap_socket(request, server_side=True) as encrypted:
            super().finish_request(encrypted, client_address)
        return None


class _Handler(socketserver.StreamRequestHandler):
    server: _Server
    disable_nagle_algorithm = True

    def handle(self) -> None:
        with self.server.httpd.connection(self.connection), contextlib.suppress(OSError):
            while line := self.rfile.readline():
                with self.server.httpd.at_work():
                    if not self._exchange(line):
                        return

    def _exchange(self, line: bytes) -> bool:
        """One request and its answer; whether the connection stays."""
        method, target, _ = line.decode().split()
        headers = dict[str, str]()
        while (header := self.rfile.readline().decode("latin-1").strip()) != "":
            name, _, value = header.partition(":")
            headers[name.lower()] = value.strip()
        path, _, query = target.partition("?")
        early = Seen(method, path, query, headers)
        httpd = self.server.httpd
        if method != "PUT":
            return self._get(early, httpd.take(early))
        fault = httpd.rule(early)
        if fault.before_body:
            return self._refuse_early(httpd.take(early))
        request = Seen(method, path, query, headers, self._body(int(headers["content-length"])))
        fault = httpd.take(request)
        if fault.status is not None:
            return self._refuse(fault)
        return self._answer(fault, 200, fault.body or b"", {"ETag": f'"{request.stored[1]}"'})

    def _refuse_early(self, fault: Fault) -> bool:
        self._refuse(fault)
        self.connection.shutdown(socket.SHUT_WR)
        while self.connection.recv(_PIECE):  # closed with bytes unread, the answer might be lost
            pass
        return False

    def _body(self, size: int) -> tuple[int, str]:
        digest, got = hashlib.sha256(), 0
        while got < size and (piece := self.rfile.read(min(_PIECE, size - got))):
            digest.update(piece)
            got += len(piece)
        return got, digest.hexdigest()

    def _get(self, request: Seen, fault: Fault) -> bool:
        if fault.status is not None:
            return self._refuse(fault)
        content = self.server.httpd.objects.get(request.path)
        if content is None:
            return self._refuse(Fault(status=404, code="NoSuchKey"))
        etag = {"ETag": f'"{hashlib.md5(request.path.encode()).hexdigest()}"'}
        wanted = request.headers.get("if-match")
        if not fault.unconditional and wanted not in (None, {**etag, **fault.headers}["ETag"]):
            return self._refuse(Fault(status=412, code="PreconditionFailed"))
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
        if span is None or fault.whole:
            return self._answer(fault, 200, content, etag)
        start, stop = int(span[1]), min(len(content), int(span[2] or len(content)) + 1)
        if start >= len(content):
            return self._refuse(Fault(status=416, code="InvalidRange"))
        place = {"Content-Range": f"bytes {start}-{stop - 1}/{len(content)}"}
        return self._answer(fault, 206, content, etag | place, start, stop)

    def _refuse(self, fault: Fault) -> bool:
        body = f"<Error><Code>{fault.code}</Code></Error>".encode() if fault.body is None else fault.body
        return self._answer(fault, fault.status or 500, body, {})

    def _answer(
        self, fault: Fault, status: int, content: Content, headers: Mapping[str, str], start: int = 0, stop: int = -1
    ) -> bool:
        if fault.reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
        self.server.httpd.over.wait(fault.delay)
        stop = len(content) if stop < 0 else stop
        phrase = {200: "OK", 206: "Partial Content"}.get(status, "Planned")
        lines = {"Content-Length": str(stop - start + fault.extra), **headers, **fault.headers}
        head = f"HTTP/1.1 {status} {phrase}\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self.wfile.write(head.encode() + b"\r\n")
        ends = [start + end for end in (fault.cut_after, fault.stall_after) if end is not None]
        for at in range(start, min(ends, default=stop), _PIECE):
            piece = content[at : min(at + _PIECE, min(ends, default=stop))]
            self.server.httpd.count(len(piece))
            self.wfile.write(piece)
        self.wfile.write(bytes(fault.extra))
        if fault.stall_after is not None:
            self._stay()
        return not ends and headers.get("Connection") != "close"

    def _stay(self) -> None:
        """Silent until the client goes, or the server ends."""
        self.connection.settimeout(0.05)
        while not self.server.httpd.over.is_set():
            with contextlib.suppress(TimeoutError):
                if not self.connection.recv(1):
                    return


@contextlib.contextmanager
def httpd(objects: Mapping[str, Content], tls: ssl.SSLContext | None = None) -> Iterator[Httpd]:
    """A server, as long as the block."""
    server = Httpd(objects, tls)
    try:
        yield server
    finally:
        server.close()


def etag_of(path: str) -> str:
    """The ETag of the object at a path."""
    return hashlib.md5(path.encode()).hexdigest()
