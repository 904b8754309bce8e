"""Aggregates of many sources: few requests for each source, and all sources are checked."""

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from datas3t import v1
from datas3t.archive import tar
from datas3t.server import aggregates
from datas3t.server.errors import Failure
from datas3t.server.objects import spool
from tests.support.aggregates import aggregate, bounds, merge, rows, send_merged, send_planned, start, stored
from tests.support.faults import relay
from tests.support.importing import import_bucket, put_archives
from tests.support.uploads import Archive, Site, archive

if TYPE_CHECKING:
    from datas3t.embedded.stack import Services

MANY = 300


def small_archives(count: int) -> list[Archive]:
    """Return archives of one to four datapoints, without a gap."""
    archives, first = [], 0
    for n in range(count):
        archives.append(archive(first, *(bytes([n % 256]) * (n % 5) for _ in range(1 + n % 4))))
        first += archives[-1].count
    return archives


def import_archives(site: Site, archives: list[Archive]) -> int:
    """Put archives into the bucket and import them; return the last key."""
    put_archives(site, archives)
    import_bucket(site)
    return archives[-1].first + archives[-1].count - 1


def assert_index_matches_archive(site: Site) -> None:
    """Check that the index of the only datarange describes its archive."""
    (row,) = rows(site)
    data = stored(site, row.data_object_key)
    assert stored(site, row.index_object_key) == tar.scan(lambda start, stop: data[start:stop], len(data)).index


def test_hundreds_of_sources_take_one_request_each_and_some_at_the_seams(site: Site, services: "Services") -> None:
    last = import_archives(site, small_archives(MANY))
    sent = send_planned(site, 0, last)
    with relay(services.s3.endpoint) as between:
        site.set_endpoint(between.url)
        aggregates.complete(site.resources, *sent)
        requests = list(between.requests)
    assert_index_matches_archive(site)
    assert sum(b".index" in request for request in requests) == MANY + 2  # a GET for each source, a HEAD and a PUT
    assert sum(b"HEAD " in request for request in requests) < 5
    assert len(requests) < MANY + 256 + 20


def test_hundreds_of_sources_can_be_merged_by_a_client(site: Site, services: "Services") -> None:
    sources = small_archives(MANY)
    last = import_archives(site, sources)
    started = start(site, 0, last)
    sent = send_merged(started, merge([each.data for each in sources], first=0))
    with relay(services.s3.endpoint) as between:
        site.set_endpoint(between.url)
        aggregates.complete(site.resources, *sent)
        assert len(between.requests) < MANY + 4 * 256 + 20
    assert_index_matches_archive(site)


@pytest.mark.parametrize("listed", [True, False], ids=["listed", "one by one"])
def test_an_overwritten_archive_is_found_among_many(site: Site, monkeypatch: pytest.MonkeyPatch, listed: bool) -> None:
    sources = small_archives(60)
    last = import_archives(site, sources)
    if not listed:
        monkeypatch.setattr("datas3t.server.aggregates.sources.islice", lambda pages, _: islice(pages, 0))
    sent = send_planned(site, 0, last)
    key = rows(site)[41].data_object_key
    site.s3.put_object(Bucket=site.bucket, Key=key, Body=sources[41].data[:-1] + b"x")
    with pytest.raises(Failure) as caught:
        aggregates.complete(site.resources, *sent)
    assert caught.value.reason == v1.ERROR_REASON_OBJECT_CHANGED
    assert caught.value.metadata["object_key"] == key
    site.s3.put_object(Bucket=site.bucket, Key=key, Body=sources[41].data)
    aggregates.complete(site.resources, *sent)
    assert bounds(site) == [(0, last)]


@pytest.mark.parametrize("records", [1, 3, 7])
def test_indices_are_joined_and_compared_piece_by_piece(
    site: Site, monkeypatch: pytest.MonkeyPatch, records: int
) -> None:
    monkeypatch.setattr("datas3t.server.aggregates.planned._INDEX_PIECE", records)
    monkeypatch.setattr("datas3t.server.aggregates.merged._INDEX_PIECE", records)
    sources = small_archives(9)
    last = import_archives(site, sources)
    same = merge([each.data for each in sources], first=0)
    different = merge([each.data for each in sources[:-1]] + [archive(last, b"another size").data], first=0)
    with pytest.raises(Failure, match=f"datapoint {last} has 12 bytes, but 3 bytes in its source"):
        aggregates.complete(site.resources, *send_merged(start(site, 0, last), different))
    aggregate(site, 0, sources[5].first - 1)
    check_first = rows(site)[0]
    assert check_first.last_key == sources[5].first - 1
    aggregates.complete(site.resources, *send_merged(start(site, 0, last), same))
    assert_index_matches_archive(site)


def test_a_completion_can_be_repeated_after_the_disk_was_not_writable(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "IN_MEMORY", 1)
    last = import_archives(site, small_archives(3))
    sent = send_planned(site, 0, last)
    (tmp_path / "file").touch()
    with pytest.raises(Failure, match="cannot write an index to its cache folder") as caught:
        aggregates.complete(site.with_resources(scratch=tmp_path / "file").resources, *sent)
    assert caught.value.reason == v1.ERROR_REASON_INTERNAL
    aggregates.complete(site.with_resources(scratch=tmp_path / "folder").resources, *sent)
    assert_index_matches_archive(site)
