"""Listings of tables, the URLs of their files, and their deletion."""

from dataclasses import dataclass, field
from datetime import datetime

from datas3t import v1
from datas3t.archive.names import MAX_KEY
from datas3t.server import datas3ts, pages, values
from datas3t.server.db import datas3ts as datas3t_rows
from datas3t.server.db import dropped_tables, intents, pool, table_files
from datas3t.server.db.table_files import Table, TableFile
from datas3t.server.errors import Failure
from datas3t.server.resources import Resources


@dataclass(frozen=True, slots=True)
class Presigned:
    """A file of a table with a GET URL for any range of it."""

    file: TableFile
    url: str = field(repr=False)


def page(resources: Resources, name: str, size: int, token: str) -> tuple[list[Table], str]:
    """Return the tables of a datas3t in order of their names, and the token of the next page, empty after the last."""
    size = pages.size(size, 1000, 1000)
    after = pages.after_name(token)
    datas3t = datas3ts.find(resources, name)
    with pool.connection(resources.pool) as conn:
        rows = table_files.tables(conn, datas3t.id, after, size + 1)
    shown = [row for row in rows[:size] if row.file_count]  # others were dropped
    return shown, rows[size - 1].name if len(rows) > size else ""


def presign(
    resources: Resources,
    name: str,
    table: str,
    first: int | None,
    last: int | None,
    *,
    size: int = 0,
    token: str = "",
) -> tuple[list[Presigned], str, datetime]:
    """Return the files that may have rows of the span, in order of their counters, with URLs.

    Also returns the token of the next page, which is empty after the last, and when the URLs expire.
    """
    span = values.span("first", 0 if first is None else first, "last", MAX_KEY if last is None else last)
    values.name("datas3t_name", name)
    values.name("table", table)
    size, start = pages.size(size, 2000, 1000), pages.start(token)
    with pool.connection(resources.pool) as conn:
        wanted = None if span == (0, MAX_KEY) else span
        found = table_files.page(conn, name, table, wanted, after=start.after, limit=size + 1)
        if found is None:
            raise datas3ts.not_found(name)
        start.check(name, found.catalogue_id)
        if not found.rows and start.after < 0 and not table_files.exist(conn, found.catalogue_id, table):
            raise _not_found(name, table)
    bucket, expires_at = datas3ts.at_version(resources, name, found.bucket), resources.expiry()
    signer = bucket.get_signer(resources.url_lifetime)
    signed = (Presigned(row, signer.url(row.object_key)) for row in found.rows[:size])
    shown = list(pages.fitting(signed, lambda each: len(each.url) + pages.OTHER_FIELDS))
    is_last = len(shown) == len(found.rows)
    next_token = "" if is_last else pages.token_after(found.catalogue_id, shown[-1].file.counter)
    return shown, next_token, expires_at


def drop(resources: Resources, name: str, table: str) -> int:
    """Delete a table: its files are gone for readers at once, and its pending files are cancelled.

    The reaper deletes their rows and objects in batches. Returns the number of files. Raises TABLE_NOT_FOUND if there
    are none.
    """
    values.name("table", table)
    datas3t = datas3ts.find(resources, name)
    last_put = resources.url_lifetime + resources.put_grace
    with pool.connection(resources.pool) as conn:  # before the datas3t is locked, because it reads every file
        count = dropped_tables.count(conn, datas3t.id, table)
    with pool.transaction(resources.pool) as conn:
        bucket_id = datas3t_rows.record_removal(conn, datas3t.id)
        if bucket_id is None:
            raise datas3ts.not_found(name)
        cancelled = intents.cancel_table(conn, datas3t.id, table, resources.put_grace)
        has_files = dropped_tables.drop(conn, datas3t.id, bucket_id, table, last_put)
    if not (cancelled or has_files):
        raise _not_found(name, table)
    resources.deletions.set()
    return max(count, 1) if has_files else 0


def _not_found(name: str, table: str) -> Failure:
    message = f"datas3t {name!r} has no table {table!r}; list its tables"
    return Failure(v1.ERROR_REASON_TABLE_NOT_FOUND, message, datas3t=name, table=table)
