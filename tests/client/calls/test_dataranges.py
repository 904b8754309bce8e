"""Listing and deleting dataranges."""

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from datas3t.client import Aborted, Datarange, InvalidArgument, NotFound
from datas3t.client._calls import dataranges
from datas3t.client._calls.connection import Connection
from datas3t.client._reading import catalogue
from tests.client.archives import sample
from tests.client.sites import Site


def upload_three(site: Site, folder: Path) -> None:
    """Upload dataranges with the keys 0 to 2, 3 to 4, and 10."""
    for first, count in ((0, 3), (3, 2), (10, 1)):
        site.upload(sample(folder / f"{first}.tar", first, *[10] * count))


def test_dataranges_are_listed_by_first_key_with_their_objects(site: Site, tmp_path: Path) -> None:
    upload_three(site, tmp_path)
    listing = site.client.list_dataranges(site.name)
    assert [(each.first, each.last, each.datapoints) for each in listing] == [(0, 2, 3), (3, 4, 2), (10, 10, 1)]
    assert isinstance(listing[0], Datarange)
    assert listing[0].size == len((tmp_path / "0.tar").read_bytes())
    assert (
        sorted(key for each in listing for key in (each.object_key, each.index_object_key, each.checksums_object_key))
        == site.objects()
    )
    assert {each.extension for each in listing} == {"bin"}


@pytest.mark.parametrize(
    "list_keys",
    [
        lambda site: [each.first for each in site.client.list_dataranges(site.name)],
        lambda site: [first for first, _ in catalogue.load(site.client.connection, site.name).spans],
        lambda site: [each.start for each in site.client.presign_download(site.name, 0, 100)],
    ],
    ids=["list_dataranges", "load", "presign_download"],
)
def test_dataranges_that_are_cleared_between_two_pages_are_listed_again(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, list_keys: Callable[[Site], list[int]]
) -> None:
    pages = itertools.count(1)

    def replace_before_the_second(*_: int) -> int:
        if next(pages) == 2:
            site.client.clear_datas3t(site.name)
            site.upload(sample(tmp_path / "new.tar", 0, 10))
        return 1

    upload_three(site, tmp_path)
    monkeypatch.setattr("datas3t.server.pages.size", replace_before_the_second)
    assert list_keys(site) == [0]
    assert next(pages) == 4


def test_several_dataranges_are_deleted_if_the_ends_match(site: Site, tmp_path: Path) -> None:
    upload_three(site, tmp_path)
    deleted = site.client.delete_dataranges(site.name, 3, 10)
    assert [(each.first, each.last) for each in deleted] == [(3, 4), (10, 10)]
    assert [(each.first, each.last) for each in site.client.list_dataranges(site.name)] == [(0, 2)]


@pytest.mark.parametrize(("first", "last"), [(0, 3), (1, 4), (0, 9), (2, 10)])
def test_a_range_that_cuts_through_a_datarange_is_refused(site: Site, tmp_path: Path, first: int, last: int) -> None:
    upload_three(site, tmp_path)
    with pytest.raises(InvalidArgument, match="to include them whole"):
        site.client.delete_dataranges(site.name, first, last)
    assert len(site.client.list_dataranges(site.name)) == 3


def test_dataranges_that_were_merged_before_their_deletion_raise_aborted(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload_three(site, tmp_path)
    listed = dataranges.list_all

    def merge_after_listing(connection: Connection, name: str) -> list[Datarange]:
        listing = listed(connection, name)
        if len(listing) == 3:
            site.client.aggregate(name, 0, 4)
        return listing

    monkeypatch.setattr(dataranges, "list_all", merge_after_listing)
    with pytest.raises(Aborted, match="replaced concurrently"):
        site.client.delete_dataranges(site.name, 3, 4)
    assert 3 in site.client.datas3t(site.name)


def test_a_range_without_dataranges_and_an_invalid_range_are_refused(site: Site) -> None:
    with pytest.raises(NotFound) as raised:
        site.client.delete_dataranges(site.name, 5, 9)
    assert raised.value.reason == "DATARANGE_NOT_FOUND"
    for first, last in ((2, 1), (-1, 1), (0, 2**63)):
        with pytest.raises(InvalidArgument, match="not a range of keys"):
            site.client.delete_dataranges(site.name, first, last)
