"""The states of an upload: pending, then once and for ever completed, cancelled or failed."""

from datas3t import v1
from datas3t.archive.names import MAX_KEY, parse
from datas3t.server.db import datarange_uploads, keys_to_delete, pool
from datas3t.server.db.datarange_uploads import Upload
from datas3t.server.db.datas3ts import Datas3t
from datas3t.server.errors import Failure
from datas3t.server.service import Service


def find(service: Service, upload_id: int) -> Upload:
    """Raises UPLOAD_NOT_FOUND."""
    upload = None
    if 0 < upload_id <= MAX_KEY:
        with pool.connection(service.pool) as conn:
            upload = datarange_uploads.by_id(conn, upload_id)
    if upload is None:
        message = f"there is no upload {upload_id}; start it"
        raise Failure(v1.ERROR_REASON_UPLOAD_NOT_FOUND, message, upload_id=upload_id)
    return upload


def find_pending(service: Service, upload_id: int) -> Upload:
    """Raises what a completion would, and UPLOAD_COMPLETED."""
    upload = find(service, upload_id)
    if upload.state == "completed":
        raise completed(upload)
    replay(upload)
    return upload


def replay(upload: Upload) -> None:
    """Raises what was said when the upload was cancelled or failed."""
    if upload.state == "cancelled":
        raise cancelled(upload)
    if upload.state == "failed":
        assert upload.failure_reason is not None
        assert upload.failure_message is not None
        raise final(upload, v1.ErrorReason.ValueType(upload.failure_reason), upload.failure_message)


def cancel(service: Service, datas3t: Datas3t, upload: Upload) -> bool:
    """Cancels a pending upload and queues its objects; whether it was this call that ended it."""
    return _end(service, datas3t, upload, None)


def fail(service: Service, datas3t: Datas3t, upload: Upload, failure: Failure) -> bool:
    """The same for good reason, which is told again to whoever asks."""
    return _end(service, datas3t, upload, failure)


def final(upload: Upload, reason: v1.ErrorReason.ValueType, message: str) -> Failure:
    """What ends an upload, the first time and each time it is told again."""
    name = parse(upload.data_object_key)
    assert name is not None
    about = {"datas3t": name.datas3t, "first": upload.first_key, "last": upload.last_key}
    return Failure(reason, message, upload_id=upload.id, **about)


def completed(upload: Upload) -> Failure:
    """UPLOAD_COMPLETED."""
    message = f"upload {upload.id} is already complete; to remove its datapoints, delete the datarange"
    return Failure(v1.ERROR_REASON_UPLOAD_COMPLETED, message, upload_id=upload.id)


def cancelled(upload: Upload) -> Failure:
    """UPLOAD_CANCELLED."""
    message = f"upload {upload.id} was cancelled or has expired; start anew"
    return Failure(v1.ERROR_REASON_UPLOAD_CANCELLED, message, upload_id=upload.id)


def _end(service: Service, datas3t: Datas3t, upload: Upload, failure: Failure | None) -> bool:
    said = ("failed", failure.reason, failure.message) if failure else ("cancelled", None, None)
    with pool.transaction(service.pool) as conn:
        expires_at = datarange_uploads.finish(conn, upload.id, *said)
        if expires_at is None:
            return False
        archive, index, later = upload.data_object_key, upload.index_object_key, expires_at + service.late
        keys_to_delete.queue(conn, datas3t.bucket_id, [archive], multipart=upload.multipart, look_again_at=later)
        keys_to_delete.queue(conn, datas3t.bucket_id, [index], look_again_at=later)
    service.deletions.set()
    return True
