"""Imports while others upload, delete, clear and import: at each step of an import, and all at once."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from datas3t import v1
from datas3t.archive import names
from datas3t.server import dataranges, imports, uploads
from datas3t.server.db.pool import connection
from datas3t.server.errors import Failure
from tests.support.faults import Fault, relay
from tests.support.importing import imported, leave, leave_many, lost, object_key, rows
from tests.support.uploads import Site, archive

if TYPE_CHECKING:
    from datas3t.embedded.stack import Services

ONE = archive(1, b"one", b"two")


@pytest.fixture
def empty(services: "Services", site: Site, migrated_template: str, tmp_path: Path) -> Iterator[Site]:
    """The site's bucket seen by a server that knows nothing of it."""
    with lost(site, services, migrated_template, tmp_path) as other:
        yield other


@contextmanager
def halfway(site: Site, *, checked: bool) -> Iterator[dict[str, str]]:
    """In the block the import has listed the one datas3t, or has checked what it chose; behind it, it is done. What was
    skipped is in the dict then."""
    skipped: dict[str, str] = {}
    steps = imports.run(site.resources, "local")
    assert next(step for step in steps if step.seen).skipped == ()  # a store may still list folders that are empty
    if checked:
        assert next(steps).skipped == ()
    yield skipped
    skipped.update({each.key: each.reason for step in steps for each in step.skipped})


def whole(site: Site) -> bool:
    """Whether each datarange's objects are there, and nothing else is."""
    site.sweep()
    expected = [key for row in rows(site) for key in (row.data_object_key, row.index_object_key)]
    return sorted(site.objects()) == sorted(expected)


def test_an_upload_that_ends_behind_the_listing_is_left_to_itself(site: Site) -> None:
    upload, etags = site.send(ONE)
    with halfway(site, checked=False) as skipped:
        uploads.complete(site.resources, upload, etags)
    assert (skipped, len(rows(site))) == ({}, 1)


def test_an_upload_that_is_cancelled_behind_the_listing_is_not_imported(site: Site) -> None:
    upload, _ = site.send(ONE)
    with halfway(site, checked=False) as skipped:
        uploads.cancel(site.resources, upload)
    assert skipped == {object_key(ONE, 1): "it is queued for deletion"}
    assert whole(site)


def test_what_is_deleted_behind_the_listing_is_not_imported(site: Site) -> None:
    site.upload(ONE)
    with connection(site.resources.pool) as conn:
        conn.execute("UPDATE dataranges SET created_at = now() - interval '2 days'")  # or the queue would tell
    with halfway(site, checked=False) as skipped:
        dataranges.delete(site.resources, "images", 1, 2)
        site.sweep()
    assert skipped == {object_key(ONE, 1): "it was deleted or written again while it was checked; import again"}
    assert whole(site)


def test_an_archive_that_is_overlapped_behind_its_check_is_not_imported(site: Site) -> None:
    key = leave(site, ONE, 50)
    with halfway(site, checked=True) as skipped:
        site.upload(archive(2, b"x", b"y"))
    assert skipped == {key: "it overlaps the existing datarange from 2 to 3"}
    assert [(row.first_key, row.last_key) for row in rows(site)] == [(2, 3)]


def test_what_another_import_added_behind_the_check_is_added_once(site: Site) -> None:
    leave(site, ONE, 50)
    with halfway(site, checked=True) as skipped:
        assert imported(site).imported == ["images"]
    assert (skipped, len(rows(site))) == ({}, 1)


def test_what_another_import_added_and_a_user_deleted_stays_deleted(site: Site) -> None:
    key = leave(site, ONE, 50)
    with halfway(site, checked=True) as skipped:
        imported(site)
        dataranges.delete(site.resources, "images", 1, 2)
    assert skipped == {key: "it is queued for deletion"}
    assert rows(site) == []
    assert whole(site)


