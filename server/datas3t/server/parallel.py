"""Many small calls to S3, several at a time, with a bounded number of threads and of results in memory."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from datas3t.server.call import carried

MAX_THREADS = 16  # calls at a time: enough to hide S3's latency, few enough for a server that runs many of these
MAX_PENDING = 20  # items started and not yet yielded: a few more than threads, so that a slow call does not idle them

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_concurrently(function: Callable[[Item], Result], items: Iterable[Item]) -> Generator[Result, None, None]:
    """Yield the function's results in the order of the items, calling it for several items at a time.

    No more than `MAX_PENDING` items are taken before a result is consumed. The first error is raised, and ends the
    iteration.
    """
    pending: deque[Future[Result]] = deque()
    threads = ThreadPoolExecutor(MAX_THREADS)
    in_call = carried(function)
    try:
        for item in items:
            pending.append(threads.submit(in_call, item))
            if len(pending) == MAX_PENDING:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        threads.shutdown(cancel_futures=True)
