"""The engine: sends requests to S3 over libcurl, many at a time, in the thread of the caller.

Each call has its own libcurl multi, with open connections, from a pool. So threads can share an engine, no
thread is started, and Ctrl-C ends a transfer at once.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import NamedTuple, Self, TypeVar

from datas3t.transport.handle import Options
from datas3t.transport.messages import SMALL, Range, Request, Response
from datas3t.transport.pool import Pool
from datas3t.transport.run import OnBytes, OnDone, Run, TimeLeft
from datas3t.transport.stream import Stream
from datas3t.transport.sweep import OnBody, as_range

T = TypeVar("T")


class Observed(NamedTuple):
    """What a call has shown about the endpoint.

    Attributes:
        first_byte: Seconds from a request to the first byte of its response; None if that was not measured.
        crowded: Whether S3 asked for fewer requests.
    """

    first_byte: float | None
    crowded: bool


class Engine:
    """Sends requests to S3. Safe for threads, and usable after a fork. `close` closes its idle connections.

    Args:
        connect_timeout: Seconds to connect.
        stall_timeout: Seconds without a byte in either direction after which a try has failed.
        small_stall_timeout: The same for `each`, and for `fetch` if all its requests are small (256 KiB): small ranges
            cost little to request again. Never more than `stall_timeout`.
        connections: How many connections all calls together have, apart from one for each call. By default 512, or
            half of the file descriptors that the process may have, if that is less. The more calls run concurrently,
            the fewer connections each of them gets.
        link_local: Whether it connects to link-local addresses. A server that gets its endpoints from others must
            not: the credentials of a cloud's machine are there.
        buffer_size: Bytes that each call may read, or send, at a time. Many concurrent calls need small buffers.

    Example:
        with Engine() as engine:
            head, tail = engine.fetch([Request("GET", url, 0, 512), Request("GET", url, 9_000, 9_512)], parallelism=2)
    """

    def __init__(
        self,
        *,
        connect_timeout: float = 10,
        stall_timeout: float = 30,
        small_stall_timeout: float = 10,
        connections: int | None = None,
        link_local: bool = True,
        buffer_size: int = 2 << 20,
    ) -> None:
        small_stall_timeout = min(small_stall_timeout, stall_timeout)
        self._options = Options(connect_timeout, stall_timeout, small_stall_timeout, set(), link_local, buffer_size)
        self._pool = Pool(self._options, connections)

    def run(
        self,
        requests: Iterable[Request],
        *,
        parallelism: int,
        retries: int = 3,
        on_done: OnDone | None = None,
        on_bytes: OnBytes | None = None,
        time_left: TimeLeft | None = None,
    ) -> bool:
        """Send all requests. They are taken from the iterable one by one, when they can start.

        Args:
            requests: The requests.
            parallelism: The maximum number of concurrent requests. After a 503 or 429 there are fewer for a while.
            retries: How often each request is retried, with growing pauses. The policy module says what is retried.
            on_done: Called with each request that has succeeded, and its response.
            on_bytes: Called with the number of payload bytes that moved since the last call; bytes that a retry moves
                again are not counted again.
            time_left: Called several times a second. It returns the seconds that the whole call may still take,
                None for any number, and may raise what ends the call.

        Returns:
            Whether S3 asked for fewer requests.

        Raises:
            TransferError: A request has failed for good. All others are given up. The same holds for anything that a
                callback, a sink, a body or a URL function raises.
        """
        with self._pool.lend(parallelism) as (multi, width):
            run = Run(multi, iter(requests), width, retries, on_done, on_bytes, time_left)
            run.finish()
            return run.crowded

    def each(self, ranges: Sequence[Range], on_body: OnBody, *, parallelism: int, retries: int = 3) -> Observed:
        """Fetch ranges into memory, in any order. This is the fastest way for many small ones.

        Args:
            ranges: The ranges.
            on_body: Called with the number of each range (0 for the first one) and its bytes, as they arrive.
            parallelism: As for `run`.
            retries: As for `run`.

        Raises:
            TransferError: As for `run`.
        """
        # A sweep does small ranges, all of them in the usual case.
        if all(wanted.stop - wanted.start <= SMALL for wanted in ranges):
            left, first_byte = self._sweep(ranges, on_body, parallelism)
        else:
            small = [number for number, wanted in enumerate(ranges) if wanted.stop - wanted.start <= SMALL]
            swept = [ranges[number] for number in small]
            missed, first_byte = self._sweep(swept, lambda at, body: on_body(small[at], body), parallelism)
            left = sorted({*range(len(ranges))}.difference(small) | {small[at] for at in missed})

        # Large ranges, and what the sweep has left, are done one request at a time, with retries.
        crowded = False
        if left:
            numbers = {ranges[number].request(self._options.small_stall_timeout): number for number in left}

            def pass_on(request: Request, response: Response) -> None:
                on_body(numbers[request], response.body)

            crowded = self.run(numbers, parallelism=parallelism, retries=retries, on_done=pass_on)
        return Observed(first_byte, crowded)

    def fetch(self, requests: Sequence[Request], *, parallelism: int, retries: int = 3) -> list[bytes]:
        """Return the bodies of GETs without a sink, in the order of the requests.

        Args:
            requests: The requests.
            parallelism: As for `run`.
            retries: As for `run`.

        Raises:
            TransferError: As for `run`.
        """
        ranges = [wanted for request in requests if (wanted := as_range(request))] if retries else []
        if len(ranges) == len(requests):
            bodies = [b""] * len(ranges)
            self.each(ranges, bodies.__setitem__, parallelism=parallelism, retries=retries)
            return bodies
        bodies_by_request: dict[Request, bytes] = {}

        def keep(request: Request, response: Response) -> None:
            bodies_by_request[request] = response.body

        self.run(requests, parallelism=parallelism, retries=retries, on_done=keep)
        return [bodies_by_request[request] for request in requests]

    @contextmanager
    def stream(
        self, jobs: Iterator[tuple[T, Request]], *, parallelism: int, ahead: int, retries: int = 3
    ) -> Iterator[Stream[T]]:
        """Yield a stream of the bodies of GETs, in order, that reads ahead while the caller uses them.

        Args:
            jobs: Each request with any object that identifies it; consumed one by one.
            parallelism: As for `run`.
            ahead: How many bytes may be in memory at a time.
            retries: As for `run`.

        Raises:
            TransferError: As for `run`, while the stream is iterated.
        """
        with self._pool.lend(parallelism) as (multi, width):
            yield Stream(multi, jobs, width, ahead, retries)

    def close(self) -> None:
        """Close the idle connections. Running calls keep theirs until they are done; new calls open new ones."""
        self._pool.close_idle()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _sweep(self, ranges: Sequence[Range], on_body: OnBody, parallelism: int) -> tuple[list[int], float | None]:
        with self._pool.lend(min(parallelism, len(ranges))) as (multi, width):
            return multi.sweep(ranges, on_body, width)
