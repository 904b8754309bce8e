"""Imports after a crash during an aggregation: the bucket has the aggregate and its sources, complete or not."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from datas3t.archive import names
from tests.support.importing import import_bucket, object_key, put_archive, put_archives, rows
from tests.support.uploads import Site, archive

if TYPE_CHECKING:
    pass

SOURCES = [archive(1 + 10 * n, *(b"%d" % key for key in range(10))) for n in range(4)]
WHOLE = archive(1, *(b"%d" % (key % 10) for key in range(40)))


def keys(site: Site) -> list[str]:
    return [row.data_object_key for row in rows(site)]


def covered_keys(site: Site) -> list[int]:
    return [key for row in rows(site) for key in range(row.first_key, row.last_key + 1)]


def put_sources(site: Site, which: Sequence[int] = range(4)) -> list[str]:
    return [put_archive(site, SOURCES[n], n + 1) for n in which]


def test_an_aggregate_is_preferred_to_its_sources(empty_site: Site) -> None:
    sources = put_sources(empty_site)
    aggregate = put_archive(empty_site, WHOLE, 9)
    result = import_bucket(empty_site)
    assert keys(empty_site) == [aggregate]
    assert result.skipped == dict.fromkeys(sources, f"it overlaps {aggregate}, which was imported instead")


@pytest.mark.parametrize("remaining", [[0], [3], [1, 2], [0, 2, 3], []])
def test_an_aggregate_is_imported_although_some_sources_are_deleted(empty_site: Site, remaining: list[int]) -> None:
    put_sources(empty_site, remaining)
    aggregate = put_archive(empty_site, WHOLE, 9)
    import_bucket(empty_site)
    assert keys(empty_site) == [aggregate]


def test_an_aggregate_without_index_gets_one(empty_site: Site) -> None:
    put_sources(empty_site)
    aggregate = put_archive(empty_site, WHOLE, 9, index=b"")
    import_bucket(empty_site)
    assert keys(empty_site) == [aggregate]
    assert (
        empty_site.s3.get_object(Bucket=empty_site.bucket, Key=names.index_key(aggregate))["Body"].read() == WHOLE.index
    )


@pytest.mark.parametrize("data", [b"", WHOLE.data[:-10240], bytes(len(WHOLE.data)), WHOLE.data[:20480] + bytes(4096)])
def test_the_sources_are_imported_if_the_aggregate_is_unreadable(empty_site: Site, data: bytes) -> None:
    sources = put_sources(empty_site)
    aggregate = put_archive(empty_site, replace(WHOLE, data=data), 9)
    result = import_bucket(empty_site)
    assert keys(empty_site) == sources
    assert result.skipped.keys() == {aggregate}
    assert covered_keys(empty_site) == list(range(1, 41))


def test_an_aggregate_is_not_imported_if_its_sources_have_rows(site: Site) -> None:
    for each in SOURCES:
        site.upload(each)
    before = rows(site)
    aggregate = put_archive(site, WHOLE, 9)
    assert import_bucket(site).skipped == {aggregate: "it overlaps the existing datarange from 1 to 10"}
    assert rows(site) == before


def test_the_largest_of_nested_aggregates_is_imported(empty_site: Site) -> None:
    put_sources(empty_site)
    halves = [archive(1 + 20 * n, *(b"%d" % (key % 10) for key in range(20))) for n in range(2)]
    for counter, half in enumerate(halves, 5):
        put_archive(empty_site, half, counter)
    aggregate = put_archive(empty_site, WHOLE, 9)
    import_bucket(empty_site)
    assert keys(empty_site) == [aggregate]


def test_the_next_best_cover_is_imported_if_the_largest_aggregate_is_unreadable(empty_site: Site) -> None:
    sources = put_sources(empty_site)
    half = put_archive(empty_site, archive(1, *(b"%d" % (key % 10) for key in range(20))), 5)
    broken = put_archive(empty_site, replace(archive(21, *([b"x"] * 20)), data=b"broken"), 6)
    aggregate = put_archive(empty_site, replace(WHOLE, data=b"broken"), 9)
    result = import_bucket(empty_site)
    assert keys(empty_site) == [half, *sources[2:]]
    assert {broken, aggregate} < result.skipped.keys()


def test_many_overlapping_unreadable_archives_are_skipped_together(empty_site: Site) -> None:
    bad = [replace(archive(1, *([b"x"] * (n + 2))), data=b"broken") for n in range(60)]
    put_archives(empty_site, bad)
    good = put_archive(empty_site, archive(30, b"good"), 900)
    result = import_bucket(empty_site)
    assert keys(empty_site) == [good]
    assert result.skipped.keys() == {object_key(each, n) for n, each in enumerate(bad, 1)}
