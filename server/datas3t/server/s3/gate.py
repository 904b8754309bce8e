"""Limits on concurrent calls to S3, per bucket and in total, so that a slow bucket does not block the others."""

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from datas3t import v1
from datas3t.server.call import Call, current
from datas3t.server.errors import Failure
from datas3t.server.s3.locations import Location

PER_BUCKET = 16  # calls that have requests to one bucket in progress
WAITING = 16  # calls for one bucket that wait until one of those ends; further calls are refused
IN_TOTAL = 128  # calls that have requests in progress or wait, for all buckets
_WAIT_SECONDS = 10.0

_Bucket = tuple[str, str]


class Gate:
    """Admits calls to S3. Background work is not limited, because it has a few threads of its own."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._admitted: Counter[_Bucket] = Counter()
        self._waiting: Counter[_Bucket] = Counter()
        self._waiters: Counter[tuple[Call, _Bucket]] = Counter()  # waiting threads, by call
        self._requests: Counter[tuple[Call, _Bucket]] = Counter()

    @contextlib.contextmanager
    def admitted(self, location: Location) -> Iterator[None]:
        """Admit the current call to a bucket for the duration of the block. All threads of a call count as one.

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
        own_key = (call, bucket)
        with self._changed:
            if self._requests[own_key]:
                self._requests[own_key] += 1
                return
            if not self._waiters[own_key]:
                if self._admitted.total() + self._waiting.total() >= IN_TOTAL or self._waiting[bucket] >= WAITING:
                    raise _busy(location)
                self._waiting[bucket] += 1
                call.release_slot()
            self._waiters[own_key] += 1
            try:
                self._wait(call, bucket, location)
                if not self._requests[own_key]:
                    self._admitted[bucket] += 1
                self._requests[own_key] += 1
            finally:
                self._end_wait(call, bucket)

    def _end_wait(self, call: Call, bucket: _Bucket) -> None:
        own_key = (call, bucket)
        _decrease(self._waiters, own_key)
        if self._waiters[own_key]:
            return
        if not self._requests[own_key]:
            call.take_slot()
        _decrease(self._waiting, bucket)

    def _wait(self, call: Call, bucket: _Bucket, location: Location) -> None:
        """Wait until the call may be admitted, or another of its threads was admitted in the meantime."""
        until = time.monotonic() + _WAIT_SECONDS
        with call.interruptible(self._wake):
            while self._admitted[bucket] >= PER_BUCKET and not self._requests[call, bucket]:
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
            _decrease(self._admitted, bucket)
            self._changed.notify_all()
            if not self._waiters[call, bucket]:
                call.take_slot()


GATE = Gate()


def _decrease(counter: "Counter[Any]", key: object) -> None:
    """Subtract one, and remove the key at zero, so that old buckets and calls do not pile up."""
    counter[key] -= 1
    if counter[key] <= 0:
        del counter[key]


def _busy(location: Location) -> Failure:
    message = (
        f"too many calls wait for S3 at {location.endpoint}, which is slow or does not respond; nothing is lost, try"
        " again shortly"
    )
    return Failure(v1.ERROR_REASON_S3_UNAVAILABLE, message, endpoint=location.endpoint)
