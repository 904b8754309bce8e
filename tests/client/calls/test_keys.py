"""Keys that the server reserves, for clients."""

import json
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from datas3t.client import AlreadyExists, Client, FailedPrecondition, InvalidArgument, NotFound, Reservation
from tests.client.archives import sample
from tests.client.sites import Site


def test_an_archive_is_uploaded_under_reserved_keys(site: Site, tmp_path: Path) -> None:
    photos = site.client.datas3t(site.name)
    reserved = photos.reserve_keys(2)
    assert (reserved.first, reserved.last, reserved.count) == (1, 2, 2)
    archive = sample(tmp_path / "1.tar", 1, 10, 20)
    with pytest.raises(AlreadyExists, match="have keys that are reserved, 1 to 2; give the reservation_id") as refused:
        photos.upload_tar(archive.path)
    assert (refused.value.reason, refused.value.metadata["next_key"]) == ("KEYS_RESERVED", "3")
    site.client.upload_tar(site.name, archive.path, reservation_id=reserved.id)
    assert site.client.datas3t(site.name).get(2) == archive.contents[2]
    with pytest.raises(AlreadyExists):
        photos.upload_tar(archive.path, reservation_id=reserved.id)


def test_a_request_id_reserves_once_and_without_one_each_call_does(client: Client, datas3t: str) -> None:
    assert client.reserve_keys(datas3t, 5, "mine") == client.reserve_keys(datas3t, 5, "mine")
    assert [client.reserve_keys(datas3t, 5).first for _ in range(2)] == [6, 11]
    with pytest.raises(AlreadyExists, match="has reserved 5 keys, not 6"):
        client.reserve_keys(datas3t, 6, "mine")


def test_wrong_values_are_typed_errors(client: Client, datas3t: str) -> None:
    for count in (0, -1, 1 << 63):
        with pytest.raises(InvalidArgument, match=f"count is {count}, but 1 to"):
            client.reserve_keys(datas3t, count)
    with pytest.raises(InvalidArgument, match="not valid Unicode"):
        client.reserve_keys(datas3t, 1, "\ud800")
    with pytest.raises(NotFound):
        client.reserve_keys("nowhere", 1)
    client.reserve_keys(datas3t, (1 << 63) - 1)
    with pytest.raises(FailedPrecondition, match="has 0 keys left, not 1"):
        client.reserve_keys(datas3t, 1)


def test_rest_takes_and_gives_the_same(client: Client, datas3t: str) -> None:
    body = json.dumps({"datas3t_name": datas3t, "count": 3, "request_id": "curl"}).encode()
    with urlopen(Request(f"{client.url}/api/v1/keys/reserve", data=body), timeout=30) as response:
        answer = json.load(response)
    assert Reservation(answer["reservation_id"], answer["first_datapoint_index"], 3) == client.reserve_keys(
        datas3t, 3, "curl"
    )
    upload = {"datas3t_name": datas3t, "first_datapoint_index": 1, "number_of_datapoints": 3, "data_size": 5000}
    for more, status in (({"reservation_id": answer["reservation_id"]}, 200), ({}, 409)):
        request = Request(f"{client.url}/api/v1/upload-datarange", data=json.dumps(upload | more).encode())
        assert _status(request) == status


def _status(request: Request) -> int:
    try:
        with urlopen(request, timeout=30) as response:
            return int(response.status)
    except HTTPError as error:
        with error:
            return error.code
