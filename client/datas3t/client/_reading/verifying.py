"""Reading whole dataranges to verify them: headers, padding, indices, checksums and end markers, in constant memory.

Nothing comes from the cache. What is wrong is fetched again before it counts.
"""

import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from copy import copy
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from datas3t.archive import index
from datas3t.archive.checksums import RECORD_SIZE as SUM_SIZE
from datas3t.archive.checksums import crc, encode
from datas3t.archive.index import BLOCK, RECORD_SIZE
from datas3t.client._calls.connection import Connection
from datas3t.client._reading import jobs as cuts
from datas3t.client._reading.fetching import Fetcher, Piece, RestartRead
from datas3t.client._reading.headers import HeaderReader
from datas3t.client._reading.index_files import IndexCheck, IndexMismatch
from datas3t.client._reading.jobs import Job
from datas3t.client._reading.listed import Listed, listed
from datas3t.client._reading.locations import Locations, Numbers, from_records
from datas3t.client.errors import Aborted, ObjectChanged

_AHEAD = 16 << 20  # bytes in memory
_RECORDS = 16_384  # index records that are fetched together: 256 KiB
_TOGETHER = 64  # dataranges whose indices are fetched together, if they have at most so many records
_MAX_ATTEMPTS = 5  # without progress, because dataranges are replaced

