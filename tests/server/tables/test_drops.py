"""Tables that are dropped: gone for readers at once, while their files are deleted in batches."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from datas3t import v1
from datas3t.server import buckets, dataranges, datas3ts, reaper, tables
from datas3t.server.db import catalogues, dropped_tables
from datas3t.server.db.pool import connection, transaction
from datas3t.server.errors import Failure
from tests.support.importing import import_bucket
from tests.support.stack import wait_until
from tests.support.tables import add_file, ids, parquet, send_file, table_objects
from tests.support.uploads import Site, archive, run_concurrently

_WAITING = """
    SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0
"""


def reason(call: Callable[[], object]) -> int:
    with pytest.raises(Failure) as caught:
        call()
    return caught.value.reason


def sql(site: Site, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
    with connection(site.resources.pool) as conn:
        cursor = conn.execute(statement, parameters)
        return cursor.fetchall() if cursor.description else []


def drop(site: Site, table: str = "labels") -> int:
    return tables.drop(site.resources, "images", table)


def listed(site: Site) -> list[tuple[str, int]]:
    return [(each.name, each.file_count) for each in tables.page(site.resources, "images", 0, "")[0]]


def state(site: Site) -> tuple[int, int, int]:
    """Return how many table files the datas3t counts, how many rows of them there are, and how many drops."""
    (counted,) = sql(
        site,
        """SELECT (SELECT table_file_count FROM datas3ts WHERE name = 'images'),
                  (SELECT count(*) FROM table_files WHERE counter > 0),
                  (SELECT count(*) FROM table_files WHERE counter < 0)""",
    )
    return counted


def reap_some(site: Site, limit: int) -> bool:
    with connection(site.resources.pool) as conn:
        return dropped_tables.delete_some(conn, limit)


def test_a_table_is_gone_before_its_files_are(site: Site) -> None:
    files = [add_file(site, key, key) for key in range(1, 6)]
    other = add_file(site, 1, 9, table="others")
    assert drop(site) == 5
    assert state(site) == (6, 6, 1)
    assert listed(site) == [("others", 1)]
    for span in ((None, None), (1, 5)):
        assert reason(partial(ids, site, "labels", *span)) == v1.ERROR_REASON_TABLE_NOT_FOUND
    assert reason(lambda: drop(site)) == v1.ERROR_REASON_TABLE_NOT_FOUND
    replace = partial(tables.start, site.resources, "images", "labels", 1, 9, 40)
    assert reason(lambda: replace(files[:2])) == v1.ERROR_REASON_TABLE_FILES_CHANGED
    assert len(table_objects(site)) == 6
    site.sweep()
    assert state(site) == (1, 1, 0)
    assert (len(table_objects(site)), ids(site, "others")) == (1, [other])


def test_a_table_of_the_same_name_is_another_one(site: Site) -> None:
    old = [add_file(site, 1, 9) for _ in range(5)]
    drop(site)
    new = [add_file(site, 1, 9) for _ in range(2)]
    assert (ids(site), ids(site, "labels", 3, 4), listed(site)) == (new, new, [("labels", 2)])
    assert drop(site) == 2
    newest = [add_file(site, 1, 9), add_file(site, 5, 9)]
    assert state(site) == (9, 9, 2)
    left = []
    while reap_some(site, 2):
        assert (ids(site), ids(site, "labels", 3, 4), listed(site)) == (newest, newest[:1], [("labels", 2)])
        left.append(state(site))
    assert left == [(7, 7, 2), (5, 5, 2), (3, 3, 2), (2, 2, 1), (2, 2, 0)]
    assert ids(site, "labels", 1, 9) == newest
    assert not set(old) & set(newest)


def test_dropped_files_are_not_in_the_way_of_a_compaction(site: Site) -> None:
    counters = [add_file(site, 1, 9) for _ in range(3)]
    drop(site)
    sql(site, "UPDATE table_files SET counter = counter + 100 WHERE id = ANY(%s)", counters)
    new = [add_file(site, 1, 9) for _ in range(2)]
    merged = add_file(site, 1, 9, replaces=new)
    assert ids(site) == [merged]


@pytest.mark.parametrize("removal", ["drop", "clear"])
def test_files_that_another_transaction_deletes_do_not_end_the_deletion(site: Site, removal: str) -> None:
    files = [add_file(site, 1, 9) for _ in range(5)]
    drop(site) if removal == "drop" else site.clear()
    delete_some = dropped_tables.delete_some if removal == "drop" else catalogues.delete_some

    def delete() -> bool:
        with connection(site.resources.pool) as conn:
            return delete_some(conn, 2)

    with ThreadPoolExecutor(1) as pool:
        with transaction(site.resources.pool) as conn:
            conn.execute("DELETE FROM table_files WHERE id = %s", [files[0]])
            deleting = pool.submit(delete)
            wait_until(lambda: sql(site, _WAITING) != [], what="the other transaction")
        assert deleting.result(30)
    assert listed(site) == []
    site.sweep()
    assert state(site) == (0, 0, 0)
    assert len(table_objects(site)) == 1  # which the test has deleted without queueing its object


def test_pages_of_tables_are_whole_among_dropped_ones(site: Site) -> None:
    for name in ("a", "b", "c", "d", "e"):
        add_file(site, 1, 1, table=name)
    for name in ("a", "b", "d"):
        drop(site, name)
    found, token, pages = [], "", 0
    while token or not pages:
        page, token = tables.page(site.resources, "images", 1, token)
        found += [each.name for each in page]
        pages += 1
    assert (found, pages) == (["c", "e"], 5)


@pytest.mark.parametrize("removal", ["clear", "delete"])
def test_a_datas3t_that_is_emptied_takes_its_dropped_tables_along(site: Site, removal: str) -> None:
    for name in ("labels", "others"):
        for _ in range(3):
            add_file(site, 1, 9, table=name)
    drop(site)
    reap_some(site, 2)
    if removal == "clear":
        assert site.clear() == (0, 4)  # one of them of the dropped table
    else:
        site.delete()
    with connection(site.resources.pool) as conn:
        catalogues.delete_some(conn, 2)  # it takes the row of the drop before the reaper of drops does
    assert reason(lambda: buckets.delete(site.resources, "local")) != 0
    site.sweep()
    assert (state(site), table_objects(site)) == ((0, 0, 0), [])
    assert sql(site, "SELECT * FROM cleared_catalogues") == []
    if removal == "delete":
        site.add()
    new = add_file(site, 1, 9)
    assert (ids(site), state(site)) == ([new], (1, 1, 0))


def test_a_datas3t_without_other_files_is_cleared_while_its_table_is_dropped(site: Site) -> None:
    add_file(site, 1, 9)
    drop(site)
    while reap_some(site, 1) and state(site)[1]:
        continue
    assert state(site) == (0, 0, 1)
    assert site.clear() == (0, 0)
    site.sweep()
    assert state(site) == (0, 0, 0)


def test_an_import_leaves_what_was_dropped_alone_and_keeps_what_it_adds_since(site: Site) -> None:
    add_file(site, 1, 9)
    (key,) = table_objects(site)
    drop(site)
    earlier = key.replace("-000000000001.", "-000000000009.")
    site.s3.put_object(Bucket=site.bucket, Key=earlier, Body=parquet())
    result = import_bucket(site)
    assert result.skipped == {key: "it is queued for deletion"}
    assert listed(site) == [("labels", 1)]
    site.sweep()
    assert (table_objects(site), listed(site)) == ([earlier], [("labels", 1)])


def test_a_datarange_is_deleted_with_files_that_were_dropped(site: Site) -> None:
    site.upload(archive(0, b"a", b"b"))
    for _ in range(3):
        add_file(site, 0, 1)
    drop(site)
    dataranges.delete(site.resources, "images", 0, 1)
    assert state(site) == (0, 0, 1)
    site.sweep()
    assert (state(site), site.objects()) == ((0, 0, 0), [])


def test_versions_of_dropped_files_are_purged_with_the_rest(site: Site) -> None:
    add_file(site, 1, 9)
    drop(site)
    datas3ts.clear(site.resources, "images", purge_versions=True)
    reap_some(site, 10)
    assert sql(site, "SELECT purge_versions FROM keys_to_delete") == [(True,)]


def test_files_that_are_completed_during_a_drop_are_dropped_or_cancelled_or_new(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reaper, "BATCH", 2)
    for _ in range(4):
        add_file(site, 1, 9)
        pending = [send_file(site, 1, 9) for _ in range(6)]
        calls = [partial(tables.complete, site.resources, each) for each in pending]
        outcomes = run_concurrently([*calls[:3], partial(drop, site), *calls[3:], site.sweep])
        assert set(outcomes) <= {0, v1.ERROR_REASON_TABLE_FILE_CANCELLED}
        assert listed(site) == []
        site.sweep()
        assert (state(site), table_objects(site)) == ((0, 0, 0), [])
