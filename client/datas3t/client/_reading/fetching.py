"""Fetching byte ranges of objects into memory, by URLs that are renewed when they expire."""

import io
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, NoReturn, TypeAlias, TypeVar

from datas3t.client._calls.failures import from_transfer_error
from datas3t.client._calls.session import Session
from datas3t.client._reading.catalogue_cache import CatalogueCache
from datas3t.client._reading.costs import Costs
from datas3t.client._reading.signed import Kind, SignedDatarange
from datas3t.client.errors import ObjectChanged
from datas3t.transport import Engine, MemorySink, Range, Request, TransferError

MAX_REQUEST = 8 << 20  # bytes of one request; larger ranges are split over several connections
_RETRIES = 6  # per request; the pauses between them add up to 18 seconds at most
_STALL_TIMEOUT = 10.0  # seconds without a byte after which a request is retried
_RECEIVE_INTERVAL = 2e-4  # seconds of the caller's own work after which a stream receives what has arrived
_STREAM_PARALLELISM = 32  # requests of a stream at a time, if their bytes fit into what may be read ahead

_SINGLE = {"parallelism": 1, "retries": _RETRIES}  # prebuilt, because `fetch` runs once per `get`
T = TypeVar("T")
Job = TypeVar("Job")
Unpack: TypeAlias = Callable[[Job, memoryview], Iterable[T]]


class RestartRead(Exception):  # noqa: N818 - control flow, not an error: the read is planned again
    """A read cannot go on as planned: a datarange was replaced or deleted, or the process was forked."""


class Piece(NamedTuple):
    """Bytes `start` up to `stop` of one of a datarange's objects."""

    datarange: SignedDatarange
    start: int
    stop: int
    kind: Kind = "tar"

    @property
    def of_index(self) -> bool:
        """Whether they are bytes of the index."""
        return self.kind == "index"


