"""Crashes in the middle of an aggregation: sources and aggregate stand there together, whole or not, in any order."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from datas3t.archive import names
from tests.support.importing import imported, leave, leave_many, lost, object_key, rows
from tests.support.uploads import Site, archive

if TYPE_CHECKING:
    from datas3t.embedded.stack import Services

SOURCES = [archive(1 + 10 * n, *(b"%d" % key for key in range(10))) for n in range(4)]
WHOLE = archive(1, *(b"%d" % (key % 10) for key in range(40)))


@pytest.fixture
def empty(services: "Services", site: Site, migrated_template: str, tmp_path: Path) -> Iterator[Site]:
    """The site's bucket seen by a server that knows nothing of it."""
    with lost(site, services, migrated_template, tmp_path) as other:
        yield other


def keys(site: Site) -> list[str]:
    return [row.data_object_key for row in rows(site)]


def covered(site: Site) -> list[int]:
    return [key for row in rows(site) for key in range(row.first_key, row.last_key + 1)]


def put_sources(site: Site, which: Sequence[int] = range(4)) -> list[str]:
    return [leave(site, SOURCES[n], n + 1) for n in which]


def test_the_aggregate_goes_before_its_sources(empty: Site) -> None:
    sources = put_sources(empty)
    whole = leave(empty, WHOLE, 9)
    result = imported(empty)
    assert keys(empty) == [whole]
    assert result.skipped == dict.fromkeys(sources, f"it overlaps {whole}, which was imported instead")


@pytest.mark.parametrize("left", [[0], [3], [1, 2], [0, 2, 3], []])
def test_sources_that_are_partly_deleted_already_are_not_needed(empty: Site, left: list[int]) -> None:
    put_sources(empty, left)
    whole = leave(empty, WHOLE, 9)
    imported(empty)
    assert keys(empty) == [whole]


def test_an_aggregate_whose_index_never_came_gets_one(empty: Site) -> None:
    put_sources(empty)
    whole = leave(empty, WHOLE, 9, index=b"")
    imported(empty)
    assert keys(empty) == [whole]
    assert empty.s3.get_object(Bucket=empty.bucket, Key=names.index_key(whole))["Body"].read() == WHOLE.index


@pytest.mark.parametrize("data", [b"", WHOLE.data[:-10240], bytes(len(WHOLE.data)), WHOLE.data[:20480] + bytes(4096)])
def test_an_aggregate_that_cannot_be_read_loses_to_its_sources(empty: Site, data: bytes) -> None:
    sources = put_sources(empty)
    whole = leave(empty, replace(WHOLE, data=data), 9)
    result = imported(empty)
    assert keys(empty) == sources
    assert result.skipped.keys() == {whole}
    assert covered(empty) == list(range(1, 41))


def test_the_aggregate_is_not_imported_where_its_sources_have_rows(site: Site) -> None:
    for each in SOURCES:
        site.upload(each)
    before = rows(site)
    whole = leave(site, WHOLE, 9)
    assert imported(site).skipped == {whole: "it overlaps the existing datarange from 1 to 10"}
    assert rows(site) == before


def test_aggregates_of_aggregates_are_taken_from_the_top(empty: Site) -> None:
    put_sources(empty)
    halves = [archive(1 + 20 * n, *(b"%d" % (key % 10) for key in range(20))) for n in range(2)]
    for counter, half in enumerate(halves, 5):
        leave(empty, half, counter)
    whole = leave(empty, WHOLE, 9)
    imported(empty)
    assert keys(empty) == [whole]


def test_where_the_top_cannot_be_read_the_next_best_cover_is_taken(empty: Site) -> None:
    sources = put_sources(empty)
    half = leave(empty, archive(1, *(b"%d" % (key % 10) for key in range(20))), 5)
    broken = leave(empty, replace(archive(21, *([b"x"] * 20)), data=b"broken"), 6)
    whole = leave(empty, replace(WHOLE, data=b"broken"), 9)
    result = imported(empty)
    assert keys(empty) == [half, *sources[2:]]
    assert {broken, whole} < result.skipped.keys()


def test_many_bad_archives_over_one_another_are_told_at_once(empty: Site) -> None:
    bad = [replace(archive(1, *([b"x"] * (n + 2))), data=b"broken") for n in range(60)]
    leave_many(empty, bad)
    good = leave(empty, archive(30, b"good"), 900)
    result = imported(empty)
    assert keys(empty) == [good]
    assert result.skipped.keys() == {object_key(each, n) for n, each in enumerate(bad, 1)}
