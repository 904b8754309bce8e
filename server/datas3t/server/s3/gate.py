"""How many calls may wait for S3 at a time: per bucket, so that one that is slow leaves room for the others."""

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from datas3t import v1
from datas3t.server.call import Call, current
from datas3t.server.errors import Failure
from datas3t.server.s3.clients import Location

PER_BUCKET = 16  # calls whose requests are on their way to one bucket
WAITING = 16  # more calls for that bucket, until one of those is done; others are refused
IN_TOTAL = 128  # calls that are on their way or wait, for all buckets
_WAIT_SECONDS = 10.0

_Bucket = tuple[str, str]


class Gate:
    """Lets calls pass to S3. Work that no client waits for passes freely: its threads are few, and its own."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._passed: Counter[_Bucket] = Counter()
        self._waiting: Counter[_Bucket] = Counter()
        self._waiters: Counter[tuple[Call, _Bucket]] = Counter()  # threads of the calls that wait
        self._requests: Counter[tuple[Call, _Bucket]] = Counter()

    @contextlib.contextmanager
    def passed(self, location: Location) -> Iterator[None]:
        """Count the current call as one that waits for this bucket. All its threads together count once.

        Raises:
            Failure: S3_UNAVAILABLE if too many calls wait already, or the cause if the call is ended while it waits.
        """
        call, bucket = current(), (location.endpoint, location.bucket)
        call.raise_if_ended()
        if call.background:
            yield
            return
        self._enter(call, bucket, location)
        try:
            yield
        finally:
            self._leave(call, bucket)

    def _enter(self, call: Call, bucket: _Bucket, location: Location) -> None:
        mine = (call, bucket)
        with self._changed:
            if self._requests[mine]:
                self._requests[mine] += 1
                return
            if not self._waiters[mine]:
                if self._passed.total() + self._waiting.total() >= IN_TOTAL or self._waiting[bucket] >= WAITING:
                    raise _busy(location)
                self._waiting[bucket] += 1
                call.step_aside()
            self._waiters[mine] += 1
            try:
                self._wait(call, bucket, location)
                if not self._requests[mine]:
                    self._passed[bucket] += 1
                self._requests[mine] += 1
            finally:
                self._end_wait(call, bucket)

    def _end_wait(self, call: Call, bucket: _Bucket) -> None:
        mine = (call, bucket)
        _decrease(self._waiters, mine)
        if self._waiters[mine]:
            return
        if not self._requests[mine]:
            call.step_back()
        _decrease(self._waiting, bucket)

    def _wait(self, call: Call, bucket: _Bucket, location: Location) -> None:
        """Wait until the call may pass, or another thread of it has passed meanwhile."""
        until = time.monotonic() + _WAIT_SECONDS
        with call.interruptible(self._wake):
            while self._passed[bucket] >= PER_BUCKET and not self._requests[call, bucket]:
                if not self._changed.wait(until - time.monotonic()):
                    raise _busy(location)
                call.raise_if_ended()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _leave(self, call: Call, bucket: _Bucket) -> None:
        with self._changed:
            _decrease(self._requests, (call, bucket))
            if self._requests[call, bucket]:
                return
            _decrease(self._passed, bucket)
            self._changed.notify_all()
            if not self._waiters[call, bucket]:
                call.step_back()


GATE = Gate()


def _decrease(counter: "Counter[Any]", key: object) -> None:
    """Count one less, and forget what is at zero: buckets and calls come and go."""
    counter[key] -= 1
    if counter[key] <= 0:
        del counter[key]


def _busy(location: Location) -> Failure:
    message = (
        f"too many calls wait for S3 at {location.endpoint}, which is slow or does not respond; nothing is lost, try"
        " again shortly"
    )
    return Failure(v1.ERROR_REASON_S3_UNAVAILABLE, message, endpoint=location.endpoint)
