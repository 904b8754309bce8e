"""A worker, as the parent sees it: a process, and a pair of sockets over which they tell each other lines."""

import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from datas3t.server.app.signals import SIGNALS
from datas3t.server.settings import Settings

_MODULE = "datas3t.server.app.worker"
_EXIT_SECONDS = 1.0  # for a process to end that has closed its socket, or that was killed


class Child:
    """A worker that was started. The thread that starts it must live as long as the worker, which ends with it.

    Args:
        number: Its number, from 1 on. A worker that takes the place of another one has the same number.
        settings: The settings of the server, with the ports that were chosen.
        listening: The sockets that listen on the one port.
        folder: The private folder of the server.

    Attributes:
        serving_since: When it began to serve, by the monotonic clock, or None.
        failure: Why it could not start, if it has told.
        reaps: Whether it is the one that deletes objects in the background.
    """

    def __init__(self, number: int, settings: Settings, listening: Sequence[socket.socket], folder: Path) -> None:
        self.number = number
        self.serving_since: float | None = None
        self.failure: str | None = None
        self.reaps = False
        self._received = b""
        self._temporary = folder / str(number)
        self._temporary.mkdir(exist_ok=True)
        self._control, its_control = socket.socketpair()
        descriptors = [each.fileno() for each in listening]
        # Signals of the terminal or of a service manager reach all processes. They are for the parent.
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", _MODULE, str(its_control.fileno()), str(os.getpid())],
                pass_fds=[its_control.fileno(), *descriptors],
                stdin=subprocess.DEVNULL,
                env={**os.environ, "TMPDIR": str(self._temporary)},
            )
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            its_control.close()
        with suppress(OSError):  # it has ended already
            self._control.sendall(pickle.dumps((settings, number, descriptors, folder)))
        self._control.setblocking(False)

    @property
    def pid(self) -> int:
        """The id of its process."""
        return self._process.pid

    def fileno(self) -> int:
        """Return the descriptor that can be read when it has told something, or has ended."""
        return self._control.fileno()

    def tell(self, order: str) -> None:
        """Send an order, unless it has ended, or hangs and has not taken its earlier orders."""
        with suppress(OSError):
            self._control.send(f"{order}\n".encode())

    def read(self) -> list[str] | None:
        """Return the lines that it has sent since the last time, or None if it has ended."""
        try:
            data = self._control.recv(65_536)
        except BlockingIOError:
            return []
        except OSError:
            return None
        *lines, self._received = (self._received + data).split(b"\n")
        return [line.decode() for line in lines] if data else None

    def served(self, seconds: float) -> bool:
        """Return whether it has served for at least so long."""
        return self.serving_since is not None and time.monotonic() - self.serving_since >= seconds

    def end(self, *, kill: bool) -> int:
        """Wait for its end, or kill it, and return its exit code, which is negative if a signal ended it."""
        if kill:
            self._process.kill()
        try:
            code = self._process.wait(_EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            code = -signal.SIGKILL if kill else self.end(kill=True)
        self._control.close()
        shutil.rmtree(self._temporary, ignore_errors=True)
        return code
