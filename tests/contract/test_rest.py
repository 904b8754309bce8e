"""Every REST call of the contract, on both of its routes, on a real server with a real database and S3.

The rows follow the order in which a user would make the calls. An expected response is written as the response itself,
with a type in place of a value that the server chooses; exactly its fields must come, in its order.
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from datas3t.server.app.server import Server
from tests.support.front import HttpResponse, http_request
from tests.support.serving import serving, settings_for
from tests.support.uploads import archive, get, large_archive, put

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from datas3t.embedded.stack import Services

SMALL = archive(10, b"ten", b"", b"twelve" * 100)
LARGE = large_archive(100)
OPEN = replace(SMALL, first=200)  # its upload is cancelled


class Url(str):
    """Stands for a presigned URL in an expected response."""


URL = Url()
Results = dict[str, Any]  # ids and ETags from earlier responses, for later requests

BITMAP = "/api/v1/datapoints-bitmap?datas3t_name=images"

# The two routes of each call: the manual's spelling, and the one that every released client sends.
ROUTES = {
    "add bucket": ("POST", "/api/bucket", "/api/v1/buckets"),
    "list buckets": ("GET", "/api/bucket", "/api/v1/buckets"),
    "add datas3t": ("POST", "/api/datas3t", "/api/v1/datas3ts"),
    "list datas3ts": ("GET", "/api/datas3t", "/api/v1/datas3ts"),
    "reserve keys": ("POST", "/api/v1/keys/reserve", "/api/v1/keys/reserve"),
    "start upload": ("POST", "/api/datarange/upload/start", "/api/v1/upload-datarange"),
    "complete upload": ("POST", "/api/datarange/upload/complete", "/api/v1/upload-datarange/complete"),
    "cancel upload": ("POST", "/api/datarange/upload/cancel", "/api/v1/upload-datarange/cancel"),
    "presign download": ("POST", "/api/download/presign", "/api/v1/download"),
    "list dataranges": ("GET", "/api/datarange?datas3t_name=images", "/api/v1/dataranges?datas3t_name=images"),
    "delete datarange": ("POST", "/api/datarange/delete", "/api/v1/datarange/delete"),
    "import": ("POST", "/api/v1/datas3ts/import", "/api/v1/datas3ts/import"),
    "clear": ("POST", "/api/v1/datas3ts/clear", "/api/v1/datas3ts/clear"),
    "delete datas3t": ("DELETE", "/api/v1/datas3ts", "/api/v1/datas3ts"),
    "bitmap": ("GET", BITMAP, BITMAP),
}


@dataclass(frozen=True)
class Row:
    """One call. `request` may be a function of earlier results; `then` handles the response as a client would."""

    call: str
    request: Any
    status: int
    response: Any
    then: Callable[[Results, Any], None] | None = None


def key_of(first: int, last: int, counter: int) -> str:
    """Return an object key without its extension."""
    return f"datas3t/images/dataranges/{first:020d}-{last:020d}-{counter:012d}"


def send_small(results: Results, response: Any) -> None:
    results["small"] = response["datarange_upload_id"]
    assert response["datarange_id"] == response["datarange_upload_id"]
    put(response["presigned_data_put_url"], SMALL.data)
    put(response["presigned_index_put_url"], SMALL.index)


def send_large(results: Results, response: Any) -> None:
    results["large"] = response["datarange_upload_id"]
    part = 20 * 2**20
    urls = response["presigned_multipart_upload_urls"]
    results["etags"] = [put(url, LARGE.data[n * part : (n + 1) * part]) for n, url in enumerate(urls)]
    put(response["presigned_index_put_url"], LARGE.index)


def fetch(_: Results, response: Any) -> None:
    (segment,) = response["download_segments"]
    start, stop = struct.unpack_from(">Q", SMALL.index, 16)[0], len(SMALL.data.rstrip(b"\0")) + 511 & ~511
    assert segment["range"] == f"bytes={start}-{stop - 1}"
    assert get(segment["presigned_url"], start, stop) == SMALL.data[start:stop]


def start_of(archive: Any) -> dict[str, Any]:
    """Return the request that starts the archive's upload."""
    return {
        "datas3t_name": "images",
        "first_datapoint_index": archive.first,
        "number_of_datapoints": archive.count,
        "data_size": len(archive.data),
    }


def started(first: int, last: int, counter: int, **urls: Any) -> dict[str, Any]:
    """Return the expected response to the start of an upload."""
    return {
        "datarange_id": int,
        "datarange_upload_id": int,
        "object_key": key_of(first, last, counter) + ".tar",
        "first_datapoint_index": first,
        **urls,
        "presigned_index_put_url": URL,
    }


def datarange(first: int, last: int, counter: int, size: int) -> dict[str, Any]:
    """Return a datarange as it is listed."""
    return {
        "datarange_id": int,
        "data_object_key": key_of(first, last, counter) + ".tar",
        "index_object_key": key_of(first, last, counter) + ".index",
        "min_datapoint_key": first,
        "max_datapoint_key": last,
        "size_bytes": size,
    }


