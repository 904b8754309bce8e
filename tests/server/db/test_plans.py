"""No statement costs more because a table has more rows: what it reads follows from what it returns or changes.

Each function of the package `db` is called on tables with tens of thousands of rows, and the plans of its statements
are compared with what they may read. A new function needs a line in `CALLS`, or a reason in `UNBOUNDED`.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest

from datas3t.server import db
from datas3t.server.db import (
    aggregate_uploads,
    api_tokens,
    catalogues,
    checksums_uploads,
    committing,
    datarange_uploads,
    dataranges,
    datas3ts,
    dropped_tables,
    figures,
    imported,
    imported_table_files,
    intents,
    key_reservations,
    keys_to_delete,
    listings,
    s3_buckets,
    spans,
    starting,
    table_files,
    table_uploads,
)
from datas3t.server.db.dataranges import Datarange
from datas3t.server.db.intents import IntentTable, Noted
from datas3t.server.db.keys_to_delete import Claim
from tests.support.plans import ExplainedConnection, Plan, explained_statements
from tests.support.stack import DatabasePool

LOOK_UPS = 8  # rows that a statement may read by their keys
MAX_KEY = (1 << 63) - 1
HOUR = timedelta(hours=1)

_FILL = """
    INSERT INTO s3_buckets (name, endpoint, bucket, region, access_key, secret_key)
    SELECT 'bucket-' || n, 'http://s3/' || n, 'b', 'r', 'a', 's' FROM generate_series(1, 2000) AS n;

    INSERT INTO datas3ts (name, bucket_id) VALUES ('before', 1), ('images', 1), ('later', 2);
    INSERT INTO datas3ts (name, bucket_id)
    SELECT CASE WHEN n > 1000 THEN 'deleted-' ELSE 'other-' END || n, CASE WHEN n <= 1000 THEN 3 END
      FROM generate_series(1, 6000) AS n;

    INSERT INTO dataranges (catalogue_id, first_key, last_key, data_object_key, index_object_key,
                            size_bytes, entries_size_bytes, data_etag, index_etag)
    SELECT catalogue_id, n * scale, n * scale + 8, name || '/' || n, name || '/i' || n, 2048, 1024, '', ''
      FROM generate_series(0, 19999) AS n, datas3ts, -- statistics of all keys say nothing about those of one datas3t
           LATERAL (SELECT CASE name WHEN 'images' THEN 10 ELSE 1000000000 END::bigint AS scale) AS keys
     WHERE name = 'images' OR (n < 4000 AND name IN ('before', 'later')) OR (n < 4 AND name LIKE 'other-%')
     ORDER BY random(); -- as after years of uploads to many datas3ts

    INSERT INTO cleared_catalogues (id, datas3t_id, bucket_id, last_put, deleted_key)
    SELECT catalogue_id, id, bucket_id, interval '1 day', 100000 FROM datas3ts WHERE name = 'later';
    UPDATE datas3ts SET catalogue_id = nextval('catalogue_ids') WHERE name = 'later';

    INSERT INTO datarange_uploads (datas3t_id, first_key, last_key, data_size, data_object_key, index_object_key,
                                   part_size, multipart, state, expires_at, finished_at)
    SELECT 1 + n % 1000, n, n, 1, 'u/' || n, 'u/i' || n, 1, false,
           CASE n % 5 WHEN 0 THEN 'pending' ELSE 'completed' END,
           now() + interval '1 day' - interval '10 seconds' * n, CASE WHEN n % 5 > 0 THEN now() - interval '1 day' END
      FROM generate_series(1, 10000) AS n;

    INSERT INTO aggregate_uploads (datas3t_id, first_key, last_key, data_size, source_ids, planned, data_object_key,
                                   index_object_key, part_size, multipart, state, expires_at, finished_at)
    SELECT datas3t_id, first_key, last_key, 1, '{}', true, data_object_key, index_object_key, 1, true, state,
           expires_at, finished_at FROM datarange_uploads;

    INSERT INTO key_reservations (datas3t_id, request_id, first_key, last_key, keys_left, expires_at)
    SELECT d.id, n::text, 600000 + n * 10, 600000 + n * 10 + 4, n % 2, now() + interval '1 minute' * (n * 41 % 100 - 10)
      FROM generate_series(0, 9999) AS n, datas3ts AS d
     WHERE name IN ('before', 'images') OR (n < 3 AND name LIKE 'other-%') ORDER BY name, n;
    UPDATE datas3ts SET last_reserved_key = 699994, next_key = 699995 WHERE name IN ('before', 'images');

    INSERT INTO table_files (catalogue_id, table_name, first_key, last_key, counter, object_key, size_bytes, etag)
    SELECT catalogue_id, 'table-' || n % 10, n * 10, n * 10 + 8, n, name || '/t' || n, 40, ''
      FROM generate_series(1, 20000) AS n, datas3ts
     WHERE name IN ('before', 'images') OR (n < 40 AND name LIKE 'other-%') ORDER BY random();
    INSERT INTO table_files (id, catalogue_id, table_name, first_key, last_key, counter, object_key, size_bytes, etag)
    SELECT 1000000 + id, catalogue_id, 'table-2', 0, 0, -1000000 - id, '', 0, '' FROM datas3ts
     WHERE name IN ('before', 'images') OR name LIKE 'other-%';
    INSERT INTO cleared_catalogues (id, datas3t_id, bucket_id, last_put)
    SELECT -1000000 - id, id, 1, interval '1 day' FROM datas3ts WHERE name IN ('before', 'images');
    INSERT INTO table_uploads (datas3t_id, table_name, first_key, last_key, counter, data_size, data_object_key,
                               replaces, state, expires_at, finished_at)
    SELECT datas3t_id, 'table-' || id % 10, first_key, last_key, id, 1, data_object_key, '{}', state, expires_at,
           finished_at FROM datarange_uploads;

    INSERT INTO checksums_uploads (datas3t_id, datarange_id, first_key, last_key, data_object_key, checksums_object_key,
                                   state, expires_at, finished_at)
    SELECT datas3t_id, id, first_key, last_key, data_object_key, 'c/' || id, state, expires_at, finished_at
      FROM datarange_uploads;

    INSERT INTO keys_to_delete (bucket_id, object_key, due_at, due_since, attempts)
    SELECT 1 + n % 2, 'datas3t/' || n % 1000 || '/' || n, now() + seconds, now() + seconds,
           (n % 100 = 0 AND seconds < interval '0')::int
      FROM generate_series(1, 10000) AS n, CAST(interval '10 seconds' * (n - 5000) AS interval) AS seconds;

    INSERT INTO keys_to_delete (bucket_id, object_key, due_at, due_since, second_look)
    SELECT 5, 'looked-at/' || n, now() + interval '1 day', now() + interval '1 day', true
      FROM generate_series(1, 10000) AS n;

    INSERT INTO api_tokens (name, secret_sha256, role, revoked_at)
    SELECT 'token-' || n % 2000, sha256(n::text::bytea), 'read', CASE WHEN n > 2000 THEN now() END
      FROM generate_series(1, 10000) AS n;

    ANALYZE;
