"""The parts of an open aggregate, signed a message full at a time; of a planned one with what each is made of."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from datas3t.archive.join import Part
from datas3t.server import datas3ts, pages
from datas3t.server.aggregates import sources as aggregate_sources
from datas3t.server.db import aggregate_uploads, pool
from datas3t.server.db.aggregate_uploads import Aggregate
from datas3t.server.db.dataranges import Datarange
from datas3t.server.intents import aggregate_states, urls
from datas3t.server.resources import Resources
from datas3t.server.s3.bucket import Bucket, CopyUrl, PartInfo
from datas3t.server.uploads import completion

MESSAGE_SIZE = 2 << 20  # about as much as the parts of one answer take, in bytes

_PART_SIZE = 2_000  # two URLs and three headers
_PIECE_SIZE = 32


@dataclass(frozen=True, slots=True)
class SignedPart:
    """`url` takes the part's bytes: those of `pieces`, by datarange, start and stop, and `zeros` behind them. Both are
    empty where it is not planned. `copy`: how S3 makes the part by itself."""

    number: int
    size: int
    url: str
    pieces: Sequence[tuple[Datarange, int, int]] = ()
    zeros: int = 0
    copy: CopyUrl | None = None


@dataclass(frozen=True, slots=True)
class Signed:
    """Of the parts asked for as many as fit, and those that S3 already has; URLs that there are none of are empty."""

    parts: list[SignedPart]
    part_count: int
    uploaded: list[PartInfo]
    data_put_url: str
    index_put_url: str
    expires_at: datetime


def sign(resources: Resources, aggregate_id: int, numbers: Sequence[int]) -> Signed:
    """Signs parts of an open aggregate, which then lives as long as these URLs. Where a source is gone, it is over."""
    aggregate = aggregate_states.find_pending(resources, aggregate_id)
    sources = _sources(resources, aggregate)
    planned = aggregate_sources.plan(sources) if aggregate.planned else []
    sizes = _sizes(aggregate, planned)
    count = len(sizes) if aggregate.multipart else 0
    urls.check_numbers(numbers, count)
    bucket = datas3ts.bucket_of(resources, aggregate_sources.datas3t(resources, aggregate))
    uploaded = urls.uploaded(bucket, aggregate, sizes)
    expires_at = resources.expiry()
    with pool.connection(resources.pool) as conn:
        still = aggregate_uploads.extend(conn, aggregate.id, expires_at)
    if not still:
        aggregate = aggregate_states.find_pending(resources, aggregate_id)
    signed = _signed(resources, bucket, aggregate, sources, planned, numbers)
    return Signed(
        list(pages.that_fit(signed, _size, MESSAGE_SIZE)),
        count,
        uploaded,
        data_put_url=urls.of_archive(resources, bucket, aggregate),
        index_put_url="" if planned else urls.of_index(resources, bucket, aggregate),
        expires_at=expires_at,
    )


def _sources(resources: Resources, aggregate: Aggregate) -> list[Datarange]:
    sources = aggregate_sources.current(resources, aggregate)
    if sources is None:
        failure = aggregate_sources.changed(aggregate)
        if not aggregate_states.fail(resources, aggregate_sources.datas3t(resources, aggregate), aggregate, failure):
            aggregate_states.find_pending(resources, aggregate.id)  # it ended meanwhile, perhaps well
        raise failure
    return sources


def _sizes(aggregate: Aggregate, planned: Sequence[Part]) -> list[int]:
    if aggregate.planned:
        return [part.size for part in planned]
    return completion.part_sizes(aggregate.data_size, aggregate.part_size)


def _signed(
    resources: Resources,
    bucket: Bucket,
    aggregate: Aggregate,
    sources: Sequence[Datarange],
    planned: Sequence[Part],
    numbers: Sequence[int],
) -> Iterator[SignedPart]:
    sizes = _sizes(aggregate, planned)
    for number, url in urls.of_parts(resources, bucket, aggregate, numbers):
        if not planned:
            yield SignedPart(number, sizes[number - 1], url)
            continue
        part = planned[number - 1]
        pieces = [(sources[source], start, stop) for source, start, stop in part.pieces]
        copy = _copy_url(resources, bucket, aggregate, number, *pieces[0]) if part.copied else None
        yield SignedPart(number, part.size, url, pieces, part.zeros, copy)


def _copy_url(
    resources: Resources, bucket: Bucket, aggregate: Aggregate, number: int, source: Datarange, start: int, stop: int
) -> CopyUrl:
    assert aggregate.s3_upload_id is not None
    to = aggregate.data_object_key, aggregate.s3_upload_id, number
    return bucket.copy_part_url(*to, source.data_object_key, start, stop, resources.url_lifetime)


def _size(part: SignedPart) -> int:
    return _PART_SIZE + _PIECE_SIZE * len(part.pieces)
