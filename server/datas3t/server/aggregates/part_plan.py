"""The parts of a pending aggregate and their URLs; of a planned one also the source bytes that each is made of."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from datas3t.archive.join import Part
from datas3t.server import datas3ts, pages
from datas3t.server.aggregates.sources import current_sources, plan_parts, sources_changed
from datas3t.server.db.aggregate_uploads import Aggregate
from datas3t.server.db.dataranges import Datarange
from datas3t.server.intents import AGGREGATES, urls
from datas3t.server.resources import Resources
from datas3t.server.s3.bucket import Bucket, CopyUrl, PartInfo

MAX_RESPONSE = 2 << 20  # bytes of parts in one response: half of what gRPC clients accept by default

_PART_BYTES = 2_000  # of a part in a response, about: two URLs and three headers
_PIECE_BYTES = 32  # of a piece in a response, about


@dataclass(frozen=True, slots=True)
class SignedPart:
    """A part and the URL to PUT it.

    A part of a planned aggregate is made of `pieces`, each a source with its start and stop byte, followed by `zeros`
    zero bytes. If S3 can make it alone, `copy` is the request for that.
    """

    number: int
    size: int
    url: str = field(repr=False)
    pieces: Sequence[tuple[Datarange, int, int]] = ()
    zeros: int = 0
    copy: CopyUrl | None = None


@dataclass(frozen=True, slots=True)
class Signed:
    """As many of the requested parts as fit in a response, and the parts that S3 has received.

    A URL is empty if the aggregate does not need it.
    """

    parts: list[SignedPart]
    part_count: int
    uploaded: list[PartInfo]
    data_put_url: str = field(repr=False)
    index_put_url: str = field(repr=False)
    checksums_put_url: str = field(repr=False)
    expires_at: datetime


def sign_parts(resources: Resources, aggregate_id: int, numbers: Sequence[int]) -> Signed:
    """Sign URLs of a pending aggregate for these parts; keep the aggregate until they expire.

    Raise AGGREGATE_SOURCES_CHANGED, and end the aggregate, if a source was deleted or aggregated since.
    """
    aggregate = AGGREGATES.find_pending(resources, aggregate_id)
    sources = _current_sources(resources, aggregate)
    plan = plan_parts(aggregate, sources) if aggregate.planned else []
    sizes = [part.size for part in plan] if aggregate.planned else urls.part_sizes(aggregate)
    urls.check_part_numbers(numbers, len(sizes))
    bucket = datas3ts.bucket_of(resources, AGGREGATES.datas3t(resources, aggregate))
    uploaded = urls.uploaded_parts(bucket, aggregate, sizes)
    expires_at = AGGREGATES.extend(resources, aggregate)
    if aggregate.planned:
        signed = _planned_parts(resources, bucket, aggregate, sources, plan, numbers)
    else:
        signed = _parts(resources, bucket, aggregate, sizes, numbers)
    return Signed(
        list(pages.fitting(signed, _response_size, MAX_RESPONSE)),
        len(sizes),
        uploaded,
        data_put_url=urls.for_archive(resources, bucket, aggregate),
        index_put_url="" if aggregate.planned else urls.for_index(resources, bucket, aggregate),
        checksums_put_url=urls.for_checksums(resources, bucket, aggregate),
        expires_at=expires_at,
    )


def _current_sources(resources: Resources, aggregate: Aggregate) -> list[Datarange]:
    sources = current_sources(resources, aggregate)
    if sources is None:
        failure = sources_changed(aggregate)
        if not AGGREGATES.fail(resources, aggregate, failure):
            AGGREGATES.find_pending(resources, aggregate.id)  # raises the outcome if another call has ended it
        raise failure
    return sources


def _parts(
    resources: Resources, bucket: Bucket, aggregate: Aggregate, sizes: Sequence[int], numbers: Sequence[int]
) -> Iterator[SignedPart]:
    for number, url in urls.for_parts(resources, bucket, aggregate, numbers):
        yield SignedPart(number, sizes[number - 1], url)


def _planned_parts(
    resources: Resources,
    bucket: Bucket,
    aggregate: Aggregate,
    sources: Sequence[Datarange],
    plan: Sequence[Part],
    numbers: Sequence[int],
) -> Iterator[SignedPart]:
    for number, url in urls.for_parts(resources, bucket, aggregate, numbers):
        part = plan[number - 1]
        pieces = [(sources[source], start, stop) for source, start, stop in part.pieces]
        copy = _copy_url(resources, bucket, aggregate, number, *pieces[0]) if part.copied else None
        yield SignedPart(number, part.size, url, pieces, part.zeros, copy)


def _copy_url(
    resources: Resources, bucket: Bucket, aggregate: Aggregate, number: int, source: Datarange, start: int, stop: int
) -> CopyUrl:
    assert aggregate.s3_upload_id is not None
    target = aggregate.data_object_key, aggregate.s3_upload_id, number
    return bucket.copy_part_url(*target, source.data_object_key, start, stop, resources.url_lifetime)


def _response_size(part: SignedPart) -> int:
    return _PART_BYTES + _PIECE_BYTES * len(part.pieces)
