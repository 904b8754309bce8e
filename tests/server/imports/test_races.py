"""Imports that run concurrently with uploads, deletions and other imports."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from datas3t import v1
from datas3t.archive import names
from datas3t.server import dataranges, imports, uploads
from datas3t.server.db.pool import connection
from datas3t.server.errors import Failure
from tests.support.faults import Fault, relay
from tests.support.importing import import_bucket, object_key, put_archive, put_archives, rows
from tests.support.uploads import Site, archive

if TYPE_CHECKING:
    from datas3t.embedded.stack import Services

ONE = archive(1, b"one", b"two")


@contextmanager
def paused_import(site: Site, *, checked: bool) -> Iterator[dict[str, str]]:
    """Run the block in the middle of an import: after the listing, or after the check of the chosen archives.

    The import goes on after the block; then the yielded dict has the reasons of the skipped objects.
    """
    skipped: dict[str, str] = {}
    steps = imports.run(site.resources, "local")
    assert next(step for step in steps if step.seen).skipped == ()  # S3 may list empty folders before
    if checked:
        assert next(steps).skipped == ()
    yield skipped
    skipped.update({each.key: each.reason for step in steps for each in step.skipped})


def is_clean(site: Site) -> bool:
    """Run the reaper; return whether the bucket holds two objects for each datarange, and nothing else."""
    site.sweep()
    expected = [key for row in rows(site) for key in (row.data_object_key, row.index_object_key)]
    return sorted(site.objects()) == sorted(expected)


def test_an_upload_that_completes_after_the_listing_is_not_imported_as_well(site: Site) -> None:
    upload, etags = site.send(ONE)
    with paused_import(site, checked=False) as skipped:
        uploads.complete(site.resources, upload, etags)
    assert (skipped, len(rows(site))) == ({}, 1)


def test_an_upload_that_is_cancelled_after_the_listing_is_not_imported(site: Site) -> None:
    upload, _ = site.send(ONE)
    with paused_import(site, checked=False) as skipped:
        uploads.cancel(site.resources, upload)
    assert skipped == {object_key(ONE, 1): "it is queued for deletion"}
    assert is_clean(site)


def test_a_datarange_that_is_deleted_after_the_listing_is_not_imported(site: Site) -> None:
    site.upload(ONE)
    with connection(site.resources.pool) as conn:
        conn.execute("UPDATE dataranges SET created_at = now() - interval '2 days'")  # so that no second look is queued
    with paused_import(site, checked=False) as skipped:
        dataranges.delete(site.resources, "images", 1, 2)
        site.sweep()
    assert skipped == {object_key(ONE, 1): "it was deleted or written again while it was checked; import again"}
    assert is_clean(site)


def test_an_archive_that_is_overlapped_after_its_check_is_not_imported(site: Site) -> None:
    key = put_archive(site, ONE, 50)
    with paused_import(site, checked=True) as skipped:
        site.upload(archive(2, b"x", b"y"))
    assert skipped == {key: "it overlaps the existing datarange from 2 to 3"}
    assert [(row.first_key, row.last_key) for row in rows(site)] == [(2, 3)]


def test_an_archive_that_another_import_adds_after_the_check_is_added_once(site: Site) -> None:
    put_archive(site, ONE, 50)
    with paused_import(site, checked=True) as skipped:
        assert import_bucket(site).imported == ["images"]
    assert (skipped, len(rows(site))) == ({}, 1)


def test_an_archive_that_another_import_added_and_a_user_deleted_stays_deleted(site: Site) -> None:
    key = put_archive(site, ONE, 50)
    with paused_import(site, checked=True) as skipped:
        import_bucket(site)
        dataranges.delete(site.resources, "images", 1, 2)
    assert skipped == {key: "it is queued for deletion"}
    assert rows(site) == []
    assert is_clean(site)


def test_an_archive_that_was_imported_cleared_and_deleted_after_the_check_never_gets_a_row(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def must_not_run(*_: object) -> None:
        raise AssertionError("a row without objects was written; a crash would leave it there")

    put_archive(site, ONE, 50)
    with paused_import(site, checked=True) as skipped:
        import_bucket(site)
        site.clear()
        site.sweep()
        monkeypatch.setattr("datas3t.server.imports.steps.remove_rows_without_objects", must_not_run)
    assert skipped == {}
    assert rows(site) == []
    assert is_clean(site)


def test_an_archive_whose_index_is_deleted_after_the_check_is_not_deleted(site: Site) -> None:
    key = put_archive(site, ONE, 50)
    with paused_import(site, checked=True) as skipped:
        site.s3.delete_object(Bucket=site.bucket, Key=names.index_key(key))
    assert skipped == {key: "its index was deleted during the import; import again"}
    site.sweep()
    assert site.objects() == [key]
    assert import_bucket(site).imported == ["images"]
    assert is_clean(site)


def test_a_datas3t_that_moves_to_another_bucket_after_the_check_is_skipped(site: Site) -> None:
    key = put_archive(site, ONE, 50)
    with paused_import(site, checked=True) as skipped, connection(site.resources.pool) as conn:
        conn.execute("""INSERT INTO s3_buckets (name, endpoint, bucket, region, access_key, secret_key)
                        VALUES ('second', 'http://nowhere', 'second', 'x', 'x', 'x')""")
        conn.execute("UPDATE datas3ts SET bucket_id = (SELECT id FROM s3_buckets WHERE name = 'second')")
    assert skipped == {key: "datas3t 'images' is on another bucket configuration"}
    assert rows(site) == []


def test_eight_concurrent_imports_add_everything_once(empty_site: Site) -> None:
    put_archives(empty_site, [archive(10 * n, *([b"x"] * 10)) for n in range(40)])
    put_archives(empty_site, [archive(10 * n, *([b"x"] * 14)) for n in range(20)], datas3t="other")
    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(lambda _: import_bucket(empty_site), range(8)))
    assert len(rows(empty_site)) == 40
    assert len(rows(empty_site, "other")) == 10
    assert {name for result in results for name in result.imported} == {"images", "other"}
    assert import_bucket(empty_site).imported == []


def test_imports_during_uploads_and_deletions_change_nothing(site: Site) -> None:
    done = threading.Event()

    def import_repeatedly() -> list[str]:
        imported: list[str] = []
        while not done.is_set():
            imported += import_bucket(site).imported
        return imported

    def upload_and_delete(n: int) -> None:
        for _ in range(6):
            site.upload(archive(100 * n, b"x", b"y"))
            dataranges.delete(site.resources, "images", 100 * n, 100 * n + 1)
            site.sweep()
        site.upload(archive(100 * n, b"x"))

    with ThreadPoolExecutor(6) as threads:
        importing = [threads.submit(import_repeatedly) for _ in range(2)]
        try:
            list(threads.map(upload_and_delete, range(4)))
        finally:
            done.set()
    assert [each.result() for each in importing] == [[], []]
    assert [(row.first_key, row.last_key) for row in rows(site)] == [(100 * n, 100 * n) for n in range(4)]
    assert is_clean(site)


def test_an_import_fails_if_s3_is_unavailable_and_a_repeated_one_finishes(site: Site, services: "Services") -> None:
    put_archives(site, [archive(n, b"x") for n in range(20)])
    with relay(services.s3.endpoint) as between:
        site.set_endpoint(between.url)
        steps = imports.run(site.resources, "local")
        next(steps)
        with between.down(), pytest.raises(Failure) as caught:
            list(steps)
        assert caught.value.reason == v1.ERROR_REASON_S3_UNAVAILABLE
        assert rows(site) == []
        assert import_bucket(site).imported == ["images"]
    assert len(rows(site)) == 20


def test_credentials_without_write_access_import_archives_that_need_no_new_index(
    site: Site, services: "Services"
) -> None:
    good, bad = put_archive(site, ONE, 1), put_archive(site, archive(5, b"x"), 2, index=b"")
    with relay(services.s3.endpoint) as between:
        between.always = Fault(status=403, only=b"PUT ")
        site.set_endpoint(between.url)
        result = import_bucket(site)
    message = "its index is missing or wrong, and the credentials do not allow writing a new one"
    assert result.skipped == {bad: message}
    assert [row.data_object_key for row in rows(site)] == [good]
    assert names.index_key(bad) not in site.objects()
