"""Clearing a datas3t: for readers it is empty at once, and its rows, however many, are then deleted in batches."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from pyroaring import BitMap64

from datas3t import v1
from datas3t.archive import names
from datas3t.server import aggregates, buckets, dataranges, datas3ts, downloads, imports, reaper, uploads
from datas3t.server.db import catalogues
from datas3t.server.db.pool import connection, transaction
from datas3t.server.errors import Failure
from tests.support.aggregates import send_planned, upload_some
from tests.support.counters import wrong_counters
from tests.support.importing import import_bucket
from tests.support.uploads import Site, add_bucket, archive

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from datas3t.embedded.stack import Services

MANY = 1_500  # dataranges: more than a batch

_FILL = """
    INSERT INTO dataranges (catalogue_id, first_key, last_key, data_object_key, index_object_key,
                            size_bytes, entries_size_bytes, data_etag, index_etag)
    SELECT catalogue_id, n * 10, n * 10 + 8, name || '/' || n, name || '/' || n || '.index', 2048, 1024, '', ''
      FROM generate_series(0, %s - 1) AS n, datas3ts WHERE name = 'images'
"""


def sql(site: Site, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
    with connection(site.resources.pool) as conn:
        cursor = conn.execute(statement, parameters)
        return cursor.fetchall() if cursor.description else []


def fill(site: Site, count: int = MANY) -> None:
    """Insert dataranges without objects."""
    sql(site, _FILL, count)


def left(site: Site) -> int:
    """Return how many dataranges are in the table, also of cleared catalogues."""
    return int(sql(site, "SELECT count(*) FROM dataranges")[0][0])


def queued(site: Site) -> int:
    return int(sql(site, "SELECT count(*) FROM keys_to_delete")[0][0])


def delete_some(site: Site, limit: int) -> bool:
    with connection(site.resources.pool) as conn:
        return catalogues.delete_some(conn, limit)


def test_a_clear_changes_no_datarange_and_the_reaper_deletes_them_in_batches(site: Site) -> None:
    fill(site)
    assert site.clear() == (MANY, 2 * MANY)
    assert (left(site), queued(site)) == (MANY, 0)
    assert delete_some(site, 1000)
    assert (left(site), queued(site)) == (MANY - 1000, 3000)
    assert delete_some(site, 1000)
    assert (left(site), queued(site)) == (0, 3 * MANY)
    assert not delete_some(site, 1000)
    assert len(sql(site, "SELECT DISTINCT object_key FROM keys_to_delete")) == 3 * MANY
    assert sql(site, "SELECT * FROM cleared_catalogues") == []
    assert site.clear() == (0, 0)


def test_a_batch_that_ends_with_the_catalogue_is_followed_by_an_empty_one(site: Site) -> None:
    fill(site, 10)
    site.clear()
    assert [delete_some(site, 5) for _ in range(4)] == [True, True, True, False]
    assert (left(site), queued(site)) == (0, 30)


def everything_read(site: Site) -> set[int]:
    """Return what each way to read says how many datapoints, or dataranges, there are."""
    ((row,), _) = datas3ts.page(site.resources, 0, "")
    bitmap = len(BitMap64.deserialize(datas3ts.bitmap(site.resources, "images")))
    segments, _, _ = downloads.presign(site.resources, "images", 0, 10 * MANY, size=MANY)
    presigned, _, _ = dataranges.presign(site.resources, "images", None, None, size=MANY)
    assert bitmap in (0, 9 * MANY)
    return {row.datarange_count, len(segments), len(presigned), bitmap // 9}


def test_readers_see_all_dataranges_or_none(site: Site) -> None:
    fill(site)
    assert everything_read(site) == {MANY}
    done = threading.Event()

    def read() -> set[int]:
        seen = everything_read(site)
        while not done.is_set():
            seen |= everything_read(site)
        return seen

    with ThreadPoolExecutor(2) as threads:
        readers = [threads.submit(read) for _ in range(2)]
        try:
            site.clear()
            while delete_some(site, 50):
                continue
        finally:
            done.set()
    for reader in readers:
        assert reader.result() <= {0, MANY}
    assert everything_read(site) == {0}


def test_keys_of_cleared_dataranges_are_free_at_once(site: Site) -> None:
    fill(site)
    site.clear()
    site.upload(archive(5, b"new"))
    assert left(site) == MANY + 1
    for _ in range(3):
        delete_some(site, 1000)
    ((row,), _) = dataranges.page(site.resources, "images", 0, "")
    assert (row.first_key, row.last_key) == (5, 5)
    assert site.clear() == (1, 2)
    site.sweep()
    assert (left(site), site.objects()) == (0, [])


def test_an_interrupted_clear_is_finished_by_the_next_sweep_and_may_be_repeated(site: Site) -> None:
    fill(site, 100)
    site.clear()
    delete_some(site, 30)
    fill(site, 50)
    assert site.clear() == (50, 100)
    delete_some(site, 30)
    assert left(site) == 90
    site.sweep()
    assert left(site) == 0
    with connection(site.resources.pool) as conn:
        assert wrong_counters(conn) == []


def test_several_reapers_delete_each_row_once(site: Site) -> None:
    for _ in range(4):
        fill(site, 100)
        site.clear()
    site.delete()

    def work(_: int) -> None:
        while sql(site, "SELECT id FROM cleared_catalogues"):
            delete_some(site, 7)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(4)))
    assert (left(site), queued(site)) == (0, 1200)


def test_an_import_leaves_cleared_archives_alone_until_they_are_deleted(site: Site) -> None:
    site.upload(archive(1, b"content"))
    (key,) = (each for each in site.objects() if each.endswith(".tar"))
    site.clear()
    assert import_bucket(site).skipped == {key: "it is queued for deletion"}
    assert dataranges_of(site) == []
    site.delete()
    assert import_bucket(site).skipped == {key: "it is queued for deletion"}
    assert datas3ts.page(site.resources, 0, "") == ([], "")
    site.sweep()
    assert import_bucket(site).skipped == {}
    assert site.objects() == []


def dataranges_of(site: Site) -> Sequence[object]:
    return dataranges.page(site.resources, "images", 0, "")[0]


@pytest.mark.parametrize("until", ["listed", "checked"])
def test_an_import_during_a_clear_adds_nothing_that_was_cleared(site: Site, until: str) -> None:
    site.upload(archive(1, b"content"))
    sql(site, "DELETE FROM dataranges")
    steps = imports.run(site.resources, "local")
    next(step for step in steps if step.seen)
    if until == "checked":
        next(steps)
    import_bucket(site)
    site.clear()
    skipped = [each.reason for step in steps for each in step.skipped]
    assert skipped == ["it is queued for deletion"]
    assert dataranges_of(site) == []
    site.sweep()
    assert site.objects() == []


def test_an_aggregate_that_was_started_before_a_clear_is_cancelled(site: Site) -> None:
    upload_some(site, 2)
    aggregate_id, etags = send_planned(site, 1, 6)
    site.clear()
    upload_some(site, 2)
    with pytest.raises(Failure) as caught:
        aggregates.complete(site.resources, aggregate_id, etags)
    assert caught.value.reason == v1.ERROR_REASON_AGGREGATE_CANCELLED
    site.sweep()
    assert len(dataranges_of(site)) == 2
    assert len(site.objects()) == 4


def test_completions_that_race_with_a_clear_are_cancelled_or_cleared(site: Site) -> None:
    sent = [site.send(archive(first, b"content")) for first in range(1, 13)]

    with ThreadPoolExecutor(5) as threads:
        completed = [threads.submit(uploads.complete, site.resources, *each) for each in sent]
        cleared = [threads.submit(site.clear) for _ in range(2)]
    failures = [failure for each in completed if (failure := each.exception())]
    assert {getattr(each, "reason", each) for each in failures} <= {v1.ERROR_REASON_UPLOAD_CANCELLED}
    assert len(sent) - len(failures) == sum(each.result()[0] for each in cleared)
    assert dataranges_of(site) == []
    site.sweep()
    assert (left(site), site.objects()) == (0, [])


@pytest.fixture
def other_bucket(site: Site, services: "Services", s3: "S3Client") -> Iterator[str]:
    name = f"{site.bucket}-other"
    s3.create_bucket(Bucket=name)
    add_bucket(site.resources, services.s3, name, name="other")
    yield name
    s3.delete_bucket(Bucket=name)


def test_a_datas3t_that_moves_to_another_bucket_is_deleted_from_the_first(site: Site, other_bucket: str) -> None:
    site.upload(archive(1, b"content"))
    site.clear()
    site.delete()
    datas3ts.add(site.resources, "images", "other")
    with pytest.raises(Failure, match="objects in bucket configuration 'local' are still to be deleted"):
        buckets.delete(site.resources, "local")
    site.sweep()
    assert site.objects() == []
    buckets.delete(site.resources, "local")


def test_the_database_keeps_a_bucket_with_cleared_dataranges(site: Site) -> None:
    fill(site, 1)
    site.clear()
    site.delete()
    with (
        pytest.raises(Failure, match="objects in bucket configuration 'local' are still to be deleted"),
        transaction(site.resources.pool, bucket="local") as conn,
    ):
        conn.execute("DELETE FROM s3_buckets")


def test_a_datarange_is_in_the_catalogue_of_a_datas3t(site: Site) -> None:
    fill(site, 1)
    site.clear()
    with (
        pytest.raises(psycopg.errors.ForeignKeyViolation, match="must be in the catalogue of a datas3t"),
        connection(site.resources.pool) as conn,
    ):
        conn.execute(
            """INSERT INTO dataranges (catalogue_id, first_key, last_key, data_object_key, index_object_key,
                                       size_bytes, entries_size_bytes, data_etag, index_etag)
               SELECT id, 100, 100, 'a', 'b', 1, 1, '', '' FROM cleared_catalogues"""
        )


@pytest.mark.parametrize("remove", [datas3ts.clear, datas3ts.delete])
def test_versions_of_what_was_cleared_before_are_removed_as_well(site: Site, remove: Callable[..., object]) -> None:
    fill(site, 20)
    site.clear()
    delete_some(site, 10)
    sql(site, "UPDATE keys_to_delete SET object_key = %s || object_key", names.prefix("images"))
    remove(site.resources, "images", purge_versions=True)
    delete_some(site, 100)
    assert sql(site, "SELECT purge_versions, count(*) FROM keys_to_delete GROUP BY 1") == [(True, 60)]


def test_open_uploads_are_cancelled_in_batches(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datas3ts, "_BATCH", 4)
    uploads_ = [site.start(archive(first, b"content")).upload.id for first in range(1, 11)]
    site.clear()
    for upload_id in uploads_:
        with pytest.raises(Failure) as caught:
            uploads.complete(site.resources, upload_id, [])
        assert caught.value.reason == v1.ERROR_REASON_UPLOAD_CANCELLED
    assert queued(site) == 20


def test_every_column_of_a_datas3t_outlives_a_clear_but_those_of_its_dataranges(site: Site) -> None:
    fill(site, 3)
    site.start(archive(100, b"content"))
    before = row_of(site)
    site.clear()
    after = row_of(site)
    changed = {name for name in before if before[name] != after[name]}
    of_dataranges = {"datarange_count", "datapoint_count", "total_bytes", "lowest_key", "highest_key"}
    assert changed == {"catalogue_id", "removals"} | of_dataranges


def row_of(site: Site) -> dict[str, Any]:
    ((row,),) = sql(site, "SELECT to_jsonb(d) FROM datas3ts AS d WHERE name = 'images'")
    return dict(row)


def test_the_reaper_can_be_stopped_between_two_batches(site: Site) -> None:
    fill(site, 10)
    site.clear()
    stopping = threading.Event()
    stopping.set()
    assert reaper.sweep(site.resources, stopping) == 0
    assert left(site) == 10


def test_objects_of_new_dataranges_get_a_second_look(site: Site) -> None:
    fill(site, 1)
    sql(site, "UPDATE dataranges SET created_at = now() - interval '1 hour'")
    site.clear()
    delete_some(site, 10)
    ((wait,), *_) = sql(site, "SELECT look_again_at - now() FROM keys_to_delete")
    assert timedelta(hours=23, minutes=50) < wait <= timedelta(hours=24)
