"""Uploads: a pending row and URLs for the client, then the checks of completion and one transaction that commits."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from datas3t import v1
from datas3t.archive import names, parts
from datas3t.archive.names import MAX_KEY
from datas3t.server import datas3ts, keys, tables, values
from datas3t.server.call import current
from datas3t.server.db import committing, dataranges, pool, starting
from datas3t.server.db import datas3ts as datas3t_rows
from datas3t.server.db.datarange_uploads import Upload
from datas3t.server.db.pool import Connection
from datas3t.server.db.starting import Begun
from datas3t.server.db.table_uploads import TableUpload
from datas3t.server.errors import Failure
from datas3t.server.intents import UPLOADS, urls
from datas3t.server.intents.joining import PartsRefusedError, join_parts
from datas3t.server.objects import checks
from datas3t.server.objects.checks import CheckedObjects, InvalidUploadError
from datas3t.server.resources import Resources
from datas3t.server.s3.bucket import Bucket, PartInfo
from datas3t.server.tables import CheckedFile
from datas3t.server.uploads.archive_crc32c import open_again_without, open_multipart, refused


@dataclass(frozen=True, slots=True)
class Started:
    """A new upload: `data_put_url` for one PUT, or `part_urls` from part 1 on; and when these URLs expire."""

    upload: Upload
    expires_at: datetime
    data_put_url: str = field(repr=False)
    part_urls: list[str] = field(repr=False)
    index_put_url: str = field(repr=False)
    checksums_put_url: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Signed:
    """URLs of a pending upload, those of parts with their numbers, and the parts that S3 has received."""

    upload: Upload
    part_urls: list[tuple[int, str]] = field(repr=False)
    uploaded: list[PartInfo]
    data_put_url: str = field(repr=False)
    index_put_url: str = field(repr=False)
    checksums_put_url: str = field(repr=False)
    expires_at: datetime


def start(
    resources: Resources,
    name: str,
    first: int,
    count: int,
    data_size: int,
    *,
    all_urls: bool = True,
    reservation_id: int = 0,
    with_checksums: bool = False,
    archive_crc32c: bool = False,
) -> Started:
    """Reserve an object key for an archive of `data_size` bytes, and sign the URLs of its upload.

    All parts get URLs, or the first 1,000 if `all_urls` is false. Raise DATARANGE_OVERLAPS if a committed datarange has
    one of the keys: the completion would fail, after all bytes were sent. Keys that are reserved need the id of their
    reservation, and with an id no other keys are taken. With `with_checksums` the client also sends the checksums of
    the datapoints; with `archive_crc32c` it can tell the checksum of the archive.
    """
    values.name("datas3t_name", name)
    values.key("first_datapoint_index", first)
    last = values.count("number_of_datapoints", count, first)
    values.archive_size("data_size", data_size)
    upload, version = _insert(
        resources,
        name,
        first,
        last,
        data_size,
        reservation_id,
        with_checksums=with_checksums,
        archive_crc32c=archive_crc32c,
    )
    bucket, expires_at = datas3ts.at_version(resources, name, version), resources.expiry()
    if upload.multipart:
        upload = open_multipart(resources, bucket, version.id, upload)
    numbers = range(1, len(urls.part_sizes(upload)) + 1)
    signed = urls.for_parts(resources, bucket, upload, numbers if all_urls else numbers[: urls.MAX_PART_URLS])
    return Started(
        upload,
        expires_at,
        data_put_url=urls.for_archive(resources, bucket, upload),
        part_urls=[url for _, url in signed],
        index_put_url=urls.for_index(resources, bucket, upload),
        checksums_put_url=urls.for_checksums(resources, bucket, upload),
    )


def sign_parts(
    resources: Resources, upload_id: int, numbers: Sequence[int], *, archive_crc32c_refused: bool = False
) -> Signed:
    """Sign URLs of a pending upload for these parts; keep the upload until they expire.

    With `archive_crc32c_refused` S3 is not asked for a checksum of the archive any more, and all parts are sent again.
    """
    upload = UPLOADS.find_pending(resources, upload_id)
    sizes = urls.part_sizes(upload)
    urls.check_part_numbers(numbers, len(sizes))
    datas3t = UPLOADS.datas3t(resources, upload)
    bucket = datas3ts.bucket_of(resources, datas3t)
    if archive_crc32c_refused:
        upload = open_again_without(resources, bucket, datas3t.bucket_id, upload)
    uploaded = urls.uploaded_parts(bucket, upload, sizes)
    expires_at = UPLOADS.extend(resources, upload)
    return Signed(
        upload,
        part_urls=urls.for_parts(resources, bucket, upload, numbers),
        uploaded=uploaded,
        data_put_url=urls.for_archive(resources, bucket, upload),
        index_put_url=urls.for_index(resources, bucket, upload),
        checksums_put_url=urls.for_checksums(resources, bucket, upload),
        expires_at=expires_at,
    )


def complete(
    resources: Resources,
    upload_id: int,
    etags: Sequence[str],
    *,
    extension: str = "",
    archive_crc32c: int | None = None,
    table_file_ids: Sequence[int] = (),
) -> None:
    """Check the uploaded objects and commit the datarange, with table files; a repeated call has the same outcome.

    `etags` are those of the parts, in order; empty if the archive went up in one PUT. `extension` is that of all
    entries, or empty, and `archive_crc32c` the checksum of the archive, if it is known. The table files with these ids
    are committed at the same moment. An invalid archive and an overlap are final: they end the upload. After any other
    failure the call may be repeated.
    """
    told = _Told(values.extension("extension", extension), archive_crc32c)
    tables.complete_with(
        resources, UPLOADS, upload_id, etags, table_file_ids, partial(_check_and_commit, resources, told)
    )


def cancel(resources: Resources, upload_id: int) -> None:
    """Cancel an upload and delete its objects; raise UPLOAD_COMPLETED if it is complete."""
    UPLOADS.cancel(resources, upload_id)


@dataclass(frozen=True, slots=True)
class _Told:
    """What the client tells about an archive when its upload is complete; None if it does not know it."""

    extension: str | None
    crc32c: int | None


def _insert(
    resources: Resources,
    name: str,
    first: int,
    last: int,
    data_size: int,
    reservation_id: int,
    *,
    with_checksums: bool,
    archive_crc32c: bool,
) -> Begun:
    """Insert the row of an upload. Raise why not if a datarange has one of its keys, or if one is reserved.

    Pending uploads do not count: any of them may end without a datarange.
    """
    multipart = not parts.is_direct(data_size)
    with pool.connection(resources.pool) as conn:
        while True:
            begun = starting.begin(
                conn,
                name,
                first,
                last,
                prefix=names.range_prefix(name, first, last),
                data_size=data_size,
                part_size=parts.part_size(data_size) if multipart else data_size,
                multipart=multipart,
                with_checksums=with_checksums,
                archive_crc32c=archive_crc32c and multipart,
                lifetime=resources.url_lifetime,
                reservation_id=min(reservation_id, MAX_KEY),
            )
            if begun is not None:
                return begun
            _raise_why_not(conn, name, first, last, reservation_id)  # unless what was in the way is gone by now
            current().raise_if_ended()


def _raise_why_not(conn: Connection, name: str, first: int, last: int, reservation_id: int) -> None:
    """Raise the failure of an upload that cannot start."""
    datas3t = datas3t_rows.by_name(conn, name)
    if datas3t is None:
        raise datas3ts.not_found(name)
    overlapping = dataranges.overlapping(conn, datas3t.id, first, last, limit=1)
    if not overlapping:
        keys.raise_why_not(conn, datas3t, first, last, reservation_id)
        return
    (existing,) = overlapping
    next_key = datas3t_rows.next_free_key(conn, datas3t.id)
    about = {
        "datas3t": datas3t.name,
        "first": first,
        "last": last,
        "existing_first": existing.first_key,
        "existing_last": existing.last_key,
    }
    advice = "delete it first"
    if next_key <= MAX_KEY:
        about["next_key"] = next_key
        advice = f"the next free key is {next_key}"
    message = f"datapoints {first} to {last} overlap the datarange from {existing.first_key} to {existing.last_key}"
    raise Failure(v1.ERROR_REASON_DATARANGE_OVERLAPS, f"{message} of datas3t {datas3t.name!r}; {advice}", **about)


def _check_and_commit(
    resources: Resources, told: _Told, upload: Upload, etags: Sequence[str], files: Sequence[TableUpload]
) -> Failure | None:
    """Commit an upload and table files whose objects are as announced; return the failure if one is final."""
    with pool.connection(resources.pool) as conn:
        place = committing.place(conn, upload.datas3t_id)
    if place is None:
        raise UPLOADS.cancelled_failure(upload)
    name, version = place
    bucket = datas3ts.at_version(resources, name, version)
    urls.check_multipart_opened(bucket, upload)
    try:
        checked_files = tables.check(bucket, files)
        checked = _check(resources, bucket, told, upload, etags)
        _commit(resources, name, upload, checked, checked_files)
    except InvalidUploadError as error:
        if isinstance(error, PartsRefusedError) and upload.archive_crc32c:
            error = refused(resources, version.id, error)
        return UPLOADS.final_failure(upload, v1.ERROR_REASON_UPLOAD_INVALID, str(error))
    except Failure as failure:
        if failure.reason != v1.ERROR_REASON_DATARANGE_OVERLAPS:
            raise
        return UPLOADS.final_failure(upload, failure.reason, failure.message)
    return None


def _check(resources: Resources, bucket: Bucket, told: _Told, upload: Upload, etags: Sequence[str]) -> CheckedObjects:
    """Join the parts of an archive, and check it and the objects beside it. Raises InvalidUploadError."""
    if upload.s3_upload_id is not None:
        crc32c = told.crc32c if upload.archive_crc32c else None
        join_parts(resources, UPLOADS, bucket, upload, urls.part_sizes(upload), etags, crc32c)
    data_key = upload.data_object_key
    return checks.check_objects(
        bucket,
        data_key,
        upload.index_object_key,
        upload.first_key,
        upload.last_key - upload.first_key + 1,
        upload.data_size,
        checksums_key=names.checksums_key(data_key) if upload.with_checksums else None,
        extension=told.extension,
    )


def _commit(
    resources: Resources, name: str, upload: Upload, checked: CheckedObjects, files: Sequence[CheckedFile]
) -> None:
    """Complete the upload and insert its datarange; do nothing if the upload is not pending any more.

    Table files are committed in the same transaction. Raise DATARANGE_OVERLAPS, and change nothing, if another
    datarange has one of its keys.
    """
    commit = partial(
        committing.commit,
        datas3t_id=upload.datas3t_id,
        upload_id=upload.id,
        entries_size=checked.entries_size,
        data_etag=checked.data_etag,
        index_etag=checked.index_etag,
        checksums_etag=checked.checksums_etag,
        extension=checked.extension,
    )
    about = {"datas3t": name, "first": upload.first_key, "last": upload.last_key}
    if not files:
        with pool.connection(resources.pool, **about) as conn:
            commit(conn)
        return
    with pool.transaction(resources.pool, **about) as conn:
        datas3t = datas3t_rows.locked(conn, name)
        if datas3t is not None and commit(conn):
            tables.commit(conn, datas3t, files, resources.kept_after_use)
