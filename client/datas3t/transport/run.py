"""One call of the engine: which request starts next, how many run at a time, and when a request is retried."""

import heapq
import itertools
import time
from collections.abc import Callable, Iterator
from typing import TypeAlias

from datas3t.transport.handle import Transfer
from datas3t.transport.messages import Request, Response, TransferError
from datas3t.transport.multi import TICK, Multi
from datas3t.transport.policy import Meaning, Remedy, choose_remedy, pause_before

_CONGESTION_WINDOW = 0.1  # seconds; 503s closer together than this count as one congestion event

OnDone: TypeAlias = Callable[[Request, Response], None]
"""Receives each request that has succeeded, and its response."""
OnBytes: TypeAlias = Callable[[int], None]
"""Receives the number of payload bytes that moved since the last call."""
TimeLeft: TypeAlias = Callable[[], float | None]
"""Returns how many seconds a call may still take, None for any number, or raises what ends the call."""


class Run:
    """Sends requests on a multi until there are no more, or one has failed for good.

    `crowded` is True after S3 has asked for fewer requests.
    """

    def __init__(
        self,
        multi: Multi,
        requests: Iterator[Request],
        parallelism: int,
        retries: int,
        on_done: OnDone | None = None,
        on_bytes: OnBytes | None = None,
        time_left: TimeLeft | None = None,
    ) -> None:
        self.crowded = False
        self._multi = multi
        self._requests = requests
        self._pace = Pace(max(1, parallelism))
        self._retries = retries
        self._on_done = on_done
        self._on_bytes = on_bytes
        self._time_left = time_left
        self._on_progress = self._count_bytes if on_bytes else None
        self._new_bytes = 0
        self._waiting: list[tuple[float, int, Transfer]] = []  # a heap, by the time of the next try
        self._order = itertools.count()

    def finish(self) -> None:
        """Send all requests. Raises TransferError, and what a callback, a sink or a body raises."""
        while self.step(TICK):
            pass

    def step(self, timeout: float) -> bool:
        """Start what can start, and send and receive what can be; wait up to `timeout` seconds if that is nothing.

        Returns whether any request is left. Raises what `finish` raises.
        """
        multi = self._multi
        if self._time_left and (left := self._time_left()) is not None:
            if left <= 0:
                raise TransferError("the time for the transfer is over", meaning=Meaning.TEMPORARY)
            timeout = min(timeout, left)
        multi.settled = False
        if is_left := self._start_some():
            for transfer, error, message in multi.step(min(timeout, self._time_to_next_try())):
                outcome = transfer.outcome(error, message)
                if isinstance(outcome, TransferError):
                    self._handle_failure(transfer, outcome)
                    continue
                request = transfer.request
                multi.release(transfer)
                self._pace.speed_up()
                if self._on_done:
                    self._on_done(request, outcome)
            self._report_bytes()
        multi.settled = True
        return is_left

    def _start_some(self) -> bool:
        """Start as many requests as may run now, and return whether any is running or waiting."""
        running, waiting, pace = self._multi.running, self._waiting, self._pace
        while len(running) < pace.allowed:
            if waiting and waiting[0][0] <= time.monotonic():
                self._multi.retry(heapq.heappop(waiting)[2])
                continue
            # With that many failures S3 is probably down. New requests would only fail as well.
            if len(waiting) >= pace.limit or (request := next(self._requests, None)) is None:
                break
            self._multi.start(request, self._on_progress)
        return bool(running or waiting)

    def _time_to_next_try(self) -> float:
        if not self._waiting or len(self._multi.running) >= self._pace.allowed:
            return TICK
        return min(TICK, max(0.0, self._waiting[0][0] - time.monotonic()))

    def _handle_failure(self, transfer: Transfer, error: TransferError) -> None:
        """Schedule another try, or raise the error if there is no remedy left."""
        if error.crowded:
            self.crowded = True
            self._pace.slow_down()
        request, taken = transfer.request, transfer.taken
        remedy = choose_remedy(error.meaning, taken, self._retries, renewable=request.renewable)
        if remedy is Remedy.GIVE_UP:
            self._multi.settled = True
            raise error
        if remedy is Remedy.RENEW_URL:
            request.renew()
        due = time.monotonic() + pause_before(remedy, taken, error.retry_after)
        taken[remedy] += 1
        heapq.heappush(self._waiting, (due, next(self._order), transfer))

    def _count_bytes(self, size: int) -> None:
        self._new_bytes += size

    def _report_bytes(self) -> None:
        if self._on_bytes and self._new_bytes:
            size, self._new_bytes = self._new_bytes, 0
            self._on_bytes(size)


class Pace:
    """How many requests may run at a time: `limit`, and fewer for a while after S3 has asked for fewer.

    `allowed` is halved by each congestion event, and grows by one after as many successes as there are requests
    running (additive increase, multiplicative decrease, as in TCP).
    """

    __slots__ = ("_exact", "_slowed_at", "allowed", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = self.allowed = limit
        self._exact = float(limit)
        self._slowed_at = 0.0

    def slow_down(self) -> None:
        """Allow half as many, unless that was done just now."""
        now = time.monotonic()
        if now - self._slowed_at >= _CONGESTION_WINDOW:
            self._slowed_at = now
            self._set(self._exact / 2)

    def speed_up(self) -> None:
        """Count a success."""
        if self.allowed < self.limit:
            self._set(self._exact + 1 / self._exact)

    def _set(self, exact: float) -> None:
        self._exact = min(max(exact, 1.0), float(self.limit))
        self.allowed = int(self._exact)