"""


@dataclass(frozen=True)
class Call:
    """A call of a function, and how many rows each of its statements may read besides those of a few look-ups."""

    function: Callable[..., object]
    arguments: tuple[object, ...]
    options: tuple[tuple[str, object], ...] = ()
    rows: int = 0


def call(function: Callable[..., object], *arguments: object, rows: int = 0, **options: object) -> Call:
    return Call(function, arguments, tuple(options.items()), rows)


def _name(function: Callable[..., object]) -> str:
    return f"{function.__module__.rpartition('.')[2]}.{function.__qualname__}"


UPLOADS = IntentTable("datarange_uploads")
CLAIMS = [Claim(n, 1, "key", False, None, False, datetime.now().astimezone()) for n in range(5)]
A_DATARANGE = Datarange(1, 0, 8, "a.tar", "a.index", 2048, 1024, "", "")
NEW_RANGE: dict[str, Any] = {
    "data_key": "d",
    "index_key": "i",
    "size": 1,
    "entries_size": 1,
    "data_etag": "",
    "index_etag": "",
    "checksums_etag": "",
    "extension": None,
}
NEW_INTENT: dict[str, Any] = {
    "data_size": 1,
    "data_key": "d",
    "index_key": "i",
    "part_size": 1,
    "multipart": True,
    "with_checksums": True,
    "lifetime": HOUR,
}
BEGUN: dict[str, Any] = {
    "prefix": "p",
    "data_size": 1,
    "part_size": 1,
    "multipart": False,
    "with_checksums": True,
    "archive_crc32c": True,
    "lifetime": HOUR,
}
COMMITTED: dict[str, Any] = {
    "entries_size": 1,
    "data_etag": "",
    "index_etag": "",
    "checksums_etag": "",
    "extension": "jpg",
}
NEW_ROWS: dict[str, Any] = {
    "firsts": [500_001, 500_003],
    "lasts": [500_002, 500_004],
    "data_keys": ["new-1", "new-2"],
    "index_keys": ["new-i1", "new-i2"],
    "sizes": [1, 1],
    "entries_sizes": [1, 1],
    "data_etags": ["", ""],
    "index_etags": ["", ""],
    "checksums_etags": ["", None],
}

LISTED: dict[str, list[int] | list[str]] = {
    "keys": ["images/t3", "nowhere"],
    "tables": ["table-3", "table-3"],
    "firsts": [30, 40],
    "lasts": [38, 48],
    "counters": [3, 5],
    "sizes": [40, 40],
    "etags": ["", ""],
}

# In the datas3t with the id 2, between two others of the same size.
CALLS = [
    call(catalogues.are_in, 1),
    call(catalogues.clear, 2, HOUR),
    call(catalogues.delete_some, 10, rows=45),
    call(imported.pending, 5, ["u/4", "nowhere"], rows=60),
    call(imported.committed, 2, ["images/7", "nowhere"]),
    call(imported.cleared, "images", 1, ["images/7", "nowhere"]),
    call(imported.overlapped, 2, [(5, 6), (100_005, 100_006), (MAX_KEY, MAX_KEY)], rows=12),
    call(imported.insert, 2, 1, NEW_ROWS, rows=60),
    call(imported.delete, 2, ["images/7", "nowhere"]),
    call(catalogues.purge, 4),
    *(call(dataranges.overlapping, 2, 0, MAX_KEY, after=after, limit=20, rows=22) for after in (-1, 99_999, 199_900)),
    *(call(dataranges.overlapping, 2, key, key) for key in (0, 9, 100_005, 199_999, MAX_KEY)),
    *(call(dataranges.overlapping, 2, key, key + 9, limit=1) for key in (0, 100_005, 199_998, MAX_KEY - 9)),
    call(dataranges.overlapping, 2, 100_000, 100_199, rows=22),
    *(call(dataranges.page, 2, after, 20, rows=20) for after in (-1, 99_999, 199_900)),
    *(call(dataranges.overlapping, 2, key, MAX_KEY, limit=1001, rows=1001) for key in (0, 100_005, 199_900)),
    call(dataranges.overlapping, 2, 100_005, 100_006, limit=2001),
    *(call(dataranges.page, 2, after, 2001, rows=2001) for after in (-1, 99_999, 199_900)),
    *(call(spans.find, "images", key, MAX_KEY, after=-1, limit=1001, rows=1001) for key in (0, 100_005, 199_900)),
    call(spans.find, "images", 100_005, 100_006, after=-1, limit=2001),
    *(call(spans.page, "images", after, 2001, rows=2001) for after in (-1, 99_999, 199_900)),
    *(call(listings.dataranges, "images", after, 1001, rows=1001) for after in (-1, 99_999, 199_900)),
    call(datas3ts.next_free_key, 2),
    call(datas3ts.next_key, 2),
    call(dataranges.insert, 2, 9, 9, **NEW_RANGE),
    call(dataranges.by_id, 2, 7),
    call(checksums_uploads.insert, 2, A_DATARANGE, HOUR),
    call(checksums_uploads.by_id, 7),
    call(checksums_uploads.pending, 100),
    call(checksums_uploads.commit, 2, 100, etag="", extension="jpg"),
    call(intents.cancel_checksums, 2, HOUR, rows=20),
    call(keys_to_delete.forget_second_look, 5, "looked-at/7"),
    call(dataranges.delete, 2, 1, 100_000, 100_008, HOUR),
    call(dataranges.delete_by_ids, 2, [3, 30_000], rows=4),
    call(datas3ts.add, "new", 1, 0),
    call(datas3ts.add, "images", 1, 0),
    call(datas3ts.by_name, "images"),
    call(datas3ts.by_id, 2),
    call(datas3ts.locked, "images"),
    call(datas3ts.draw_counter, "images"),
    call(datas3ts.removals, "images"),
    call(datas3ts.record_removal, 2),
    call(datas3ts.delete, 2),
    *(call(datas3ts.page, after, 20, rows=40) for after in ("", "images")),
    call(key_reservations.reserve, "images", 10, "new", HOUR),
    call(key_reservations.reserve, "images", 10, "7", HOUR),
    call(key_reservations.by_request, 2, "7"),
    call(key_reservations.by_id, 7, 2),
    *(call(key_reservations.overlapping, 2, key, key + 9) for key in (0, 600_005, 699_998, MAX_KEY - 9)),
    *(call(key_reservations.uncover, 2, key, key + 9) for key in (0, 600_005, 699_998, MAX_KEY - 9)),
    call(key_reservations.delete_all, 4),
    call(key_reservations.delete_ended, 10, rows=60),
    call(table_uploads.by_id, 20_101),
    call(table_uploads.completed, 2, [20_101, 20_102]),
    call(
        table_uploads.begin, name="images", table="t", first=1, last=2, prefix="p", size=40, replaces=[7], lifetime=HOUR
    ),
    call(table_files.commit, 101, 1_100, "etag"),
    call(imported_table_files.pending, 5, LISTED, rows=30),
    call(imported_table_files.committed, 2, LISTED),
    call(imported_table_files.cleared, "images", 1, LISTED),
    call(imported_table_files.insert, 2, 1, LISTED, rows=30),
    call(table_files.exist, 2, "table-3"),
    call(table_files.tables, 2, "table-7", 1, rows=2010),
    *(call(table_files.page, "images", "table-3", None, after=key, limit=20, rows=20) for key in (-1, 9_999, 19_990)),
    *(
        call(table_files.page, "images", "table-3", (key, key + 200), after=-1, limit=20, rows=25)
        for key in (0, 99_990)
    ),
    call(table_files.page, "images", "table-3", (100_030, 100_030), after=-1, limit=2001, rows=2),
    call(table_files.replacing, 5, "table-3", 0, 100, ids=[7], below=MAX_KEY, rows=40),
    call(table_files.delete_by_ids, 2, [7, 8]),
    *(call(table_files.delete_within, 2, 1, key, key + 8, HOUR, rows=4) for key in (100_000, 7)),
    call(dropped_tables.count, 7, "table-3", rows=20),
    call(dropped_tables.drop, 2, 1, "table-3", HOUR),
    call(dropped_tables.delete_some, 10, rows=60),
    call(intents.cancel_table, 101, "table-0", HOUR, rows=20),
    call(api_tokens.credential, 7),
    call(api_tokens.exists, "token-7"),
    call(api_tokens.insert, "new", bytes(32), "read", "*", HOUR),
    call(api_tokens.page, 1500, 10, rows=10),
    call(api_tokens.record_use, [7, 8], HOUR),
    call(api_tokens.release_name, "token-7"),
    call(api_tokens.revoke, "token-7"),
    call(s3_buckets.by_name, "bucket-7"),
    call(s3_buckets.by_ids, [7]),
    call(s3_buckets.page, "bucket-1500", 10, rows=10),
    call(s3_buckets.locked_page, "bucket-1500", 10, rows=10),
    call(s3_buckets.insert, name="b", endpoint="e", bucket="b", region="r", access_key="a", secret_key="s"),
    call(s3_buckets.set_credentials, 7, "a", "s"),
    call(s3_buckets.set_endpoint, 7, "http://s3/7", "http://s3/new"),
    call(s3_buckets.demands_equal_parts, 7),
    call(s3_buckets.lacks_bulk_delete, 7),
    call(s3_buckets.lacks_archive_crc32c, 7),
    call(s3_buckets.locked, "bucket-7"),
    call(s3_buckets.is_used, 7),
    call(s3_buckets.delete, 7),
    call(datarange_uploads.by_id, 7),
    call(datarange_uploads.without_archive_crc32c, 100),
    *(call(spans.find, "images", 0, MAX_KEY, after=after, limit=20, rows=24) for after in (-1, 99_999, 199_900)),
    *(call(spans.find, "images", key, key, after=-1, limit=2, rows=5) for key in (0, 9, 100_005, 199_999, MAX_KEY)),
    *(call(spans.page, "images", after, 20, rows=21) for after in (-1, 99_999, 199_900)),
    *(call(listings.dataranges, "images", after, 20, rows=21) for after in (-1, 99_999, 199_900, MAX_KEY)),
    *(call(listings.datas3ts, after, 20, rows=40) for after in ("", "images")),
    call(s3_buckets.with_version, 7),
    *(call(starting.begin, "images", key, key + 9, **BEGUN, rows=8) for key in (9, 100_005, 199_999, MAX_KEY - 9)),
    *(call(starting.begin, "images", key, key, **BEGUN, rows=8) for key in (500_000, 600_005)),
    call(starting.begin, "images", 600_010, 600_014, **BEGUN, reservation_id=10_003, rows=8),
    call(committing.place, 2),
    call(committing.commit, datas3t_id=101, upload_id=100, **COMMITTED, rows=8),
    call(aggregate_uploads.by_id, 7),
    call(aggregate_uploads.insert, 2, 1, 1, source_ids=[1], planned=True, **NEW_INTENT),
    call(UPLOADS.set_s3_upload_id, 100, "id"),
    call(UPLOADS.extend, 100, HOUR),
    call(UPLOADS.note_completion, 100, rows=6),
    call(UPLOADS.withdraw_completion, 100, Noted(datetime.now().astimezone(), None)),
    call(UPLOADS.since_completion, 100),
    call(UPLOADS.complete, 100),
    call(UPLOADS.cancel, 100, HOUR, rows=6),
    call(UPLOADS.fail, 100, HOUR, reason=1, message="", rows=6),
    call(intents.cancel_all, 5, HOUR, limit=3, rows=35),
    call(intents.cancel_expired, 10, HOUR, rows=60),
    call(intents.forget_finished, HOUR, 10, rows=30),
    call(keys_to_delete.queue, 1, ["a", "b"]),
    call(keys_to_delete.queued, 1, ["datas3t/7/7", "a"]),
    call(keys_to_delete.purge, 2, "datas3t/7/", "", 5, rows=10),
    call(keys_to_delete.forget_second_looks, 5, "looked-at/5", 5, rows=10),
    call(keys_to_delete.claim, 10, HOUR, rows=40),
    call(keys_to_delete.done, CLAIMS, rows=30),
    call(keys_to_delete.backlog, rows=30_001),
    call(figures.open_uploads, rows=40_000),
    call(keys_to_delete.failed, dict.fromkeys(CLAIMS, "error"), HOUR, HOUR, rows=15),
]

# These read many rows, each for a reason.
UNBOUNDED = {
    "figures.catalogue_size": "it adds up the numbers of all datas3ts, once a minute",
    "spans.bounds": "the bitmap has all keys",
    "statement.Statement.rows": "it executes any statement",
    "statement.Statement.row": "it executes any statement",
    "statement.Statement.raw_row": "it executes any statement",
    "keys_to_delete.has_deletions": "it looks for one that may not be forgotten",
}


@pytest.fixture(scope="module")
def filled(databases: DatabasePool) -> Iterator[str]:
    """Yield the URL of a database whose tables have many rows."""
    with databases.lend() as url:
        with psycopg.connect(url, autocommit=True) as conn:
            conn.execute(_FILL)
        yield url


@pytest.fixture(scope="module")
def explained(filled: str) -> Iterator[ExplainedConnection]:
    with ExplainedConnection.to(filled) as conn, explained_statements():
        yield conn


def plans(conn: ExplainedConnection, each: Call) -> list[Plan]:
    """Return the plans of a call, with the least pages of three: at first, pages of the system's catalogs count too."""
    found = []
    for _ in range(3):
        conn.plans.clear()
        with conn.transaction(force_rollback=True):
            each.function(conn, *each.arguments, **dict(each.options))
        found.append(list(conn.plans))
    return [min(same, key=lambda plan: plan.pages) for same in zip(*found, strict=True)]


@pytest.mark.parametrize("each", CALLS, ids=[_name(each.function) for each in CALLS])
def test_a_statement_reads_what_it_returns_or_changes(explained: ExplainedConnection, each: Call) -> None:
    found = plans(explained, each)
    assert found, "no statement was explained"
    for plan in found:
        assert plan.rows_read <= LOOK_UPS + each.rows, plan
        assert plan.pages <= 150 + 8 * each.rows, plan  # many of them belong to indices that get a row


def test_every_function_of_the_package_is_called_here() -> None:
    called = {_name(each.function) for each in CALLS}
    assert called.isdisjoint(UNBOUNDED)
    assert called | set(UNBOUNDED) >= set(_functions())


def _functions() -> Iterator[str]:
    """Yield the names of the public functions and methods of `db` that take a connection."""
    for module in pkgutil.iter_modules(db.__path__, f"{db.__name__}."):
        found: list[Any] = list(vars(importlib.import_module(module.name)).values())
        found += [method for each in found if inspect.isclass(each) for method in vars(each).values()]
        for each in found:
            is_public = (
                inspect.isfunction(each) and each.__module__ == module.name and not each.__name__.startswith("_")
            )
            if is_public and "conn" in inspect.signature(each).parameters:
                yield _name(each)
