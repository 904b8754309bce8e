"""The completion of table files: their checks in S3, and the commit, alone or together with that of an archive.

A table file that is refused ends. An upload or aggregate that it was to be completed with stays open, because another
table file may take its place.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from datas3t import v1
from datas3t.archive.names import MAX_KEY
from datas3t.server import values
from datas3t.server.call import map_concurrently
from datas3t.server.db import keys_to_delete, pool, table_files, table_uploads
from datas3t.server.db.datas3ts import Datas3t
from datas3t.server.db.pool import Connection
from datas3t.server.db.table_uploads import TableUpload
from datas3t.server.errors import Failure
from datas3t.server.intents import TABLE_FILES, Intents
from datas3t.server.intents.states import Row
from datas3t.server.objects.checks import InvalidUploadError, StoredObject
from datas3t.server.resources import Resources
from datas3t.server.s3.bucket import Bucket, ObjectChanged, ObjectMissing

_MAGIC = b"PAR1"  # the first and the last bytes of a Parquet file
_AT_ONCE = 16 << 10  # bytes; up to this size both ends are read by one request


@dataclass(frozen=True, slots=True)
class CheckedFile:
    """A table file that is in the bucket as announced, and its ETag."""

    upload: TableUpload
    etag: str


class RefusedFileError(Exception):
    """A table file cannot be committed, and has to end with this failure."""

    def __init__(self, upload: TableUpload, failure: Failure) -> None:
        super().__init__(failure.message)
        self.upload = upload
        self.failure = failure


def complete_with(
    resources: Resources,
    intents: Intents[Row],
    intent_id: int,
    etags: Sequence[str],
    ids: Sequence[int],
    commit: Callable[[Row, Sequence[str], Sequence[TableUpload]], Failure | None],
) -> None:
    """Complete an upload or aggregate by `commit`, together with the table files with these ids.

    `commit` is as for `Intents.complete`, and gets the table files, which are pending. If the upload or aggregate was
    completed before, that succeeds if all of the files are complete, as they are after the same call.

    Raises:
        Failure: Also `completed_reason`, if it was completed without one of the files.
    """
    values.table_file_ids("table_file_ids", ids)

    def commit_all(intent: Row, etags: Sequence[str]) -> Failure | None:
        return commit(intent, etags, [_find(resources, intent.datas3t_id, each) for each in ids])

    try:
        intents.complete(resources, intent_id, etags, commit_all)
    except (Failure, RefusedFileError) as error:
        # Another call with the same files may have completed all of them meanwhile, so they are not pending any more.
        if not ids or intents.find(resources, intent_id).state != "completed":
            if isinstance(error, Failure):
                raise
            if not TABLE_FILES.fail(resources, error.upload, error.failure):
                TABLE_FILES.find_pending(resources, error.upload.id)
            raise error.failure from None
    if ids:
        _check_completed(resources, intents, intents.find(resources, intent_id), ids)


def _check_completed(resources: Resources, intents: Intents[Row], intent: Row, ids: Sequence[int]) -> None:
    """Check that table files are complete, as the upload or aggregate is. Another call may have completed it without.

    Raises:
        Failure: One of them is not, so its rows are not in the table.
    """
    with pool.connection(resources.pool) as conn:
        completed = table_uploads.completed(conn, intent.datas3t_id, [each for each in ids if each <= MAX_KEY])
    for file_id in ids:
        if file_id not in completed:
            _find(resources, intent.datas3t_id, file_id)
            raise intents.completed_failure(intent, f"without table file {file_id}; complete that by itself")


def _find(resources: Resources, datas3t_id: int, file_id: int) -> TableUpload:
    """Return a pending table file of a datas3t. One of another datas3t is as one that never was."""
    with pool.connection(resources.pool) as conn:
        upload = table_uploads.by_id(conn, file_id) if file_id <= MAX_KEY else None
    if upload is None or upload.datas3t_id != datas3t_id:
        raise TABLE_FILES.not_found(file_id)
    if upload.state == "completed":
        raise TABLE_FILES.completed_failure(upload)
    TABLE_FILES.raise_failure(upload)
    return upload


def check(bucket: Bucket, uploads: Sequence[TableUpload]) -> list[CheckedFile]:
    """Check the objects of table files: their sizes, and that both ends are those of a Parquet file.

    Raises:
        RefusedFileError: One is missing or is not what was announced.
        Failure: S3 is unavailable.
    """
    if len(uploads) == 1:
        return [_check(bucket, uploads[0])]
    return list(map_concurrently(partial(_check, bucket), uploads))


def _check(bucket: Bucket, upload: TableUpload) -> CheckedFile:
    size = upload.data_size
    stored = StoredObject(bucket, upload.data_object_key, "table file", size)
    try:
        start = end = stored.read(0, size if size <= _AT_ONCE else len(_MAGIC))
        if size > _AT_ONCE:
            end = stored.read(size - len(_MAGIC), size)
        if not (start.startswith(_MAGIC) and end.endswith(_MAGIC)):
            message = "the table file does not begin and end as a Parquet file; write it again and start again"
            raise InvalidUploadError(message)
        return CheckedFile(upload, stored.info().etag)
    except InvalidUploadError as error:
        message = str(error)
    except (ObjectMissing, ObjectChanged):
        message = "the table file changed while it was checked; start again"
    raise RefusedFileError(upload, TABLE_FILES.final_failure(upload, v1.ERROR_REASON_TABLE_FILE_INVALID, message))


def commit(conn: Connection, datas3t: Datas3t, files: Sequence[CheckedFile], keep: timedelta) -> None:
    """Complete table files, and put each in the place of those that it replaces.

    The caller has locked the datas3t, and its transaction ends with the error if one is raised. The objects of what is
    replaced are deleted when `keep` has passed.

    Raises:
        RefusedFileError: One is not pending any more, or may not replace what it is to replace.
    """
    for file in files:
        upload = file.upload
        if not table_files.commit(conn, datas3t.id, upload.id, file.etag):
            raise RefusedFileError(upload, TABLE_FILES.cancelled_failure(upload))
        if not upload.replaces:
            continue
        span = upload.first_key, upload.last_key
        failure = why_not_replacing(
            conn, datas3t, upload.table_name, *span, upload.replaces, below=upload.counter, table_file_id=upload.id
        )
        if failure is not None:
            raise RefusedFileError(upload, failure)
        replaced = table_files.delete_by_ids(conn, datas3t.id, upload.replaces)
        keys_to_delete.queue(conn, datas3t.bucket_id, replaced, after=keep)


def why_not_replacing(
    conn: Connection,
    datas3t: Datas3t,
    table: str,
    first: int,
    last: int,
    ids: Sequence[int],
    *,
    below: int = MAX_KEY,
    **metadata: object,
) -> Failure | None:
    """Return why a file with this span may not replace those with the ids; None if it may.

    The caller has locked the datas3t. `below` is the counter of the file, once it has one.
    """
    found = table_files.replacing(conn, datas3t.id, table, first, last, ids=ids, below=below)
    about: dict[str, object] = {"datas3t": datas3t.name, "table": table, "first": first, "last": last, **metadata}
    if found.found < len(ids):
        message = f"{len(ids) - found.found} of the files to be replaced are not in table {table!r} of datas3t"
        message = f"{message} {datas3t.name!r} any more; presign the table and start again"
        return Failure(v1.ERROR_REASON_TABLE_FILES_CHANGED, message, **about)
    if found.beyond is not None:
        message = f"has file {found.beyond}, which has keys outside {first} to {last}; give a span that has all keys"
        return values.invalid("replaces", message)
    if found.newer is not None:
        message = f"file {found.newer} of table {table!r} is newer than a file to be replaced, and has keys in common"
        message = f"{message} with the new one; replace it as well, or if it is pending, wait for its end or cancel it"
        return Failure(v1.ERROR_REASON_TABLE_FILES_CHANGED, message, **about, newer=found.newer)
    return None
