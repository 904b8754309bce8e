"""An archive that an import found: is it readable, and does its index fit? Where not, the index is made anew.

Contents are skipped, not read. No transaction is open meanwhile.
"""

from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from hashlib import md5
from threading import BoundedSemaphore

from datas3t import v1
from datas3t.archive import tar
from datas3t.archive.errors import FormatError
from datas3t.archive.index import RECORD_SIZE
from datas3t.server.completion import Read, check_index
from datas3t.server.errors import Failure
from datas3t.server.import_listing import Archive
from datas3t.server.s3.bucket import Bucket, ObjectChanged, ObjectInfo, ObjectMissing

WHOLE = 256 << 10  # up to this size an archive is read in one piece

_TAIL = 64 << 10
_SAMPLE = range(4, 33)  # headers that are looked at, and one more for every 16 MiB
_LARGE = 1_600_000  # a content that takes longer to read than another request does
_WIDE, _NARROW = 8 << 20, 256 << 10  # what a walk reads ahead: among small contents, and where most are large
_WALKS = BoundedSemaphore(4)  # each has some 25 MB in hand


@dataclass(frozen=True, slots=True)
class Fit:
    """What the row of an archive says beside the listing: its index, and where its end marker starts."""

    index_etag: str
    entries_size: int


class Unfit(Exception):  # noqa: N818 - it is left out, which is no defect
    """The archive cannot be imported; the message says why."""


def check(bucket: Bucket, archive: Archive) -> Fit:
    """What its row is to say. Raises Unfit, or Failure where S3 does not answer."""
    try:
        return _by_index(bucket, archive) or _by_walk(bucket, archive)
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


def _by_walk(bucket: Bucket, archive: Archive) -> Fit:
    """From header to header; writes the index where the one in the bucket is another."""
    data = archive.data
    with _WALKS if data.size > WHOLE else nullcontext():
        try:
            read = partial(bucket.get, archive.key, etag=data.etag)
            wide = _WIDE if data.size // archive.count < _LARGE else _NARROW
            made = tar.scan(read, data.size, first_key=archive.first, wide=wide, large=_LARGE)
        except FormatError as error:
            raise Unfit(f"it is no archive that can be read: {error}") from error
        if made.count != archive.count:
            raise Unfit(f"it holds {made.count} datapoints, but {archive.count} by its name")
        if archive.index is not None and _is(bucket, archive.index_key, archive.index, made.index):
            return Fit(archive.index.etag, made.entries_end)
        return Fit(_written(bucket, archive.index_key, made.index), made.entries_end)


def _is(bucket: Bucket, key: str, there: ObjectInfo, expected: bytes) -> bool:
    if there.size != len(expected):
        return False
    if there.etag == md5(expected, usedforsecurity=False).hexdigest():  # as most stores make it: no need to ask
        return True
    return bucket.get(key, 0, there.size, etag=there.etag) == expected


def _written(bucket: Bucket, key: str, index: bytes) -> str:
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
