"""An archive that an import found: is it readable, and does its index fit? Where not, the index is made anew.

Contents are skipped, not read, and memory is the same for any number of entries. No transaction is open meanwhile.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from hashlib import md5
from pathlib import Path
from threading import BoundedSemaphore
from typing import IO

from datas3t import v1
from datas3t.archive import FormatError, tar
from datas3t.archive.index import RECORD_SIZE
from datas3t.server.errors import Failure
from datas3t.server.imports.listing import Archive
from datas3t.server.s3.bucket import Bucket, ObjectChanged, ObjectInfo, ObjectMissing
from datas3t.server.spool import spool
from datas3t.server.uploads.completion import Read, check_index

WHOLE = 256 << 10  # up to this size an archive is read in one piece

_TAIL = 64 << 10
_SAMPLE = range(4, 33)  # headers that are looked at, and one more for every 16 MiB
_LARGE = 1_600_000  # a content that takes longer to read than another request does
_WIDE, _NARROW = 4 << 20, 256 << 10  # what a walk reads ahead: among small contents, and where most are large
_PIECE = 1 << 20
_MANY = 50_000  # entries of an index, from where on a check has some 20 MB in hand, as a walk has
_LARGE_ONES = BoundedSemaphore(4)  # of them at a time, in all imports that run


@dataclass(frozen=True, slots=True)
class Fit:
    """What the row of an archive says beside the listing: its index, and where its end marker starts."""

    index_etag: str
    entries_size: int


class Unfit(Exception):  # noqa: N818 - it is left out, which is no defect
    """The archive cannot be imported; the message says why."""


def check(bucket: Bucket, archive: Archive, scratch: Path) -> Fit:
    """What its row is to say. Raises Unfit, or Failure where S3 does not answer.

    A long index is made in the folder `scratch`.
    """
    try:
        with _among_few(archive.count > _MANY):
            found = _by_index(bucket, archive)
        if found is not None:
            return found
        with _among_few(archive.data.size > WHOLE), spool(scratch) as made:
            return _by_walk(bucket, archive, made)
    except (ObjectMissing, ObjectChanged) as error:
        raise Unfit("it was deleted or written anew while it was looked at; import again") from error


def _by_index(bucket: Bucket, archive: Archive) -> Fit | None:
    """By its index and some headers spread over it; None where the index is missing or wrong, or it is small."""
    index, data = archive.index, archive.data
    if index is None or index.size != RECORD_SIZE * archive.count or data.size <= WHOLE:
        return None
    read = _with_tail(partial(bucket.get, archive.key, etag=data.etag), data.size)
    sample_size = min(_SAMPLE.start + (data.size >> 24), _SAMPLE.stop - 1)
    try:
        read_index = partial(bucket.get, archive.index_key, etag=index.etag)
        stop, sample = check_index(read_index, archive.count, data.size, sample_size)
        for number, entry in sample.items():
            tar.check_entry(read(entry.position, entry.content.start), entry, archive.first + number)
        tar.check_end(read, stop, data.size)
    except FormatError:
        return None
    return Fit(index.etag, stop)


def _by_walk(bucket: Bucket, archive: Archive, made: IO[bytes]) -> Fit:
    """From header to header; writes the index where the one in the bucket is another."""
    data, wide = archive.data, _WIDE if archive.data.size // archive.count < _LARGE else _NARROW
    try:
        read = partial(bucket.get, archive.key, etag=data.etag)
        walked = tar.scan(read, data.size, first_key=archive.first, wide=wide, large=_LARGE, into=made)
    except FormatError as error:
        raise Unfit(f"it is no archive that can be read: {error}") from error
    if walked.count != archive.count:
        raise Unfit(f"it holds {walked.count} datapoints, but {archive.count} by its name")
    index = archive.index
    if index is not None and index.size == RECORD_SIZE * walked.count and _is(bucket, archive.index_key, index, made):
        return Fit(index.etag, walked.entries_end)
    return Fit(_written(bucket, archive.index_key, made), walked.entries_end)


def _among_few(large: bool) -> AbstractContextManager[object]:
    return _LARGE_ONES if large else nullcontext()


def _is(bucket: Bucket, key: str, there: ObjectInfo, expected: IO[bytes]) -> bool:
    """Whether an object has the bytes of the file, which is as long."""
    expected.seek(0)
    digest = md5(usedforsecurity=False)
    for piece in iter(partial(expected.read, _PIECE), b""):
        digest.update(piece)
    if there.etag == digest.hexdigest():  # as most stores make ETags: no need to ask
        return True
    expected.seek(0)
    return all(expected.read(len(piece)) == piece for piece in bucket.stream(key, 0, there.size, etag=there.etag))


def _written(bucket: Bucket, key: str, index: IO[bytes]) -> str:
    try:
        return bucket.put(key, index)
    except Failure as failure:
        if failure.reason != v1.ERROR_REASON_S3_REFUSED:
            raise
        message = "its index is missing or wrong, and the credentials do not allow to write another"
        raise Unfit(message) from failure


def _with_tail(read: Read, size: int) -> Read:
    """Reads the archive's end once: the last header is mostly there, beside the end marker."""
    start = size - _TAIL
    tail = read(start, size)
    return lambda begin, stop: tail[begin - start : stop - start] if begin >= start else read(begin, stop)
