"""Checksums that are added to dataranges that have none."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from datas3t import v1
from datas3t.server import dataranges
from datas3t.server.db import keys_to_delete
from datas3t.server.errors import Failure
from datas3t.server.objects import checks
from datas3t.server.uploads import checksums
from tests.support.aggregates import aggregate, make_all_due, rows
from tests.support.counters import wrong_counters
from tests.support.uploads import DONE, Site, archive, put, run_concurrently

ONE = archive(1, b"one", b"", b"three")


def start(site: Site, number: int = 0) -> checksums.Started:
    """Start to add checksums to a datarange."""
    return checksums.start(site.resources, site.datas3t, rows(site)[number].id)


def refused(call: Callable[[], object]) -> Failure:
    """Return the failure of a call."""
    with pytest.raises(Failure) as caught:
        call()
    return caught.value


def test_checksums_are_added_once(site: Site) -> None:
    site.upload(ONE)
    started = start(site)
    put(started.put_url, ONE.checksums)
    for _ in range(2):
        checksums.complete(site.resources, started.upload.id, extension="bin")
    (row,) = rows(site)
    assert row.checksums_etag
    assert row.extension == "bin"
    assert row.checksums_object_key == started.upload.checksums_object_key
    assert refused(lambda: start(site)).reason == v1.ERROR_REASON_CHECKSUMS_EXIST
    cancelled = refused(lambda: checksums.cancel(site.resources, started.upload.id))
    assert cancelled.reason == v1.ERROR_REASON_CHECKSUMS_COMPLETED
    site.sweep()
    assert len(site.objects()) == 3
    assert site.clear() == (1, 3)


def test_an_extension_that_is_known_is_kept(site: Site) -> None:
    site.upload(ONE, extension="bin")
    started = start(site)
    put(started.put_url, ONE.checksums)
    checksums.complete(site.resources, started.upload.id)
    assert rows(site)[0].extension == "bin"


def test_a_large_archive_is_compared_in_a_sample(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "WHOLE_ARCHIVE", 1 << 10)
    site.upload(ONE)
    started = start(site)
    put(started.put_url, ONE.checksums[:-1] + b"?")
    failure = refused(lambda: checksums.complete(site.resources, started.upload.id))
    assert failure.reason == v1.ERROR_REASON_CHECKSUMS_INVALID
    site.sweep()
    started = start(site)
    put(started.put_url, ONE.checksums)
    checksums.complete(site.resources, started.upload.id)
    assert rows(site)[0].checksums_etag


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "the checksums object was never uploaded"),
        (b"", "has 0 bytes instead of 12"),
        (ONE.checksums[:-1] + b"?", "datapoint 3 has the checksum"),
    ],
    ids=["missing", "empty", "wrong"],
)
def test_wrong_checksums_are_final_and_leave_nothing(site: Site, given: bytes | None, message: str) -> None:
    site.upload(ONE)
    started = start(site)
    if given is not None:
        put(started.put_url, given)
    for _ in range(2):
        failure = refused(lambda: checksums.complete(site.resources, started.upload.id))
        assert message in failure.message
        assert failure.reason == v1.ERROR_REASON_CHECKSUMS_INVALID
        about = {"checksums_id": str(started.upload.id), "datas3t": "images", "first": "1", "last": "3"}
        assert failure.metadata == about
    checksums.cancel(site.resources, started.upload.id)
    site.sweep()
    assert len(site.objects()) == 2
    assert rows(site)[0].checksums_etag is None


def test_a_wrong_extension_is_final(site: Site) -> None:
    site.upload(ONE)
    started = start(site)
    put(started.put_url, ONE.checksums)
    failure = refused(lambda: checksums.complete(site.resources, started.upload.id, extension="jpg"))
    assert failure.reason == v1.ERROR_REASON_CHECKSUMS_INVALID


def test_one_may_be_open_for_a_datarange(site: Site) -> None:
    site.upload(ONE)
    site.upload(archive(4, b"four"))
    reasons = run_concurrently([lambda: start(site)] * 8)
    assert sorted(reasons) == [DONE] + [v1.ERROR_REASON_CHECKSUMS_UNDER_WAY] * 7
    start(site, 1)
    other = refused(lambda: start(site)).metadata
    assert other["datarange_id"] == str(rows(site)[0].id)
    checksums.cancel(site.resources, int(other["checksums_id"]))


def test_after_a_cancellation_another_one_may_start_when_the_object_is_deleted(site: Site) -> None:
    """Its object has the same key, so the second look of the cancelled one must not delete it."""
    site.upload(ONE)
    first = start(site)
    put(first.put_url, b"left behind")
    checksums.cancel(site.resources, first.upload.id)
    failure = refused(lambda: start(site))
    assert failure.reason == v1.ERROR_REASON_CHECKSUMS_UNDER_WAY
    assert "still being deleted" in failure.message
    assert site.sweep() == 1
    second = start(site)
    put(second.put_url, ONE.checksums)
    checksums.complete(site.resources, second.upload.id)
    make_all_due(site)
    site.sweep()
    assert rows(site)[0].checksums_object_key in site.objects()
    assert refused(lambda: checksums.complete(site.resources, first.upload.id)).reason == (
        v1.ERROR_REASON_CHECKSUMS_CANCELLED
    )


def test_a_second_look_that_a_worker_has_claimed_is_waited_for(site: Site) -> None:
    site.upload(ONE)
    checksums.cancel(site.resources, start(site).upload.id)
    site.sweep()
    make_all_due(site)
    with site.resources.pool.connection() as conn:
        claims = keys_to_delete.claim(conn, 10, timedelta(minutes=10))
    assert refused(lambda: start(site)).reason == v1.ERROR_REASON_CHECKSUMS_UNDER_WAY
    with site.resources.pool.connection() as conn:
        keys_to_delete.done(conn, claims)
    start(site)


def delete(site: Site) -> None:
    dataranges.delete(site.resources, site.datas3t, 1, 3)


def merge(site: Site) -> None:
    aggregate(site, 1, 4)


def clear(site: Site) -> None:
    site.clear()


@pytest.mark.parametrize("end", [delete, merge, clear])
def test_the_end_of_a_datarange_cancels_it(site: Site, end: Callable[[Site], None]) -> None:
    site.upload(ONE)
    site.upload(archive(4, b"four"))
    other = start(site, 1)
    started = start(site)
    put(started.put_url, ONE.checksums)
    end(site)
    failure = refused(lambda: checksums.complete(site.resources, started.upload.id))
    assert failure.reason == v1.ERROR_REASON_CHECKSUMS_CANCELLED
    if end is delete:
        checksums.cancel(site.resources, other.upload.id)
    site.sweep()
    put(started.put_url, ONE.checksums)  # late
    make_all_due(site)
    site.sweep()
    make_all_due(site)
    site.sweep()
    named = [key for row in rows(site) for key in (row.data_object_key, row.index_object_key)]
    assert site.objects() == sorted(named)


def test_a_late_put_after_the_datarange_was_deleted_is_deleted_too(site: Site) -> None:
    site.upload(ONE)
    with site.resources.pool.connection() as conn:
        conn.execute("UPDATE dataranges SET created_at = now() - interval '30 days'")
    started = start(site)
    put(started.put_url, ONE.checksums)
    checksums.complete(site.resources, started.upload.id)
    delete(site)
    site.sweep()
    put(started.put_url, ONE.checksums)
    make_all_due(site)
    assert site.sweep() == 3
    assert site.objects() == []


def test_the_reaper_cancels_one_that_has_expired(site: Site) -> None:
    site.upload(ONE)
    started = start(site)
    put(started.put_url, ONE.checksums)
    assert started.expires_at - started.upload.expires_at < timedelta(seconds=5)
    with site.resources.pool.connection() as conn:
        conn.execute("UPDATE checksums_uploads SET expires_at = now() - interval '1 second'")
    assert site.sweep() == 1
    assert len(site.objects()) == 2
    with site.resources.pool.connection() as conn:
        conn.execute("UPDATE checksums_uploads SET finished_at = now() - interval '4 days'")
    site.sweep()
    failure = refused(lambda: checksums.complete(site.resources, started.upload.id))
    assert failure.reason == v1.ERROR_REASON_CHECKSUMS_NOT_FOUND


def test_an_archive_that_was_changed_is_not_final(site: Site) -> None:
    site.upload(ONE)
    (row,) = rows(site)
    started = start(site)
    put(started.put_url, ONE.checksums)
    site.s3.put_object(Bucket=site.bucket, Key=row.data_object_key, Body=ONE.data[:-512] + bytes(1024))
    assert refused(lambda: checksums.complete(site.resources, started.upload.id)).reason == (
        v1.ERROR_REASON_OBJECT_CHANGED
    )
    site.s3.put_object(Bucket=site.bucket, Key=row.data_object_key, Body=ONE.data)
    checksums.complete(site.resources, started.upload.id)


@pytest.mark.parametrize("datarange_id", [0, 10**6, 2**64 - 1])
def test_a_datarange_that_does_not_exist_is_not_found(site: Site, datarange_id: int) -> None:
    site.upload(ONE)
    failure = refused(lambda: checksums.start(site.resources, site.datas3t, datarange_id))
    assert failure.reason == v1.ERROR_REASON_DATARANGE_NOT_FOUND
    for call in (checksums.complete, checksums.cancel):
        assert refused(lambda call=call: call(site.resources, datarange_id)).reason == (  # type: ignore[misc]
            v1.ERROR_REASON_CHECKSUMS_NOT_FOUND
        )


def test_the_numbers_of_a_datas3t_count_added_checksums(site: Site) -> None:
    site.upload(ONE)
    site.upload(archive(4, b"four"), b"")
    started = start(site)
    put(started.put_url, ONE.checksums)
    checksums.complete(site.resources, started.upload.id)
    delete(site)
    with site.resources.pool.connection() as conn:
        assert wrong_counters(conn) == []
        assert conn.execute("SELECT checksums_count FROM datas3ts").fetchone() == (1,)
