"""Calls whose time is over, or whose client leaves, at the moment when their function ends."""

import asyncio
import threading
import time
from collections.abc import Callable

import pytest

from datas3t import v1
from datas3t.server.errors import Failure
from datas3t.server.front.calls.running import RunningCalls
from datas3t.server.settings import Timeouts

# On a very busy machine the time may be over before the function's thread starts.
pytestmark = pytest.mark.timing


def outcome_at_the_deadline(function: Callable[[], object]) -> object:
    """Run a call whose function and whose time end between two looks of the event loop; return its result."""
    running, ended = RunningCalls(Timeouts()), threading.Event()

    def work() -> object:
        try:
            return function()
        finally:
            ended.set()

    async def call() -> object:
        with running.track("datas3t.v1.BucketService/ListBuckets", 0.3) as tracked:
            task = asyncio.create_task(running.run(tracked, work))
            await asyncio.sleep(0)
            assert ended.wait(10)
            time.sleep(
                max(tracked.remaining() or 0, 0) + 0.05
            )  # in the meantime the loop sees neither the result nor the end of the time
            return await task

    try:
        return asyncio.run(call())
    finally:
        running.close()


def test_a_call_that_ends_with_its_time_has_its_result() -> None:
    assert outcome_at_the_deadline(lambda: "result") == "result"


def test_a_call_that_fails_when_its_time_ends_is_no_defect() -> None:
    def fail() -> None:
        raise Failure(v1.ERROR_REASON_CALL_TOO_LONG, "too long")

    with pytest.raises(Failure, match="too long"):
        outcome_at_the_deadline(fail)


def test_a_timeout_of_the_function_itself_is_a_defect() -> None:
    def fail() -> None:
        raise TimeoutError("of a library")

    with pytest.raises(TimeoutError, match="of a library"):
        outcome_at_the_deadline(fail)
