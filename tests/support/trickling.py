"""A server that accepts every request, and sends its response a byte at a time, without end."""

import contextlib
import socket
import threading
from collections.abc import Iterator

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\nContent-Length: 1000000\r\n\r\n"


class Trickling:
    """Counts the connections on which a response is on its way."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self.open = 0
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._accept)]

    def start(self) -> None:
        """Accept connections."""
        self._threads[0].start()

    def close(self) -> None:
        """End all connections."""
        self._stopping.set()
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                thread = threading.Thread(target=self._send, args=[connection])
                self._threads.append(thread)
                thread.start()

    def _send(self, connection: socket.socket) -> None:
        self._count(1)
        with contextlib.suppress(OSError), connection:
            connection.recv(65_536)
            connection.sendall(_HEAD)
            while not self._stopping.wait(0.05):
                connection.sendall(b" ")
        self._count(-1)

    def _count(self, change: int) -> None:
        with self._lock:
            self.open += change


@contextlib.contextmanager
def trickling_server() -> Iterator[Trickling]:
    """Yield such a server."""
    server = Trickling()
    server.start()
    try:
        yield server
    finally:
        server.close()
