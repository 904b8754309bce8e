"""Aggregates: many dataranges become one. As uploads, they are intents first, and end in one transaction: the swap.

No transaction is open while S3 is asked: what changes in between is seen by the swap, which then changes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from datas3t import v1
from datas3t.archive import join, names, parts
from datas3t.server import datas3ts, values
from datas3t.server.aggregates import completion, ranges
from datas3t.server.aggregates import sources as aggregate_sources
from datas3t.server.dataranges import Presigned, signed
from datas3t.server.db import aggregate_uploads, dataranges, keys_to_delete, pool
from datas3t.server.db import datas3ts as datas3t_rows
from datas3t.server.db.aggregate_uploads import Aggregate
from datas3t.server.db.dataranges import Datarange
from datas3t.server.db.datas3ts import Datas3t
from datas3t.server.errors import Failure
from datas3t.server.intents import aggregate_states, urls
from datas3t.server.intents.urls import FIRST_URLS
from datas3t.server.resources import Resources
from datas3t.server.s3.bucket import Bucket
from datas3t.server.uploads.completion import Checked, Invalid


@dataclass(frozen=True, slots=True)
class Started:
    """A new aggregate: `data_put_url` for one PUT, or `part_urls` from part 1 on; a planned one has no URLs yet."""

    aggregate: Aggregate
    sources: list[Presigned]
    part_count: int
    data_put_url: str = ""
    part_urls: Sequence[str] = ()
    index_put_url: str = ""


def start(
    resources: Resources, name: str, first: int, last: int, *, planned: bool = False, all_urls: bool = True
) -> Started:
    """Reserves an object key for what will replace all dataranges from `first` to `last`, and signs its URLs.

    With its sources and the URLs of all parts, or without sources and with those of the first 1,000.
    """
    values.name("datas3t_name", name)
    values.span("first_datapoint_index", first, "last_datapoint_index", last)
    datas3t, sources, aggregate = _intend(resources, name, first, last, planned)
    bucket = datas3ts.bucket_of(resources, datas3t)
    if aggregate.multipart:
        aggregate = _opened(resources, datas3t, bucket, aggregate)
    listed = signed(resources, bucket, sources) if all_urls else []
    if planned:
        return Started(aggregate, listed, len(aggregate_sources.plan(sources)))
    count = urls.part_count(aggregate)
    numbers = range(1, count + 1) if all_urls else range(1, count + 1)[:FIRST_URLS]
    return Started(
        aggregate,
        listed,
        count,
        data_put_url=urls.of_archive(resources, bucket, aggregate),
        part_urls=[url for _, url in urls.of_parts(resources, bucket, aggregate, numbers)],
        index_put_url=urls.of_index(resources, bucket, aggregate),
    )


def complete(resources: Resources, aggregate_id: int, etags: Sequence[str]) -> None:
    """Checks the new archive and puts it in its sources' place. A final failure ends the aggregate.

    Called again it answers as the first time.
    """
    etags = values.etags("upload_ids", etags)
    aggregate = aggregate_states.find(resources, aggregate_id)
    if aggregate.state != "pending":
        aggregate_states.replay(aggregate)
        return
    if etags and not aggregate.multipart:
        raise values.invalid("upload_ids", "are for archives in parts; this one is a single PUT")
    datas3t = aggregate_sources.datas3t(resources, aggregate)
    failure = _checked_and_swapped(resources, datas3t, aggregate, etags)
    if failure is not None and aggregate_states.fail(resources, datas3t, aggregate, failure):
        raise failure
    aggregate_states.replay(aggregate_states.find(resources, aggregate_id))


def cancel(resources: Resources, aggregate_id: int) -> None:
    """Ends an aggregate; its objects go, its sources stay. Raises AGGREGATE_COMPLETED where it is too late."""
    aggregate = aggregate_states.find(resources, aggregate_id)
    if aggregate.state == "pending":
        aggregate_states.cancel(resources, aggregate_sources.datas3t(resources, aggregate), aggregate)
        aggregate = aggregate_states.find(resources, aggregate_id)
    if aggregate.state == "completed":
        raise aggregate_states.completed(aggregate)


def _intend(
    resources: Resources, name: str, first: int, last: int, planned: bool
) -> tuple[Datas3t, list[Datarange], Aggregate]:
    with pool.transaction(resources.pool) as conn:
        datas3t = datas3t_rows.draw_counter(conn, name)
        if datas3t is None:
            raise datas3ts.not_found(name)
        sources = ranges.sources(conn, datas3t, first, last, planned=planned)
        size = join.joined_size(row.entries_size_bytes for row in sources)
        multipart = planned or not parts.is_direct(size)
        key = names.archive_key(name, first, last, datas3t.upload_counter)
        aggregate = aggregate_uploads.insert(
            conn,
            datas3t.id,
            first,
            last,
            source_ids=[row.id for row in sources],
            planned=planned,
            data_size=size,
            data_key=key,
            index_key=names.index_key(key),
            part_size=0 if planned else parts.part_size(size) if multipart else size,
            multipart=multipart,
            expires_at=resources.expiry(),
        )
    return datas3t, sources, aggregate


def _opened(resources: Resources, datas3t: Datas3t, bucket: Bucket, aggregate: Aggregate) -> Aggregate:
    """The aggregate with its multipart upload in S3; where S3 opens none, the intent is over."""
    try:
        s3_upload_id = bucket.create_multipart(aggregate.data_object_key)
    except Failure:
        aggregate_states.cancel(resources, datas3t, aggregate)
        raise
    with pool.connection(resources.pool) as conn:
        if not aggregate_uploads.set_s3_upload_id(conn, aggregate.id, s3_upload_id):
            raise aggregate_states.cancelled(aggregate)
    return replace(aggregate, s3_upload_id=s3_upload_id)


def _checked_and_swapped(
    resources: Resources, datas3t: Datas3t, aggregate: Aggregate, etags: Sequence[str]
) -> Failure | None:
    """Why it is not, where that is final. None also where the aggregate ended meanwhile."""
    sources = aggregate_sources.current(resources, aggregate)
    if sources is None:
        return aggregate_sources.changed(aggregate)
    bucket = datas3ts.bucket_of(resources, datas3t)
    urls.check_opened(bucket, aggregate)
    try:
        checked = completion.check(bucket, aggregate, sources, etags, resources.scratch)
        _swap(resources, datas3t, aggregate, checked)
    except Invalid as error:
        return aggregate_states.final(aggregate, v1.ERROR_REASON_AGGREGATE_INVALID, str(error))
    except Failure as failure:
        if failure.reason == v1.ERROR_REASON_AGGREGATE_SOURCES_CHANGED:
            return failure
        if failure.reason == v1.ERROR_REASON_OBJECT_CHANGED and aggregate_sources.current(resources, aggregate) is None:
            return aggregate_sources.changed(aggregate)  # deleted while they were read
        raise
    return None


def _swap(resources: Resources, datas3t: Datas3t, aggregate: Aggregate, checked: Checked) -> None:
    """The new datarange in its sources' place; their objects stay until every URL for them has ended.

    Raises AGGREGATE_SOURCES_CHANGED, and then nothing is changed; neither is it where the aggregate ended meanwhile.
    """
    with pool.transaction(resources.pool) as conn:
        datas3t_rows.locked(conn, datas3t.name)  # before dataranges, as everybody does
        if aggregate_uploads.finish(conn, aggregate.id, "completed") is None:
            return
        gone = dataranges.delete_by_ids(conn, aggregate.source_ids)
        if len(gone) != len(aggregate.source_ids):
            raise aggregate_sources.changed(aggregate)
        dataranges.insert(
            conn,
            datas3t.id,
            aggregate.first_key,
            aggregate.last_key,
            data_key=aggregate.data_object_key,
            index_key=aggregate.index_object_key,
            size=checked.size,
            entries_size=checked.entries_size,
            data_etag=checked.data_etag,
            index_etag=checked.index_etag,
        )
        old = [key for row in gone for key in (row.data_object_key, row.index_object_key)]
        keys_to_delete.queue(conn, datas3t.bucket_id, old, due_at=resources.expiry() + resources.put_grace)
