"""The data plane: every byte between client and S3, over libcurl's multi interface, driven by the calling thread.

A call has a multi of its own, with warm connections, out of a pool; so many threads may share an Engine, no thread is
left behind, and Ctrl-C ends a transfer at once. A forked child starts with an empty pool: sockets that two processes
share answer each other's requests.
"""

import ctypes
import os
import resource
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import NamedTuple, Self, TypeVar

import pycurl

from datas3t.transport.handle import Options
from datas3t.transport.messages import FileRange, FileSink, MemorySink, Range, Request, Response, TransferError
from datas3t.transport.multi import Multi, Take
from datas3t.transport.run import OnBytes, OnDone, Run
from datas3t.transport.stream import Stream
from datas3t.transport.sweep import SMALL, plain

__all__ = ["Engine", "FileRange", "FileSink", "MemorySink", "Range", "Request", "Response", "TransferError"]

T = TypeVar("T")

_IDLE_MULTIS = 16
_MOST_CONNECTIONS = 512
_engines: "weakref.WeakSet[Engine]" = weakref.WeakSet()


class Heard(NamedTuple):
    """What a call of the engine learnt about the endpoint."""

    first_byte: float | None
    crowded: bool


class Engine:
    """Sends requests to S3. Safe for many threads; usable after fork; `close` ends its idle connections.

    Timeouts in seconds: to connect, and without a byte in either direction, which for `each` is `patience`. All calls
    together have about `connections`, half of the descriptors that the process may have unless given: the more calls
    run at a time, the fewer each has.
    """

    def __init__(
        self,
        *,
        connect_timeout: float = 10,
        stall_timeout: float = 30,
        patience: float = 10,
        connections: int | None = None,
    ) -> None:
        self._options = Options(connect_timeout, stall_timeout, min(patience, stall_timeout))
        self._connections = connections or _affordable()
        # No lock: a generator that is collected puts its multi back at any moment, also within these methods.
        self._idle: list[Multi] = []
        self._running: dict[Multi, int] = {}  # the connections that each may have
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
        with self._multi(parallelism) as (multi, width):
            run = Run(multi, iter(requests), width, retries, on_done, on_bytes)
            run.go()
            return run.crowded

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
            numbers = {ranges[number].request(self._options.patience): number for number in left}

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
        with self._multi(parallelism) as (multi, width):
            yield Stream(multi, jobs, width, ahead, retries)

    def _sweep(self, ranges: Sequence[Range], take: Take, parallelism: int) -> tuple[list[int], float | None]:
        with self._multi(min(parallelism, len(ranges))) as (multi, width):
            return multi.sweep(ranges, take, width)

    def close(self) -> None:
        """Ends the idle connections. A call under way keeps its own until it is done."""
        self._close_idle(lambda: True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _multi(self, wanted: int) -> Iterator[tuple[Multi, int]]:
        """A multi for a call, and how many requests at a time it is good for."""
        try:
            multi = self._take()
            try:
                yield multi, self._width(multi, wanted)
            finally:
                self._running.pop(multi, None)
                self._put_back(multi)
        except pycurl.error as error:  # as where there is no descriptor left
            raise TransferError(f"a transfer to S3 cannot go on: {error.args[-1]}", retryable=True) from None

    def _take(self) -> Multi:
        try:
            return self._idle.pop()
        except IndexError:
            return Multi(self._options)

    def _width(self, multi: Multi, wanted: int) -> int:
        """As many as are wanted, but no more than it has already, or half of what the others leave: some may follow."""
        left = self._connections - self._reserved()
        width = max(1, min(wanted, max(left // 2, min(multi.connections, left))))
        self._running[multi] = max(width, multi.connections)
        self._close_idle(lambda: self._spare() < 0)
        return width

    def _close_idle(self, needed: Callable[[], bool]) -> None:
        """Those that were used longest ago first."""
        while self._idle and needed():
            with suppress(IndexError):  # another thread was faster
                self._idle.pop(0).close()

    def _reserved(self) -> int:
        return sum(list(self._running.values()))

    def _spare(self) -> int:
        """The connections that neither another call nor an idle multi has."""
        return self._connections - self._reserved() - sum(each.connections for each in list(self._idle))

    def _put_back(self, multi: Multi) -> None:
        if multi.process != os.getpid():  # the child of a call
            _never_close(multi)
            return
        multi.abandon()
        if len(self._idle) < _IDLE_MULTIS and multi.connections <= self._spare():
            self._idle.append(multi)
        else:
            multi.close()

    def _forget(self) -> None:
        for multi in self._idle:
            _never_close(multi)
        self._idle = []
        self._running = {}


def _affordable() -> int:
    """The connections that leave the program descriptors of its own."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return _MOST_CONNECTIONS if limit == resource.RLIM_INFINITY else max(1, min(_MOST_CONNECTIONS, limit // 2))


def _never_close(multi: Multi) -> None:
    """Keeps it from being freed, also at exit: to close what the parent uses would end its TLS sessions."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(multi))


def _start_anew_in_the_child() -> None:
    for engine in list(_engines):
        engine._forget()


os.register_at_fork(after_in_child=_start_anew_in_the_child)
