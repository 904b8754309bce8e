"""Have S3 join the parts of an intent, without mistaking a completed multipart upload for a lost one.

Joining may take minutes, and the response may be lost. In the meantime some stores respond as if the multipart upload
did not exist, or as if its parts were wrong. So the request is recorded before it is sent. After that, nothing that S3
says about the parts is final before the object has not appeared for an hour; until then the call may be repeated.
"""

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

from datas3t import v1
from datas3t.server.call import current
from datas3t.server.db import pool
from datas3t.server.errors import Failure
from datas3t.server.intents.states import ArchiveIntent, ArchiveRow, Intents
from datas3t.server.objects.checks import InvalidUploadError
from datas3t.server.resources import Resources
from datas3t.server.s3.bucket import Bucket, InvalidParts, OtherDigest, UploadMissing

CERTAIN_AFTER = timedelta(hours=1)  # S3 has ended a completion by then; four times what the server waits for one

WAITING = 8  # calls that wait for another one that joins the same parts; further ones are refused
WAITING_IN_TOTAL = 64  # the same for all objects: each has a thread

_WAIT = 30.0  # seconds for which a call waits
_MAX_ETAG = 100  # characters of a client's ETag that are repeated in a message


class PartsRefusedError(InvalidUploadError):
    """S3 does not join the parts, although all of them exist and have the right sizes and ETags."""


def join_parts(
    resources: Resources,
    intents: Intents[ArchiveRow],
    bucket: Bucket,
    intent: ArchiveRow,
    sizes: Sequence[int | None],
    etags: Sequence[str],
    crc32c: int | None = None,
) -> None:
    """Complete the multipart upload of an intent, after a check that its parts have these sizes and ETags.

    A size of None stands for any size. With `crc32c`, S3 compares that with what it has computed for the archive. Do
    nothing if the parts have been joined before.

    Raises:
        InvalidUploadError: The parts are not as they should be, or the multipart upload is lost for certain.
            PartsRefusedError only if no earlier request can be the reason.
        Failure: S3_UNAVAILABLE if the outcome is not known yet.
    """
    assert intent.s3_upload_id is not None  # the caller has checked that the multipart upload was opened
    error: InvalidUploadError
    with _one_at_a_time(intent, bucket):
        try:
            _check_parts(bucket, intent, intent.s3_upload_id, sizes, etags)
            _complete(resources, intents, bucket, intent, intent.s3_upload_id, etags, crc32c)
        except OtherDigest:
            message = f"S3 has computed another checksum for the archive than {crc32c or 0:08x}, which was told"
            error = InvalidUploadError(f"{message}: a part has changed on its way; start again")
        except UploadMissing:
            error = InvalidUploadError("the multipart upload no longer exists in S3; start again")
        except InvalidParts as refusal:
            error = PartsRefusedError(f"S3 does not join the parts: {refusal}; start again")
        except InvalidUploadError as found:
            error = found
        else:
            return
        _look_into(resources, intents, bucket, intent, error)


def _complete(
    resources: Resources,
    intents: Intents[ArchiveRow],
    bucket: Bucket,
    intent: ArchiveRow,
    s3_upload_id: str,
    etags: Sequence[str],
    crc32c: int | None,
) -> None:
    """Ask S3 to join the parts, and note that before. Raises UploadMissing, InvalidParts or OtherDigest."""
    with pool.connection(resources.pool) as conn:
        noted = intents.table.note_completion(conn, intent.id)
    try:
        bucket.complete_multipart(intent.data_object_key, s3_upload_id, etags, crc32c=crc32c)
    except (UploadMissing, InvalidParts, OtherDigest):
        # This request starts nothing in S3, so only earlier ones count. Otherwise each repeated call would put off the
        # hour after which the outcome is certain.
        if noted is not None:
            with pool.connection(resources.pool) as conn:
                intents.table.withdraw_completion(conn, intent.id, noted)
        raise


def _check_parts(
    bucket: Bucket, intent: ArchiveIntent, s3_upload_id: str, sizes: Sequence[int | None], etags: Sequence[str]
) -> None:
    """Check the parts that S3 lists. A store that lists none compares the ETags itself when it joins them."""
    if len(etags) != len(sizes):
        raise InvalidUploadError(f"the archive has {len(sizes)} parts, but {len(etags)} ETags were given; start again")
    listed = bucket.list_parts(intent.data_object_key, s3_upload_id, etags)
    if listed is None:
        return
    parts = {part.number: part for part in listed}
    for number, (size, etag) in enumerate(zip(sizes, etags, strict=True), 1):
        if (part := parts.get(number)) is None:
            raise InvalidUploadError(f"part {number} of {len(sizes)} was never uploaded; start again")
        if size not in (None, part.size):
            raise InvalidUploadError(f"part {number} has {part.size} bytes instead of {size}; start again")
        if part.etag != etag:
            given = etag[:_MAX_ETAG]
            raise InvalidUploadError(f"part {number} has the ETag {part.etag}, but {given!r} was given; start again")


def _look_into(
    resources: Resources, intents: Intents[ArchiveRow], bucket: Bucket, intent: ArchiveRow, error: InvalidUploadError
) -> None:
    """Find out what became of parts that S3 does not join: return if they were joined before, otherwise raise `error`.

    The caller checks the size of the object, its entries and its end marker. Raise S3_UNAVAILABLE while an earlier
    request may still join them. If one was sent, a refusal says nothing about the store.
    """
    if bucket.head(intent.data_object_key) is not None:
        return
    with pool.connection(resources.pool) as conn:
        since = intents.table.since_completion(conn, intent.id)
    if since is None:
        raise error
    if since > CERTAIN_AFTER:
        raise InvalidUploadError(str(error))
    raise _still_joining(bucket)


def _still_joining(bucket: Bucket) -> Failure:
    message = "S3 was asked to join the parts and the object is not there yet; nothing is lost, try again shortly"
    return Failure(v1.ERROR_REASON_S3_UNAVAILABLE, message, endpoint=bucket.location.endpoint)


_turn = threading.Condition()
_joining: set[str] = set()  # the objects; no two intents share one
_waiting: Counter[str] = Counter()  # calls, by object


def _wake() -> None:
    with _turn:
        _turn.notify_all()


@contextmanager
def _one_at_a_time(intent: ArchiveIntent, bucket: Bucket) -> Iterator[None]:
    """Let one call of this process at a time join the parts of an intent.

    The others wait, but not for minutes, and without their slots, so that calls that need only the database can run.
    If too many wait already, S3_UNAVAILABLE is raised at once.
    """
    key = f"{bucket.location.endpoint}/{bucket.location.bucket}/{intent.data_object_key}"
    with _turn:
        if key in _joining:
            _wait(key, bucket)
        _joining.add(key)
    try:
        yield
    finally:
        with _turn:
            _joining.remove(key)
            _turn.notify_all()


def _wait(key: str, bucket: Bucket) -> None:
    """Wait until no call joins the parts of the object; called with `_turn` locked."""
    if _waiting[key] >= WAITING or _waiting.total() >= WAITING_IN_TOTAL:
        raise _still_joining(bucket)
    call = current()

    def is_free() -> bool:
        call.raise_if_ended()
        return key not in _joining

    _waiting[key] += 1
    call.release_slot()
    try:
        with call.interruptible(_wake):
            if not _turn.wait_for(is_free, _WAIT):
                raise _still_joining(bucket)
    finally:
        call.take_slot()
        _waiting[key] -= 1
        if not _waiting[key]:
            del _waiting[key]
