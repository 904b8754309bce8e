"""Aggregates from start to end: a pending row and URLs, then the checks, and one transaction that swaps the dataranges.

Sources may change while S3 is called. The swap notices it, and then changes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from operator import attrgetter

from datas3t import v1
from datas3t.archive import FormatError, join, names, parts
from datas3t.server import datas3ts, tables, values
from datas3t.server.aggregates import ranges
from datas3t.server.aggregates.joined import common_extension
from datas3t.server.aggregates.merged import check_merged
from datas3t.server.aggregates.planned import check_planned
from datas3t.server.aggregates.sources import current_sources, plan_parts, sources_changed
from datas3t.server.dataranges import Presigned, signed
from datas3t.server.db import aggregate_uploads, dataranges, intents, keys_to_delete, pool, s3_buckets
from datas3t.server.db import datas3ts as datas3t_rows
from datas3t.server.db.aggregate_uploads import Aggregate
from datas3t.server.db.dataranges import Datarange
from datas3t.server.db.datas3ts import Datas3t
from datas3t.server.db.table_uploads import TableUpload
from datas3t.server.errors import Failure
from datas3t.server.intents import AGGREGATES, urls
from datas3t.server.intents.joining import PartsRefusedError
from datas3t.server.objects.checks import CheckedObjects, InvalidUploadError
from datas3t.server.resources import Resources
from datas3t.server.s3.bucket import Bucket, ObjectChanged, ObjectMissing
from datas3t.server.tables import CheckedFile

_MAX_ATTEMPTS = 5  # to start an aggregate whose sources change meanwhile
_data_key, _index_key = attrgetter("data_object_key"), attrgetter("index_object_key")
_checksums_key = attrgetter("checksums_object_key")


@dataclass(frozen=True, slots=True)
class Started:
    """A new aggregate, with `data_put_url` for one PUT or `part_urls` from part 1 on, which expire at `expires_at`.

    A planned aggregate has no URLs yet.
    """

    aggregate: Aggregate
    expires_at: datetime
    sources: list[Presigned]
    part_count: int
    data_put_url: str = field(default="", repr=False)
    part_urls: Sequence[str] = field(default=(), repr=False)
    index_put_url: str = field(default="", repr=False)
    checksums_put_url: str = field(default="", repr=False)


def start(
    resources: Resources,
    name: str,
    first: int,
    last: int,
    *,
    planned: bool = False,
    all_urls: bool = True,
    with_checksums: bool = False,
) -> Started:
    """Reserve an object key for what will replace the dataranges from `first` to `last`, and sign its URLs.

    `planned` has the archive made by a part plan, whose URLs `sign_parts` returns. With `all_urls` the result has the
    sources and the URLs of all parts, otherwise no sources and the URLs of the first 1,000 parts. With
    `with_checksums` the client also sends the checksums of the datapoints, unless the aggregate is planned.
    """
    values.name("datas3t_name", name)
    values.span("first_datapoint_index", first, "last_datapoint_index", last)
    with_checksums = with_checksums and not planned
    datas3t, sources, aggregate = _insert(resources, name, first, last, planned, with_checksums)
    bucket, expires_at = datas3ts.bucket_of(resources, datas3t), resources.expiry()
    if aggregate.multipart:
        aggregate = replace(aggregate, s3_upload_id=AGGREGATES.open_multipart(resources, bucket, aggregate))
    signed_sources = signed(resources, bucket, sources) if all_urls else []
    if planned:
        return Started(aggregate, expires_at, signed_sources, len(plan_parts(aggregate, sources)))
    count = len(urls.part_sizes(aggregate))
    numbers = range(1, (count if all_urls else min(count, urls.MAX_PART_URLS)) + 1)
    return Started(
        aggregate,
        expires_at,
        signed_sources,
        count,
        data_put_url=urls.for_archive(resources, bucket, aggregate),
        part_urls=[url for _, url in urls.for_parts(resources, bucket, aggregate, numbers)],
        index_put_url=urls.for_index(resources, bucket, aggregate),
        checksums_put_url=urls.for_checksums(resources, bucket, aggregate),
    )


def complete(
    resources: Resources,
    aggregate_id: int,
    etags: Sequence[str],
    *,
    extension: str = "",
    table_file_ids: Sequence[int] = (),
) -> None:
    """Check the new archive and put its datarange in the place of the sources; a repeated call has the same outcome.

    `etags` are those of the parts, in order; empty if the archive went up in one PUT. `extension` is that of all
    entries, or empty; it does not matter if that of all sources is known. The table files with these ids are committed
    at the same moment. An invalid archive and changed sources are final: they end the aggregate. After any other
    failure the call may be repeated.
    """
    told = values.extension("extension", extension)
    tables.complete_with(
        resources, AGGREGATES, aggregate_id, etags, table_file_ids, partial(_check_and_swap, resources, told)
    )


def cancel(resources: Resources, aggregate_id: int) -> None:
    """Cancel an aggregate and delete its objects, not its sources; raise AGGREGATE_COMPLETED if it is complete."""
    AGGREGATES.cancel(resources, aggregate_id)


def _insert(
    resources: Resources, name: str, first: int, last: int, planned: bool, with_checksums: bool
) -> tuple[Datas3t, list[Datarange], Aggregate]:
    """Insert a pending aggregate of the dataranges that are there now.

    Whether they can be aggregated is computed before the transaction, which verifies that they are still there.
    """
    for _ in range(_MAX_ATTEMPTS):
        datas3t = datas3ts.find(resources, name)
        with pool.connection(resources.pool) as conn:
            equal_parts = planned and any(row.equal_parts for row in s3_buckets.by_ids(conn, [datas3t.bucket_id]))
        sources = ranges.find_sources(resources, datas3t, first, last, planned=planned, equal_parts=equal_parts)
        source_ids = [row.id for row in sources]
        size = join.joined_size(row.entries_size_bytes for row in sources)
        part_size = _part_size(sources, size, planned=planned, equal_parts=equal_parts)
        with pool.transaction(resources.pool) as conn:
            drawn = datas3t_rows.draw_counter(conn, name)
            if drawn is None:
                raise datas3ts.not_found(name)
            key = names.archive_key(name, first, last, drawn.upload_counter)
            aggregate = aggregate_uploads.insert(
                conn,
                drawn.id,
                first,
                last,
                source_ids=source_ids,
                planned=planned,
                data_size=size,
                data_key=key,
                index_key=names.index_key(key),
                part_size=part_size,
                multipart=planned or not parts.is_direct(size),
                with_checksums=with_checksums,
                lifetime=resources.url_lifetime,
            )
        if aggregate is not None:
            return drawn, sources, aggregate
    about = {"datas3t": name, "first": first, "last": last}  # there is no aggregate yet, and so no id
    message = "sources were deleted or aggregated while the aggregate was started; list the dataranges and start again"
    raise Failure(v1.ERROR_REASON_AGGREGATE_SOURCES_CHANGED, message, **about)


def _part_size(sources: Sequence[Datarange], size: int, *, planned: bool, equal_parts: bool) -> int:
    """Return the size of each part but the last; 0 for a part plan whose parts differ in size."""
    if planned:
        return join.equal_part_size([row.entries_size_bytes for row in sources]) if equal_parts else 0
    return size if parts.is_direct(size) else parts.part_size(size)


def _check_and_swap(
    resources: Resources,
    extension: str | None,
    aggregate: Aggregate,
    etags: Sequence[str],
    files: Sequence[TableUpload],
) -> Failure | None:
    """Swap in an aggregate and table files whose objects are as they must be; return the failure if one is final."""
    datas3t = AGGREGATES.datas3t(resources, aggregate)
    sources = current_sources(resources, aggregate)
    if sources is None:
        return sources_changed(aggregate)
    bucket = datas3ts.bucket_of(resources, datas3t)
    urls.check_multipart_opened(bucket, aggregate)
    try:
        checked_files = tables.check(bucket, files)
        checked = _check(resources, bucket, aggregate, sources, etags, common_extension(sources, extension))
        _swap(resources, datas3t, aggregate, checked, checked_files)
    except InvalidUploadError as error:
        if isinstance(error, PartsRefusedError) and aggregate.planned and not aggregate.part_size:
            return _needs_equal_parts(resources, datas3t, aggregate)
        return AGGREGATES.final_failure(aggregate, v1.ERROR_REASON_AGGREGATE_INVALID, str(error))
    except Failure as failure:
        if failure.reason == v1.ERROR_REASON_AGGREGATE_SOURCES_CHANGED:
            return failure
        # An object that is missing because its datarange was deleted since is not damage: the sources have changed.
        if failure.reason == v1.ERROR_REASON_OBJECT_CHANGED and current_sources(resources, aggregate) is None:
            return sources_changed(aggregate)
        raise
    return None


def _needs_equal_parts(resources: Resources, datas3t: Datas3t, aggregate: Aggregate) -> Failure:
    """Remember that the store demands parts of one size, and return the final failure."""
    with pool.connection(resources.pool) as conn:
        s3_buckets.demands_equal_parts(conn, datas3t.bucket_id)
    message = "the store joins only parts of one size, which is remembered; start again, and the parts will be equal"
    return AGGREGATES.final_failure(aggregate, v1.ERROR_REASON_AGGREGATE_NEEDS_EQUAL_PARTS, message)


def _check(
    resources: Resources,
    bucket: Bucket,
    aggregate: Aggregate,
    sources: Sequence[Datarange],
    etags: Sequence[str],
    extension: str | None,
) -> CheckedObjects:
    """Check that the new archive holds exactly the sources' datapoints; raise InvalidUploadError if it does not."""
    check = check_planned if aggregate.planned else check_merged
    try:
        return check(resources, bucket, aggregate, sources, etags, extension)
    except FormatError as error:
        raise InvalidUploadError(f"{error}; start again") from error
    except (ObjectMissing, ObjectChanged) as error:
        raise InvalidUploadError("an object changed while it was checked; start again") from error


