"""A libcurl multi: requests that run concurrently, and the connections that they leave open for the next ones."""

import os
import time
from collections.abc import Callable, Sequence
from typing import TypeAlias

import pycurl

from datas3t.transport.get import Get
from datas3t.transport.handle import Options, Transfer
from datas3t.transport.messages import Range, Request
from datas3t.transport.plain import Delete, Head
from datas3t.transport.put import Put
from datas3t.transport.sweep import OnBody, Sweep

TICK = 0.25  # seconds that libcurl waits at most: Python handles a signal that another thread received only after it
_MIN_CONNECTIONS = 8  # kept open at least, even after calls with fewer requests at a time: there may be several hosts
_POLL_INTERVAL = 0.002  # seconds between checks of connections that select() cannot wait for
_TRANSFER_TYPES: dict[str, type[Transfer]] = {"GET": Get, "PUT": Put, "HEAD": Head, "DELETE": Delete}

Ended: TypeAlias = tuple[Transfer, int, str]
"""A transfer whose try has ended, with libcurl's error (0 for none) and message."""


class Multi:
    """A libcurl multi with its handles. Belongs to one thread at a time, and to the process that created it.

    `connections` is the maximum number of connections; `running` are its transfers, by handle. `settled` is False
    while a call works on it, and stays False if an exception ends that work halfway: the multi may then not be used
    again, because its state is not known.
    """

    def __init__(self, options: Options) -> None:
        self.process = os.getpid()
        self.settled = True
        self.connections = 0
        self.running: dict[pycurl.Curl, Transfer] = {}
        self._options = options
        self._raised: list[BaseException] = []  # by the callbacks of transfers
        self._curl = pycurl.CurlMulti()
        self._allow_connections(_MIN_CONNECTIONS)
        self._idle: dict[str, list[Transfer]] = {method: [] for method in _TRANSFER_TYPES}
        self._sweep = Sweep(self._curl, options)
        self._must_poll = False

    def start(self, request: Request, on_progress: Callable[[int], None] | None) -> None:
        """Start a request; `on_progress` is as in Transfer.begin."""
        idle = self._idle[request.method]
        transfer = idle.pop() if idle else _TRANSFER_TYPES[request.method](self._options, self._raised)
        transfer.begin(request, on_progress)
        self._add(transfer)

    def retry(self, transfer: Transfer) -> None:
        """Start another try."""
        transfer.prepare()
        self._add(transfer)

    def step(self, timeout: float) -> list[Ended]:
        """Send and receive what can be, and return the transfers that ended.

        If none has, waits until there is more to do, or for `timeout` seconds. Each transfer that is returned must then
        be retried or released. Raises what a callback has raised.
        """
        if os.getpid() != self.process:
            raise RuntimeError("a transfer cannot continue in a forked process; start a new one there")
        self._curl.perform()
        if self._raised:
            raise self._raised[0]
        ended = self._take_ended()
        if not ended and timeout > 0:
            self._wait(len(self.running), timeout)
        return ended

    def release(self, transfer: Transfer) -> None:
        """Make the handle of a transfer that is done available to others."""
        method = transfer.request.method
        transfer.release()
        self._idle[method].append(transfer)

    def sweep(self, ranges: Sequence[Range], on_body: OnBody, parallelism: int) -> tuple[list[int], float | None]:
        """Do small GETs quickly, as far as they give no trouble; see Sweep.run."""
        self.settled = False
        self._allow_connections(min(parallelism, len(ranges)))
        outcome = self._sweep.run(ranges, on_body, parallelism, self._wait)
        self.settled = True
        return outcome

    def abandon(self) -> None:
        """Give up what is still running, as after an error. Connections with a request under way are closed.

        The multi must be settled.
        """
        for transfer in self.running.values():
            self._curl.remove_handle(transfer.curl)
            self.release(transfer)
        self.running.clear()
        self._must_poll = False  # the next call may get smaller file descriptors

    def close(self) -> None:
        """Close all connections, and free the handles. The multi must be settled."""
        self.abandon()
        for transfers in self._idle.values():
            for transfer in transfers:
                transfer.curl.close()
        self._sweep.close()
        self._curl.close()

    def discard(self) -> None:
        """Close all connections after an exception has left the multi in an unknown state."""
        self._curl.close()

    def _add(self, transfer: Transfer) -> None:
        self._curl.add_handle(transfer.curl)
        self.running[transfer.curl] = transfer
        self._allow_connections(len(self.running))

    def _allow_connections(self, count: int) -> None:
        """Raise the limit of connections that libcurl keeps open to `count`, if it is lower."""
        if count > self.connections:
            self.connections = count
            self._curl.setopt(pycurl.M_MAXCONNECTS, count)

    def _take_ended(self) -> list[Ended]:
        running, remove = self.running, self._curl.remove_handle
        _, good, bad = self._curl.info_read(len(running) + 1)
        ended = [(running.pop(curl), 0, "") for curl in good]
        ended += [(running.pop(curl), error, message) for curl, error, message in bad]
        for transfer, _, _ in ended:
            remove(transfer.curl)
        return ended

    def _wait(self, running: int, timeout: float = TICK) -> None:
        """Wait until one of the running requests can continue, for at most `timeout` seconds."""
        if not running:
            time.sleep(timeout)
            return
        due = self._curl.timeout()  # milliseconds until libcurl must act by itself; negative for never
        if due >= 0:
            timeout = min(timeout, due / 1000)
        if timeout <= 0:
            return
        if self._must_poll:
            time.sleep(min(timeout, _POLL_INTERVAL))
            return
        ready = self._curl.select(timeout)
        if ready <= 0:
            # select() leaves out descriptors of 1,024 and more. Connections that it leaves out must be polled.
            reads, writes, _ = self._curl.fdset()
            self._must_poll = len({*reads, *writes}) < running
