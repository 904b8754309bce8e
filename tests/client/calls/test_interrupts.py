"""What a signal handler raises during a call reaches the caller, and leaves no lock that the next call waits for."""

import itertools
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest

from datas3t.client import Client
from tests.support.interrupts import Alarms, Interrupted

_ENTER, _EXIT = threading.Condition.__enter__.__code__, threading.Condition.__exit__.__code__


@contextmanager
def interrupted_at_lock(number: int) -> Iterator[None]:
    """Raise Interrupted in this thread at a place where Python runs signal handlers while a Condition is locked.

    These are the end of its `__enter__` and the start of its `__exit__`. `number` is the place, counted from 0.
    """
    counter = itertools.count()

    def trace(frame: FrameType, event: str, _: object) -> Callable[..., Any] | None:
        if frame.f_code is _EXIT and event == "call" and next(counter) == number:
            raise Interrupted
        if frame.f_code is not _ENTER:
            return None
        if event == "return" and next(counter) == number:
            raise Interrupted
        return trace

    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(None)


def responds(client: Client) -> bool:
    """Return whether another call ends."""
    call = threading.Thread(target=client.list_buckets, daemon=True)
    call.start()
    call.join(20)
    return not call.is_alive()


@pytest.mark.parametrize("number", range(8))
def test_no_exception_leaves_a_lock_of_grpc(client: Client, number: int) -> None:
    with Client(client.url) as other:
        other.list_buckets()
        try:
            with interrupted_at_lock(number):
                other.list_buckets()
        except Interrupted:
            pass
        assert responds(other)


def test_a_signal_during_a_call_reaches_the_caller(client: Client) -> None:
    alarms, raised = Alarms(seed=3, seconds=0.001), 0
    with Client(client.url) as other:
        other.list_buckets()
        for _ in range(100):
            try:
                with alarms:
                    other.list_buckets()
                assert not alarms.fired
            except Interrupted:
                raised += 1
        assert responds(other)
    assert raised > 10