def imported(*names: str, skipped: Sequence[str] = ()) -> dict[str, Any]:
    """Return the expected response to an import."""
    return {
        "imported_datas3ts": list(names),
        "imported_count": len(names),
        "skipped": [{"object_key": key + ".tar", "reason": str} for key in skipped],
    }


DIRECT = {"use_direct_put": True, "presigned_data_put_url": URL}
PARTS = {"use_direct_put": False, "presigned_multipart_upload_urls": [URL, URL]}
IMAGES = {"name": "images"}


def rows(s3: Any, bucket: str) -> list[Row]:
    """Return the calls in a user's order."""
    configuration = {"name": "store", "endpoint": s3.endpoint, "bucket": bucket}
    secrets = {"access_key": s3.access_key, "secret_key": s3.secret_key}
    summary = {
        "datas3t_name": "images",
        "bucket_name": "store",
        "datarange_count": 2,
        "total_datapoints": 6,
        "lowest_datapoint": 10,
        "highest_datapoint": 102,
        "total_bytes": len(SMALL.data) + len(LARGE.data),
    }
    both = [datarange(10, 12, 1, len(SMALL.data)), datarange(100, 102, 2, len(LARGE.data))]
    span = {"datas3t_name": "images", "first_datapoint": 11, "last_datapoint": 99}
    small = {"datas3t_name": "images", "first_datapoint_key": 10, "last_datapoint_key": 12}
    segment = {"presigned_url": URL, "range": str}
    reservation = {"datas3t_name": "images", "count": 3, "request_id": "a"}
    return [
        Row("add bucket", configuration | secrets, 201, {}),
        Row("list buckets", None, 200, [configuration]),
        Row("add datas3t", {"name": "images", "bucket": "store"}, 204, None),
        Row("list dataranges", None, 200, {"dataranges": []}),
        Row("presign download", span, 200, {"download_segments": []}),
        Row("bitmap", None, 200, bytes(8)),
        Row("reserve keys", reservation, 200, {"reservation_id": int, "first_datapoint_index": 1}),
        Row("start upload", start_of(SMALL), 200, started(10, 12, 1, **DIRECT), send_small),
        Row("complete upload", small_id, 200, {}),
        Row("start upload", start_of(LARGE), 200, started(100, 102, 2, **PARTS), send_large),
        Row("complete upload", large_id, 200, {}),
        Row("start upload", start_of(SMALL), 409, "the datarange from 10 to 12 of datas3t 'images'; the next free key"),
        Row("start upload", start_of(OPEN), 200, started(200, 202, 3, **DIRECT), send_small),
        Row("import", {"bucket_name": "store"}, 200, imported(skipped=[key_of(200, 202, 3)])),
        Row("cancel upload", small_id, 200, {}),
        Row("list datas3ts", None, 200, [summary]),
        Row("list dataranges", None, 200, {"dataranges": both}),
        Row("presign download", span, 200, {"download_segments": [segment]}, fetch),
        Row("delete datas3t", IMAGES, 409, "contains 2 dataranges"),
        Row("delete datarange", small, 200, {}),
        Row("clear", IMAGES, 200, {"dataranges_deleted": 1, "objects_scheduled": 2}),
        Row("clear", IMAGES, 200, {"dataranges_deleted": 0, "objects_scheduled": 0}),
        Row("delete datas3t", IMAGES, 200, {}),
        Row("list datas3ts", None, 200, []),
        Row("delete datas3t", IMAGES, 404, "images"),
    ]


def small_id(results: Results) -> dict[str, Any]:
    return {"datarange_upload_id": results["small"]}


def large_id(results: Results) -> dict[str, Any]:
    return {"datarange_upload_id": results["large"], "upload_ids": results["etags"]}


def matches(expected: Any, actual: Any) -> bool:
    """Return whether a response has the expected fields in the expected order, with values or types as expected."""
    if isinstance(expected, Url):
        return isinstance(actual, str) and "X-Amz-Signature=" in actual
    if isinstance(expected, type):
        return type(actual) is expected
    if isinstance(expected, dict):
        return list(expected) == list(actual) and all(matches(expected[name], actual[name]) for name in expected)
    if isinstance(expected, list):
        return len(expected) == len(actual) and all(map(matches, expected, actual))
    return bool(expected == actual)


def check(row: Row, response: HttpResponse) -> None:
    """Assert that the response is the row's. Of an error, the row has a part of the message."""
    assert response.status == row.status, (row.call, response.body)
    if row.status == 204:
        assert response.body == b"", row.call
    elif isinstance(row.response, bytes):
        assert (response.body, response.headers["content-type"]) == (row.response, "application/octet-stream"), row.call
    elif isinstance(row.response, str):
        assert row.response in response.json["message"], row.call
        assert list(response.json) == ["code", "message", "details"], row.call
    else:
        assert response.headers["content-type"] == "application/json", row.call
        assert matches(row.response, response.json), (row.call, response.json)


