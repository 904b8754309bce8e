"""The reaper: expired uploads are cancelled, queued objects are deleted, and failed deletions are retried."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from datas3t import v1
from datas3t.server import buckets, dataranges, uploads
from datas3t.server.db import keys_to_delete
from datas3t.server.db.pool import connection
from datas3t.server.errors import Failure
from datas3t.server.reaper import Reaper, backlog
from tests.support.canned import CannedResponse, canned_server
from tests.support.faults import Fault, relay
from tests.support.stack import wait_until
from tests.support.store_proxy import Ways, store_proxy
from tests.support.uploads import Site, archive, large_archive, put, put_data

if TYPE_CHECKING:
    from datas3t.embedded.stack import Services


def sql(site: Site, statement: str) -> list[tuple[object, ...]]:
    with connection(site.resources.pool) as conn:
        cursor = conn.execute(statement)
        return cursor.fetchall() if cursor.description else []


def make_all_due(site: Site) -> None:
    sql(site, "UPDATE keys_to_delete SET due_at = now(), due_since = now()")


def test_an_abandoned_upload_is_cancelled_when_its_urls_expire(site: Site) -> None:
    small, (large, _) = site.send(archive(1, b"content")), site.send(large_archive(5))
    site.upload(archive(100, b"stays"))
    assert site.sweep() == 0
    sql(site, "UPDATE datarange_uploads SET expires_at = now() - interval '1 second' WHERE state = 'pending'")
    assert site.sweep() == 4
    assert len(site.objects()) == 2
    assert site.multiparts() == []
    for upload_id in (small[0], large):
        with pytest.raises(Failure) as caught:
            uploads.complete(site.resources, upload_id, [])
        assert caught.value.reason == v1.ERROR_REASON_UPLOAD_CANCELLED


def test_the_multipart_upload_of_a_crashed_start_is_aborted(site: Site) -> None:
    started = site.start(large_archive(1))
    sql(site, "UPDATE datarange_uploads SET s3_upload_id = NULL")
    uploads.cancel(site.resources, started.upload.id)
    site.sweep()
    assert site.multiparts() == []


def test_the_object_of_a_late_put_is_deleted_at_the_second_look(site: Site) -> None:
    late = archive(1, b"content")
    started = site.start(late)
    uploads.cancel(site.resources, started.upload.id)
    assert site.sweep() == 2
    put_data(started, late.data)
    assert (backlog(site.resources).queued, backlog(site.resources).later) == (0, 2)
    assert site.sweep() == 0
    ((due_at,),) = sql(site, "SELECT DISTINCT due_at FROM keys_to_delete")
    assert due_at == started.upload.expires_at + site.resources.put_grace
    make_all_due(site)
    assert site.sweep() == 2
    assert site.objects() == []
    assert sql(site, "SELECT * FROM keys_to_delete") == []


@pytest.mark.parametrize("remove", ["delete", "clear"])
def test_the_objects_of_a_deleted_datarange_are_deleted_again_after_a_late_put(site: Site, remove: str) -> None:
    late = archive(1, b"content")
    started = site.start(late)
    put_data(started, late.data)
    put(started.index_put_url, late.index)
    uploads.complete(site.resources, started.upload.id, [])
    ((committed_at,),) = sql(site, "SELECT created_at FROM dataranges")
    site.clear() if remove == "clear" else dataranges.delete(site.resources, "images", 1, 1)
    assert site.sweep() == 3
    put_data(started, late.data)
    put(started.index_put_url, late.index)
    assert (site.sweep(), len(site.objects())) == (0, 2)
    ((due_at,),) = sql(site, "SELECT DISTINCT due_at FROM keys_to_delete")
    assert due_at - committed_at == timedelta(hours=25)  # type: ignore[operator]
    make_all_due(site)
    assert (site.sweep(), site.objects()) == (3, [])
    assert sql(site, "SELECT * FROM keys_to_delete") == []


@pytest.mark.parametrize("remove", ["delete", "clear"])
def test_a_datarange_older_than_its_urls_needs_no_second_look(site: Site, remove: str) -> None:
    site.upload(archive(1, b"content"))
    sql(site, "UPDATE dataranges SET created_at = now() - interval '25 hours 1 second'")
    site.clear() if remove == "clear" else dataranges.delete(site.resources, "images", 1, 1)
    assert (site.sweep(), site.objects()) == (3, [])
    assert sql(site, "SELECT * FROM keys_to_delete") == []


def test_an_object_that_is_due_later_stays_until_then(site: Site) -> None:
    site.s3.put_object(Bucket=site.bucket, Key="a", Body=b"x")
    row = buckets.find(site.resources, "local", "bucket")
    with connection(site.resources.pool) as conn:
        keys_to_delete.queue(conn, row.id, ["a"], after=timedelta(hours=1))
    assert site.sweep() == 0
    assert site.objects() == ["a"]
    make_all_due(site)
    assert site.sweep() == 1
    assert site.objects() == []


def test_while_s3_is_unavailable_rows_stay_and_wait_longer_each_time(site: Site, services: "Services") -> None:
    site.upload(archive(1, b"content"))
    with relay(services.s3.endpoint) as between:
        site.set_endpoint(between.url)
        site.clear()
        with between.down():
            for seconds in (5, 10, 20):
                ((before,),) = sql(site, "SELECT now()")
                assert site.sweep() == 0
                rows = sql(site, "SELECT due_at, now(), last_error FROM keys_to_delete")
                assert len(rows) == 3
                for due, after, error in rows:
                    assert due - after <= timedelta(seconds=seconds) <= due - before  # type: ignore[operator]
                    assert services.s3.secret_key not in str(error)
                make_all_due(site)
        assert backlog(site.resources).failing == 3
        assert len(site.objects()) == 2
        assert site.sweep() == 3
    assert site.objects() == []
    assert backlog(site.resources) == keys_to_delete.Backlog(queued=0, failing=0, later=3, oldest_seconds=0.0)


def test_a_failing_bucket_does_not_hold_up_another(site: Site, services: "Services") -> None:
    site.upload(archive(1, b"content"))
    site.clear()
    sql(
        site,
        """WITH dead AS (INSERT INTO s3_buckets (name, endpoint, bucket, region, access_key, secret_key)
                        SELECT 'dead', 'http://127.0.0.1:1', bucket, region, access_key, secret_key FROM s3_buckets
                        RETURNING id)
           INSERT INTO keys_to_delete (bucket_id, object_key) SELECT id, 'lost' FROM dead""",
    )
    assert site.sweep() == 3
    assert backlog(site.resources).failing == 1


def test_a_refused_listing_of_multipart_uploads_does_not_hold_up_other_objects(
    site: Site, services: "Services"
) -> None:
    site.upload(archive(1, b"content"))
    started = site.start(large_archive(5))
    with relay(services.s3.endpoint) as between:
        site.set_endpoint(between.url)
        site.clear()
        sql(site, "UPDATE keys_to_delete SET s3_upload_id = NULL")
        between.plan(Fault(status=403, only=b"uploads"))
        assert site.sweep() == 4
    ((key, error),) = sql(site, "SELECT object_key, last_error FROM keys_to_delete WHERE attempts > 0")
    assert key == started.upload.data_object_key
    assert "refuses" in str(error)
    assert site.objects() == []
    make_all_due(site)
    site.set_endpoint(services.s3.endpoint)
    site.sweep()
    assert site.multiparts() == []


def test_a_multipart_upload_is_aborted_by_its_id_where_the_store_cannot_list_them(
    site: Site, services: "Services"
) -> None:
    started = site.start(large_archive(1))
    with store_proxy(services.s3.endpoint, Ways(no_list_uploads=True)) as proxy:
        site.set_endpoint(proxy.url)
        uploads.cancel(site.resources, started.upload.id)
        assert site.sweep() == 2
    assert site.multiparts() == []


def test_that_a_store_deletes_only_one_by_one_is_remembered(site: Site, services: "Services") -> None:
    with store_proxy(services.s3.endpoint, Ways(no_bulk_delete=True)) as proxy:
        site.set_endpoint(proxy.url)
        for first in (1, 2):
            site.upload(archive(first, b"content"))
            site.clear()
            assert site.sweep() == 3
        assert len([target for method, target in proxy.requests if method == "POST" and "delete" in target]) == 1
    assert site.objects() == []


def test_a_key_that_cannot_be_deleted_does_not_hold_up_others(site: Site, services: "Services") -> None:
    with store_proxy(services.s3.endpoint, Ways(no_bulk_delete=True)) as proxy:
        site.set_endpoint(proxy.url)
        for first in range(1, 6):
            site.upload(archive(first, b"content"))
        kept = site.objects()[3]
        proxy.refused_keys.add(f"/{site.bucket}/{kept}")
        site.clear()
        assert site.sweep() == 14
    assert site.objects() == [kept]


def test_objects_are_deleted_one_by_one_where_the_store_names_other_keys_than_it_was_asked_for(site: Site) -> None:
    site.upload(archive(1, b"content"))
    error = "<Error><Key>elsewhere</Key><Code>InternalError</Code></Error>"

    def respond(request: str) -> CannedResponse:
        return CannedResponse(200, f"<DeleteResult>{error}</DeleteResult>" if request.startswith("POST") else "")

    with canned_server(respond) as (endpoint, requests):
        site.set_endpoint(endpoint)
        site.clear()
        assert site.sweep() == 3
    assert len([request for request in requests if request.startswith("DELETE")]) == 3


def test_a_store_that_is_away_is_not_asked_for_every_key(site: Site, services: "Services") -> None:
    for first in range(1, 31):
        site.upload(archive(first, b"content"))
    with relay(services.s3.endpoint) as between:
        site.set_endpoint(between.url)
        between.always = Fault(status=503)
        site.clear()
        assert site.sweep() == 0
    assert backlog(site.resources).failing == 90
    make_all_due(site)
    site.set_endpoint(services.s3.endpoint)
    assert site.sweep() == 90


def test_a_reaper_that_is_slower_than_its_lease_does_not_end_the_second_look(site: Site) -> None:
    started = site.start(archive(1, b"content"))
    uploads.cancel(site.resources, started.upload.id)
    with connection(site.resources.pool) as conn:
        slow = keys_to_delete.claim(conn, 10, timedelta())
        assert site.sweep() == 2
        keys_to_delete.done(conn, slow)
        keys_to_delete.failed(conn, dict.fromkeys(slow, "away"), timedelta(), timedelta())
    assert backlog(site.resources).later == 2


def test_versions_that_are_to_be_removed_since_a_row_was_claimed_are_not_forgotten(site: Site) -> None:
    row = buckets.find(site.resources, "local", "bucket")
    with connection(site.resources.pool) as conn:
        keys_to_delete.queue(conn, row.id, ["a", "b"])
        claims = keys_to_delete.claim(conn, 10, timedelta())
        keys_to_delete.purge(conn, row.id, "a")
        keys_to_delete.done(conn, claims)
        (left,) = keys_to_delete.claim(conn, 10, timedelta())
        assert (left.object_key, left.purge_versions) == ("a", True)
        keys_to_delete.done(conn, [left])
    assert sql(site, "SELECT * FROM keys_to_delete") == []


def test_several_reapers_share_the_work(site: Site) -> None:
    row = buckets.find(site.resources, "local", "bucket")
    keys = [f"k{n}" for n in range(3000)]
    with connection(site.resources.pool) as conn:
        keys_to_delete.queue(conn, row.id, keys)
    with ThreadPoolExecutor(4) as threads:
        deleted = list(threads.map(lambda _: site.sweep(), range(4)))
    assert sum(deleted) == 3000
    assert backlog(site.resources).queued == 0


def test_finished_uploads_are_deleted_after_3_days(site: Site) -> None:
    for first in (1, 2, 3):
        site.upload(archive(first, b"content"))
    site.send(archive(4, b"content"))
    sql(site, "UPDATE datarange_uploads SET finished_at = now() - interval '73 hours' WHERE first_key < 3")
    sql(site, "UPDATE datarange_uploads SET finished_at = now() - interval '71 hours' WHERE first_key = 3")
    site.sweep()
    assert sql(site, "SELECT first_key FROM datarange_uploads ORDER BY first_key") == [(3,), (4,)]


def test_a_cancel_wakes_the_reaper(site: Site) -> None:
    reaper = Reaper(site.resources, interval=timedelta(hours=1))
    reaper.start()
    try:
        upload_id, _ = site.send(archive(1, b"content"))
        uploads.cancel(site.resources, upload_id)
        wait_until(lambda: site.objects() == [], what="the deletion")
    finally:
        reaper.stop()


def test_the_reaper_goes_on_after_a_failed_sweep(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    sql(site, "ALTER TABLE keys_to_delete RENAME TO elsewhere")
    reaper = Reaper(site.resources, interval=timedelta(milliseconds=20))
    reaper.start()
    try:
        wait_until(lambda: "will retry" in caplog.text, what="the failure")
        sql(site, "ALTER TABLE elsewhere RENAME TO keys_to_delete")
        upload_id, _ = site.send(archive(1, b"content"))
        uploads.cancel(site.resources, upload_id)
        wait_until(lambda: site.objects() == [], what="the deletion")
    finally:
        reaper.stop()
