"""Imports of many archives, and of archives with many entries, need few requests and statements."""

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from datas3t.archive import index, names, write
from datas3t.server import imports
from datas3t.server.db.pool import connection
from datas3t.server.s3.bucket import Bucket, Listed
from tests.support.faults import Relay, relay
from tests.support.importing import import_bucket, put_archive, put_archives, rows, stored_index
from tests.support.uploads import Archive, Site, archive

if TYPE_CHECKING:
    from datas3t.embedded.stack import Services

MIB = 1 << 20


def uniform_archive(first: int, count: int, size: int) -> Archive:
    """Return an archive of contents that are all equal, which is fast to make."""
    tail = bytes(size) + write.padding(size)
    data = b"".join(write.header(names.entry_name(key, "bin"), size) + tail for key in range(first, first + count))
    step = 512 + len(tail)
    entries = (index.Entry(n * step, 1, size) for n in range(count))
    return Archive(first, count, data + write.END, index.encode(entries))


def count_requests(between: Relay) -> int:
    """Return the number of requests without listings, because S3 still lists empty folders of earlier tests."""
    return sum(b"list-type=2" not in request for request in between.requests)


def count_statements(site: Site) -> int:
    """Return the number of statements that the database has run so far, each in its own transaction."""
    with connection(site.resources.pool) as conn:
        found = conn.execute("SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()").fetchone()
    assert found is not None
    return int(found[0])


def test_1100_archives_take_one_request_each_and_few_statements(site: Site, services: "Services") -> None:
    put_archives(site, [archive(3 * n, b"a", b"b", b"c") for n in range(1100)])
    with relay(services.s3.endpoint) as between:
        site.set_endpoint(between.url)
        before, started = count_statements(site), time.monotonic()
        result = import_bucket(site)
        assert time.monotonic() - started < 60
        requests = count_requests(between)
    assert count_statements(site) - before < 110
    assert (result.imported, result.skipped, result.seen) == (["images"], {}, 2200)
    assert len(rows(site)) == 1100
    assert requests < 1100 + 30


def test_a_large_archive_is_checked_with_a_few_requests(site: Site, services: "Services") -> None:
    put_archive(site, uniform_archive(0, 3000, 8192), 1)
    with relay(services.s3.endpoint) as between:
        site.set_endpoint(between.url)
        assert import_bucket(site).imported == ["images"]
        assert count_requests(between) < 15
        assert between.bytes_to_client < MIB


def test_an_index_of_many_small_entries_is_made_with_a_few_large_reads(site: Site, services: "Services") -> None:
    put_archive(site, uniform_archive(0, 20_000, 600), 1, index=b"")  # 30 MB
    with relay(services.s3.endpoint) as between:
        site.set_endpoint(between.url)
        assert import_bucket(site).imported == ["images"]
        assert count_requests(between) < 15


def test_an_index_of_a_few_large_entries_is_made_without_reading_their_contents(
    site: Site, services: "Services"
) -> None:
    put_archive(site, uniform_archive(0, 6, 8 * MIB), 1, index=b"")
    with relay(services.s3.endpoint) as between:
        site.set_endpoint(between.url)
        assert import_bucket(site).imported == ["images"]
        assert count_requests(between) < 20
        assert between.bytes_to_client < MIB


def test_one_changed_archive_among_many_is_skipped_alone(site: Site) -> None:
    keys = put_archives(site, [archive(3 * n, b"a", b"b", b"c") for n in range(60)])
    steps = imports.run(site.resources, "local")
    assert next(step for step in steps if step.seen).skipped == ()
    site.s3.delete_object(Bucket=site.bucket, Key=keys[20])
    site.s3.put_object(Bucket=site.bucket, Key=keys[40], Body=archive(120, b"x", b"y", b"z").data)
    skipped = {each.key: each.reason for step in steps for each in step.skipped}
    reason = "it was deleted or written again while it was checked; import again"
    assert skipped == {keys[20]: reason, keys[40]: reason}
    assert len(rows(site)) == 58


@pytest.mark.parametrize("ordered", [True, False])
def test_many_steps_import_the_same(site: Site, monkeypatch: pytest.MonkeyPatch, ordered: bool) -> None:
    monkeypatch.setattr("datas3t.server.imports.steps._ARCHIVES_PER_STEP", 3)
    monkeypatch.setattr("datas3t.server.imports.rows._BATCH", 4)
    monkeypatch.setattr("datas3t.server.imports.rows._KEYS_AT_ONCE", 2)
    list_objects = Bucket.objects
    started: list[str] = []

    def list_small_pages(bucket: Bucket, prefix: str, *, start_after: str = "") -> Iterator[list[Listed]]:
        if prefix == names.prefix("images"):  # the store may list empty folders of earlier tests
            started.append(start_after)
        listed = [each for page in list_objects(bucket, prefix, start_after=start_after) for each in page]
        for start in range(0, len(listed), 5):
            page = listed[start : start + 5]
            yield page if ordered else page[::-1]

    monkeypatch.setattr(Bucket, "objects", list_small_pages)
    sources = put_archives(site, [archive(3 * n, b"a", b"b", b"c") for n in range(30)])
    aggregate = put_archive(site, archive(30, *([b"x"] * 30)), 99)
    result = import_bucket(site)
    assert result.imported == ["images"]
    if not ordered:  # to find the archives, also those before the first page out of order, and to look for them again
        assert started == ["", "", ""]
    assert result.skipped == dict.fromkeys(sources[10:20], f"it overlaps {aggregate}, which was imported instead")
    assert [row.data_object_key for row in rows(site)] == [*sources[:10], aggregate, *sources[20:]]
    assert import_bucket(site).imported == []


def test_larger_archives_are_checked_together_and_each_that_is_wrong_is_found(site: Site) -> None:
    archives = [archive(60 * n, *([bytes(8192)] * 60)) for n in range(6)]
    archives[1] = replace(archives[1], index=bytes(len(archives[1].index)))
    archives[2] = replace(archives[2], index=archives[2].index[:-16])
    archives[3] = replace(archives[3], data=b"x" + archives[3].data[1:])
    archives[4] = replace(archives[4], data=archives[4].data[:-1] + b"x")
    keys = put_archives(site, archives)
    result = import_bucket(site)
    assert result.skipped.keys() == {keys[3], keys[4]}
    assert all("it cannot be read as an archive" in reason for reason in result.skipped.values())
    found = rows(site)
    assert [row.data_object_key for row in found] == [keys[0], keys[1], keys[2], keys[5]]
    index_of_60 = archives[0].index
    assert [stored_index(site, row) for row in found] == [index_of_60] * 4
    assert {row.entries_size_bytes for row in found} == {60 * (512 + 8192)}
