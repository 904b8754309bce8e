"""The check of an archive that an import has found: whether it is readable, and whether its index describes it.

An index that is missing or wrong is made again. Contents are skipped, not read, and memory does not grow with the
number of datapoints. No transaction is open.
"""

import io
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from hashlib import md5
from pathlib import Path
from threading import BoundedSemaphore
from typing import IO

from datas3t import v1
from datas3t.archive import ArchiveError, FormatError, index, tar
from datas3t.archive.header import Read
from datas3t.archive.index import RECORD_SIZE
from datas3t.server.errors import Failure
from datas3t.server.imports.listing import Archive
from datas3t.server.objects.checks import check_index
from datas3t.server.objects.contents import Told
from datas3t.server.objects.spool import spool
from datas3t.server.s3.bucket import Bucket, ObjectChanged, ObjectInfo, ObjectMissing

WHOLE_ARCHIVE = 256 << 10  # bytes; up to this size one request for everything is faster than several for headers

TAIL = 64 << 10  # bytes at the end of an archive that are read at once: the end marker, and mostly the last header
_MIN_SAMPLE, _MAX_SAMPLE = 4, 32  # headers that are checked; one more for every 16 MiB of the archive
_SKIP_ABOVE = 1_600_000  # bytes; a larger content takes longer to read than another request does
_READ_AHEAD, _READ_AHEAD_LARGE = 4 << 20, 256 << 10  # bytes in a request, the latter where most contents are skipped
_PIECE = 1 << 20  # bytes of an index that are hashed at a time

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

    A long index is made in the folder `scratch`. Contents of a small archive are compared with its checksums.

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
            checked = _check_by_walk(bucket, archive, new_index)
            if archive.checksums is None or archive.data.size > WHOLE_ARCHIVE:
                return checked
            told = bucket.get(archive.checksums_key, 0, archive.checksums.size, etag=archive.checksums.etag)
            data = bucket.get(archive.key, 0, archive.data.size, etag=archive.data.etag)
            return _with_checksums(checked, archive, data, told, new_index)
    except (ObjectMissing, ObjectChanged) as error:
        raise NotImportableError("it was deleted or written again while it was checked; import again") from error


def _check_by_index(bucket: Bucket, archive: Archive) -> CheckedArchive | None:
    """Check the index and a sample of the headers; return None if the archive is small or the index is not usable."""
    stored, data = archive.index, archive.data
    if stored is None or stored.size != RECORD_SIZE * archive.count or data.size <= WHOLE_ARCHIVE:
        return None
    read = _with_tail(partial(bucket.get, archive.key, etag=data.etag), data.size)
    try:
        read_index = partial(bucket.get, archive.index_key, etag=stored.etag)
        stop, sample = check_index(read_index, archive.count, data.size, sample_size(data.size))
        for number, entry in sample.items():
            tar.check_entry(read(entry.position, entry.content.start), entry, archive.first + number)
        tar.check_end(read, stop, data.size)
    except FormatError:
        return None
    return CheckedArchive(stored.etag, stop, archive.checksums.etag if archive.checksums else None)


def _check_by_walk(bucket: Bucket, archive: Archive, new_index: IO[bytes]) -> CheckedArchive:
    """Check every header of the archive, and write the index unless the one in the bucket is the same."""
    walked = _walk(partial(bucket.get, archive.key, etag=archive.data.etag), archive, new_index)
    stored = archive.index
    checksums_etag = archive.checksums.etag if archive.checksums else None
    if (
        stored is not None
        and stored.size == RECORD_SIZE * walked.count
        and _has_content(bucket, archive.index_key, stored, new_index)
    ):
        return CheckedArchive(stored.etag, walked.entries_end, checksums_etag)
    return CheckedArchive(_write_index(bucket, archive.index_key, new_index), walked.entries_end, checksums_etag)


def check_content(data: bytes, told: bytes | None, archive: Archive) -> CheckedArchive | None:
    """Check every entry of a small archive, also with its checksums `told`; return None if its index is not right.

    Raises NotImportableError as `check_archive`.
    """
    new_index = io.BytesIO()
    walked = _walk(lambda start, stop: data[start:stop], archive, new_index)
    if archive.index is None or archive.index.etag != _md5(new_index):
        return None
    checked = CheckedArchive(archive.index.etag, walked.entries_end)
    return checked if told is None else _with_checksums(checked, archive, data, told, new_index)


def _with_checksums(
    checked: CheckedArchive, archive: Archive, data: bytes, told: bytes, new_index: IO[bytes]
) -> CheckedArchive:
    """Compare the contents of a small archive with its checksums `told`; return the result with or without these."""
    new_index.seek(0)
    entries = index.decode(new_index.read())
    try:
        Told(archive.first, archive.count, lambda start, stop: told[start:stop]).check_all(data, entries)
    except ArchiveError as error:
        problem = f"{error}: the archive or its checksums are damaged"
        return replace(checked, checksums_etag=None, checksums_problem=problem)
    assert archive.checksums is not None
    return replace(checked, checksums_etag=archive.checksums.etag)


def _walk(read: Read, archive: Archive, new_index: IO[bytes]) -> tar.Contents:
    size = archive.data.size
    wide = _READ_AHEAD if size // archive.count < _SKIP_ABOVE else _READ_AHEAD_LARGE
    try:
        walked = tar.scan(read, size, first_key=archive.first, wide=wide, large=_SKIP_ABOVE, into=new_index)
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


def _has_content(bucket: Bucket, key: str, stored: ObjectInfo, expected: IO[bytes]) -> bool:
    """Whether a stored object has the bytes of the file `expected`, which has the same length."""
    if stored.etag == _md5(expected):  # most stores use the MD5 as the ETag, which saves the request
        return True
    expected.seek(0)
    return all(expected.read(len(piece)) == piece for piece in bucket.stream(key, 0, stored.size, etag=stored.etag))


def _md5(content: IO[bytes]) -> str:
    content.seek(0)
    digest = md5(usedforsecurity=False)
    for piece in iter(partial(content.read, _PIECE), b""):
        digest.update(piece)
    return digest.hexdigest()


def _write_index(bucket: Bucket, key: str, new_index: IO[bytes]) -> str:
    try:
        return bucket.put(key, new_index)
    except Failure as failure:
        if failure.reason != v1.ERROR_REASON_S3_REFUSED:
            raise
        message = "its index is missing or wrong, and the credentials do not allow writing a new one"
        raise NotImportableError(message) from failure


def _with_tail(read: Read, size: int) -> Read:
    """Return a function that reads as `read` does, but reads the end of the archive only once."""
    tail_start = size - TAIL
    tail = read(tail_start, size)
    return lambda start, stop: (
        tail[start - tail_start : stop - tail_start] if start >= tail_start else read(start, stop)
    )
