"""The documented way to aggregate over REST: fetch the sources, merge them with a tar writer, upload, complete."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from datas3t.server.app.server import Server
from tests.contract.test_rest import URL, datarange, key_of, matches
from tests.support.aggregates import merge
from tests.support.front import http_request
from tests.support.serving import serving, settings_for
from tests.support.uploads import Archive, archive, get, put

if TYPE_CHECKING:
    from datas3t.embedded.stack import Services

START, COMPLETE, CANCEL = "/api/v1/aggregate", "/api/v1/aggregate/complete", "/api/v1/aggregate/cancel"
MIB = 1 << 20


@pytest.fixture
def server(services: "Services", database: str, bucket: str, tmp_path: Path) -> Iterator[Server]:
    """Run a server with an empty datas3t `images`."""
    s3 = services.s3
    with serving(settings_for(services, database, tmp_path)) as running:
        store = {"name": "store", "endpoint": s3.endpoint, "bucket": bucket}
        secrets = {"access_key": s3.access_key, "secret_key": s3.secret_key}
        http_request(running.url, "POST", "/api/v1/buckets", store | secrets)
        http_request(running.url, "POST", "/api/v1/datas3ts", {"name": "images", "bucket": "store"})
        yield running


def post(server: Server, path: str, status: int, **request: Any) -> Any:
    """Send a request, check the status, and return the JSON."""
    response = http_request(server.url, "POST", path, request)
    assert response.status == status, response.body
    return response.json


def upload(server: Server, each: Archive) -> None:
    request = {"first_datapoint_index": each.first, "number_of_datapoints": each.count, "data_size": len(each.data)}
    started = post(server, "/api/v1/upload-datarange", 200, datas3t_name="images", **request)
    put(started["presigned_data_put_url"], each.data)
    put(started["presigned_index_put_url"], each.index)
    post(server, "/api/v1/upload-datarange/complete", 200, datarange_upload_id=started["datarange_upload_id"])


def start(server: Server, first: int, last: int, status: int = 200) -> Any:
    span = {"first_datapoint_index": first, "last_datapoint_index": last}
    return post(server, START, status, datas3t_name="images", **span)


def source(first: int, last: int, counter: int, size: int) -> dict[str, Any]:
    return {**datarange(first, last, counter, size), "presigned_data_url": URL, "presigned_index_url": URL}


def merge_sources(started: Any) -> Archive:
    sources = started["source_datarange_download_urls"]
    return merge([get(each["presigned_data_url"], 0, each["size_bytes"]) for each in sources])


def listed(server: Server) -> Any:
    return http_request(server.url, "GET", "/api/v1/dataranges?datas3t_name=images", None).json["dataranges"]


def test_small_dataranges_are_merged_by_one_put(server: Server) -> None:
    first, second = archive(1, b"one", b"two"), archive(3, b"three" * 1000)
    upload(server, first)
    upload(server, second)
    started = start(server, 1, 3)
    expected = {
        "aggregate_upload_id": int,
        "object_key": key_of(1, 3, 3) + ".tar",
        "source_datarange_download_urls": [source(1, 2, 1, len(first.data)), source(3, 3, 2, len(second.data))],
        "use_direct_put": True,
        "presigned_data_put_url": URL,
        "presigned_index_put_url": URL,
    }
    assert matches(expected, started), started
    new = merge_sources(started)
    put(started["presigned_data_put_url"], new.data)
    put(started["presigned_index_put_url"], new.index)
    for _ in range(2):
        assert post(server, COMPLETE, 200, aggregate_upload_id=started["aggregate_upload_id"]) == {}
    assert matches([datarange(1, 3, 3, len(new.data))], listed(server))


def test_large_dataranges_are_merged_by_parts(server: Server) -> None:
    upload(server, archive(1, os.urandom(12 * MIB)))
    upload(server, archive(2, os.urandom(12 * MIB)))
    started = start(server, 1, 2)
    assert list(started) == [
        *("aggregate_upload_id", "object_key", "source_datarange_download_urls", "use_direct_put"),
        *("presigned_multipart_upload_urls", "presigned_index_put_url"),
    ]
    assert started["use_direct_put"] is False
    new, urls = merge_sources(started), started["presigned_multipart_upload_urls"]
    assert len(urls) == 2
    etags = [put(url, new.data[n * 20 * MIB : (n + 1) * 20 * MIB]) for n, url in enumerate(urls)]
    put(started["presigned_index_put_url"], new.index)
    post(server, COMPLETE, 200, aggregate_upload_id=started["aggregate_upload_id"], upload_ids=etags)
    assert matches([datarange(1, 2, 3, len(new.data))], listed(server))


def test_a_cancelled_aggregate_leaves_its_sources(server: Server) -> None:
    upload(server, archive(1, b"one"))
    upload(server, archive(2, b"two"))
    upload_id = start(server, 1, 2)["aggregate_upload_id"]
    for _ in range(2):
        assert post(server, CANCEL, 200, aggregate_upload_id=upload_id) == {}
    assert "was cancelled" in post(server, COMPLETE, 409, aggregate_upload_id=upload_id)["message"]
    assert len(listed(server)) == 2


def test_requests_that_cannot_be_served_are_refused_with_advice(server: Server) -> None:
    upload(server, archive(1, b"one", b"two"))
    upload(server, archive(3, b"three"))
    assert "the nearest range that can be aggregated is 1 to 3" in start(server, 2, 3, status=400)["message"]
    assert "last_datapoint_index" in start(server, 3, 2, status=400)["message"]
    post(server, START, 404, datas3t_name="none", first_datapoint_index=1, last_datapoint_index=3)
    assert "plan" in post(server, START, 400, datas3t_name="images", last_datapoint_index=3, plan=True)["message"]
    for path in (COMPLETE, CANCEL):
        post(server, path, 404, aggregate_upload_id=77)


def test_a_source_that_was_deleted_before_completion_is_a_conflict(server: Server) -> None:
    upload(server, archive(1, b"one"))
    upload(server, archive(2, b"two"))
    started = start(server, 1, 2)
    new = merge_sources(started)
    put(started["presigned_data_put_url"], new.data)
    put(started["presigned_index_put_url"], new.index)
    deleted = {"datas3t_name": "images", "first_datapoint_key": 2, "last_datapoint_key": 2}
    post(server, "/api/v1/datarange/delete", 200, **deleted)
    error = post(server, COMPLETE, 409, aggregate_upload_id=started["aggregate_upload_id"])
    assert error["code"] == "ABORTED"
