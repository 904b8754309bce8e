"""A fast server on loopback to measure clients against: nginx if it is installed, otherwise a small server below.

Uploads always go to the small server, which discards them inside the kernel: nginx would copy them in pieces of 4 KiB.
"""

import contextlib
import hashlib
import http.client
import multiprocessing
import os
import re
import socket
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench import nginx

_PIECE = 1 << 20
_HEAD = re.compile(rb"(GET|PUT) (\S+) HTTP/1\.1\r\n")
_RANGE = re.compile(rb"\r\nrange: bytes=(\d+)-(\d+)", re.IGNORECASE)
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)", re.IGNORECASE)

_SERVER = """
server {{ listen 127.0.0.1:{port}; root {root}; }}
"""


@dataclass(frozen=True)
class Loopback:
    """The URLs of the running servers.

    Attributes:
        url: An object of random bytes.
        etag: Its ETag.
        path: A file with the same bytes.
        size: Its size, in bytes.
        sink: PUTs to this URL are discarded.
        hashing: PUTs to this URL are discarded; the response's ETag is the SHA-256 of the body.
        kind: The name of the server that responds to GETs.
    """

    url: str
    etag: str
    path: Path
    size: int
    sink: str
    hashing: str
    kind: str


@contextlib.contextmanager
def loopback(size: int) -> Iterator[Loopback]:
    """Run the servers during the block. One is forked, so call this before anything starts threads."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)  # nginx reads as another user
        path = folder / "object"
        with path.open("wb") as file:
            for _ in range(size // _PIECE):
                file.write(os.urandom(_PIECE))
        small = stack.enter_context(_small_server(path))
        url = stack.enter_context(nginx.serving(_SERVER, root=folder)) if nginx.is_installed() else small
        etag, kind = _etag_and_server(url)
        yield Loopback(f"{url}/object", etag, path, size, f"{small}/sink", f"{small}/hashing", kind)


@contextlib.contextmanager
def _small_server(path: Path) -> Iterator[str]:
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    port = listener.getsockname()[1]
    process = multiprocessing.get_context("fork").Process(target=_accept, args=[listener, path], daemon=True)
    process.start()
    listener.close()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.join()


def _etag_and_server(url: str) -> tuple[str, str]:
    """Return the ETag of the object and the server's name, from its response to a GET."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"))
    connection.request("GET", "/object", headers={"Range": "bytes=0-0"})
    response = connection.getresponse()
    response.read()
    connection.close()
    return (response.headers["ETag"] or "").strip('"'), response.headers["Server"] or "?"


def _accept(listener: socket.socket, path: Path) -> None:
    with path.open("rb") as file:
        while True:
            peer, _ = listener.accept()
            threading.Thread(target=_respond, args=[peer, file.fileno(), path.stat().st_size], daemon=True).start()


def _respond(peer: socket.socket, fd: int, size: int) -> None:
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    received = b""
    with peer, contextlib.suppress(OSError):
        while True:
            while b"\r\n\r\n" not in received:
                if not (piece := peer.recv(65536)):
                    return
                received += piece
            head, _, received = received.partition(b"\r\n\r\n")
            request = _HEAD.match(head)
            assert request
            if request[1] == b"PUT":
                received = _discard(peer, received, head, hashing=request[2].startswith(b"/hashing"))
            else:
                _send(peer, fd, size, head)


def _send(peer: socket.socket, fd: int, size: int, head: bytes) -> None:
    """Respond to a GET with the requested range."""
    place = _RANGE.search(head)
    start, stop = (int(place[1]), int(place[2]) + 1) if place else (0, size)
    peer.sendall(
        b"HTTP/1.1 206 Partial Content\r\nServer: bench/loopback\r\nContent-Length: %d\r\nConnection: keep-alive\r\n"
        b'ETag: "object"\r\nContent-Range: bytes %d-%d/%d\r\n\r\n' % (stop - start, start, stop - 1, size)
    )
    while start < stop:
        start += os.sendfile(peer.fileno(), fd, start, stop - start)


def _discard(peer: socket.socket, received: bytes, head: bytes, *, hashing: bool) -> bytes:
    """Respond to a PUT, of whose body `received` has arrived. Return the bytes that follow the body."""
    length = _LENGTH.search(head)
    rest = int(length[1]) if length else 0
    body, after = received[:rest], received[rest:]
    digest, rest = hashlib.sha256(body), rest - len(body)
    buffer = bytearray(_PIECE)
    # With MSG_TRUNC the kernel discards the bytes instead of copying them.
    flags = 0 if hashing or not hasattr(socket, "MSG_TRUNC") else socket.MSG_TRUNC
    while rest:
        got = peer.recv_into(buffer, min(rest, _PIECE), flags)
        if not got:
            raise ConnectionResetError
        if hashing:
            digest.update(memoryview(buffer)[:got])
        rest -= got
    peer.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 0\r\nETag: "%s"\r\n\r\n' % digest.hexdigest().encode())
    return after
