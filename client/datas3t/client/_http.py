"""The data plane: every byte between client and S3, over libcurl's multi interface, driven by the calling thread.

A call has a multi of its own, with warm connections, out of a pool; so many threads may share an Engine, no thread is
left behind, and Ctrl-C ends a transfer at once. A forked child starts with an empty pool: sockets that two processes
share answer each other's requests.
"""

import ctypes
import os
import threading
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import NamedTuple, Self, TypeVar

from datas3t.client._http_messages import FileRange, FileSink, MemorySink, Range, Request, Response, TransferError
from datas3t.client._http_multi import Multi, Take
from datas3t.client._http_run import OnBytes, OnDone, Run
from datas3t.client._http_stream import Stream
from datas3t.client._http_sweep import SMALL, plain
from datas3t.client._http_transfer import Options

__all__ = ["Engine", "FileRange", "FileSink", "MemorySink", "Range", "Request", "Response", "TransferError"]

T = TypeVar("T")

_IDLE_MULTIS = 16
_engines: "weakref.WeakSet[Engine]" = weakref.WeakSet()


class Heard(NamedTuple):
    """What a call of the engine learnt about the endpoint."""

    first_byte: float | None
    crowded: bool


class Engine:
    """Sends requests to S3. Safe for many threads; usable after fork; `close` ends its idle connections.

    Timeouts in seconds: to connect, and without a byte in either direction. `connections` are kept open by each call
    that runs at a time, at most.
    """

    def __init__(self, *, connect_timeout: float = 10, stall_timeout: float = 30, connections: int = 256) -> None:
        self._options = Options(connect_timeout, stall_timeout)
        self._connections = connections
        self._lock = threading.Lock()
        self._idle: list[Multi] = []
        _engines.add(self)

    def run(
        self,
        requests: Iterable[Request],
        *,
        parallelism: int,
        retries: int = 3,
        on_done: OnDone | None = None,
        on_bytes: OnBytes | None = None,
    ) -> bool:
        """Does all requests, `parallelism` at a time at most, taken from the iterable as places come free.

        Each is tried up to `retries` times again, with growing pauses; where S3 asks for less (503, 429), fewer are
        under way for a while: answers whether it did. `on_done` and `on_bytes` (payload bytes since the last call, none
        twice) run here. Raises TransferError for the first request that fails for good, which ends all others, and what
        callbacks raise.
        """
        multi = self._take()
        try:
            run = Run(multi, iter(requests), parallelism, retries, on_done, on_bytes)
            run.go()
            return run.crowded
        finally:
            self._put_back(multi)

    def each(self, ranges: Sequence[Range], take: Take, *, parallelism: int, retries: int = 3) -> Heard:
        """Gives `take` the number and the body of each range, as they come: the quickest way for many small ones.

        Errors and tries are as with `run`.
        """
        if all(place.stop - place.start <= SMALL for place in ranges):
            left, first_byte = self._sweep(ranges, take, parallelism)
        else:
            small = [number for number, place in enumerate(ranges) if place.stop - place.start <= SMALL]
            swept = [ranges[number] for number in small]
            missed, first_byte = self._sweep(swept, lambda at, body: take(small[at], body), parallelism)
            left = sorted({*range(len(ranges))}.difference(small) | {small[at] for at in missed})
        crowded = False
        if left:
            numbers = {ranges[number].request(): number for number in left}

            def pass_on(request: Request, response: Response) -> None:
                take(numbers[request], response.body)

            crowded = self.run(numbers, parallelism=parallelism, retries=retries, on_done=pass_on)
        return Heard(first_byte, crowded)

    def fetch(self, requests: Sequence[Request], *, parallelism: int, retries: int = 3) -> list[bytes]:
        """The bodies of GETs without a sink, in their order. Errors and tries are as with `run`."""
        ranges = [place for request in requests if (place := plain(request))] if retries else []
        if len(ranges) == len(requests):
            bodies = [b""] * len(ranges)
            self.each(ranges, bodies.__setitem__, parallelism=parallelism, retries=retries)
            return bodies
        found: dict[Request, bytes] = {}

        def keep(request: Request, response: Response) -> None:
            found[request] = response.body

        self.run(requests, parallelism=parallelism, retries=retries, on_done=keep)
        return [found[request] for request in requests]

    @contextmanager
    def stream(
        self, jobs: Iterator[tuple[T, Request]], *, parallelism: int, ahead: int, retries: int = 3
    ) -> Iterator[Stream[T]]:
        """Does GETs in order, reading ahead; see `Stream`, whose iteration raises as `run`."""
        multi = self._take()
        try:
            yield Stream(multi, jobs, parallelism, ahead, retries)
        finally:
            self._put_back(multi)

    def _sweep(self, ranges: Sequence[Range], take: Take, parallelism: int) -> tuple[list[int], float | None]:
        multi = self._take()
        try:
            return multi.sweep(ranges, take, parallelism)
        finally:
            self._put_back(multi)

    def close(self) -> None:
        """Ends the idle connections. A call under way keeps its own until it is done."""
        with self._lock:
            idle, self._idle = self._idle, []
        for multi in idle:
            multi.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _take(self) -> Multi:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return Multi(self._options, self._connections)

    def _put_back(self, multi: Multi) -> None:
        if multi.process != os.getpid():  # the child of a call
            _never_close(multi)
            return
        multi.abandon()
        with self._lock:
            if len(self._idle) < _IDLE_MULTIS:
                self._idle.append(multi)
                return
        multi.close()

    def _forget(self) -> None:
        for multi in self._idle:
            _never_close(multi)
        self._idle = []
        self._lock = threading.Lock()


def _never_close(multi: Multi) -> None:
    """Keeps it from being freed, also at exit: to close what the parent uses would end its TLS sessions."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(multi))


def _start_anew_in_the_child() -> None:
    for engine in list(_engines):
        engine._forget()


os.register_at_fork(after_in_child=_start_anew_in_the_child)
