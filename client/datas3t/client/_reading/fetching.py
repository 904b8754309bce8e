"""Fetches byte ranges of archives and indices into memory, by URLs that are renewed when they end."""

import io
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, NoReturn, TypeAlias, TypeVar

from datas3t.client._calls.failures import from_transfer_error
from datas3t.client._calls.session import Session
from datas3t.client._reading.catalogue import Catalogue, Leased
from datas3t.client._reading.costs import Costs
from datas3t.client._reading.leases import Leases
from datas3t.client.errors import ObjectChanged
from datas3t.transport import Engine, MemorySink, Range, Request, TransferError

_RETRIES = 6
_PATIENCE = 10.0  # seconds without a byte after which a read is tried again
_ONE = 1.0  # seconds: refusals within it are one event
_PUMP = 2e-4  # seconds of the caller's own work, after which a stream is looked after
_STREAMS = 32  # requests of a stream at a time, as far as there is room for their bytes
LARGEST = 8 << 20  # bytes of a request at most: what is larger is split over connections

_ALONE = {"parallelism": 1, "retries": _RETRIES}
T = TypeVar("T")
Job = TypeVar("Job")
Unpack: TypeAlias = Callable[[Job, memoryview], Iterable[T]]


class Gone(Exception):  # noqa: N818 - an event, not an error: the read is planned anew
    """A datarange was replaced, or deleted, under a read."""


class Piece(NamedTuple):
    """Bytes of a datarange's archive, or of its index."""

    leased: Leased
    start: int
    stop: int
    of_index: bool = False


