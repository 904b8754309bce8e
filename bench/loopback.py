"""A fast server on loopback to measure clients against: nginx where it is installed, else a small one of our own.

Uploads always go to our own, which throws them away inside the kernel: nginx would copy them in pieces of 4 KiB.
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
    """`url` is the object's, of `size` random bytes, which `path` has too. PUTs to `sink` are thrown away; what is PUT
    to `hashing` is answered with its SHA-256 as the ETag. `kind` says what answers GETs."""

    url: str
    etag: str
    path: Path
    size: int
    sink: str
    hashing: str
    kind: str


@contextlib.contextmanager
def loopback(size: int) -> Iterator[Loopback]:
    """Both servers, as long as the block. Call it before anything starts threads."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)  # nginx's worker is somebody else
        path = folder / "object"
        with path.open("wb") as file:
            for _ in range(size // _PIECE):
                file.write(os.urandom(_PIECE))
        own = stack.enter_context(_own(path))
        url = stack.enter_context(nginx.serving(_SERVER, root=folder)) if nginx.found() else own
        etag, kind = _about(url)
        yield Loopback(f"{url}/object", etag, path, size, f"{own}/sink", f"{own}/hashing", kind)


@contextlib.contextmanager
def _own(path: Path) -> Iterator[str]:
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    port = listener.getsockname()[1]
    process = multiprocessing.get_context("fork").Process(target=_serve, args=[listener, path], daemon=True)
    process.start()
    listener.close()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.join()


def _about(url: str) -> tuple[str, str]:
    """The ETag of the object, and the server's name."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"))
    connection.request("GET", "/object", headers={"Range": "bytes=0-0"})
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return (answer.headers["ETag"] or "").strip('"'), answer.headers["Server"] or "?"


def _serve(listener: socket.socket, path: Path) -> None:
    with path.open("rb") as file:
        while True:
            peer, _ = listener.accept()
            threading.Thread(target=_talk, args=[peer, file.fileno(), path.stat().st_size], daemon=True).start()


def _talk(peer: socket.socket, fd: int, size: int) -> None:
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
    place = _RANGE.search(head)
    start, stop = (int(place[1]), int(place[2]) + 1) if place else (0, size)
    peer.sendall(
        b"HTTP/1.1 206 Partial Content\r\nServer: our own\r\nContent-Length: %d\r\nConnection: keep-alive\r\n"
        b'ETag: "the-one"\r\nContent-Range: bytes %d-%d/%d\r\n\r\n' % (stop - start, start, stop - 1, size)
    )
    while start < stop:
        start += os.sendfile(peer.fileno(), fd, start, stop - start)


def _discard(peer: socket.socket, received: bytes, head: bytes, *, hashing: bool) -> bytes:
    length = _LENGTH.search(head)
    rest = int(length[1]) if length else 0
    body, after = received[:rest], received[rest:]
    digest, rest = hashlib.sha256(body), rest - len(body)
    buffer = bytearray(_PIECE)
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
