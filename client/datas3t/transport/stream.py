"""GETs whose bodies come in order, read ahead without a thread: the next ones arrive while one is used.

Nothing moves unless the caller lets it, by asking for the next body or by `pump` in between; meanwhile what S3 sends
waits in the kernel's buffers.
"""

from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

from datas3t.transport.messages import MemorySink, Request, Response
from datas3t.transport.multi import TICK, Multi
from datas3t.transport.run import Run

T = TypeVar("T")


class Stream(Generic[T]):
    """Answers each job with its body, in order. A body is overwritten after the next one is asked for.

    `parallelism` requests and `ahead` bytes are under way or waiting to be used, at most, or a single one.
    """

    def __init__(
        self, multi: Multi, jobs: Iterator[tuple[T, Request]], parallelism: int, ahead: int, retries: int
    ) -> None:
        self._jobs = jobs
        self._ahead = ahead
        self._most = 2 * parallelism
        self._upcoming = next(jobs, None)
        self._begun: deque[tuple[T, Request, bytearray]] = deque()
        self._done: set[Request] = set()
        self._size = 0  # of those begun
        self._used: bytearray | None = None
        self._free: list[bytearray] = []
        self._run = Run(multi, _Starting(self), parallelism, retries, self._note)

    def __iter__(self) -> Iterator[tuple[T, memoryview]]:
        return self

    def __next__(self) -> tuple[T, memoryview]:
        if self._used is not None:
            self._free.append(self._used)
            self._used = None
        if not self._begun and self._upcoming is None:
            raise StopIteration
        self._run.turn(0)
        while self._begun[0][1] not in self._done:
            self._run.turn(TICK)
        job, request, buffer = self._begun.popleft()
        self._done.remove(request)
        size = _size(request)
        self._size -= size
        self._used = buffer
        return job, memoryview(buffer)[:size]

    def pump(self) -> None:
        """Moves what can be moved without waiting."""
        self._run.turn(0)

    def _start(self) -> Request | None:
        """The next request, if there is room for it."""
        if self._upcoming is None:
            return None
        job, request = self._upcoming
        size = _size(request)
        if self._size and (self._size + size > self._ahead or len(self._begun) >= self._most):
            return None
        self._upcoming = next(self._jobs, None)
        buffer = self._buffer(size)
        request.sink = MemorySink(memoryview(buffer))
        self._begun.append((job, request, buffer))
        self._size += size
        return request

    def _buffer(self, size: int) -> bytearray:
        """Used again where it fits: fresh memory costs as much as copying."""
        while self._free:
            found = self._free.pop()
            if size <= len(found) <= 2 * size:
                return found
        return bytearray(size)

    def _note(self, request: Request, _: Response) -> None:
        request.sink = None
        self._done.add(request)


class _Starting(Iterator[Request]):
    """The requests of a stream, as far as there is room; it may have more after it had none."""

    def __init__(self, stream: "Stream[T]") -> None:
        self._stream = stream

    def __next__(self) -> Request:
        request = self._stream._start()
        if request is None:
            raise StopIteration
        return request


def _size(request: Request) -> int:
    assert request.stop is not None
    return request.stop - request.start
