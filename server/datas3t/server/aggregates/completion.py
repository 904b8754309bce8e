"""The checks of an aggregate's completion: the new archive holds exactly the sources' datapoints.

A planned one is the sources' own bytes, so sizes, seams and end marker tell all, and the server writes the index. One
that the client merged is checked as an upload is, and compared with the sources.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import IO

from datas3t.archive import FormatError, index, tar
from datas3t.archive.index import RECORD_SIZE
from datas3t.server.aggregates import archives, comparison, joined_index
from datas3t.server.aggregates import sources as aggregate_sources
from datas3t.server.aggregates.comparison import Readable, source, spread
from datas3t.server.db.aggregate_uploads import Aggregate
from datas3t.server.db.dataranges import Datarange
from datas3t.server.intents import urls
from datas3t.server.parallel import at_once
from datas3t.server.s3.bucket import Bucket, ObjectChanged, ObjectMissing
from datas3t.server.spool import spool
from datas3t.server.uploads import completion
from datas3t.server.uploads.completion import Announced, Checked, Invalid

SEAMS = 256  # that are looked at


def check(
    bucket: Bucket, aggregate: Aggregate, sources: Sequence[Datarange], etags: Sequence[str], scratch: Path
) -> Checked:
    """Puts the parts together and checks the new archive; raises Invalid, which is final, or Failure.

    OBJECT_CHANGED: a source is not what was committed, or was deleted meanwhile. `sources` are by first key. Memory is
    the same however many datapoints there are; a long index is made in the folder `scratch`.
    """
    try:
        if aggregate.planned:
            return _check_planned(bucket, aggregate, sources, etags, scratch)
        return _check_merged(bucket, aggregate, sources, etags)
    except FormatError as error:
        raise Invalid(f"{error}; start anew") from error
    except (ObjectMissing, ObjectChanged) as error:
        raise Invalid("archive or index changed while they were checked; start anew") from error


def _check_planned(
    bucket: Bucket, aggregate: Aggregate, sources: Sequence[Datarange], etags: Sequence[str], scratch: Path
) -> Checked:
    assert aggregate.s3_upload_id is not None  # check_opened has seen to it
    key = aggregate.data_object_key
    sizes = [part.size for part in aggregate_sources.plan(sources)]
    completion.join_parts(bucket, key, aggregate.s3_upload_id, sizes, etags)
    data = completion.stands(bucket, key, "archive", aggregate.data_size)
    read = partial(bucket.get, key, etag=data.etag)
    entries_size = sum(row.entries_size_bytes for row in sources)
    tar.check_end(read, entries_size, data.size)
    archives.check(bucket, sources)
    with spool(scratch) as made:
        for piece in joined_index.joined(bucket, sources):
            made.write(piece)
        _check_seams(read, sources, made)
        index_etag = bucket.put(aggregate.index_object_key, made)
    return Checked(data.size, entries_size, data.etag, index_etag)


def _check_merged(bucket: Bucket, aggregate: Aggregate, sources: Sequence[Datarange], etags: Sequence[str]) -> Checked:
    """Another tar writer's archive may be larger or smaller than ours, but not have more parts than were signed."""
    key, index_key = aggregate.data_object_key, aggregate.index_object_key
    if aggregate.s3_upload_id is not None:
        signed = urls.part_count(aggregate)
        if not 1 <= len(etags) <= signed:
            raise Invalid(f"1 to {signed} parts were signed, but {len(etags)} ETags were given; start anew")
        completion.join_parts(bucket, key, aggregate.s3_upload_id, [None] * len(etags), etags)
    data = bucket.head(key)
    if data is None:
        raise Invalid("the archive was never uploaded; start anew")
    announced = Announced(
        first=aggregate.first_key,
        last=aggregate.last_key,
        data_size=data.size,
        data_key=key,
        index_key=index_key,
        part_size=0,
        s3_upload_id=None,
        etags=(),
    )
    checked = completion.check(bucket, announced)
    read_index = partial(bucket.get, index_key, etag=checked.index_etag)
    new = Readable(aggregate.first_key, partial(bucket.get, key, etag=checked.data_etag), read_index)
    comparison.compare(new, [(row, source(bucket, row)) for row in sources])
    return checked


def _check_seams(read: completion.Read, sources: Sequence[Datarange], made: IO[bytes]) -> None:
    """Each source's first entry stands where the new index says; where there are many sources, of some of them."""
    first = sources[0].first_key

    def check_seam(seam: tuple[int, index.Entry]) -> None:
        key, entry = seam
        tar.check_entry(read(entry.position, entry.content.start), entry, key)

    keys = [sources[number].first_key for number in spread(len(sources), SEAMS)]
    for _ in at_once(check_seam, [(key, _entry(made, key - first)) for key in keys]):
        pass


def _entry(made: IO[bytes], number: int) -> index.Entry:
    made.seek(RECORD_SIZE * number)
    return index.entry_at(made.read(RECORD_SIZE), 0)
