"""Checks of objects in S3: uploads and aggregates run them before they commit, and imports before they add a row.

S3 is called and no transaction is open. An object that is wrong raises InvalidUploadError, which is final. If S3 does
not respond, that is a Failure, and the call may be repeated.
"""

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from datas3t import v1
from datas3t.archive import FormatError, checksums, index, tar
from datas3t.archive.header import Read
from datas3t.archive.index import RECORD_SIZE, Entry
from datas3t.server.call import in_current_call
from datas3t.server.errors import Failure
from datas3t.server.objects.contents import Told
from datas3t.server.s3.bucket import Bucket, ObjectChanged, ObjectInfo, ObjectMissing

WHOLE_ARCHIVE = 4 << 20  # bytes; up to this size every header is checked, and the archive is read in one request
SAMPLE = 32  # headers of a larger archive that are checked: one small request each

_RANDOM = random.SystemRandom()
_INDEX_PIECE = 1 << 18  # records of an index in memory at a time: 4 MiB
_THREADS = 4  # requests for headers at a time, for one completion


class InvalidUploadError(Exception):
    """An object is not what was announced, or breaks a rule of the format.

    The message is for people, and says what to do next. The upload or aggregate fails with it.
    """


@dataclass(frozen=True, slots=True)
class CheckedObjects:
    """What the row of a datarange stores about its objects. Sizes are in bytes.

    `checksums_etag` is None if there are no checksums, and `extension` if not all entries have one, or it is not known.
    """

    size: int
    entries_size: int
    data_etag: str
    index_etag: str
    checksums_etag: str | None = None
    extension: str | None = None


def find_object(bucket: Bucket, key: str, what: str, size: int | None) -> ObjectInfo:
    """Return the object; raise InvalidUploadError if it is missing or has another size (None: any size will do).

    `what` names the object in the message.
    """
    stored = bucket.head(key)
    if stored is None:
        raise InvalidUploadError(f"the {what} was never uploaded; start again")
    _check_size(stored, what, size)
    return stored


def _check_size(stored: ObjectInfo, what: str, size: int | None) -> None:
    if size not in (None, stored.size):
        raise InvalidUploadError(f"the {what} in the bucket has {stored.size} bytes instead of {size}; start again")


def check_objects(
    bucket: Bucket,
    data_key: str,
    index_key: str,
    first: int,
    count: int,
    data_size: int | None,
    *,
    checksums_key: str | None = None,
    extension: str | None = None,
) -> CheckedObjects:
    """Check that an archive of `count` datapoints from key `first` on is stored, and that its index describes it.

    With `checksums_key`, its checksums must be stored as well. The contents of a small archive are compared with them,
    and those of the sample of a larger one, unless they are large. `extension` is what the names of the entries that
    are read must have.

    A small archive is read whole, and all of its headers are checked. For a larger one, the positions in the whole
    index, a random sample of the headers and the end marker are checked. Whatever reads the archive later, such as a
    download or an aggregate, checks each header that it reads. `data_size` is in bytes; None stands for any size.
    """
    data = StoredObject(bucket, data_key, "archive", data_size)
    stored_index = StoredObject(bucket, index_key, "index", RECORD_SIZE * count)
    stored_checksums = None
    if checksums_key is not None:
        stored_checksums = StoredObject(bucket, checksums_key, "checksums object", checksums.RECORD_SIZE * count)
    told = Told(first, count, stored_checksums.read if stored_checksums else None, extension)
    size = data.info().size if data_size is None else data_size
    check = _check_whole if size <= WHOLE_ARCHIVE else _check_sample
    try:
        entries_size = check(data.read, stored_index.read, told, first, count, size)
    except InvalidUploadError:
        data.info()  # if the archive is missing or has another size, that is the error
        raise
    except FormatError as error:
        raise InvalidUploadError(f"{error}; correct the archive and start again") from error
    except (ObjectMissing, ObjectChanged) as error:
        raise InvalidUploadError("an object changed while it was checked; start again") from error
    checksums_etag = stored_checksums.info().etag if stored_checksums else None
    return CheckedObjects(size, entries_size, data.info().etag, stored_index.info().etag, checksums_etag, extension)


