"""Checksums and extensions over REST: fields that are left out when they are empty."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.front import http_request
from tests.support.serving import serving, settings_for
from tests.support.stack import BucketPool, DatabasePool, wait_until
from tests.support.uploads import archive, put

if TYPE_CHECKING:
    from datas3t.embedded.stack import Services
    from datas3t.server.app.server import Server

WITH, WITHOUT = archive(1, b"one", b"two"), archive(3, b"three")


@pytest.fixture(scope="module")
def server(
    services: "Services", databases: DatabasePool, buckets: BucketPool, tmp_path_factory: pytest.TempPathFactory
) -> "Iterator[Server]":
    """Yield a server with the datas3t `images`."""
    s3 = services.s3
    with (
        databases.lend() as url,
        buckets.lend() as bucket,
        serving(settings_for(services, url, tmp_path_factory.mktemp("checksums"))) as running,
    ):
        keys = {"access_key": s3.access_key, "secret_key": s3.secret_key}
        configuration = {"name": "store", "endpoint": s3.endpoint, "bucket": bucket, **keys}
        assert http_request(running.url, "POST", "/api/bucket", configuration).status == 201
        assert http_request(running.url, "POST", "/api/datas3t", {"name": "images", "bucket": "store"}).status == 204
        yield running


def post(server: "Server", path: str, request: dict[str, Any], status: int = 200) -> dict[str, Any]:
    response = http_request(server.url, "POST", f"/api/v1/{path}", request)
    assert response.status == status, response.body
    result: dict[str, Any] = response.json
    return result


def upload(server: "Server", each: Any, *, with_checksums: bool) -> None:
    request = {"datas3t_name": "images", "first_datapoint_index": each.first, "number_of_datapoints": each.count}
    flags = {"with_checksums": True, "archive_crc32c_planned": True} if with_checksums else {}
    started = post(server, "upload-datarange", {**request, "data_size": len(each.data), **flags})
    assert ("presigned_checksums_put_url" in started) == with_checksums
    put(started["presigned_data_put_url"], each.data)
    put(started["presigned_index_put_url"], each.index)
    told = {}
    if with_checksums:
        put(started["presigned_checksums_put_url"], each.checksums)
        told = {"extension": "bin", "archive_crc32c": 0}
    completed = {"datarange_upload_id": started["datarange_upload_id"], **told}
    assert post(server, "upload-datarange/complete", completed) == {}


def listed(server: "Server") -> list[dict[str, Any]]:
    response = http_request(server.url, "GET", "/api/v1/dataranges?datas3t_name=images")
    result: list[dict[str, Any]] = response.json["dataranges"]
    return result


def test_what_is_not_there_is_left_out_until_it_is_added(server: "Server") -> None:
    upload(server, WITH, with_checksums=True)
    upload(server, WITHOUT, with_checksums=False)
    first, second = listed(server)
    assert first["checksums_object_key"] == first["data_object_key"].removesuffix("tar") + "crc32c"
    assert first["extension"] == "bin"
    assert list(second) == [name for name in first if name not in ("checksums_object_key", "extension")]

    aggregate = {"datas3t_name": "images", "first_datapoint_index": 1, "last_datapoint_index": 3}
    started = post(server, "aggregate", {**aggregate, "with_checksums": True})
    assert "presigned_checksums_put_url" in started
    one, other = started["source_datarange_download_urls"]
    assert {"presigned_checksums_url", "checksums_etag", "extension"} == set(one) - set(other)
    post(server, "aggregate/cancel", {"aggregate_upload_id": started["aggregate_upload_id"]})

    request = {"datas3t_name": "images", "datarange_id": second["datarange_id"]}
    cancelled = post(server, "checksums/start", request)
    assert set(cancelled) == {"checksums_id", "object_key", "presigned_checksums_put_url"}
    busy = post(server, "checksums/start", request, 409)
    assert busy["details"][0]["reason"] == "CHECKSUMS_UNDER_WAY"
    assert post(server, "checksums/cancel", {"checksums_id": cancelled["checksums_id"]}) == {}
    added = start_when_deleted(server, request)
    put(added["presigned_checksums_put_url"], WITHOUT.checksums)
    told = {"checksums_id": added["checksums_id"], "extension": "bin"}
    assert post(server, "checksums/complete", told) == {}
    assert [(each["extension"], "checksums_object_key" in each) for each in listed(server)] == [("bin", True)] * 2
    cleared = post(server, "datas3ts/clear", {"name": "images"})
    assert cleared == {"dataranges_deleted": 2, "objects_scheduled": 6}


def start_when_deleted(server: "Server", request: dict[str, Any]) -> dict[str, Any]:
    """Start another addition, when the object of the cancelled one is deleted."""
    started: list[dict[str, Any]] = []

    def has_started() -> bool:
        response = http_request(server.url, "POST", "/api/v1/checksums/start", request)
        if response.status == 200:
            started.append(response.json)
        return response.status == 200

    wait_until(has_started, 60, "the deletion of a cancelled addition's object")
    return started[0]
