"""Processes with the SDK that start at once and are killed: a process forks them that has imported everything before.

The test process must not fork them itself, because a server runs in it.
"""

import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

from datas3t.client import Client, FailedPrecondition, Reservation
from datas3t.client._files._writer import sending
from datas3t.client._files._writer.folder import WriterFolder
from datas3t.client._files._writer.keys import Keys
from datas3t.client._transfers.task import Tuning
from tests.support.interrupts import Injector, Interrupted

ROOT = Path(__file__).parents[3]
ARCHIVE_SIZE = 16 << 10


def content(number: int) -> bytes:
    """Return the content of datapoint `number`."""
    return b"%d " % number + random.Random(number).randbytes(random.Random(-number).randrange(3_000))


def path(number: int) -> str:
    """Return its path."""
    return f"folder/{number}.txt"


def columns(number: int) -> dict[str, Any]:
    """Return its columns."""
    return {"number": number} | ({"odd": str(number)} if number % 2 else {})


def append(output: TextIO, url: str, name: str, writer_id: str, start: int, stop: int, threads: int) -> None:
    """Append the numbers by several threads, and print the key of each."""
    lock = threading.Lock()
    numbers = iter(range(start, stop))

    def work() -> None:
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            key = out.append(content(number), path=path(number), **columns(number))
            with lock:
                print(key, number, file=output, flush=True)

    settings: dict[str, Any] = {"archive_size": ARCHIVE_SIZE, "table": "labels"}
    with Client(url) as client, client.writer(name, writer_id=writer_id, **settings) as out:
        print("open", file=output, flush=True)
        workers = [threading.Thread(target=work) for _ in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()


def fork(output: TextIO, url: str, name: str) -> None:
    """Append before and after a fork, and print what the child was told."""
    with Client(url) as client, client.writer(name, writer_id="mine") as out:
        out.append(b"one")
        child = os.fork()
        if not child:
            with suppress(BaseException):
                for call in (lambda: out.append(b"child"), out.flush):
                    try:
                        call()
                    except FailedPrecondition as error:
                        print(error, file=output, flush=True)
                out.close()
                out.__exit__(RuntimeError, RuntimeError(), None)
            os._exit(0)
        os.waitpid(child, 0)
        with suppress(FailedPrecondition):
            client.writer(name, writer_id="mine")
            print("the child has unlocked the writer", file=output, flush=True)
        out.append(b"two")


def never(_: int) -> Reservation:
    """Reserve nothing."""
    raise AssertionError


def upload_spool(client: Client, name: str, writer_id: str) -> None:
    """Do in this thread what the thread of a writer does with a spool that was left."""
    session = client._session
    folder = WriterFolder.opened(session.url, name, writer_id)
    (spool,) = folder.recovered()
    keys = Keys(folder.path, never)
    sending.upload(session, name, spool, keys, Tuning(), lambda: None)
    folder.close()


class _Killer(Injector):
    """Ends the process, as kill -9 does, where an Injector raises."""

    def _trace(self, frame: FrameType, event: str, argument: object) -> Callable[..., Any] | None:
        try:
            return super()._trace(frame, event, argument)
        except Interrupted:
            os.kill(os.getpid(), signal.SIGKILL)
            raise


def die_uploading(
    output: TextIO, url: str, name: str, writer_id: str, where: str, file: str, line: int, at: int
) -> None:
    """Upload a spool that was left, and die at one place."""
    with Client(url) as client, _Killer(Path(where), (file, line, at)):
        upload_spool(client, name, writer_id)


class Child:
    """A process that the nursery has started. `lines` are those that it has printed so far."""

    def __init__(self, output: Path) -> None:
        self.lines: list[str] = []
        self._output = output.open()
        self.pid = int(self._output.readline())

    def read(self, count: int) -> list[str]:
        """Return its lines, when there are so many, or when it has ended."""
        while len(self.lines) < count and (line := self._output.readline()):
            self.lines.append(line.rstrip("\n"))
        return self.lines

    def kill(self) -> None:
        """Kill it, and read what it has printed."""
        os.kill(self.pid, signal.SIGKILL)
        self.rest()

    def rest(self) -> list[str]:
        """Return all lines, when it has ended. The last one of a process that was not killed is "done"."""
        self.read(1 << 60)
        self._output.close()
        return self.lines


class Nursery:
    """Starts processes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0
        command = [sys.executable, "-m", "tests.client.files.nursery"]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, text=True)

    def start(self, function: Callable[..., None], *arguments: object) -> Child:
        """Run a function of this module in a new process."""
        self._count += 1
        fifo = self._folder / f"{self._count}.fifo"
        os.mkfifo(fifo)
        request = {
            "function": function.__name__,
            "arguments": arguments,
            "fifo": str(fifo),
            "environment": {**os.environ},
        }
        assert self._process.stdin
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return Child(fifo)

    def close(self) -> None:
        """End the nursery. Its processes have ended before."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()


def _serve() -> None:
    for line in sys.stdin:
        if not os.fork():
            request = json.loads(line)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.environ.update(request["environment"])
            with open(request["fifo"], "w") as output:
                print(os.getpid(), file=output, flush=True)
                globals()[request["function"]](output, *request["arguments"])
                print("done", file=output, flush=True)
            os._exit(0)


if __name__ == "__main__":
    import datas3t.client._files._writer.parquet
    import datas3t.client._tables.known
    import datas3t.client.handle  # noqa: F401 - before the forks, as the others

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    _serve()