Collect = Callable[[Listed, int, bytes], None]
"""A function that takes a datarange, a key of it, and the records of the checksums from that key on."""
_Entries: TypeAlias = tuple[Listed, Locations | IndexMismatch | None]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the verification of a datarange has found.

    Attributes:
        datarange: The datarange.
        datapoints: How many datapoints were read.
        problem: What is wrong with it; empty if nothing is.
    """

    datarange: Listed
    datapoints: int
    problem: str = ""


class Verifier:
    """Verifies the dataranges of one datas3t.

    Args:
        connection: The connection to the server.
        name: The datas3t.
        fetcher: Fetches bytes, and has the catalogues.
        fraction: The share of the archives' bytes that is read, chosen at random.
        on_bytes: Called with the number of bytes that were verified since the last call.
        collect: Receives the checksums of dataranges that have none, some more than once; None if they are not wanted.
    """

    def __init__(
        self,
        connection: Connection,
        name: str,
        fetcher: Fetcher,
        fraction: float,
        on_bytes: Callable[[int], None],
        collect: Collect | None,
    ) -> None:
        self._connection = connection
        self._name = name
        self._fetcher = fetcher
        self._fraction = fraction
        self._on_bytes = on_bytes
        self._collect = collect
        self._reader = HeaderReader()
        self._wrong: set[int] = set()
        self._recent: deque[Listed] = deque(maxlen=4 * _TOGETHER)  # all that can be under way
        self._crc = 0  # of the parts of a large content so far
        self._datapoints = 0  # of the present datarange, that were read

    def verdicts(self, first: int, last: int) -> Iterator[Verdict]:
        """Yield a verdict on each datarange that holds keys from `first` to `last`."""
        cursor, attempts = first, _MAX_ATTEMPTS
        while True:
            self._datapoints = 0
            try:
                for verdict in self._fetcher.stream(self._jobs(cursor, last), self._check, _AHEAD):
                    cursor, attempts = verdict.datarange.last + 1, _MAX_ATTEMPTS
                    yield verdict
            except RestartRead:
                attempts -= 1
                if not attempts:
                    raise Aborted(
                        f"dataranges of {self._name!r} are replaced faster than they can be read; try again"
                    ) from None
            except ObjectChanged as error:
                yield self._wrong_verdict(self._concerned(error), str(error))
            else:
                return

    def _wrong_verdict(self, datarange: Listed, problem: str) -> Verdict:
        """Return the verdict on a datarange that is wrong, so that it is not read any further."""
        self._wrong.add(datarange.id)
        self._datapoints = 0
        return Verdict(datarange, 0, problem)

    def _concerned(self, error: ObjectChanged) -> Listed:
        """Return the datarange whose object is missing or was changed. Raise the error if it is unknown."""
        key = error.metadata.get("object_key", "")
        for each in self._recent:
            if key in map(each.object_key, each.kinds):
                return each
        raise error

    def _jobs(self, first: int, last: int) -> Iterator[tuple[Job, Piece]]:
        """Yield what is to be fetched, in order."""
        for datarange, entries in self._entries(first, last):
            for job in self._jobs_of(datarange, entries):
                if datarange.id in self._wrong:
                    break
                yield job, Piece(datarange, job.start, job.stop)

    def _jobs_of(self, datarange: Listed, entries: Locations | IndexMismatch | None) -> Iterator[Job]:
        if entries is None:
            yield from cuts.ends(datarange)
        elif isinstance(entries, IndexMismatch):
            yield Job(datarange, 0, BLOCK, problem=str(entries))
        else:
            is_whole = datarange.entries_end <= cuts.RUN  # then it was chosen as a whole
            for run in cuts.runs(entries):
                if is_whole or self._is_chosen():
                    yield from cuts.parts(datarange, run)

    def _is_chosen(self) -> bool:
        return self._fraction >= 1 or random.random() < self._fraction  # noqa: S311 - a sample, not a secret

    def _entries(self, first: int, last: int) -> Iterator[_Entries]:
        """Yield the entries of each datarange, some thousands at a time, and then None for its end marker.

        After what is wrong in an index nothing follows.
        """
        together: list[Listed] = []
        for each in listed(self._connection, self._name, first, last):
            if each.id in self._wrong or (each.entries_end <= cuts.RUN and not self._is_chosen()):
                continue
            self._recent.append(each)
            if each.count > _RECORDS or len(together) == _TOGETHER:
                yield from self._of_small(together)
                together = []
            if each.count > _RECORDS:
                yield from self._of_large(each)
            else:
                together.append(each)
        yield from self._of_small(together)

    def _of_small(self, dataranges: list[Listed]) -> Iterator[_Entries]:
        found = self._records([(each, 0, each.count) for each in dataranges])
        for each, fetched in zip(dataranges, found, strict=True):
            yield from self._located(each, [(0, fetched)])

    def _of_large(self, datarange: Listed) -> Iterator[_Entries]:
        starts = range(0, datarange.count, _RECORDS)
        pieces = ((n, self._records([(datarange, n, min(n + _RECORDS, datarange.count))])[0]) for n in starts)
        yield from self._located(datarange, pieces)

    def _records(self, wanted: list[tuple[Listed, int, int]]) -> list[tuple[bytes, bytes]]:
        """Fetch records number `start` to `stop` of the indices, and of the checksums where there are some."""
        pieces = [Piece(each, start * RECORD_SIZE, stop * RECORD_SIZE, "index") for each, start, stop in wanted]
        summed = [item for item in wanted if item[0].checksums_etag]
        pieces += [Piece(each, start * SUM_SIZE, stop * SUM_SIZE, "crc32c") for each, start, stop in summed]
        fetched = self._fetcher.fetch_all(pieces)
        sums = iter(fetched[len(wanted) :])
        return [
            (records, next(sums) if each.checksums_etag else b"")
            for (each, _, _), records in zip(wanted, fetched, strict=False)
        ]

    def _located(self, datarange: Listed, pieces: Iterable[tuple[int, tuple[bytes, bytes]]]) -> Iterator[_Entries]:
        """Yield the entries in pieces of an index, each with the number of its first record."""
        check = IndexCheck(datarange)
        try:
            for start, fetched in pieces:
                try:
                    check, found = _checked(datarange, start, fetched, check)
                except IndexMismatch:
                    (again,) = self._records([(datarange, start, start + len(fetched[0]) // RECORD_SIZE)])
                    check, found = _checked(datarange, start, again, check)
                yield datarange, found
        except IndexMismatch as error:
            yield datarange, error
        else:
            yield datarange, None

    def _check(self, job: Job, body: memoryview) -> Iterable[Verdict]:
        """Check the bytes of a job; return the verdict with the last one of a datarange."""
        datarange = job.datarange
        if datarange.id in self._wrong:
            return ()
        if job.problem:
            return (self._wrong_verdict(datarange, job.problem),)
        if self._problem(job, body) and (problem := self._problem_again(job)):
            return (self._wrong_verdict(datarange, problem),)
        self._on_bytes(job.stop - job.start)
        if not job.is_last:
            return ()
        datapoints, self._datapoints = self._datapoints, 0
        return (Verdict(datarange, datapoints),)

    def _problem_again(self, job: Job) -> str:
        """Return what is wrong with the bytes of a job when they, their records and checksums are fetched again.

        For a part of a large entry, the parts before it are fetched again as well.
        """
        jobs = [job]
        if job.entries is not None:
            start = int(job.entries.keys[0]) - job.datarange.first
            (fetched,) = self._records([(job.datarange, start, start + len(job.entries.keys))])
            try:
                entries = _located(job.datarange, start, *fetched)
            except IndexMismatch as error:
                return str(error)
            jobs = [each for each in cuts.parts(job.datarange, entries) if each.start <= job.start]
        for each in jobs:
            body = self._fetcher.fetch(job.datarange, each.start, each.stop)
            if problem := self._problem(each, memoryview(body)):
                return problem
        return ""

    def _problem(self, job: Job, body: memoryview) -> str:
        """Return what is wrong with the bytes of a job; empty if nothing is."""
        entries = job.entries
        if entries is None:
            return "" if _is_zero(body) else f"not all bytes from {job.start} to the end of the archive are zero"
        if job.is_part:
            return self._problem_of_part(job, entries, body)
        if problem := self._problem_of_headers(job, entries, body):
            return problem
        stops = (entries.stops - job.start).tolist()
        contents = map(body.__getitem__, map(slice, (entries.contents - job.start).tolist(), stops))
        found = np.fromiter(map(crc, contents), np.int64, len(stops))
        paddings = map(body.__getitem__, map(slice, stops, map(index.padded, stops)))
        if not _is_zero(b"".join(paddings)):
            return f"the padding of one of the datapoints {entries.keys[0]} to {entries.keys[-1]} is not zero"
        return self._compared(job.datarange, entries, found)

    def _problem_of_part(self, job: Job, entries: Locations, body: memoryview) -> str:
        """Return what is wrong with the headers of a large entry, or with a part of its content and padding."""
        content, stop = int(entries.contents[0]), int(entries.stops[0])
        if job.start < content:
            self._crc = 0
            return self._problem_of_headers(job, entries, body)
        inside = max(min(job.stop, stop) - job.start, 0)  # bytes of the content; the others are padding
        self._crc = crc(body[:inside], self._crc)
        if not _is_zero(body[inside:]):
            return f"the padding of datapoint {entries.keys[0]} is not zero"
        if job.stop < index.padded(stop):
            return ""
        return self._compared(job.datarange, entries, np.array([self._crc]))

    def _problem_of_headers(self, job: Job, entries: Locations, body: memoryview) -> str:
        try:
            self._reader.names(entries, body, (entries.starts - job.start) // BLOCK)
        except IndexMismatch as error:
            return str(error)
        return ""

    def _compared(self, datarange: Listed, entries: Locations, found: Numbers) -> str:
        """Compare checksums of contents with those that are stored, or collect them if there are none."""
        if entries.sums is not None:
            wrong = np.flatnonzero(found != entries.sums)
            if len(wrong):
                sums = datarange.object_key("crc32c")
                return f"the content of datapoint {entries.keys[wrong[0]]} differs from its checksum in {sums}"
        elif self._collect is not None:
            self._collect(datarange, int(entries.keys[0]), encode(found.tolist()))
        self._datapoints += len(found)
        return ""


def _checked(
    datarange: Listed, start: int, fetched: tuple[bytes, bytes], before: IndexCheck
) -> tuple[IndexCheck, Locations]:
    """Return the check of an index after further records of it, and their locations. Raise IndexMismatch."""
    check = copy(before)
    check.add(fetched[0])
    found = _located(datarange, start, *fetched)
    if start + len(found.keys) == datarange.count:
        check.finish()
    return check, found


def _located(datarange: Listed, start: int, records: bytes, sums: bytes) -> Locations:
    """Return the locations in records of an index from number `start` on, with their checksums if there are any."""
    first = datarange.first + start
    found = from_records([datarange], range(first, first + len(records) // RECORD_SIZE), records)
    return replace(found, sums=np.frombuffer(sums, ">u4").astype(np.int64)) if sums else found


def _is_zero(body: bytes | memoryview) -> bool:
    return not len(body) or not np.frombuffer(body, np.uint8).any()
