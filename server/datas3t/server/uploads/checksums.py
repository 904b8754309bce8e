"""Checksums that are added to a datarange that has none: a pending row and a URL, then checks, and one transaction.

Their object key follows from that of the archive. So one that was left behind has the key of the next, and is deleted
before the next is started.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial

from datas3t import v1
from datas3t.archive import FormatError, checksums, index
from datas3t.archive.header import Read
from datas3t.archive.index import RECORD_SIZE
from datas3t.archive.names import MAX_KEY
from datas3t.server import datas3ts, values
from datas3t.server.call import map_concurrently
from datas3t.server.dataranges import object_changed
from datas3t.server.db import checksums_uploads, dataranges, keys_to_delete, pool
from datas3t.server.db import datas3ts as datas3t_rows
from datas3t.server.db.checksums_uploads import ChecksumsUpload
from datas3t.server.db.dataranges import Datarange
from datas3t.server.db.pool import Connection
from datas3t.server.errors import Failure
from datas3t.server.intents import CHECKSUMS
from datas3t.server.objects import checks
from datas3t.server.objects.checks import InvalidUploadError, StoredObject
from datas3t.server.objects.contents import Told
from datas3t.server.resources import Resources
from datas3t.server.s3.bucket import Bucket, ObjectChanged, ObjectMissing

_LIFETIME = timedelta(hours=1)  # of a URL at most: one PUT of 4 bytes for each datapoint takes less


@dataclass(frozen=True, slots=True)
class Started:
    """A new addition of checksums, and the URL to PUT them, which expires at `expires_at`."""

    upload: ChecksumsUpload
    put_url: str = field(repr=False)
    expires_at: datetime


def start(resources: Resources, name: str, datarange_id: int) -> Started:
    """Reserve the object of a datarange's checksums, and sign the URL to PUT them.

    Raises DATARANGE_NOT_FOUND, CHECKSUMS_EXIST, or CHECKSUMS_UNDER_WAY if another one is open.
    """
    lifetime = min(resources.url_lifetime, _LIFETIME)
    datas3t = datas3ts.find(resources, name)
    bucket, expires_at = datas3ts.bucket_of(resources, datas3t), datetime.now(UTC) + lifetime
    with pool.transaction(resources.pool) as conn:
        locked = datas3t_rows.locked(conn, name)
        if locked is None or locked.id != datas3t.id:
            raise datas3ts.not_found(name)
        upload = _insert(resources, conn, name, locked.id, locked.bucket_id, datarange_id, lifetime)
    return Started(upload, bucket.put_url(upload.checksums_object_key, lifetime), expires_at)


def complete(resources: Resources, checksums_id: int, *, extension: str = "") -> None:
    """Check the checksums and give them to their datarange; a repeated call has the same outcome.

    Wrong checksums are final. After any other failure the call may be repeated. `extension` is that of all entries, or
    empty.
    """
    told = values.extension("extension", extension)
    CHECKSUMS.complete(resources, checksums_id, (), partial(_check_and_commit, resources, told))


def cancel(resources: Resources, checksums_id: int) -> None:
    """Cancel an addition of checksums and delete them; raise CHECKSUMS_COMPLETED if it is complete."""
    CHECKSUMS.cancel(resources, checksums_id)


def _insert(
    resources: Resources,
    conn: Connection,
    name: str,
    datas3t_id: int,
    bucket_id: int,
    datarange_id: int,
    lifetime: timedelta,
) -> ChecksumsUpload:
    """Insert a pending row. The transaction has locked the datas3t, so the datarange stays."""
    about = {"datas3t": name, "datarange_id": datarange_id}
    row = dataranges.by_id(conn, datas3t_id, datarange_id) if 0 < datarange_id <= MAX_KEY else None
    if row is None:
        message = f"datas3t {name!r} has no datarange with the id {datarange_id}; list its dataranges"
        raise Failure(v1.ERROR_REASON_DATARANGE_NOT_FOUND, message, **about)
    described = f"the datarange from {row.first_key} to {row.last_key} of datas3t {name!r}"
    if row.checksums_etag is not None:
        raise Failure(
            v1.ERROR_REASON_CHECKSUMS_EXIST, f"{described} has checksums already; nothing is to be done", **about
        )
    # A second look is for a late PUT of an addition that was cancelled. This one plans its own if it is cancelled too.
    keys_to_delete.forget_second_look(conn, bucket_id, row.checksums_object_key)
    if keys_to_delete.queued(conn, bucket_id, [row.checksums_object_key]):
        resources.deletions.set()
        message = f"earlier checksums of {described} are still being deleted; try again shortly"
        raise Failure(v1.ERROR_REASON_CHECKSUMS_UNDER_WAY, message, **about)
    upload = checksums_uploads.insert(conn, datas3t_id, row, lifetime)
    if upload is None:
        other = checksums_uploads.pending(conn, row.id)
        message = f"another call adds checksums to {described}; wait for it, or cancel it by its id, {other}"
        raise Failure(v1.ERROR_REASON_CHECKSUMS_UNDER_WAY, message, **about, checksums_id=other)
    return upload


def _check_and_commit(
    resources: Resources, extension: str | None, upload: ChecksumsUpload, _: Sequence[str]
) -> Failure | None:
    """Give checksums that are right to their datarange; return the failure if they are not, which is final."""
    datas3t = CHECKSUMS.datas3t(resources, upload)
    with pool.connection(resources.pool) as conn:
        row = dataranges.by_id(conn, datas3t.id, upload.datarange_id)
    if row is None:
        raise CHECKSUMS.cancelled_failure(upload)
    bucket = datas3ts.bucket_of(resources, datas3t)
    try:
        etag = _check(bucket, row, extension)
    except InvalidUploadError as error:
        return CHECKSUMS.final_failure(upload, v1.ERROR_REASON_CHECKSUMS_INVALID, str(error))
    with pool.transaction(resources.pool) as conn:
        datas3t_rows.locked(conn, datas3t.name)  # before dataranges, in the order that all transactions keep
        checksums_uploads.commit(conn, datas3t.id, upload.id, etag=etag, extension=extension)
    return None


def _check(bucket: Bucket, row: Datarange, extension: str | None) -> str:
    """Compare checksums with what they are of: a small archive, or a sample of a larger one; return their ETag.

    Raises InvalidUploadError, or OBJECT_CHANGED if the archive or the index is not the one that was committed.
    """
    stored = StoredObject(bucket, row.checksums_object_key, "checksums object", checksums.RECORD_SIZE * row.count)
    told = Told(row.first_key, row.count, stored.read, extension)
    read = partial(_read, bucket, row.data_object_key, row.data_etag)
    read_index = partial(_read, bucket, row.index_object_key, row.index_etag)
    try:
        told.load()
        if row.size_bytes <= checks.WHOLE_ARCHIVE:
            entries = index.decode(read_index(0, RECORD_SIZE * row.count))
            told.check_all(read(0, row.size_bytes), entries)
        else:
            _check_sample(told, read, read_index, row.count)
    except FormatError as error:
        raise InvalidUploadError(f"{error}; verify the archive, and make its checksums again") from error
    except (ObjectMissing, ObjectChanged) as error:
        raise InvalidUploadError("the checksums changed while they were checked; start again") from error
    return stored.info().etag


def _check_sample(told: Told, read: Read, read_index: Read, count: int) -> None:
    def check(number: int) -> None:
        entry = index.entry_at(read_index(RECORD_SIZE * number, RECORD_SIZE * (number + 1)), 0)
        told.check(number, entry, read(entry.position, entry.position + told.bytes_needed(entry)))

    for _ in map_concurrently(check, checks.sample(count, checks.SAMPLE)):
        pass


def _read(bucket: Bucket, object_key: str, etag: str, start: int, stop: int) -> bytes:
    try:
        return bucket.get(object_key, start, stop, etag=etag)
    except (ObjectMissing, ObjectChanged) as error:
        raise object_changed(object_key) from error
