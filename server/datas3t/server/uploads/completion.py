"""The checks of a completion: what stands in S3 is what was announced, and keeps the rules of the format.

S3 is asked and no transaction is open. What is wrong is Invalid, which is final; where S3 is away, that is a Failure.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from datas3t.archive import FormatError, index, tar
from datas3t.archive.index import RECORD_SIZE, Entry
from datas3t.server.s3.bucket import Bucket, InvalidParts, ObjectChanged, ObjectInfo, ObjectMissing, UploadMissing

SMALL = 4 << 20
SAMPLE = 32

_RECORDS = 1 << 18  # of the index, 4 MiB, that are in memory at once
_AT_ONCE = 4
_SHOWN = 100  # characters of an ETag that was given

Read = Callable[[int, int], bytes]


class Invalid(Exception):  # noqa: N818 - it ends an upload, it is no defect
    """What was uploaded is not what was announced, or breaks a rule. The message is for people, and final."""


@dataclass(frozen=True, slots=True)
class Announced:
    """What the client said it would upload. `s3_upload_id` is None for one PUT; ETags are without quotes."""

    first: int
    last: int
    data_size: int
    data_key: str
    index_key: str
    part_size: int
    s3_upload_id: str | None
    etags: Sequence[str]

    @property
    def count(self) -> int:
        """How many datapoints."""
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True)
class Checked:
    """What a datarange's row says of its objects."""

    size: int
    entries_size: int
    data_etag: str
    index_etag: str


def check(bucket: Bucket, announced: Announced) -> Checked:
    """Puts the parts together and checks archive and index; raises Invalid, or Failure where S3 does not answer."""
    if announced.s3_upload_id is not None:
        join_parts(
            bucket,
            announced.data_key,
            announced.s3_upload_id,
            part_sizes(announced.data_size, announced.part_size),
            announced.etags,
        )
    data = stands(bucket, announced.data_key, "archive", announced.data_size)
    of_index = stands(bucket, announced.index_key, "index", RECORD_SIZE * announced.count)
    try:
        if announced.data_size <= SMALL:
            entries_size = _check_whole(bucket, announced, data, of_index)
        else:
            entries_size = _check_sample(bucket, announced, data, of_index)
    except FormatError as error:
        raise Invalid(str(error)) from error
    except (ObjectMissing, ObjectChanged) as error:
        raise Invalid("archive or index changed while they were checked; start anew") from error
    return Checked(data.size, entries_size, data.etag, of_index.etag)


def part_sizes(size: int, part_size: int) -> list[int]:
    """The sizes of an archive's parts: all alike, but for the last."""
    return [min(part_size, size - start) for start in range(0, size, part_size)]


def join_parts(bucket: Bucket, key: str, s3_upload_id: str, sizes: Sequence[int | None], etags: Sequence[str]) -> None:
    """Completes a multipart upload of parts with these sizes (None: any) and ETags; one that is complete already stays
    so."""
    if len(etags) != len(sizes):
        raise Invalid(f"the archive has {len(sizes)} parts, but {len(etags)} ETags were given; start anew")
    try:
        _join(bucket, key, s3_upload_id, sizes, etags)
    except Invalid:
        if bucket.head(key) is None:  # else a call before this, or at the same time, has put them together
            raise


def stands(bucket: Bucket, key: str, what: str, size: int) -> ObjectInfo:
    """The object, which must be there and have this size."""
    found = bucket.head(key)
    if found is None:
        raise Invalid(f"the {what} was never uploaded; start anew")
    if found.size != size:
        raise Invalid(f"the {what} in the bucket has {found.size} bytes, but it must have {size}; start anew")
    return found


def check_index(read: Read, count: int, data_size: int, sample_size: int = SAMPLE) -> tuple[int, dict[int, Entry]]:
    """Checks in pieces that an index of `count` entries tiles an archive of that size. Raises IndexFormatError.

    Answers where the entries end, and some of them by number: the first, the last, and some between.
    """
    last, sample = count - 1, {}
    wanted = sorted({last * n // (sample_size - 1) for n in range(sample_size)})
    position = 0
    for number in range(0, count, _RECORDS):
        following = min(number + _RECORDS, count)
        piece = read(number * RECORD_SIZE, following * RECORD_SIZE)
        position = index.check_records(piece, position, number)
        sample.update({n: index.entry_at(piece, n - number) for n in wanted if number <= n < following})
    index.check_room(position, data_size)
    return position, sample


def _join(bucket: Bucket, key: str, s3_upload_id: str, sizes: Sequence[int | None], etags: Sequence[str]) -> None:
    """Parts may vanish while they are looked at: another call may be putting them together."""
    try:
        there = {part.number: part for part in bucket.list_parts(key, s3_upload_id, etags)}
        for number, (size, etag) in enumerate(zip(sizes, etags, strict=True), 1):
            if (part := there.get(number)) is None:
                raise Invalid(f"part {number} of {len(sizes)} was never uploaded; start anew")
            if size not in (None, part.size):
                raise Invalid(f"part {number} has {part.size} bytes instead of {size}; start anew")
            if part.etag != etag:
                said = etag[:_SHOWN]
                raise Invalid(f"part {number} has the ETag {part.etag}, not {said!r} as was said; start anew")
        bucket.complete_multipart(key, s3_upload_id, etags)
    except UploadMissing as error:
        raise Invalid("the multipart upload is gone; start anew") from error
    except InvalidParts as error:
        raise Invalid(f"S3 does not put the parts together: {error}; start anew") from error


def _check_whole(bucket: Bucket, announced: Announced, data: ObjectInfo, of_index: ObjectInfo) -> int:
    """Reads a small archive as a whole: every header is checked, and every byte of the index."""
    archive = bucket.get(announced.data_key, 0, data.size, etag=data.etag)
    made = tar.scan(lambda start, stop: archive[start:stop], data.size, first_key=announced.first)
    if made.count != announced.count:
        raise Invalid(f"the archive holds {made.count} datapoints, not {announced.count} as was said; start anew")
    given = bucket.get(announced.index_key, 0, of_index.size, etag=of_index.etag)
    for number, (right, said) in enumerate(zip(index.decode(made.index), index.decode(given), strict=True)):
        if right != said:
            where = f"the index is wrong about datapoint {announced.first + number}"
            raise Invalid(f"{where}: it says {_shown(said)}, but it is {_shown(right)}; start anew")
    return made.entries_end


def _check_sample(bucket: Bucket, announced: Announced, data: ObjectInfo, of_index: ObjectInfo) -> int:
    """Checks the arithmetic of the whole index, the headers of some entries spread over the archive, and its end."""
    read = partial(bucket.get, announced.data_key, etag=data.etag)
    read_index = partial(bucket.get, announced.index_key, etag=of_index.etag)
    stop, sample = check_index(read_index, announced.count, announced.data_size)

    def check_entry(number: int) -> None:
        entry = sample[number]
        tar.check_entry(read(entry.position, entry.content.start), entry, announced.first + number)

    with ThreadPoolExecutor(_AT_ONCE) as threads:
        for _ in threads.map(check_entry, sample):
            pass
    tar.check_end(read, stop, data.size)
    return stop


def _shown(entry: Entry) -> str:
    return f"{entry.size} bytes behind {entry.header_blocks} header blocks at byte {entry.position}"