class Fetching:
    """Fetches pieces of one catalogue's dataranges.

    Every method raises Gone where a datarange is no longer there; ObjectChanged where it should be, but S3 has another
    object or none.
    """

    def __init__(self, session: Session, leases: Leases, catalogue: Catalogue, costs: Costs) -> None:
        self.catalogue = catalogue
        self.costs = costs
        self._session = session
        self._leases = leases
        self._addresses: dict[tuple[int, bool], _Address] = {}

    def one(self, leased: Leased, start: int, stop: int) -> bytes:
        """Bytes of an archive."""
        bodies = [b""]
        try:
            heard = self._engine.each([Range(*self.source(leased), start, stop)], bodies.__setitem__, **_ALONE)
        except TransferError as error:
            self._judge(error, [leased])
        if heard.first_byte is not None:
            self.costs.note_latency(heard.first_byte)
        return bodies[0]

    def each(self, ranges: Sequence[Range], take: Callable[[int, bytes], None]) -> None:
        """Gives `take` the number and the bytes of each range of a `source`, as they come."""
        if not ranges:
            return
        size = sum(place.stop - place.start for place in ranges)
        parallelism = self.costs.parallelism(len(ranges), size)
        began = time.perf_counter()
        try:
            heard = self._engine.each(ranges, take, parallelism=parallelism, retries=_RETRIES)
        except TransferError as error:
            self._judge(error, (place.url.leased for place in ranges if isinstance(place.url, _Address)))
        if heard.crowded:
            self.costs.note_crowd(parallelism)
        elif heard.first_byte is not None:
            self.costs.note(len(ranges), size, parallelism, time.perf_counter() - began, heard.first_byte)

    def all(self, pieces: Sequence[Piece]) -> list[bytes]:
        """The pieces' bytes, in their order."""
        found = [b""] * len(pieces)
        ranges = [Range(*self.source(leased, of_index), start, stop) for leased, start, stop, of_index in pieces]
        self.each(ranges, found.__setitem__)
        return found

    def large(self, leased: Leased, start: int, stop: int) -> bytes:
        """Bytes of an archive, as many as there may be, over several connections; they are in memory once."""
        if start == stop:  # many header blocks, and nothing behind them
            return b""
        whole = io.BytesIO()
        whole.seek(stop - start - 1)
        whole.write(b"\0")
        with whole.getbuffer() as view:
            requests = []
            for at in range(start, stop, LARGEST):
                part = Range(*self.source(leased), at, min(at + LARGEST, stop)).request()
                part.sink, part.stall_timeout = MemorySink(view[at - start :]), _PATIENCE
                requests.append(part)
            parallelism = self.costs.parallelism(len(requests), stop - start)
            try:
                self._engine.run(requests, parallelism=parallelism, retries=_RETRIES)
            except TransferError as error:
                self._judge(error, [leased])
            finally:
                requests.clear()  # they hold the view
                del part
        return whole.getvalue()  # which is the buffer itself

    def stream(self, jobs: Iterable[tuple[Job, Piece]], unpack: Unpack[Job, T], ahead: int) -> Iterator[T]:
        """What `unpack` makes of each job's piece, in order, with `ahead` bytes of them in memory at most."""
        begun: deque[Leased] = deque(maxlen=3 * _STREAMS)

        def requests() -> Iterator[tuple[Job, Request]]:
            for job, piece in jobs:
                begun.append(piece.leased)
                request = Range(*self.source(piece.leased), piece.start, piece.stop).request()
                request.stall_timeout = _PATIENCE
                yield job, request

        process = os.getpid()
        try:
            with self._engine.stream(requests(), parallelism=_STREAMS, ahead=ahead, retries=_RETRIES) as stream:
                due = time.monotonic() + _PUMP
                for job, body in stream:
                    for item in unpack(job, body):
                        yield item
                        if time.monotonic() >= due:
                            stream.receive()
                            due = time.monotonic() + _PUMP
        except TransferError as error:
            self._judge(error, begun)
        except RuntimeError:
            if os.getpid() != process:  # the connections are the parent's
                raise Gone from None
            raise

    def source(self, leased: Leased, of_index: bool = False) -> "tuple[_Address, str]":
        """URL and ETag of a datarange's archive, or of its index."""
        address = self._addresses.get((leased.id, of_index))
        if address is None:
            address = self._addresses[leased.id, of_index] = _Address(self._leases, self.catalogue, leased, of_index)
        return address, leased.index_etag if of_index else leased.data_etag

    @property
    def _engine(self) -> Engine:
        return self._session.connection.engine

    def _judge(self, error: TransferError, read: Iterable[Leased]) -> NoReturn:
        """Tells what was replaced under a read from what is broken."""
        failure = from_transfer_error(error)
        if isinstance(failure, ObjectChanged):
            now = self._leases.since(time.monotonic(), self.catalogue.first, self.catalogue.last)
            if any(_same(now, leased) is None for leased in read):
                raise Gone from None
        raise failure from None


class _Address:
    """The URL of an object, out of the newest catalogue where the one at hand has ended."""

    __slots__ = ("_catalogue", "_leases", "_of_index", "leased")

    def __init__(self, leases: Leases, catalogue: Catalogue, leased: Leased, of_index: bool) -> None:
        self._leases = leases
        self._catalogue = catalogue
        self.leased = leased
        self._of_index = of_index

    def __call__(self, expired: bool) -> str:
        if expired:  # many requests may be refused at once: one renewal is for all of them
            self._follow(self._leases.since(time.monotonic() - _ONE, self._catalogue.first, self._catalogue.last))
        elif time.time() >= self._catalogue.stale_at:
            self._follow(self._leases.fresher(self._catalogue))
        return self.leased.index_url if self._of_index else self.leased.data_url

    def _follow(self, catalogue: Catalogue) -> None:
        leased = _same(catalogue, self.leased)
        if leased is None:
            raise Gone
        self._catalogue, self.leased = catalogue, leased


def _same(catalogue: Catalogue, leased: Leased) -> Leased | None:
    """The datarange as the catalogue has it, if it is made of the same objects."""
    found = catalogue.with_id(leased.id)
    same = found is not None and (found.data_etag, found.index_etag) == (leased.data_etag, leased.index_etag)
    return found if same else None
