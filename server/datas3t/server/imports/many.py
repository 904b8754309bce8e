"""The checks of many archives at a time, which need a fraction of the time of one after another.

They find what is right. An archive that is not among the results is checked by `archives.check_archive`, which finds
what is wrong and makes an index again. One failure of S3 ends such a check, and then each archive that is left has its
own result, and each failure its own cause.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial

from datas3t.archive import FormatError, tar
from datas3t.archive.header import Read
from datas3t.archive.index import RECORD_SIZE, Entry
from datas3t.server.errors import Failure
from datas3t.server.imports.archives import (
    TAIL,
    WHOLE_ARCHIVE,
    CheckedArchive,
    NotImportableError,
    check_content,
    checked_archive,
    last_records,
    problem_at_end,
    sample_size,
)
from datas3t.server.imports.listing import Archive
from datas3t.server.objects.checks import check_index
from datas3t.server.s3.bucket import Bucket, ObjectChanged, ObjectInfo, ObjectMissing, Piece

_Take = Callable[[bytes], None]

_MAX_COUNT = 4_096  # datapoints of an archive that is checked by its index here: 64 KiB


def check_small(bucket: Bucket, archives: Iterable[Archive]) -> dict[Archive, CheckedArchive | NotImportableError]:
    """Check archives of up to `WHOLE_ARCHIVE` bytes, which are read as a whole."""
    results: dict[Archive, CheckedArchive | NotImportableError] = {}
    small = (_Whole(each, results) for each in archives if 0 < each.data.size <= WHOLE_ARCHIVE)
    with suppress(ObjectMissing, ObjectChanged, Failure):
        bucket.get_each((each for check in small for each in check.pieces()), _pass_on)
    return results


def check_indexed(bucket: Bucket, archives: Iterable[Archive]) -> dict[Archive, CheckedArchive]:
    """Check larger archives by their indices, their ends and a sample of their headers."""
    checks = [_ByIndex(each, each.index) for each in archives if each.index and _has_index(each)]
    with suppress(ObjectMissing, ObjectChanged, Failure):
        bucket.get_each((each for check in checks for each in check.ends()), _pass_on)
        bucket.get_each((each for check in checks for each in check.headers()), _pass_on)
    return {check.archive: check.result for check in checks if check.result and not check.left}


def _has_index(archive: Archive) -> bool:
    size = archive.index.size if archive.index else 0
    return archive.data.size > WHOLE_ARCHIVE and archive.count <= _MAX_COUNT and size == RECORD_SIZE * archive.count


def _pass_on(take: _Take, data: bytes) -> None:
    take(data)


class _Whole:
    """The check of a small archive, and of its checksums, when all of their bytes are there."""

    def __init__(self, archive: Archive, results: dict[Archive, CheckedArchive | NotImportableError]) -> None:
        self._archive = archive
        self._results = results
        self._data: bytes | None = None
        self._checksums: bytes | None = None

    def pieces(self) -> Iterator[tuple[_Take, Piece]]:
        """Yield the whole archive, and its checksums if it has any."""
        archive = self._archive
        yield self._take_data, Piece(archive.key, 0, archive.data.size, archive.data.etag)
        if archive.checksums is not None:
            yield (
                self._take_checksums,
                Piece(archive.checksums_key, 0, archive.checksums.size, archive.checksums.etag),
            )

    def _take_data(self, data: bytes) -> None:
        self._data = data
        self._check()

    def _take_checksums(self, data: bytes) -> None:
        self._checksums = data
        self._check()

    def _check(self) -> None:
        archive, data, told = self._archive, self._data, self._checksums
        if data is None or (told is None and archive.checksums is not None):
            return
        self._data = self._checksums = None
        try:
            checked = check_content(data, told, archive)
        except NotImportableError as error:
            self._results[archive] = error
        else:
            if checked is not None:
                self._results[archive] = checked


class _ByIndex:
    """The check of an archive by its index: its `result` if all is right, and how many headers are `left`."""

    def __init__(self, archive: Archive, index: ObjectInfo) -> None:
        self.archive = archive
        self.result: CheckedArchive | None = None
        self.left = 0
        self._stored = index
        self._tail_start = archive.data.size - TAIL
        self._index = self._tail = b""
        self._told: bytes | None = None
        self._sample: dict[int, Entry] = {}

    def ends(self) -> Iterator[tuple[_Take, Piece]]:
        """Yield the whole index, the end of the archive, and the checksums of the contents that may lie there."""
        archive = self.archive
        yield self._take_index, Piece(archive.index_key, 0, self._stored.size, self._stored.etag)
        yield self._take_tail, Piece(archive.key, self._tail_start, archive.data.size, archive.data.etag)
        if archive.checksums is not None:
            _, sums = last_records(archive)
            yield self._take_told, Piece(archive.checksums_key, sums.start, sums.stop, archive.checksums.etag)

    def headers(self) -> Iterator[tuple[_Take, Piece]]:
        """Yield the headers of the sample, after both ends were taken."""
        key, etag = self.archive.key, self.archive.data.etag
        for number, entry in self._sample.items():
            yield partial(self._take_header, number, entry), Piece(key, entry.position, entry.content.start, etag)

    def _take_index(self, data: bytes) -> None:
        self._index = data
        self._check_ends()

    def _take_tail(self, data: bytes) -> None:
        self._tail = data
        self._check_ends()

    def _take_told(self, data: bytes) -> None:
        self._told = data
        self._check_ends()

    def _check_ends(self) -> None:
        index, tail, told, at = self._index, self._tail, self._told, self._tail_start
        if not (index and tail) or (told is None and self.archive.checksums is not None):
            return
        self._index = self._tail = b""
        archive, size = self.archive, self.archive.data.size
        with suppress(FormatError):
            stop, sample = check_index(_reader(index), archive.count, size, sample_size(size))
            if stop < at:
                return  # there is more padding than was read
            tar.check_end(_reader(tail, at), stop, size)
            for number, entry in sample.items():
                if entry.position < at:
                    self._sample[number] = entry
                    continue
                header = tail[entry.position - at : entry.content.start - at]
                tar.check_entry(header, entry, archive.first + number)
            self.left = len(self._sample)
            records, _ = last_records(archive)
            last = index[records.start : records.stop]
            problem = None if told is None else problem_at_end(archive, tail, last, told)
            self.result = checked_archive(archive, self._stored.etag, stop, problem)

    def _take_header(self, number: int, entry: Entry, data: bytes) -> None:
        self.left -= 1
        try:
            tar.check_entry(data, entry, self.archive.first + number)
        except FormatError:
            self.result = None


def _reader(data: bytes, at: int = 0) -> Read:
    """Return a function that reads bytes of an object of which `data` begins at byte `at`."""
    return lambda start, stop: data[start - at : stop - at]
