"""The data plane: every byte between client and S3, over libcurl's multi interface, driven by the calling thread.

A call has a multi of its own, with warm connections, out of a pool; so many threads may share an Engine, no thread is
left behind, and Ctrl-C ends a transfer at once. A forked child starts with an empty pool: sockets that two processes
share answer each other's requests.
"""

import heapq
import itertools
import os
import random
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Self

import pycurl

from datas3t.client._http_messages import FileRange, FileSink, Request, Response, TransferError
from datas3t.client._http_transfer import Options, Transfer

__all__ = ["Engine", "FileRange", "FileSink", "Request", "Response", "TransferError"]

OnDone = Callable[[Request, Response], None]

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0  # seconds, between the tries of a request
_TICK = 0.25  # seconds; a signal is noticed within it
_CROWDED = 0.002  # seconds, where libcurl cannot wait by itself: descriptors above its limit
_IDLE_MULTIS = 16
_engines: "weakref.WeakSet[Engine]" = weakref.WeakSet()
_inherited: list[object] = []  # of the parent: never used again, and never closed, which would end its TLS sessions


class Engine:
    """Sends requests to S3. Safe for many threads; usable after fork; `close` ends its idle connections."""

    def __init__(self, *, connect_timeout: float = 10, stall_timeout: float = 30, connections: int = 256) -> None:
        self._options = Options(connect_timeout, stall_timeout)
        self._connections = connections
        self._lock = threading.Lock()
        self._idle: list[_Multi] = []
        _engines.add(self)

    def run(
        self,
        requests: Iterable[Request],
        *,
        parallelism: int,
        retries: int = 3,
        on_done: OnDone | None = None,
        on_bytes: Callable[[int], None] | None = None,
    ) -> None:
        """Does all requests, `parallelism` at a time at most, taken from the iterable as places come free.

        Each is tried up to `retries` times again, with growing pauses; where S3 asks for less (503, 429), fewer are
        under way for a while. `on_done` and `on_bytes` (payload bytes since the last call, none twice) run here.
        Raises TransferError for the first request that fails for good, which ends all others, and what callbacks raise.
        """
        multi = self._take()
        try:
            _Run(multi, iter(requests), parallelism, retries, on_done, on_bytes).go()
        finally:
            self._put_back(multi)

    def fetch(self, requests: Sequence[Request], *, parallelism: int, retries: int = 3) -> list[bytes]:
        """The bodies of GETs without a sink, in their order."""
        bodies: dict[int, bytes] = {}

        def keep(request: Request, response: Response) -> None:
            bodies[id(request)] = response.body

        self.run(requests, parallelism=parallelism, retries=retries, on_done=keep)
        return [bodies[id(request)] for request in requests]

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

    def _take(self) -> "_Multi":
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return _Multi(self._options, self._connections)

    def _put_back(self, multi: "_Multi") -> None:
        if multi.process != os.getpid():  # the child of a call: it is the parent's
            _inherited.append(multi)
            return
        multi.abandon()
        with self._lock:
            if len(self._idle) < _IDLE_MULTIS:
                self._idle.append(multi)
                return
        multi.close()

    def _forget(self) -> None:
        _inherited.extend(self._idle)
        self._idle = []
        self._lock = threading.Lock()


class _Multi:
    """A libcurl multi and its transfers' handles, which keep their connections between calls."""

    def __init__(self, options: Options, connections: int) -> None:
        self.process = os.getpid()
        self._options = options
        self._curl = pycurl.CurlMulti()
        self._curl.setopt(pycurl.M_MAXCONNECTS, connections)
        self._curl.setopt(pycurl.M_PIPELINING, 0)
        self._free: list[Transfer] = []
        self.running: dict[pycurl.Curl, Transfer] = {}

    def start(self, request: Request, tries: "_Tries") -> Transfer:
        transfer = self._free.pop() if self._free else Transfer(self._options)
        transfer.begin(request, tries.progress, tries.received)
        self._curl.add_handle(transfer.curl)
        self.running[transfer.curl] = transfer
        return transfer

    def step(self, timeout: float) -> Iterator[tuple[Transfer, int, str]]:
        """Moves what can be moved, waiting for `timeout` seconds at most; answers what ended, with code and message."""
        while self._curl.perform()[0] == pycurl.E_CALL_MULTI_PERFORM:
            continue
        ended = list(self._ended())
        if ended or not self.running:
            if not ended and timeout > 0:
                time.sleep(timeout)
            yield from ended
            return
        if self._curl.select(timeout) < 0:
            time.sleep(min(timeout, _CROWDED))
        self._curl.perform()
        yield from self._ended()

    def abandon(self) -> None:
        """Takes out what is still under way, as after an error; these connections are closed."""
        for transfer in list(self.running.values()):
            self._release(transfer)

    def close(self) -> None:
        self.abandon()
        for transfer in self._free:
            transfer.curl.close()
        self._curl.close()

    def _ended(self) -> Iterator[tuple[Transfer, int, str]]:
        while True:
            queued, good, bad = self._curl.info_read(64)
            for curl in good:
                transfer = self.running[curl]
                self._release(transfer)
                yield transfer, 0, ""
            for curl, code, message in bad:
                transfer = self.running[curl]
                self._release(transfer)
                yield transfer, code, message
            if not queued:
                return

    def _release(self, transfer: Transfer) -> None:
        self._curl.remove_handle(transfer.curl)
        del self.running[transfer.curl]
        self._free.append(transfer)


