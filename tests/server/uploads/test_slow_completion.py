"""Completions that take S3 long, or whose response is lost: an upload is not treated as lost while S3 may join it."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from datas3t import v1
from datas3t.server import aggregates, uploads
from datas3t.server.call import Call, caller_left, working_on
from datas3t.server.db.pool import connection
from datas3t.server.errors import Failure
from datas3t.server.front.calls.threads import RUNNING
from datas3t.server.intents import joining
from datas3t.server.intents.joining import WAITING
from datas3t.server.s3.clients import PATIENT_CONFIG
from tests.support.aggregates import bounds, send_planned
from tests.support.front import http_request
from tests.support.serving import serving, settings_for
from tests.support.stack import wait_until
from tests.support.store_proxy import StoreProxy, Ways, store_proxy
from tests.support.uploads import Site, archive, large_archive

if TYPE_CHECKING:
    from datas3t.embedded.stack import Services


@pytest.fixture
def proxy(services: "Services", site: Site) -> Iterator[StoreProxy]:
    """Return a proxy in front of S3, which answers to completions with an error and joins the parts later."""
    with store_proxy(services.s3.endpoint, Ways(completion_deferred=True)) as proxy:
        site.set_endpoint(proxy.url)
        yield proxy


def sent_at(site: Site) -> object:
    """Return when S3 was last asked to join the parts."""
    with connection(site.resources.pool) as conn:
        row = conn.execute("SELECT completion_sent_at FROM datarange_uploads").fetchone()
    assert row is not None
    return row[0]


def reason_of(site: Site, sent: tuple[int, list[str]]) -> int:
    """Return the reason for which a completion fails."""
    with pytest.raises(Failure) as caught:
        uploads.complete(site.resources, *sent)
    return caught.value.reason


def test_an_upload_that_s3_joins_late_is_not_lost(site: Site, proxy: StoreProxy) -> None:
    sent = site.send(large_archive(1))
    noted: list[object] = []
    proxy.on_completion = lambda: noted.append(sent_at(site))
    assert sent_at(site) is None
    assert reason_of(site, sent) == v1.ERROR_REASON_S3_UNAVAILABLE
    assert len(noted) == 1  # it is not repeated
    assert noted[0] is not None  # and noted before
    assert reason_of(site, sent) == v1.ERROR_REASON_S3_UNAVAILABLE  # in the meantime S3 returns NoSuchUpload
    assert len(noted) == 1
    proxy.finish_completions()
    uploads.complete(site.resources, *sent)
    uploads.complete(site.resources, *sent)
    assert len(site.objects()) == 2


def test_an_upload_that_s3_never_joins_is_lost_when_that_is_certain(site: Site, proxy: StoreProxy) -> None:
    sent = site.send(large_archive(1))
    assert reason_of(site, sent) == v1.ERROR_REASON_S3_UNAVAILABLE
    with connection(site.resources.pool) as conn:
        conn.execute("UPDATE datarange_uploads SET completion_sent_at = completion_sent_at - interval '59 minutes'")
    assert reason_of(site, sent) == v1.ERROR_REASON_S3_UNAVAILABLE
    with connection(site.resources.pool) as conn:
        conn.execute("UPDATE datarange_uploads SET completion_sent_at = completion_sent_at - interval '2 minutes'")
    assert reason_of(site, sent) == v1.ERROR_REASON_UPLOAD_INVALID


def add_hours(site: Site, hours: float) -> None:
    """Move the time at which S3 was asked to join the parts into the past."""
    with connection(site.resources.pool) as conn:
        for table in ("datarange_uploads", "aggregate_uploads"):
            conn.execute(f"UPDATE {table} SET completion_sent_at = completion_sent_at - %s", [timedelta(hours=hours)])


@pytest.fixture
def refusing(services: "Services", site: Site) -> Iterator[StoreProxy]:
    """Return such a proxy which in the meantime refuses other completions as wrong."""
    with store_proxy(services.s3.endpoint, Ways(completion_deferred=True, completion_refuses=True)) as proxy:
        site.set_endpoint(proxy.url)
        yield proxy


def test_parts_that_s3_refuses_while_it_may_join_them_are_not_wrong(site: Site, refusing: StoreProxy) -> None:
    sent = site.send(large_archive(1))
    for _ in range(3):
        assert reason_of(site, sent) == v1.ERROR_REASON_S3_UNAVAILABLE
    wrong = sent[0], [sent[1][0], '"other"']
    assert reason_of(site, wrong) == v1.ERROR_REASON_S3_UNAVAILABLE
    assert reason_of(site, (sent[0], sent[1][:1])) == v1.ERROR_REASON_S3_UNAVAILABLE
    refusing.finish_completions()
    uploads.complete(site.resources, *sent)
    assert len(site.objects()) == 2


def test_parts_that_s3_refuses_and_never_joins_are_wrong_when_that_is_certain(site: Site, refusing: StoreProxy) -> None:
    sent = site.send(large_archive(1))
    for _ in range(2):
        assert reason_of(site, sent) == v1.ERROR_REASON_S3_UNAVAILABLE
    add_hours(site, 1.1)
    assert reason_of(site, sent) == v1.ERROR_REASON_UPLOAD_INVALID


def demands_equal_parts(site: Site) -> bool:
    with connection(site.resources.pool) as conn:
        return conn.execute("SELECT equal_parts FROM s3_buckets").fetchall() == [(True,)]


def test_only_a_refusal_of_a_first_completion_says_that_a_store_demands_equal_parts(
    site: Site, refusing: StoreProxy
) -> None:
    refusing.ways = Ways()
    for each in (archive(1, b"small"), large_archive(2)):
        site.upload(each)
    refusing.ways = Ways(completion_deferred=True, completion_refuses=True)
    sent = send_planned(site, 1, 4)
    for _ in range(2):
        with pytest.raises(Failure) as caught:
            aggregates.complete(site.resources, *sent)
        assert caught.value.reason == v1.ERROR_REASON_S3_UNAVAILABLE
    assert not demands_equal_parts(site)
    add_hours(site, 1.1)
    with pytest.raises(Failure) as caught:
        aggregates.complete(site.resources, *sent)
    assert caught.value.reason == v1.ERROR_REASON_AGGREGATE_INVALID
    assert not demands_equal_parts(site)
    # Another aggregate, whose completion S3 carries out.
    sent = send_planned(site, 1, 4)
    with pytest.raises(Failure):
        aggregates.complete(site.resources, *sent)
    refusing.finish_completions()
    aggregates.complete(site.resources, *sent)
    assert bounds(site) == [(1, 4)]
    assert not demands_equal_parts(site)


def test_calls_that_wait_for_a_slow_completion_hold_up_no_other_call(
    services: "Services", site: Site, database: str, tmp_path: Path
) -> None:
    held, released = threading.Event(), threading.Event()
    sent = site.send(large_archive(1))

    def hold() -> None:
        held.set()
        released.wait(60)

    with (
        store_proxy(services.s3.endpoint, Ways()) as proxy,
        serving(settings_for(services, database, tmp_path)) as server,
        ThreadPoolExecutor(2 * RUNNING) as pool,
    ):
        site.set_endpoint(proxy.url)
        proxy.on_completion = hold
        body = {"datarange_upload_id": sent[0], "upload_ids": sent[1]}
        calls = [pool.submit(http_request, server.url, "POST", "/api/v1/upload-datarange/complete", body)]
        assert held.wait(20)
        try:
            for _ in range(2 * RUNNING - 1):
                calls.append(pool.submit(http_request, server.url, "POST", "/api/v1/upload-datarange/complete", body))
            # All but those that may wait are refused at once, and a call that needs only the database is answered.
            wait_until(lambda: sum(each.done() for each in calls) == 2 * RUNNING - 1 - WAITING, 20, "the refusals")
            refused = [each.result() for each in calls if each.done()]
            assert {(each.status, each.reason) for each in refused} == {(503, "S3_UNAVAILABLE")}
            assert http_request(server.url, "GET", "/api/bucket").status == 200
            assert joining_waiters() == WAITING
        finally:
            released.set()
        assert [each.result(30).status for each in calls].count(200) == 1 + WAITING


def joining_waiters() -> int:
    return joining._waiting.total()


def test_a_client_that_leaves_does_not_wait_for_a_completion(site: Site, services: "Services") -> None:
    sent, call = site.send(large_archive(1)), Call(60)
    held, released = threading.Event(), threading.Event()

    def hold() -> None:
        held.set()
        released.wait(60)

    def waiting() -> int:
        with working_on(call):
            return reason_of(site, sent)

    with store_proxy(services.s3.endpoint, Ways()) as proxy, ThreadPoolExecutor(2) as pool:
        site.set_endpoint(proxy.url)
        proxy.on_completion = hold
        first = pool.submit(uploads.complete, site.resources, *sent)
        try:
            assert held.wait(20)
            second = pool.submit(waiting)
            wait_until(lambda: joining_waiters() == 1, 20, "the second completion")
            call.end(caller_left())
            assert second.result(10) == v1.ERROR_REASON_CALLER_LEFT
            assert joining_waiters() == 0
        finally:
            released.set()
        first.result(30)


def test_an_upload_that_is_gone_is_lost_at_once_where_the_store_lists_no_parts(
    site: Site, services: "Services"
) -> None:
    sent = site.send(large_archive(1))
    with connection(site.resources.pool) as conn:
        ((key, s3_upload_id),) = conn.execute("SELECT data_object_key, s3_upload_id FROM datarange_uploads").fetchall()
    site.s3.abort_multipart_upload(Bucket=site.bucket, Key=key, UploadId=s3_upload_id)
    with store_proxy(services.s3.endpoint, Ways(no_list_parts=True)) as proxy:
        site.set_endpoint(proxy.url)
        assert reason_of(site, sent) == v1.ERROR_REASON_UPLOAD_INVALID


def test_repeated_calls_do_not_put_off_the_hour_where_the_store_lists_no_parts(
    site: Site, services: "Services"
) -> None:
    ways = Ways(no_list_parts=True, completion_deferred=True)
    with store_proxy(services.s3.endpoint, ways) as proxy:
        site.set_endpoint(proxy.url)
        sent = site.send(large_archive(1))
        assert reason_of(site, sent) == v1.ERROR_REASON_S3_UNAVAILABLE
        first = sent_at(site)
        assert reason_of(site, sent) == v1.ERROR_REASON_S3_UNAVAILABLE
        assert sent_at(site) == first
        with connection(site.resources.pool) as conn:
            conn.execute("UPDATE datarange_uploads SET completion_sent_at = completion_sent_at - interval '61 minutes'")
        assert reason_of(site, sent) == v1.ERROR_REASON_UPLOAD_INVALID


def test_a_completion_has_15_minutes_and_one_attempt() -> None:
    assert PATIENT_CONFIG.read_timeout == 900  # type: ignore[attr-defined]
    assert PATIENT_CONFIG.retries == {"mode": "standard", "total_max_attempts": 1}  # type: ignore[attr-defined]