class Fetcher:
    """Fetches bytes of dataranges.

    Every method may raise RestartRead if a datarange no longer exists, ObjectChanged if the datarange exists but its
    object in S3 is missing or another one, and TransferFailed.
    """

    def __init__(self, session: Session, catalogues: CatalogueCache, costs: Costs) -> None:
        self.catalogues = catalogues
        self.costs = costs
        self._session = session

    def fetch(self, datarange: SignedDatarange, start: int, stop: int) -> bytes:
        """Return bytes of an archive."""
        bodies = [b""]
        try:
            stats = self._engine.each([Range(*self.source(datarange), start, stop)], bodies.__setitem__, **_SINGLE)
        except TransferError as error:
            self._fail(error, [datarange])
        if stats.first_byte is not None:
            self.costs.note_latency(stats.first_byte)
        return bodies[0]

    def fetch_each(self, ranges: Sequence[Range], take: Callable[[int, bytes], None]) -> None:
        """Call `take` with the number and the bytes of each range, in the order in which they arrive.

        The URLs of `ranges` come from `source`.
        """
        if not ranges:
            return
        size = sum(each.stop - each.start for each in ranges)
        parallelism = self.costs.parallelism(len(ranges), size)
        began = time.perf_counter()
        try:
            stats = self._engine.each(ranges, take, parallelism=parallelism, retries=_RETRIES)
        except TransferError as error:
            self._fail(error, (each.url.datarange for each in ranges if isinstance(each.url, _RenewableUrl)))
        if stats.crowded:
            self.costs.note_congestion(parallelism)
        elif stats.first_byte is not None:
            self.costs.note_batch(len(ranges), size, parallelism, time.perf_counter() - began, stats.first_byte)

    def fetch_all(self, pieces: Sequence[Piece]) -> list[bytes]:
        """Return the bytes of each piece, in the order of `pieces`."""
        contents = [b""] * len(pieces)
        ranges = [Range(*self.source(datarange, kind), start, stop) for datarange, start, stop, kind in pieces]
        self.fetch_each(ranges, contents.__setitem__)
        return contents

    def fetch_large(self, datarange: SignedDatarange, start: int, stop: int) -> bytes:
        """Return bytes of an archive, fetched over several connections and without a second copy in memory."""
        if start == stop:  # an empty content whose header blocks exceed MAX_REQUEST
            return b""
        # BytesIO, unlike bytearray, hands its buffer over as bytes without copying.
        whole = io.BytesIO()
        whole.seek(stop - start - 1)
        whole.write(b"\0")
        with whole.getbuffer() as view:
            requests = []
            for at in range(start, stop, MAX_REQUEST):
                part = Range(*self.source(datarange), at, min(at + MAX_REQUEST, stop)).request()
                part.sink, part.stall_timeout = MemorySink(view[at - start :]), _STALL_TIMEOUT
                requests.append(part)
            parallelism = self.costs.parallelism(len(requests), stop - start)
            try:
                self._engine.run(requests, parallelism=parallelism, retries=_RETRIES)
            except TransferError as error:
                self._fail(error, [datarange])
            finally:
                requests.clear()  # the buffer cannot be released while requests refer to it
                del part
        return whole.getvalue()

    def stream(
        self,
        jobs: Iterable[tuple[Job, Piece]],
        unpack: Unpack[Job, T],
        ahead: int,
        parallelism: int = _STREAM_PARALLELISM,
    ) -> Iterator[T]:
        """Yield what `unpack` makes of each job's bytes, in the order of `jobs`.

        Args:
            jobs: Pairs of a job, which is passed to `unpack`, and the bytes to fetch for it.
            unpack: Called with a job and its bytes. They are overwritten once the next job is unpacked.
            ahead: The maximum number of bytes to hold in memory; a single larger piece is still fetched.
            parallelism: How many requests are made at a time, if their bytes fit into `ahead`.
        """
        recent: deque[SignedDatarange] = deque(maxlen=3 * parallelism)  # more than are under way

        def requests() -> Iterator[tuple[Job, Request]]:
            for job, piece in jobs:
                recent.append(piece.datarange)
                request = Range(*self.source(piece.datarange), piece.start, piece.stop).request()
                request.stall_timeout = _STALL_TIMEOUT
                yield job, request

        process, clock = os.getpid(), time.monotonic
        try:
            with self._engine.stream(requests(), parallelism=parallelism, ahead=ahead, retries=_RETRIES) as stream:
                due = clock() + _RECEIVE_INTERVAL
                for job, body in stream:
                    for item in unpack(job, body):
                        yield item
                        if clock() >= due:
                            stream.receive()
                            due = clock() + _RECEIVE_INTERVAL
        except TransferError as error:
            self._fail(error, recent)
        except RuntimeError:
            if os.getpid() != process:  # the process was forked while suspended; the connections are the parent's
                raise RestartRead from None
            raise

    def source(self, datarange: SignedDatarange, kind: Kind = "tar") -> "tuple[_RenewableUrl, str]":
        """Return the URL and the ETag of one of a datarange's objects."""
        return _RenewableUrl(self.catalogues, datarange, kind), datarange.etag(kind)

    @property
    def _engine(self) -> Engine:
        return self._session.connection.engine

    def _fail(self, error: TransferError, dataranges: Iterable[SignedDatarange]) -> NoReturn:
        """Raise RestartRead if one of the dataranges was replaced or deleted; otherwise raise the failure."""
        failure = from_transfer_error(error)
        if isinstance(failure, ObjectChanged):
            moment = time.monotonic()
            each_once = {each.id: each for each in dataranges}.values()
            # Each may take a call, so ask about the one whose object it is.
            concerned = [each for each in each_once if error.path in map(each.path, each.kinds)] or each_once
            if any(self.catalogues.is_gone(each, moment) for each in concerned):
                raise RestartRead from None
        raise failure from None


class _RenewableUrl:
    """The URL of one object; it is taken from a newer catalogue when the current one is stale or was refused."""

    __slots__ = ("_catalogues", "_kind", "_stale_at", "_url", "datarange")

    def __init__(self, catalogues: CatalogueCache, datarange: SignedDatarange, kind: Kind) -> None:
        self._catalogues = catalogues
        self._kind = kind
        self._use(datarange)

    def __call__(self, refused: bool) -> str:
        """Return the URL to use now; `refused` if S3 refused the one returned before."""
        if refused or time.time() >= self._stale_at:  # inlined from Lifetime.is_over, as this runs for each request
            datarange = self._catalogues.renewed(self.datarange, refused=refused)
            if datarange is None:
                raise RestartRead
            self._use(datarange)
        return self._url

    def _use(self, datarange: SignedDatarange) -> None:
        self.datarange = datarange
        self._stale_at = datarange.lifetime.stale_at
        self._url = datarange.data_url if self._kind == "tar" else datarange.url(self._kind)
