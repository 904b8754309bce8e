"""One call of the engine: which request is next, how many at a time, what is tried again and when."""

import heapq
import itertools
import random
import time
from collections.abc import Callable, Iterator

from datas3t.transport.handle import Transfer
from datas3t.transport.messages import Request, Response, TransferError
from datas3t.transport.multi import TICK, Multi

_FIRST_PAUSE, _GROWTH, _LONGEST_PAUSE = 0.2, 3, 5.0  # seconds between the tries of a request, at most
_DOUBTS = 2  # tries that an answer about another object is worth: it may be some proxy's slip
_BREATH = 0.1  # seconds: refusals within it are one and the same crowd

OnDone = Callable[[Request, Response], None]
OnBytes = Callable[[int], None]


class Run:
    """Does requests on a multi until there are no more, or one has failed for good."""

    def __init__(
        self,
        multi: Multi,
        requests: Iterator[Request],
        parallelism: int,
        retries: int,
        on_done: OnDone | None = None,
        on_bytes: OnBytes | None = None,
    ) -> None:
        self._multi = multi
        self._requests = requests
        self._pace = _Pace(max(1, parallelism))
        self._retries = retries
        self._on_done = on_done
        self._on_bytes = on_bytes
        self._count = self._add if on_bytes else None
        self._new_bytes = 0
        self.crowded = False
        self._waiting: list[tuple[float, int, Transfer]] = []  # a heap: when to try again
        self._order = itertools.count()

    def go(self) -> None:
        """Raises TransferError, and whatever a callback, a sink or a body raises."""
        while self.turn(TICK):
            pass

    def turn(self, patience: float) -> bool:
        """Begins what may begin, and moves what can be moved; without any, waits for so many seconds. Whether anything
        is left. Raises as `go`."""
        multi = self._multi
        if left := self._fill():
            for transfer, code, message in multi.step(min(patience, self._patience())):
                outcome = transfer.outcome(code, message)
                if isinstance(outcome, TransferError):
                    self._failed(transfer, outcome)
                    continue
                request = transfer.request
                multi.free(transfer)
                self._pace.grow()
                if self._on_done:
                    self._on_done(request, outcome)
            self._report()
        return left

    def _fill(self) -> bool:
        """Starts as many as may run; whether there is any left to wait for."""
        running, waiting, pace = self._multi.running, self._waiting, self._pace
        while len(running) < pace.allowed:
            if waiting and waiting[0][0] <= time.monotonic():
                self._multi.again(heapq.heappop(waiting)[2])
                continue
            # Where nothing gets through, the next ones would not either.
            if len(waiting) >= pace.most or (request := next(self._requests, None)) is None:
                break
            self._multi.start(request, self._count)
        return bool(running or waiting)

    def _patience(self) -> float:
        if not self._waiting or len(self._multi.running) >= self._pace.allowed:
            return TICK
        return min(TICK, max(0.0, self._waiting[0][0] - time.monotonic()))

    def _failed(self, transfer: Transfer, error: TransferError) -> None:
        if error.crowded:
            self.crowded = True
            self._pace.slow_down()
        if error.expired and transfer.request.renewable and transfer.renewals < max(1, self._retries):
            transfer.renewals += 1
            transfer.request.renew()
            self._try_again(transfer, 0.0)
        elif error.changed and transfer.doubts < min(_DOUBTS, self._retries):
            transfer.doubts += 1
            self._try_again(transfer, random.uniform(0, _FIRST_PAUSE))  # noqa: S311
        elif error.retryable and transfer.failures < self._retries:
            longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * _GROWTH**transfer.failures)
            transfer.failures += 1
            self._try_again(transfer, max(random.uniform(0, longest), error.retry_after))  # noqa: S311
        else:
            raise error

    def _try_again(self, transfer: Transfer, pause: float) -> None:
        heapq.heappush(self._waiting, (time.monotonic() + pause, next(self._order), transfer))

    def _add(self, size: int) -> None:
        self._new_bytes += size

    def _report(self) -> None:
        if self._on_bytes and self._new_bytes:
            new, self._new_bytes = self._new_bytes, 0
            self._on_bytes(new)


class _Pace:
    """How many requests may run: `most`, and less for a while where S3 says that it is too much."""

    __slots__ = ("_exact", "_slowed", "allowed", "most")

    def __init__(self, most: int) -> None:
        self.most = self.allowed = most
        self._exact = float(most)
        self._slowed = 0.0

    def slow_down(self) -> None:
        """Half as many."""
        now = time.monotonic()
        if now - self._slowed >= _BREATH:
            self._slowed = now
            self._set(self._exact / 2)

    def grow(self) -> None:
        """One more after as many successes as run at a time."""
        if self.allowed < self.most:
            self._set(self._exact + 1 / self._exact)

    def _set(self, exact: float) -> None:
        self._exact = min(max(exact, 1.0), float(self.most))
        self.allowed = int(self._exact)