def test_what_was_imported_deleted_and_removed_behind_the_check_never_gets_a_row(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise AssertionError("a row without objects was written; a kill here would leave it")

    leave(site, ONE, 50)
    with halfway(site, checked=True) as skipped:
        imported(site)
        site.clear()
        site.sweep()
        monkeypatch.setattr("datas3t.server.imports.steps.remove_rows_without_objects", killed)
    assert skipped == {}
    assert rows(site) == []
    assert whole(site)


def test_an_archive_whose_index_vanishes_behind_the_check_is_not_deleted(site: Site) -> None:
    key = leave(site, ONE, 50)
    with halfway(site, checked=True) as skipped:
        site.s3.delete_object(Bucket=site.bucket, Key=names.index_key(key))
    assert skipped == {key: "its index was deleted during the import; import again"}
    site.sweep()
    assert site.objects() == [key]
    assert imported(site).imported == ["images"]
    assert whole(site)


def test_a_datas3t_that_moves_to_another_bucket_behind_the_check_is_left_alone(site: Site) -> None:
    key = leave(site, ONE, 50)
    with halfway(site, checked=True) as skipped, connection(site.resources.pool) as conn:
        conn.execute("""INSERT INTO s3_buckets (name, endpoint, bucket, region, access_key, secret_key)
                        VALUES ('second', 'http://nowhere', 'second', 'x', 'x', 'x')""")
        conn.execute("UPDATE datas3ts SET bucket_id = (SELECT id FROM s3_buckets WHERE name = 'second')")
    assert skipped == {key: "datas3t 'images' is on another bucket configuration"}
    assert rows(site) == []


def test_eight_imports_at_once_add_everything_once(empty: Site) -> None:
    leave_many(empty, [archive(10 * n, *([b"x"] * 10)) for n in range(40)])
    leave_many(empty, [archive(10 * n, *([b"x"] * 14)) for n in range(20)], datas3t="other")
    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(lambda _: imported(empty), range(8)))
    assert len(rows(empty)) == 40
    assert len(rows(empty, "other")) == 10
    assert {name for result in results for name in result.imported} == {"images", "other"}
    assert imported(empty).imported == []


def test_imports_under_uploads_and_deletions_change_nothing(site: Site) -> None:
    done = threading.Event()

    def import_on_and_on() -> list[str]:
        found: list[str] = []
        while not done.is_set():
            found += imported(site).imported
        return found

    def come_and_go(n: int) -> None:
        for _ in range(6):
            site.upload(archive(100 * n, b"x", b"y"))
            dataranges.delete(site.resources, "images", 100 * n, 100 * n + 1)
            site.sweep()
        site.upload(archive(100 * n, b"x"))

    with ThreadPoolExecutor(6) as threads:
        importing = [threads.submit(import_on_and_on) for _ in range(2)]
        try:
            list(threads.map(come_and_go, range(4)))
        finally:
            done.set()
    assert [each.result() for each in importing] == [[], []]
    assert [(row.first_key, row.last_key) for row in rows(site)] == [(100 * n, 100 * n) for n in range(4)]
    assert whole(site)


def test_where_s3_is_away_the_import_fails_and_goes_on_later(site: Site, services: "Services") -> None:
    leave_many(site, [archive(n, b"x") for n in range(20)])
    with relay(services.s3.endpoint) as between:
        site.move(between.url)
        steps = imports.run(site.resources, "local")
        next(steps)
        with between.down(), pytest.raises(Failure) as caught:
            list(steps)
        assert caught.value.reason == v1.ERROR_REASON_S3_UNAVAILABLE
        assert rows(site) == []
        assert imported(site).imported == ["images"]
    assert len(rows(site)) == 20


def test_credentials_that_may_not_write_import_what_needs_no_new_index(site: Site, services: "Services") -> None:
    good, bad = leave(site, ONE, 1), leave(site, archive(5, b"x"), 2, index=b"")
    with relay(services.s3.endpoint) as between:
        between.always = Fault(status=403, only=b"PUT ")
        site.move(between.url)
        result = imported(site)
    message = "its index is missing or wrong, and the credentials do not allow writing a new one"
    assert result.skipped == {bad: message}
    assert [row.data_object_key for row in rows(site)] == [good]
    assert names.index_key(bad) not in site.objects()
