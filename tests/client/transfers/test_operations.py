"""Operations on a whole datas3t, as methods of the handle and as methods of the client."""

import inspect
from pathlib import Path

import pytest

from datas3t.client import Cleared, Client, Datas3t, InvalidArgument, NotFound
from tests.client.archives import sample
from tests.client.sites import Site

# The methods of the client that are called differently there.
CLIENT_NAMES = {"clear": "clear_datas3t"}
OPERATIONS = [
    "upload_tar",
    "download_tar",
    "aggregate",
    "plan_aggregates",
    "next_key",
    "reserve_keys",
    "list_dataranges",
    "delete_dataranges",
    "clear",
    "presign_download",
]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_client_and_handle_have_the_same_parameters(operation: str) -> None:
    of_handle = inspect.signature(getattr(Datas3t, operation)).parameters
    of_client = inspect.signature(getattr(Client, CLIENT_NAMES.get(operation, operation))).parameters
    assert {name: each for name, each in of_client.items() if name != "name"} == dict(of_handle)
    assert list(of_client)[:2] == ["self", "name"]


def test_a_datas3t_is_filled_and_emptied_by_its_handle(site: Site, tmp_path: Path) -> None:
    photos = site.client.datas3t(site.name)
    first, second = sample(tmp_path / "1.tar", 1, 10, 20), sample(tmp_path / "3.tar", 3, 30)

    # Upload and read.
    uploaded = photos.upload_tar(first.path, max_parallelism=1, max_retries=0)
    assert (uploaded.first, uploaded.last, uploaded.size) == (1, 2, len(first.data))
    photos.upload_tar(second.path)
    photos.refresh()
    assert photos.get_many([1, 2, 3]) == [*first.contents.values(), *second.contents.values()]

    # List, plan, presign.
    assert photos.next_key() == 4
    assert [(each.first, each.last) for each in photos.list_dataranges()] == [(1, 2), (3, 3)]
    assert photos.list_dataranges() == site.client.list_dataranges(site.name)
    assert [(each.first, each.last) for each in photos.plan_aggregates(min_score=0.0)] == [(1, 3)]
    segments = photos.presign_download(1, 3)
    assert [each.stop - each.start for each in segments] == [len(each.data) - 1024 for each in (first, second)]

    # Aggregate and download.
    assert photos.aggregate(1, 3).datapoints == 3
    downloaded = photos.download_tar(1, 2, tmp_path / "out.tar")
    assert downloaded.path.read_bytes() == first.data

    # Delete.
    assert [(each.first, each.last) for each in photos.delete_dataranges(1, 3)] == [(1, 3)]
    photos.upload_tar(first.path)
    assert photos.clear() == Cleared(dataranges=1, objects=3)
    assert photos.next_key() == 1
    assert photos.list_dataranges() == []


def test_a_datas3t_is_optimized_until_nothing_is_worth_it(site: Site, tmp_path: Path) -> None:
    photos = site.client.datas3t(site.name)
    for first in (1, 2, 5, 6):
        photos.upload_tar(sample(tmp_path / f"{first}.tar", first, 10).path)
    assert sorted((each.first, each.last) for each in photos.optimize()) == [(1, 2), (5, 6)]
    assert [(each.first, each.last) for each in photos.list_dataranges()] == [(1, 2), (5, 6)]
    assert list(photos.optimize()) == []


def test_the_handle_raises_the_same_errors(client: Client, tmp_path: Path) -> None:
    nowhere = client.datas3t("nowhere")
    with pytest.raises(NotFound, match="nowhere"):
        nowhere.upload_tar(sample(tmp_path / "1.tar", 1, 10).path)
    with pytest.raises(NotFound, match="nowhere"):
        nowhere.clear()
    with pytest.raises(InvalidArgument, match="max_parallelism"):
        nowhere.aggregate(1, 2, max_parallelism=0)
