"""Reading whole dataranges to verify them: headers, padding, indices, checksums and end markers, in constant memory.

Nothing comes from the cache. What is wrong is fetched again before it counts.
"""

import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from operator import itemgetter

import numpy as np

from datas3t.archive import IndexFormatError, index, reads
from datas3t.archive.checksums import RECORD_SIZE as SUM_SIZE
from datas3t.archive.checksums import crc, encode
from datas3t.archive.index import BLOCK, RECORD_SIZE
from datas3t.client._calls.connection import Connection
from datas3t.client._reading.fetching import Fetcher, Piece, RestartRead
from datas3t.client._reading.headers import HeaderReader
from datas3t.client._reading.index_files import IndexCheck, IndexMismatch
from datas3t.client._reading.listed import Listed, listed
from datas3t.client._reading.locations import Locations, Numbers, from_records
from datas3t.client.errors import Aborted, ObjectChanged

_RUN = 4 << 20  # bytes that are fetched and checked together
_AHEAD = 16 << 20  # bytes in memory
_RECORDS = 16_384  # index records that are fetched together: 256 KiB
_TOGETHER = 64  # dataranges whose indices are fetched together, if they have at most so many records
_NAME_DIGITS = 20  # of the key in a name; a dot follows
_MAX_ATTEMPTS = 5  # without progress, because dataranges are replaced

Collect = Callable[[Listed, int, bytes], None]
"""A function that takes a datarange, a key of it, and the records of the checksums from that key on."""


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


class _WrongError(Exception):
    """A datarange is wrong, so that it is not read any further."""

    def __init__(self, datarange: Listed, problem: str) -> None:
        super().__init__(problem)
        self.verdict = Verdict(datarange, 0, problem)