class _Tries:
    """What is remembered of a request between its tries."""

    __slots__ = ("failures", "progress", "received", "renewals", "request")

    def __init__(self, request: Request, progress: "_Progress") -> None:
        self.request = request
        self.failures = 0
        self.renewals = 0
        self.received = 0  # bytes of a GET that are in their sink already
        self.progress = progress.of_one() if progress.wanted else None


class _Run:
    """One call of `Engine.run`."""

    def __init__(
        self,
        multi: _Multi,
        requests: Iterator[Request],
        parallelism: int,
        retries: int,
        on_done: OnDone | None,
        on_bytes: Callable[[int], None] | None,
    ) -> None:
        self._multi = multi
        self._requests = requests
        self._most = max(1, parallelism)
        self._allowed = float(self._most)
        self._retries = retries
        self._on_done = on_done
        self._progress = _Progress(on_bytes)
        self._tries: dict[Transfer, _Tries] = {}
        self._waiting: list[tuple[float, int, _Tries]] = []  # a heap: when to try again
        self._order = itertools.count()
        self._exhausted = False

    def go(self) -> None:
        while True:
            self._fill()
            if not self._tries and not self._waiting:
                return
            for transfer, code, message in self._multi.step(self._patience()):
                self._ended(transfer, self._tries.pop(transfer), code, message)
            self._progress.report()

    def _fill(self) -> None:
        allowed = int(self._allowed)
        while len(self._tries) < allowed:
            tries = self._next()
            if tries is None:
                return
            self._tries[self._multi.start(tries.request, tries)] = tries

    def _next(self) -> _Tries | None:
        if self._waiting and self._waiting[0][0] <= time.monotonic():
            return heapq.heappop(self._waiting)[2]
        if self._exhausted:
            return None
        request = next(self._requests, None)
        if request is None:
            self._exhausted = True
            return None
        return _Tries(request, self._progress)

    def _patience(self) -> float:
        if not self._waiting or len(self._tries) >= int(self._allowed):
            return _TICK
        return min(_TICK, max(0.0, self._waiting[0][0] - time.monotonic()))

    def _ended(self, transfer: Transfer, tries: _Tries, code: int, message: str) -> None:
        outcome = transfer.outcome(code, message)
        if isinstance(outcome, Response):
            if self._allowed < self._most:
                self._allowed = min(self._most, self._allowed + 1 / self._allowed)
            if self._on_done:
                self._on_done(tries.request, outcome)
            return
        tries.received = transfer.received
        if outcome.crowded:
            self._allowed = max(1.0, self._allowed / 2)
        if outcome.expired and tries.renewals < max(1, self._retries) and tries.request.renewable:
            tries.renewals += 1
            tries.request.renew()
            heapq.heappush(self._waiting, (time.monotonic(), next(self._order), tries))
            return
        if not outcome.retryable or tries.failures >= self._retries:
            raise outcome
        pause = random.uniform(0, min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**tries.failures))  # noqa: S311
        tries.failures += 1
        due = time.monotonic() + max(pause, outcome.retry_after)
        heapq.heappush(self._waiting, (due, next(self._order), tries))


class _Progress:
    """Payload bytes: what each request has moved at most, so that nothing counts twice when it is tried again."""

    def __init__(self, on_bytes: Callable[[int], None] | None) -> None:
        self._on_bytes = on_bytes
        self._new = 0
        self.wanted = on_bytes is not None

    def of_one(self) -> Callable[[int], None]:
        """For one request: to be told how far it is."""
        furthest = 0

        def reached(position: int) -> None:
            nonlocal furthest
            if position > furthest:
                self._new += position - furthest
                furthest = position

        return reached

    def report(self) -> None:
        if self._on_bytes and self._new:
            new, self._new = self._new, 0
            self._on_bytes(new)


def _start_anew_in_the_child() -> None:
    for engine in list(_engines):
        engine._forget()


os.register_at_fork(after_in_child=_start_anew_in_the_child)
