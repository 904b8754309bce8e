"""A worker: the program that `parent` starts. It serves on the parent's sockets until it is told to stop.

It takes orders from the parent, and no signals: SIGTERM and SIGINT are blocked from its start on.
"""

import ctypes
import os
import pickle
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import IO, NoReturn

from datas3t.server.app.process import START_SECONDS, allow_many_connections, end_process, exit_after, reason
from datas3t.server.app.server import Server
from datas3t.server.app.signals import EXIT_SECONDS
from datas3t.server.app.summed import SummedMetrics
from datas3t.server.settings import Settings
from datas3t.server.telemetry import logs
from datas3t.text import escaped

_PR_SET_PDEATHSIG = 1


class _Shared(socket.socket):
    """A listening socket that several processes share. The parent has set how many connections may wait there."""

    def listen(self, _backlog: int = 0, /) -> None:
        """Do nothing: asyncio would make the queue as short as the number of connections that it accepts at once."""


class Worker:
    """A server that is one of several workers, under the orders of a parent."""

    def __init__(
        self, control: socket.socket, settings: Settings, number: int, descriptors: list[int], folder: Path
    ) -> None:
        self._control = control
        self._sending = threading.Lock()
        self._settings = settings
        self._metrics = SummedMetrics(folder, number, settings.workers)
        self._server = Server(settings, listening=[_Shared(fileno=each) for each in descriptors], metrics=self._metrics)
        self._start_ended = threading.Event()
        self._reaps = threading.Event()

    def obey(self, orders: IO[bytes]) -> NoReturn:
        """Start the server, and obey the parent until its end."""
        threading.Thread(target=self._start, name="start", daemon=True).start()
        for line in orders:
            order = line.decode().strip()
            if order == "reap":
                self._server.reap()
                self._reaps.set()
                self._server.resources.deletions.set()
            elif order == "wake":
                self._server.resources.deletions.set()
            elif order == "stop":
                threading.Thread(target=self._stop, name="stop", daemon=True).start()
        os._exit(1)  # the parent has ended, and cannot tell anybody that calls were cut off

    def _start(self) -> None:
        try:
            self._server.start()
        except Exception as error:
            self._fail(error)
        self._start_ended.set()
        self._metrics.serve()
        self._tell("serving")
        self._pass_on_deletions()

    def _fail(self, error: Exception) -> NoReturn:
        try:
            self._tell(f"failed {escaped(reason(error))}")
        except Exception:
            sys.excepthook(*sys.exc_info())  # a defect
        end_process(False)

    def _pass_on_deletions(self) -> None:
        """Tell the parent whenever this worker has queued objects for deletion, until it deletes them itself."""
        deletions = self._server.resources.deletions
        while True:
            deletions.wait()
            if self._reaps.is_set():
                return
            deletions.clear()
            self._tell("deletions")

    def _stop(self) -> None:
        timer = exit_after(START_SECONDS, end_process)
        self._start_ended.wait()
        timer.cancel()
        exit_after(self._settings.drain.total_seconds() + EXIT_SECONDS, end_process)
        end_process(self._server.stop())

    def _tell(self, line: str) -> None:
        try:
            with self._sending:
                self._control.sendall(f"{line}\n".encode())
        except OSError:  # the parent has ended
            os._exit(1)


def _end_with(parent: int) -> None:
    """Have the system kill this process when its parent ends, on Linux. Elsewhere the end of its orders has to do."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def main() -> NoReturn:
    """Run a worker, with the descriptor of its orders and the process id of its parent as arguments."""
    descriptor, parent = map(int, sys.argv[1:])
    _end_with(parent)
    control = socket.socket(fileno=descriptor)
    os.set_inheritable(descriptor, False)
    orders = control.makefile("rb")
    settings, number, descriptors, folder = pickle.load(orders)  # noqa: S301 - from the parent
    for each in descriptors:
        os.set_inheritable(each, False)
    logs.configure(settings.log_level, settings.log_format)
    allow_many_connections()
    Worker(control, settings, number, descriptors, folder).obey(orders)


if __name__ == "__main__":
    main()