class StoredObject:
    """An object that is checked. The first read shows its size and its ETag, which all other reads demand.

    `what` names it in messages. `size` is the one that it must have; None for any.
    """

    def __init__(self, bucket: Bucket, key: str, what: str, size: int | None) -> None:
        self._bucket = bucket
        self._key = key
        self._what = what
        self._size = size
        self._info: ObjectInfo | None = None
        self._lock = threading.Lock()

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes from `start` up to `stop`.

        Raises:
            InvalidUploadError: It is missing or has another size.
            ObjectMissing, ObjectChanged: It was there before, and is another one now.
        """
        if start >= stop:
            return b""
        with self._lock:
            if stop - start > WHOLE_ARCHIVE:
                self.info()  # the announced size may be any number, and this much memory is only for what is there
            if self._info is None:
                try:
                    content, self._info = self._bucket.read(self._key, start, stop)
                except (ObjectMissing, ObjectChanged, Failure) as error:
                    if isinstance(error, Failure) and error.reason != v1.ERROR_REASON_S3_UNAVAILABLE:
                        raise
                    # It may have another size: find out which one. Some stores refuse a range beyond its end with 400.
                    find_object(self._bucket, self._key, self._what, self._size)
                    raise
                if self._info is not None:
                    _check_size(self._info, self._what, self._size)
                    return content
        return self._bucket.get(self._key, start, stop, etag=self.info().etag)

    def info(self) -> ObjectInfo:
        """Return its size and its ETag, by a request if nothing was read before."""
        if self._info is None:
            self._info = find_object(self._bucket, self._key, self._what, self._size)
        return self._info


def check_index(read: Read, count: int, data_size: int, sample_size: int = SAMPLE) -> tuple[int, dict[int, Entry]]:
    """Check that the entries of an index follow each other without a gap, and leave room for the end marker.

    Args:
        read: Reads a range of the index.
        count: The number of entries, at least 1.
        data_size: The size of the archive in bytes.
        sample_size: The maximum number of entries to return, 2 or more.

    Returns:
        The byte at which the last entry ends, and some entries by number, the first and the last among them.

    Raises:
        IndexFormatError: An entry is not where the one before it ends, or the archive is too small.
    """
    found = {}
    wanted = sample(count, sample_size)
    position = 0
    for start in range(0, count, _INDEX_PIECE):
        stop = min(start + _INDEX_PIECE, count)
        piece = read(start * RECORD_SIZE, stop * RECORD_SIZE)
        position = index.check_records(piece, position, start)
        found.update({number: index.entry_at(piece, number - start) for number in wanted if start <= number < stop})
    index.check_room(position, data_size)
    return position, found


def sample(count: int, limit: int) -> list[int]:
    """Return at most `limit` of the numbers from 0 to `count` - 1, in order: the first, the last, and random others.

    Clients cannot predict the numbers, so they cannot place a wrong entry where it is never checked.
    """
    if count <= limit:
        return list(range(count))
    return [0, *sorted(_RANDOM.sample(range(1, count - 1), limit - 2)), count - 1]


def _check_whole(read: Read, read_index: Read, told: Told, first: int, count: int, data_size: int) -> int:
    """Check every entry of an archive and every record of its index; return where the entries end."""
    archive, stored = read(0, data_size), read_index(0, RECORD_SIZE * count)
    scanned = tar.scan(lambda start, stop: archive[start:stop], data_size, first_key=first)
    if scanned.count != count:
        message = f"the archive holds {scanned.count} datapoints, but {count} were announced; start again"
        raise InvalidUploadError(message)
    entries = index.decode(scanned.index)
    for key, (actual, given) in enumerate(zip(entries, index.decode(stored), strict=True), first):
        if actual != given:
            message = f"the index is wrong about datapoint {key}: it has {_described(given)}"
            raise InvalidUploadError(f"{message}, but the archive has {_described(actual)}; start again")
    told.check_all(archive, entries)
    return scanned.entries_end


def _check_sample(read: Read, read_index: Read, told: Told, _first: int, count: int, data_size: int) -> int:
    """Check an index, a sample of the entries and the end marker; return where the entries end."""
    stop, entries = check_index(read_index, count, data_size)

    told.load()

    def check_entry(number: int) -> None:
        entry = entries[number]
        told.check(number, entry, read(entry.position, entry.position + told.bytes_needed(entry)))

    with ThreadPoolExecutor(_THREADS) as threads:
        for _ in threads.map(in_current_call(check_entry), entries):
            pass
    tar.check_end(read, stop, data_size)
    return stop


def _described(entry: Entry) -> str:
    return f"{entry.size} bytes after {entry.header_blocks} header blocks at byte {entry.position}"
