"""GETs whose bodies are returned in order, and read ahead without a thread: the next ones arrive while one is used.

Data only moves while the caller asks for the next body, or calls `receive` in between. Until then, what S3 sends waits
in the kernel's buffers.
"""

from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

from datas3t.transport.bodies import MemorySink
from datas3t.transport.messages import Request, Response
from datas3t.transport.multi import TICK, Multi
from datas3t.transport.run import Run

T = TypeVar("T")


class Stream(Generic[T]):
    """Yields each job with the body of its request, in order. A body is valid until the next one is asked for.

    Each request must have a `stop`, and no sink. At most `parallelism` requests run at a time, and the bodies that are
    under way or waiting to be used have at most `ahead` bytes together, or are a single one.
    """

    def __init__(
        self, multi: Multi, jobs: Iterator[tuple[T, Request]], parallelism: int, ahead: int, retries: int
    ) -> None:
        self._jobs = jobs
        self._ahead = ahead
        self._max_started = 2 * parallelism  # so that places stay filled while one slow body holds up the others
        self._upcoming = next(jobs, None)
        self._started: deque[tuple[T, Request, bytearray]] = deque()
        self._done: set[Request] = set()
        self._started_size = 0
        self._buffer_in_use: bytearray | None = None
        self._free_buffers: list[bytearray] = []
        self._run = Run(multi, _Startable(self), parallelism, retries, self._mark_done)

    def __iter__(self) -> Iterator[tuple[T, memoryview]]:
        return self

    def __next__(self) -> tuple[T, memoryview]:
        # The caller has finished with the last body.
        if self._buffer_in_use is not None:
            self._free_buffers.append(self._buffer_in_use)
            self._buffer_in_use = None
        if not self._started and self._upcoming is None:
            raise StopIteration
        # Start the requests that the freed buffer makes room for, even if the next body has already arrived.
        self._run.step(0)
        while self._started[0][1] not in self._done:
            self._run.step(TICK)
        job, request, buffer = self._started.popleft()
        self._done.remove(request)
        size = _size(request)
        self._started_size -= size
        self._buffer_in_use = buffer
        return job, memoryview(buffer)[:size]

    def receive(self) -> None:
        """Receive what has arrived, without waiting. To be called now and then by callers who work on a body long."""
        self._run.step(0)

    def _start_next(self) -> Request | None:
        """Return the next request, or None if there is no room for its body, or no request."""
        if self._upcoming is None:
            return None
        job, request = self._upcoming
        size = _size(request)
        is_full = self._started_size + size > self._ahead or len(self._started) >= self._max_started
        if self._started_size and is_full:
            return None
        self._upcoming = next(self._jobs, None)
        buffer = self._take_buffer(size)
        request.sink = MemorySink(memoryview(buffer))
        self._started.append((job, request, buffer))
        self._started_size += size
        return request

    def _take_buffer(self, size: int) -> bytearray:
        """Return a buffer of at least `size` bytes, a used one if it fits: new memory costs as much as a copy."""
        while self._free_buffers:
            buffer = self._free_buffers.pop()
            if size <= len(buffer) <= 2 * size:
                return buffer
        return bytearray(size)

    def _mark_done(self, request: Request, _: Response) -> None:
        request.sink = None
        self._done.add(request)


class _Startable(Iterator[Request]):
    """The requests of a stream for which there is room. It can yield more after it has raised StopIteration."""

    def __init__(self, stream: "Stream[T]") -> None:
        self._stream = stream

    def __next__(self) -> Request:
        request = self._stream._start_next()
        if request is None:
            raise StopIteration
        return request


def _size(request: Request) -> int:
    assert request.stop is not None
    return request.stop - request.start
