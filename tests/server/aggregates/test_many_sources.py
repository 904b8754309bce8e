"""Aggregates of many sources: few requests for each, and none that is left out of the checks."""

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from datas3t import v1
from datas3t.archive import tar
from datas3t.server import aggregates, spool
from datas3t.server.errors import Failure
from tests.support.aggregates import aggregate, bounds, merged, rows, send_merged, send_planned, start, stored
from tests.support.faults import relay
from tests.support.importing import imported, leave_many
from tests.support.uploads import Archive, Site, archive

if TYPE_CHECKING:
    from datas3t.embedded.stack import Services

MANY = 300


def tiny(count: int) -> list[Archive]:
    """Archives of one to four datapoints, without a gap."""
    made, first = [], 0
    for n in range(count):
        made.append(archive(first, *(bytes([n % 256]) * (n % 5) for _ in range(1 + n % 4))))
        first += made[-1].count
    return made


def left(site: Site, archives: list[Archive]) -> int:
    """Puts them there as dataranges; the last key."""
    leave_many(site, archives)
    imported(site)
    return archives[-1].first + archives[-1].count - 1


def check(site: Site) -> None:
    """The only datarange has the index that its archive asks for."""
    (row,) = rows(site)
    data = stored(site, row.data_object_key)
    assert stored(site, row.index_object_key) == tar.scan(lambda start, stop: data[start:stop], len(data)).index


def test_hundreds_of_sources_take_a_request_each_and_some_at_the_seams(site: Site, services: "Services") -> None:
    last = left(site, tiny(MANY))
    sent = send_planned(site, 0, last)
    with relay(services.s3.endpoint) as between:
        site.move(between.url)
        aggregates.complete(site.resources, *sent)
        requests = list(between.requests)
    check(site)
    assert sum(b".index" in request for request in requests) == MANY + 1  # each read, and the new one written
    assert sum(b"HEAD " in request for request in requests) < 5
    assert len(requests) < MANY + 256 + 20


def test_hundreds_of_sources_that_a_client_merged(site: Site, services: "Services") -> None:
    sources = tiny(MANY)
    last = left(site, sources)
    started = start(site, 0, last)
    sent = send_merged(started, merged([each.data for each in sources], first=0))
    with relay(services.s3.endpoint) as between:
        site.move(between.url)
        aggregates.complete(site.resources, *sent)
        assert len(between.requests) < MANY + 4 * 256 + 20
    check(site)


@pytest.mark.parametrize("listed", [True, False], ids=["listed", "asked for one by one"])
def test_one_archive_that_was_overwritten_is_found_among_many(
    site: Site, monkeypatch: pytest.MonkeyPatch, listed: bool
) -> None:
    sources = tiny(60)
    last = left(site, sources)
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
    sources = tiny(9)
    last = left(site, sources)
    right = merged([each.data for each in sources], first=0)
    wrong = merged([each.data for each in sources[:-1]] + [archive(last, b"another size").data], first=0)
    with pytest.raises(Failure, match=f"datapoint {last} has 12 bytes, but 3 bytes in its source"):
        aggregates.complete(site.resources, *send_merged(start(site, 0, last), wrong))
    aggregate(site, 0, sources[5].first - 1)
    check_first = rows(site)[0]
    assert check_first.last_key == sources[5].first - 1
    aggregates.complete(site.resources, *send_merged(start(site, 0, last), right))
    check(site)


def test_where_the_disk_takes_no_index_the_aggregate_waits(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "IN_MEMORY", 1)
    last = left(site, tiny(3))
    sent = send_planned(site, 0, last)
    (tmp_path / "file").touch()
    with pytest.raises(Failure, match="cannot write an index to its cache folder") as caught:
        aggregates.complete(site.having(scratch=tmp_path / "file").resources, *sent)
    assert caught.value.reason == v1.ERROR_REASON_INTERNAL
    aggregates.complete(site.having(scratch=tmp_path / "folder").resources, *sent)
    check(site)
