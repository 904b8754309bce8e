"""The check of an archive that an import has found: whether it is readable, and whether its index describes it.

An index that is missing or wrong is made again. Contents are skipped, not read, and memory does not grow with the
number of datapoints. No transaction is open.
"""

import io
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import BoundedSemaphore
from typing import IO

from datas3t import v1
from datas3t.archive import FormatError, checksums, index, tar
from datas3t.archive.header import Read
from datas3t.archive.index import BLOCK, RECORD_SIZE
from datas3t.server.errors import Failure
from datas3t.server.imports.listing import Archive
from datas3t.server.objects.checks import check_index
from datas3t.server.objects.spool import has_content, md5_of, spool
from datas3t.server.s3.bucket import Bucket, ObjectChanged, ObjectMissing

WHOLE_ARCHIVE = 256 << 10  # bytes; up to this size one request for everything is faster than several for headers

TAIL = 64 << 10  # bytes at the end of an archive that are read at once: the end marker, and mostly the last header
_MOST_IN_TAIL = TAIL // BLOCK  # entries
_MAX_SUMS = 1 << 20  # checksums that are made of an archive: 4 MiB
_MIN_SAMPLE, _MAX_SAMPLE = 4, 32  # headers that are checked; one more for every 16 MiB of the archive
_SKIP_ABOVE = 1_600_000  # bytes; a larger content takes longer to read than another request does
_READ_AHEAD, _READ_AHEAD_LARGE = 4 << 20, 256 << 10  # bytes in a request, the latter where most contents are skipped

# An index of more records than this takes about 20 MB to check, as walking an archive does, so these checks are limited
# to 4 at a time, in all imports that run.
_LARGE_INDEX = 50_000
_LARGE_CHECKS = BoundedSemaphore(4)


@dataclass(frozen=True, slots=True)
class CheckedArchive:
    """What a datarange's row needs besides the listing: the index's ETag, and the byte where the end marker starts.

    `checksums_etag` is that of the checksums, if they are taken, and `checksums_problem` why they are not.
    """

    index_etag: str
    entries_size: int
    checksums_etag: str | None = None
    checksums_problem: str | None = None


class NotImportableError(Exception):
    """The archive cannot be imported; the message is the reason, in words."""


def check_archive(bucket: Bucket, archive: Archive, scratch: Path) -> CheckedArchive:
    """Check an archive and its index, and write the index again if it is missing or wrong.

    A long index is made in the folder `scratch`. The contents that are read are compared with the checksums: those at
    the end of the archive; all of them if it is small, or if its index is made again and they are not large.

    Raises:
        NotImportableError: The archive breaks a rule of the format, or has changed since it was listed.
        Failure: S3 or the disk is unavailable.
    """
    try:
        with _limited(archive.count > _LARGE_INDEX):
            checked = _check_by_index(bucket, archive)
        if checked is not None:
            return checked
        with _limited(archive.data.size > WHOLE_ARCHIVE), spool(scratch) as new_index:
            return _check_by_walk(bucket, archive, new_index)
    except (ObjectMissing, ObjectChanged) as error:
        raise NotImportableError("it was deleted or written again while it was checked; import again") from error


def _check_by_index(bucket: Bucket, archive: Archive) -> CheckedArchive | None:
    """Check the index and a sample of the headers; return None if the archive is small or the index is not usable."""
    stored, data = archive.index, archive.data
    if stored is None or stored.size != RECORD_SIZE * archive.count or data.size <= WHOLE_ARCHIVE:
        return None
    tail = bucket.get(archive.key, data.size - TAIL, data.size, etag=data.etag)
    read = _with_tail(partial(bucket.get, archive.key, etag=data.etag), tail, data.size)
    try:
        read_index = partial(bucket.get, archive.index_key, etag=stored.etag)
        stop, sample = check_index(read_index, archive.count, data.size, sample_size(data.size))
        for number, entry in sample.items():
            tar.check_entry(read(entry.position, entry.content.start), entry, archive.first + number)
        tar.check_end(read, stop, data.size)
        problem = None
        if archive.checksums is not None:
            records, sums = last_records(archive)
            told = bucket.get(archive.checksums_key, sums.start, sums.stop, etag=archive.checksums.etag)
            problem = problem_at_end(archive, tail, read_index(records.start, records.stop), told)
    except FormatError:
        return None
    return checked_archive(archive, stored.etag, stop, problem)


def _check_by_walk(bucket: Bucket, archive: Archive, new_index: IO[bytes]) -> CheckedArchive:
    """Check every header of the archive, and write the index unless the one in the bucket is the same."""
    walked = _walk(partial(bucket.get, archive.key, etag=archive.data.etag), archive, new_index)
    stored, problem = archive.index, None
    if archive.checksums is not None and walked.checksums:
        told = bucket.get(archive.checksums_key, 0, archive.checksums.size, etag=archive.checksums.etag)
        problem = _problem(archive, 0, walked.checksums, told)
    if (
        stored is not None
        and stored.size == RECORD_SIZE * walked.count
        and has_content(bucket, archive.index_key, stored, new_index)
    ):
        return checked_archive(archive, stored.etag, walked.entries_end, problem)
    index_etag = _write_index(bucket, archive.index_key, new_index)
    return checked_archive(archive, index_etag, walked.entries_end, problem)