@pytest.fixture
def server(services: "Services", database: str, tmp_path: Path) -> Iterator[Server]:
    with serving(settings_for(services, database, tmp_path)) as running:
        yield running


@pytest.mark.parametrize("column", [1, 2], ids=["the manual's routes", "released clients' routes"])
def test_every_call_returns_the_documented_response(
    server: Server, services: "Services", bucket: str, column: int
) -> None:
    results: Results = {}
    for row in rows(services.s3, bucket):
        request = row.request(results) if callable(row.request) else row.request
        response = http_request(server.url, ROUTES[row.call][0], ROUTES[row.call][column], request)
        check(row, response)
        if row.then:
            row.then(results, response.json)


def test_an_import_returns_the_documented_response(
    server: Server, services: "Services", bucket: str, s3: "S3Client"
) -> None:
    for key, data in [(key_of(10, 12, 7), SMALL.data), (key_of(20, 20, 9), b"not an archive")]:
        s3.put_object(Bucket=bucket, Key=key + ".tar", Body=data)
    before = [row for row in rows(services.s3, bucket) if row.call == "add bucket"]
    row = Row("import", {"bucket_name": "store"}, 200, imported("images", skipped=[key_of(20, 20, 9)]))
    for each in [
        *before,
        row,
        Row("list dataranges", None, 200, {"dataranges": [datarange(10, 12, 7, len(SMALL.data))]}),
    ]:
        check(each, http_request(server.url, ROUTES[each.call][0], ROUTES[each.call][1], each.request))


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (Row("add bucket", {"name": "b", "endpoint": "127.0.0.1:1", "bucket": "x"}, 400, "scheme"), "INVALID_VALUE"),
        (Row("add datas3t", {"name": "x", "bucket": "nowhere"}, 404, "nowhere"), "BUCKET_NOT_FOUND"),
        (Row("add datas3t", {"name": "a b", "bucket": "nowhere"}, 400, "name"), "INVALID_VALUE"),
        (Row("start upload", start_of(SMALL), 404, "images"), "DATAS3T_NOT_FOUND"),
        (Row("start upload", start_of(SMALL) | {"first_datapoint_index": 2**63}, 400, "first_"), "INVALID_VALUE"),
        (Row("start upload", start_of(SMALL) | {"number_of_datapoints": 0}, 400, "number_of_"), "INVALID_VALUE"),
        (Row("start upload", start_of(SMALL) | {"data_size": 0}, 400, "data_size"), "INVALID_VALUE"),
        (Row("complete upload", {"datarange_upload_id": 2**64 - 1}, 404, "upload"), "UPLOAD_NOT_FOUND"),
        (Row("cancel upload", {"datarange_upload_id": 7}, 404, "7"), "UPLOAD_NOT_FOUND"),
        (
            Row(
                "presign download", {"datas3t_name": "images", "first_datapoint": 2}, 400, '"last_datapoint" is missing'
            ),
            "INVALID_VALUE",
        ),
        (Row("presign download", {"datas3t_name": "images"}, 404, "images"), "DATAS3T_NOT_FOUND"),
        (Row("add bucket", {"name": "b"}, 400, '"endpoint" is missing; add it to the request'), "INVALID_VALUE"),
        (Row("add bucket", {"name": None}, 400, '"name" is missing'), "INVALID_VALUE"),
        (Row("add datas3t", {"bucket": "b"}, 400, '"name" is missing'), "INVALID_VALUE"),
        (Row("start upload", {"datas3t_name": "images"}, 400, '"number_of_datapoints" is missing'), "INVALID_VALUE"),
        (Row("start upload", {}, 400, '"datas3t_name" is missing'), "INVALID_VALUE"),
        (Row("complete upload", {}, 400, '"datarange_upload_id" is missing'), "INVALID_VALUE"),
        (Row("cancel upload", {"datarange_upload_id": 0}, 404, "there is no upload 0"), "UPLOAD_NOT_FOUND"),
        (Row("delete datas3t", {}, 400, '"name" is missing'), "INVALID_VALUE"),
        (Row("delete datas3t", {"name": ""}, 400, "name is missing"), "INVALID_VALUE"),
        (Row("import", {"bucket_name": "nowhere"}, 404, "nowhere"), "BUCKET_NOT_FOUND"),
        (Row("import", {"name": "store"}, 400, "name"), "UNKNOWN_FIELD"),
        (Row("list dataranges", None, 404, "images"), "DATAS3T_NOT_FOUND"),
        (Row("bitmap", None, 404, "images"), "DATAS3T_NOT_FOUND"),
    ],
    ids=lambda value: value.call if isinstance(value, Row) else value,
)
def test_invalid_values_and_unknown_names_are_refused(server: Server, row: Row, reason: str) -> None:
    response = http_request(server.url, ROUTES[row.call][0], ROUTES[row.call][1], row.request)
    check(row, response)
    assert response.reason == reason