def _swap(
    resources: Resources,
    datas3t: Datas3t,
    aggregate: Aggregate,
    checked: CheckedObjects,
    files: Sequence[CheckedFile],
) -> None:
    """Complete the aggregate and replace its sources by one datarange; do nothing if it is not pending any more.

    Table files are committed in the same transaction. The sources' objects stay until every URL that was signed for
    them has expired. Raise AGGREGATE_SOURCES_CHANGED, and change nothing, if a source was deleted or aggregated since.
    """
    with pool.transaction(resources.pool) as conn:
        # The datas3t is locked before dataranges, in the order that all transactions keep.
        locked = datas3t_rows.locked(conn, datas3t.name)
        if locked is None or not AGGREGATES.table.complete(conn, aggregate.id):
            return
        replaced = dataranges.delete_by_ids(conn, datas3t.id, aggregate.source_ids)
        if len(replaced) != len(aggregate.source_ids):
            raise sources_changed(aggregate)
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
            checksums_etag=checked.checksums_etag,
            extension=checked.extension,
        )
        intents.cancel_checksums(conn, datas3t.id, resources.put_grace)
        keys = [*map(_data_key, replaced), *map(_index_key, replaced), *map(_checksums_key, replaced)]
        keys_to_delete.queue(conn, datas3t.bucket_id, keys, after=resources.kept_after_use)
        tables.commit(conn, locked, files, resources.kept_after_use)
