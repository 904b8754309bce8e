"""Many small calls to S3, some of them at a time; what waits and what is held is bounded, however many there are."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

AT_ONCE = 16
HELD = 20  # asked for and not yet taken: a slow one does not leave the others idle

Item = TypeVar("Item")
Result = TypeVar("Result")


def at_once(do: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """The results in the items' order. Whoever takes them slowly holds up the work; an error ends it."""
    held: deque[Future[Result]] = deque()
    threads = ThreadPoolExecutor(AT_ONCE)
    try:
        for item in items:
            held.append(threads.submit(do, item))
            if len(held) == HELD:
                yield held.popleft().result()
        while held:
            yield held.popleft().result()
    finally:
        threads.shutdown(cancel_futures=True)
