"""Uploads: an intent row, URLs for the client, then the checks of completion and one transaction that commits.

No transaction is open while S3 is asked: what ends in between is seen by the commit, which then changes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from datas3t import v1
from datas3t.archive import names, parts
from datas3t.server import datas3ts, values
from datas3t.server.db import datarange_uploads, dataranges, pool
from datas3t.server.db import datas3ts as datas3t_rows
from datas3t.server.db.datarange_uploads import Upload
from datas3t.server.db.datas3ts import Datas3t
from datas3t.server.errors import Failure
from datas3t.server.intents import upload_states, urls
from datas3t.server.intents.urls import FIRST_URLS
from datas3t.server.resources import Resources
from datas3t.server.s3.bucket import Bucket, PartInfo
from datas3t.server.uploads import completion
from datas3t.server.uploads.completion import Announced, Checked, Invalid


@dataclass(frozen=True, slots=True)
class Started:
    """A new upload: `data_put_url` for one PUT, or `part_urls` from part 1 on."""

    upload: Upload
    data_put_url: str
    part_urls: list[str]
    index_put_url: str


@dataclass(frozen=True, slots=True)
class Signed:
    """URLs of an open upload, those of parts by number, and the parts that S3 already has."""

    upload: Upload
    part_urls: list[tuple[int, str]]
    uploaded: list[PartInfo]
    data_put_url: str
    index_put_url: str
    expires_at: datetime


def start(resources: Resources, name: str, first: int, count: int, data_size: int, *, all_urls: bool = True) -> Started:
    """Reserves an object key and signs its URLs, of parts all or the first 1,000."""
    values.name("datas3t_name", name)
    values.key("first_datapoint_index", first)
    last = values.count("number_of_datapoints", count, first)
    values.archive_size("data_size", data_size)
    datas3t, upload = _intend(resources, name, first, last, data_size)
    bucket = datas3ts.bucket_of(resources, datas3t)
    if upload.multipart:
        upload = _opened(resources, datas3t, bucket, upload)
    numbers = range(1, urls.part_count(upload) + 1)
    signed = urls.of_parts(resources, bucket, upload, numbers if all_urls else numbers[:FIRST_URLS])
    return Started(
        upload,
        data_put_url=urls.of_archive(resources, bucket, upload),
        part_urls=[url for _, url in signed],
        index_put_url=urls.of_index(resources, bucket, upload),
    )


def sign_parts(resources: Resources, upload_id: int, numbers: Sequence[int]) -> Signed:
    """Signs parts of an open upload, which then lives as long as these URLs; tells which parts S3 has."""
    upload = upload_states.find_pending(resources, upload_id)
    urls.check_numbers(numbers, urls.part_count(upload))
    bucket = datas3ts.bucket_of(resources, _datas3t(resources, upload))
    sizes = completion.part_sizes(upload.data_size, upload.part_size)
    uploaded = urls.uploaded(bucket, upload, sizes)
    expires_at = resources.expiry()
    with pool.connection(resources.pool) as conn:
        still = datarange_uploads.extend(conn, upload.id, expires_at)
    if not still:
        upload = upload_states.find_pending(resources, upload_id)
    return Signed(
        upload,
        part_urls=urls.of_parts(resources, bucket, upload, numbers),
        uploaded=uploaded,
        data_put_url=urls.of_archive(resources, bucket, upload),
        index_put_url=urls.of_index(resources, bucket, upload),
        expires_at=expires_at,
    )


def complete(resources: Resources, upload_id: int, etags: Sequence[str]) -> None:
    """Checks what was uploaded and commits it. A final failure ends the upload, and so does an overlap.

    Called again it answers as the first time.
    """
    etags = values.etags("upload_ids", etags)
    upload = upload_states.find(resources, upload_id)
    if upload.state != "pending":
        upload_states.replay(upload)
        return
    if etags and not upload.multipart:
        raise values.invalid("upload_ids", "are for archives in parts; this one is a single PUT")
    datas3t = _datas3t(resources, upload)
    failure = _checked_and_committed(resources, datas3t, upload, etags)
    if failure is not None and upload_states.fail(resources, datas3t, upload, failure):
        raise failure
    upload_states.replay(upload_states.find(resources, upload_id))


def cancel(resources: Resources, upload_id: int) -> None:
    """Ends an upload; its objects go. Raises UPLOAD_COMPLETED where it is too late."""
    upload = upload_states.find(resources, upload_id)
    if upload.state == "pending":
        upload_states.cancel(resources, _datas3t(resources, upload), upload)
        upload = upload_states.find(resources, upload_id)
    if upload.state == "completed":
        raise upload_states.completed(upload)


def _intend(resources: Resources, name: str, first: int, last: int, data_size: int) -> tuple[Datas3t, Upload]:
    multipart = not parts.is_direct(data_size)
    with pool.transaction(resources.pool) as conn:
        datas3t = datas3t_rows.draw_counter(conn, name)
        if datas3t is None:
            raise datas3ts.not_found(name)
        key = names.archive_key(name, first, last, datas3t.upload_counter)
        upload = datarange_uploads.insert(
            conn,
            datas3t.id,
            first,
            last,
            data_size=data_size,
            data_key=key,
            index_key=names.index_key(key),
            part_size=parts.part_size(data_size) if multipart else data_size,
            multipart=multipart,
            expires_at=resources.expiry(),
        )
    return datas3t, upload


def _opened(resources: Resources, datas3t: Datas3t, bucket: Bucket, upload: Upload) -> Upload:
    """The upload with its multipart upload in S3; where S3 opens none, the intent is over."""
    try:
        s3_upload_id = bucket.create_multipart(upload.data_object_key)
    except Failure:
        upload_states.cancel(resources, datas3t, upload)
        raise
    with pool.connection(resources.pool) as conn:
        if not datarange_uploads.set_s3_upload_id(conn, upload.id, s3_upload_id):
            raise upload_states.cancelled(upload)
    return replace(upload, s3_upload_id=s3_upload_id)


def _checked_and_committed(
    resources: Resources, datas3t: Datas3t, upload: Upload, etags: Sequence[str]
) -> Failure | None:
    """Why it is not, where that is final. None also where the upload ended meanwhile."""
    bucket = datas3ts.bucket_of(resources, datas3t)
    urls.check_opened(bucket, upload)
    try:
        checked = completion.check(bucket, _announced(upload, etags))
        _commit(resources, datas3t, upload, checked)
    except Invalid as error:
        return upload_states.final(upload, v1.ERROR_REASON_UPLOAD_INVALID, str(error))
    except Failure as failure:
        if failure.reason != v1.ERROR_REASON_DATARANGE_OVERLAPS:
            raise
        return upload_states.final(upload, failure.reason, failure.message)
    return None


def _commit(resources: Resources, datas3t: Datas3t, upload: Upload, checked: Checked) -> None:
    """Raises DATARANGE_OVERLAPS, and then nothing is changed; neither is it where the upload ended meanwhile."""
    with pool.transaction(resources.pool, datas3t=datas3t.name, first=upload.first_key, last=upload.last_key) as conn:
        datas3t_rows.locked(conn, datas3t.name)  # two that insert at once would find each other by deadlock
        if datarange_uploads.finish(conn, upload.id, "completed") is None:
            return
        dataranges.insert(
            conn,
            datas3t.id,
            upload.first_key,
            upload.last_key,
            data_key=upload.data_object_key,
            index_key=upload.index_object_key,
            size=upload.data_size,
            entries_size=checked.entries_size,
            data_etag=checked.data_etag,
            index_etag=checked.index_etag,
        )


def _datas3t(resources: Resources, upload: Upload) -> Datas3t:
    with pool.connection(resources.pool) as conn:
        datas3t = datas3t_rows.by_id(conn, upload.datas3t_id)
    if datas3t is None:  # deleted since, which ended its uploads
        raise upload_states.cancelled(upload)
    return datas3t


def _announced(upload: Upload, etags: Sequence[str]) -> Announced:
    return Announced(
        first=upload.first_key,
        last=upload.last_key,
        data_size=upload.data_size,
        data_key=upload.data_object_key,
        index_key=upload.index_object_key,
        part_size=upload.part_size,
        s3_upload_id=upload.s3_upload_id,
        etags=etags,
    )