@dataclass(frozen=True, slots=True)
class _Job:
    """Bytes that are fetched by one request.

    Attributes:
        datarange: The datarange.
        start: Their first one in the archive.
        stop: The byte after the last one.
        entries: The entries that they are; None for bytes of the end marker.
        is_part: Whether they are only the headers of a large entry, or a part of its content and padding.
        is_last: Whether they are the last ones of the archive.
    """

    datarange: Listed
    start: int
    stop: int
    entries: Locations | None = None
    is_part: bool = False
    is_last: bool = False


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
            except _WrongError as error:
                yield self._noted(error.verdict)
            except ObjectChanged as error:
                yield self._noted(Verdict(self._concerned(error), 0, str(error)))
            else:
                return

    def _noted(self, verdict: Verdict) -> Verdict:
        self._wrong.add(verdict.datarange.id)
        return verdict

    def _concerned(self, error: ObjectChanged) -> Listed:
        """Return the datarange whose object is missing or was changed. Raise the error if it is unknown."""
        key = error.metadata.get("object_key")
        for each in self._recent:
            if key in (each.object_key("tar"), each.object_key("index"), each.object_key("crc32c")):
                return each
        raise error

    def _jobs(self, first: int, last: int) -> Iterator[tuple[_Job, Piece]]:
        """Yield what is to be fetched, in order."""
        for datarange, entries in self._entries(first, last):
            jobs: Iterable[_Job] = _ends(datarange)
            if entries is not None:
                is_whole = datarange.entries_end <= _RUN  # then it was chosen as a whole
                chosen = (run for run in _runs(entries) if is_whole or self._is_chosen())
                jobs = (job for run in chosen for job in _parts(datarange, run))
            for job in jobs:
                yield job, Piece(datarange, job.start, job.stop)

    def _is_chosen(self) -> bool:
        return self._fraction >= 1 or random.random() < self._fraction  # noqa: S311 - a sample, not a secret

    def _entries(self, first: int, last: int) -> Iterator[tuple[Listed, Locations | None]]:
        """Yield the entries of each datarange, some thousands at a time, and then None for its end marker."""
        together: list[Listed] = []
        for each in listed(self._connection, self._name, first, last):
            if each.id in self._wrong or (each.entries_end <= _RUN and not self._is_chosen()):
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

    def _of_small(self, dataranges: list[Listed]) -> Iterator[tuple[Listed, Locations | None]]:
        found = self._records([(each, 0, each.count) for each in dataranges])
        for each, (records, sums) in zip(dataranges, found, strict=True):
            check = IndexCheck(each)
            yield each, self._located(each, 0, records, sums, check)
            self._finish(each, check)
            yield each, None

    def _of_large(self, datarange: Listed) -> Iterator[tuple[Listed, Locations | None]]:
        check = IndexCheck(datarange)
        for start in range(0, datarange.count, _RECORDS):
            stop = min(start + _RECORDS, datarange.count)
            ((records, sums),) = self._records([(datarange, start, stop)])
            yield datarange, self._located(datarange, start, records, sums, check)
        self._finish(datarange, check)
        yield datarange, None

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

    def _located(self, datarange: Listed, start: int, records: bytes, sums: bytes, check: IndexCheck) -> Locations:
        """Return the locations in records of an index. Fetch them again if they are wrong."""
        try:
            check.add(records)
        except IndexMismatch:
            count = len(records) // RECORD_SIZE
            ((records, sums),) = self._records([(datarange, start, start + count)])
            try:
                check.add(records)
            except IndexMismatch as error:
                raise _WrongError(datarange, str(error)) from None
        first = datarange.first + start
        try:
            found = from_records([datarange], range(first, first + len(records) // RECORD_SIZE), records)
        except (IndexMismatch, IndexFormatError) as error:
            raise _WrongError(datarange, str(error)) from None
        return replace(found, sums=np.frombuffer(sums, ">u4").astype(np.int64)) if sums else found

    def _finish(self, datarange: Listed, check: IndexCheck) -> None:
        try:
            check.finish()
        except IndexMismatch as error:
            raise _WrongError(datarange, str(error)) from None

    def _check(self, job: _Job, body: memoryview) -> Iterable[Verdict]:
        """Check the bytes of a job; return the verdict with the last one of a datarange."""
        datarange = job.datarange
        if datarange.id in self._wrong:
            return ()
        if self._problem(job, body) and (problem := self._problem_again(job)):
            raise _WrongError(datarange, problem)
        self._on_bytes(job.stop - job.start)
        if not job.is_last:
            return ()
        datapoints, self._datapoints = self._datapoints, 0
        return (Verdict(datarange, datapoints),)

    def _problem_again(self, job: _Job) -> str:
        """Return what is wrong with the bytes of a job when they, and the checksums, are fetched again.

        For a part of a large entry, the parts before it are fetched again as well.
        """
        jobs, entries = [job], job.entries
        if entries is not None:
            if entries.sums is not None:
                first = int(entries.keys[0]) - job.datarange.first
                ((_, sums),) = self._records([(job.datarange, first, first + len(entries.keys))])
                entries = replace(entries, sums=np.frombuffer(sums, ">u4").astype(np.int64))
            jobs = [each for each in _parts(job.datarange, entries) if each.start <= job.start]
        for each in jobs:
            body = self._fetcher.fetch(job.datarange, each.start, each.stop)
            if problem := self._problem(each, memoryview(body)):
                return problem
        return ""

    def _problem(self, job: _Job, body: memoryview) -> str:
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

    def _problem_of_part(self, job: _Job, entries: Locations, body: memoryview) -> str:
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

    def _problem_of_headers(self, job: _Job, entries: Locations, body: memoryview) -> str:
        try:
            names = self._reader.names(entries, body, (entries.starts - job.start) // BLOCK)
        except IndexMismatch as error:
            return str(error)
        extensions = set(map(itemgetter(slice(_NAME_DIGITS + 1, None)), names))
        if job.datarange.extension and extensions != {job.datarange.extension}:
            wrong = min(extensions - {job.datarange.extension})
            return f"an entry has the extension {wrong!r}, but all have {job.datarange.extension!r}"
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


def _runs(entries: Locations) -> Iterator[Locations]:
    """Yield the entries in runs of a few MiB, and a larger one alone."""
    cut = reads.plan(entries.archives, entries.starts, entries.stops, BLOCK, _RUN)
    for at, stop in pairwise(cut.bounds.tolist()):
        yield entries.part(at, stop)


def _parts(datarange: Listed, run: Locations) -> Iterator[_Job]:
    """Yield the job of a run; of a large entry that of its headers, and those of the parts of its content."""
    start, content, stop = int(run.starts[0]), int(run.contents[0]), index.padded(int(run.stops[-1]))
    if len(run.keys) > 1 or stop - start <= _RUN:
        yield _Job(datarange, start, stop, run)
        return
    yield _Job(datarange, start, content, run, is_part=True)
    for at in range(content, stop, _RUN):
        yield _Job(datarange, at, min(at + _RUN, stop), run, is_part=True)


def _ends(datarange: Listed) -> Iterator[_Job]:
    """Yield the jobs of the end marker and what follows it."""
    for at in range(datarange.entries_end, datarange.size, _RUN):
        stop = min(at + _RUN, datarange.size)
        yield _Job(datarange, at, stop, is_last=stop == datarange.size)


def _is_zero(body: bytes | memoryview) -> bool:
    return not len(body) or not np.frombuffer(body, np.uint8).any()