def check_content(data: bytes, told: bytes | None, archive: Archive) -> CheckedArchive | None:
    """Check every entry of a small archive, also with its checksums `told`; return None if its index is not right.

    Raises NotImportableError as `check_archive`.
    """
    new_index = io.BytesIO()
    walked = _walk(lambda start, stop: data[start:stop], archive, new_index)
    if archive.index is None or archive.index.etag != md5_of(new_index):
        return None
    problem = None if told is None else _problem(archive, 0, walked.checksums, told)
    return checked_archive(archive, archive.index.etag, walked.entries_end, problem)


def last_records(archive: Archive) -> tuple[range, range]:
    """Return which bytes of the index and of the checksums belong to entries that may lie in the last TAIL bytes."""
    count = archive.count
    first = max(0, count - _MOST_IN_TAIL)
    sums = checksums.RECORD_SIZE
    return range(RECORD_SIZE * first, RECORD_SIZE * count), range(sums * first, sums * count)


def problem_at_end(archive: Archive, tail: bytes, records: bytes, told: bytes) -> str | None:
    """Return why the checksums of an archive are not taken, by the contents at its end; None if they are right.

    Args:
        archive: The archive.
        tail: Its last TAIL bytes.
        records: The last records of its index, as `last_records` says.
        told: The last records of its checksums.

    Raises:
        FormatError: The index is wrong about an entry.
    """
    at = archive.data.size - len(tail)
    entries = [entry for entry in index.decode(records) if entry.position >= at]
    contents = [entry.content for entry in entries]
    actual = checksums.of_contents(tail, [each.start - at for each in contents], [each.stop - at for each in contents])
    told = told[len(told) - len(actual) :]
    first = archive.count - len(entries)
    if actual != told:
        for key, entry in enumerate(entries, archive.first + first):
            tar.check_entry(tail[entry.position - at : entry.content.start - at], entry, key)
    return _problem(archive, first, actual, told)


def _problem(archive: Archive, first: int, actual: bytes, told: bytes) -> str | None:
    """Return why checksums are not taken: those `told`, from number `first` on, are not the `actual` ones."""
    if actual == told:
        return None
    pairs = zip(checksums.decode(actual), checksums.decode(told), strict=True)
    key, (one, other) = next((key, pair) for key, pair in enumerate(pairs, archive.first + first) if pair[0] != pair[1])
    wrong = f"datapoint {key} has the checksum {one:08x}, but {other:08x} among the checksums"
    return f"{wrong}: the archive or its checksums are damaged"


def checked_archive(archive: Archive, index_etag: str, entries_size: int, problem: str | None) -> CheckedArchive:
    """Return the result for an archive that is right, with its checksums, if it has any and they have no `problem`."""
    taken = archive.checksums.etag if archive.checksums is not None and problem is None else None
    return CheckedArchive(index_etag, entries_size, taken, problem)


def _walk(read: Read, archive: Archive, new_index: IO[bytes]) -> tar.Contents:
    """Walk through an archive, and make the checksums of its contents if they are wanted, and are read anyway."""
    size = archive.data.size
    is_read = size // archive.count < _SKIP_ABOVE
    try:
        walked = tar.scan(
            read,
            size,
            first_key=archive.first,
            wide=_READ_AHEAD if is_read else _READ_AHEAD_LARGE,
            large=_SKIP_ABOVE,
            into=new_index,
            checksums=is_read and archive.checksums is not None and archive.count <= _MAX_SUMS,
        )
    except FormatError as error:
        raise NotImportableError(f"it cannot be read as an archive: {error}") from error
    if walked.count != archive.count:
        message = f"it holds {walked.count} datapoints, but its name stands for {archive.count}"
        raise NotImportableError(message)
    return walked


def sample_size(size: int) -> int:
    """Return how many headers of an archive of `size` bytes are checked besides its index."""
    return min(_MIN_SAMPLE + (size >> 24), _MAX_SAMPLE)


def _limited(large: bool) -> AbstractContextManager[object]:
    return _LARGE_CHECKS if large else nullcontext()


def _write_index(bucket: Bucket, key: str, new_index: IO[bytes]) -> str:
    try:
        return bucket.put(key, new_index)
    except Failure as failure:
        if failure.reason != v1.ERROR_REASON_S3_REFUSED:
            raise
        message = "its index is missing or wrong, and the credentials do not allow writing a new one"
        raise NotImportableError(message) from failure


def _with_tail(read: Read, tail: bytes, size: int) -> Read:
    """Return a function that reads as `read` does, but not the end of the archive, which is `tail`."""
    tail_start = size - TAIL
    return lambda start, stop: (
        tail[start - tail_start : stop - tail_start] if start >= tail_start else read(start, stop)
    )
