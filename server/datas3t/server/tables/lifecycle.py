"""Table files from start to end: a pending row and a URL, then the check of the object, and the commit."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from datas3t.archive import names
from datas3t.server import datas3ts, values
from datas3t.server.db import committing, pool, table_files, table_uploads
from datas3t.server.db import datas3ts as datas3t_rows
from datas3t.server.db.table_uploads import Begun, TableUpload
from datas3t.server.errors import Failure
from datas3t.server.intents import TABLE_FILES
from datas3t.server.resources import Resources
from datas3t.server.tables import completing
from datas3t.server.tables.completing import CheckedFile, RefusedFileError


@dataclass(frozen=True, slots=True)
class Started:
    """A new table file, and the URL for its PUT, which ends at `expires_at`."""

    upload: TableUpload
    expires_at: datetime
    put_url: str = field(repr=False)


def start(
    resources: Resources, name: str, table: str, first: int, last: int, size: int, replaces: Sequence[int] = ()
) -> Started:
    """Reserve an object key for a table file of `size` bytes with rows of keys in a span, and sign its URL.

    Raise TABLE_FILES_CHANGED if the file may not replace those with the ids `replaces`.
    """
    values.name("datas3t_name", name)
    values.name("table", table)
    values.span("first_key", first, "last_key", last)
    values.table_file_size("size", size)
    values.replaced_ids("replaces", replaces)
    begun = _insert(resources, name, table, first, last, size, replaces)
    if begun is None:
        raise datas3ts.not_found(name)
    bucket, expires_at = datas3ts.at_version(resources, name, begun.bucket), resources.expiry()
    return Started(begun.upload, expires_at, bucket.put_url(begun.upload.data_object_key, resources.url_lifetime))


def complete(resources: Resources, file_id: int) -> None:
    """Check the object of a table file and add it to its table; a repeated call has the same outcome.

    An object that is wrong, and files that it may not replace, are final: they end the table file.
    """
    TABLE_FILES.complete(resources, file_id, (), partial(_check_and_commit, resources))


def cancel(resources: Resources, file_id: int) -> None:
    """Cancel a table file and delete its object; raise TABLE_FILE_COMPLETED if it is complete."""
    TABLE_FILES.cancel(resources, file_id)


def _insert(
    resources: Resources, name: str, table: str, first: int, last: int, size: int, replaces: Sequence[int]
) -> Begun | None:
    """Insert the row of a table file; return None if there is no such datas3t."""
    begin = partial(
        table_uploads.begin,
        name=name,
        table=table,
        first=first,
        last=last,
        prefix=names.table_file_prefix(name, table, first, last),
        size=size,
        replaces=replaces,
        lifetime=resources.url_lifetime,
    )
    if not replaces:
        with pool.connection(resources.pool) as conn:
            return begin(conn)
    # With the lock, all files whose counters are below that of the new one are seen.
    with pool.transaction(resources.pool) as conn:
        datas3t = datas3t_rows.locked(conn, name)
        if datas3t is None:
            return None
        failure = completing.why_not_replacing(conn, datas3t, table, first, last, replaces)
        if failure is not None:
            raise failure
        return begin(conn)


def _check_and_commit(resources: Resources, upload: TableUpload, _: Sequence[str]) -> Failure | None:
    """Commit a table file whose object is as announced; return the failure if one is final."""
    with pool.connection(resources.pool) as conn:
        place = committing.place(conn, upload.datas3t_id)
    if place is None:
        raise TABLE_FILES.cancelled_failure(upload)
    name, version = place
    try:
        (checked,) = completing.check(datas3ts.at_version(resources, name, version), [upload])
        _commit(resources, name, checked)
    except RefusedFileError as error:
        return error.failure
    if upload.replaces:
        resources.deletions.set()
    return None


def _commit(resources: Resources, name: str, checked: CheckedFile) -> None:
    """Complete a table file; do nothing if it is not pending any more."""
    upload = checked.upload
    if not upload.replaces:
        with pool.connection(resources.pool) as conn:
            table_files.commit(conn, upload.datas3t_id, upload.id, checked.etag)
        return
    with pool.transaction(resources.pool) as conn:
        datas3t = datas3t_rows.locked(conn, name)
        if datas3t is not None:
            completing.commit(conn, datas3t, [checked], resources.kept_after_use)
