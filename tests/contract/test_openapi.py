"""`/openapi.json` says what the server does: the document is valid, and it is enough to drive the server by."""

import importlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest
from google.api import annotations_pb2
from hypothesis import strategies as st
from pyroaring import BitMap64

from datas3t.v1 import aggregate_pb2, bucket_pb2, datarange_pb2, datas3t_pb2, import_pb2, table_pb2, token_pb2
from tests.support.front import RunningFront, http_request
from tests.support.serving import serving, settings_for
from tests.support.stack import BucketPool, DatabasePool
from tests.support.uploads import Archive, archive, get, large_archive, put

if TYPE_CHECKING:
    from datas3t.embedded.stack import Services
    from datas3t.server.app.server import Server

_FILES = (aggregate_pb2, bucket_pb2, datarange_pb2, datas3t_pb2, import_pb2, table_pb2, token_pb2)
_NAMES = ("name", "datas3t_name", "bucket_name", "bucket")  # fields that a random value would never get right
_PART = 20 << 20  # bytes of a part
_FEW = hypothesis.settings(max_examples=6, database=None, suppress_health_check=list(hypothesis.HealthCheck))


@pytest.fixture(scope="module")
def server(
    services: "Services", databases: DatabasePool, tmp_path_factory: pytest.TempPathFactory
) -> "Iterator[Server]":
    """Yield a server on a database without rows."""
    with databases.lend() as url, serving(settings_for(services, url, tmp_path_factory.mktemp("openapi"))) as running:
        yield running


@pytest.fixture(scope="module")
def document(server: "Server") -> Any:
    return http_request(server.url, "GET", "/openapi.json").json


@pytest.fixture(scope="module")
def bucket_request(server: "Server", services: "Services", buckets: BucketPool) -> Iterator[dict[str, str]]:
    """Yield the request that adds a bucket configuration, for an empty bucket without one."""
    s3 = services.s3
    with buckets.lend() as bucket:
        keys = {"access_key": s3.access_key, "secret_key": s3.secret_key}
        yield {"name": bucket, "endpoint": s3.endpoint, "bucket": bucket, **keys}


@pytest.fixture(scope="module")
def names(server: "Server", bucket_request: dict[str, str]) -> dict[str, str]:
    """Return a value for each field that names something that exists: a datas3t and its bucket configuration."""
    assert http_request(server.url, "POST", "/api/v1/buckets", bucket_request).status == 201
    name = bucket_request["name"]
    assert http_request(server.url, "POST", "/api/v1/datas3ts", {"name": name, "bucket": name}).status == 204
    return {**dict.fromkeys(_NAMES, name), "request_id": "a request", "table": "labels", "role": "read"}


def operations(document: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield verb, path and description of each operation."""
    for path, verbs in document["paths"].items():
        for verb, operation in verbs.items():
            yield verb.upper(), path, operation


def test_the_document_is_valid(document: Any) -> None:
    from openapi_spec_validator import OpenAPIV31SpecValidator  # takes as long as half of all other imports

    OpenAPIV31SpecValidator(document).validate()
    assert document["openapi"] == "3.1.0"


def test_the_document_has_every_route_and_nothing_else(document: Any) -> None:
    routes = set()
    for file in _FILES:
        for service in file.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                rule = method.GetOptions().Extensions[annotations_pb2.http]
                for binding in (rule, *rule.additional_bindings):
                    if verb := binding.WhichOneof("pattern"):
                        routes.add((verb.upper(), getattr(binding, verb)))
    assert {(verb, path) for verb, path, _ in operations(document)} == routes
    assert len(routes) > 25


def test_the_document_is_served_as_a_page(front: RunningFront) -> None:
    get, head = front.request("GET", "/openapi.json"), front.request("HEAD", "/openapi.json")
    assert (get.status, get.headers["content-type"]) == (200, "application/json")
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", str(len(get.body)))
    assert front.request("POST", "/openapi.json", {}).headers["allow"] == "GET, HEAD"
    foreign = {"Origin": "http://elsewhere.example"}
    assert front.request("GET", "/openapi.json", headers=foreign).status == 403


def test_success_codes_and_bodies_are_those_of_the_server(document: Any) -> None:
    found = {}
    for verb, path, operation in operations(document):
        (status,) = (status for status in operation["responses"] if status < "400")
        found[verb, path] = (int(status), operation["responses"][status].get("content"))
    assert found["POST", "/api/bucket"][0] == found["POST", "/api/v1/buckets"][0] == 201
    assert found["POST", "/api/datas3t"] == (204, None)
    assert found["POST", "/api/datarange/upload/complete"][0] == 200
    assert found["GET", "/api/v1/buckets"][1]["application/json"]["schema"]["type"] == "array"
    assert list(found["GET", "/api/v1/datapoints-bitmap"][1]) == ["application/octet-stream"]


def test_fields_are_those_that_exist_over_rest(document: Any) -> None:
    schemas = document["components"]["schemas"]
    assert set(schemas["Bucket"]["properties"]) == {"name", "endpoint", "bucket"}
    text = json.dumps(document["paths"]) + json.dumps(schemas)
    for name in ("all_urls", "page_token", "page_size", "next_page_token", "part_size", "objects_seen"):
        assert f'"{name}"' not in text
    upload = schemas["StartUploadResponse"]
    assert upload["properties"]["datarange_upload_id"]["type"] == "integer"
    assert set(upload["properties"]) - set(upload["required"]) == {
        "presigned_data_put_url",
        "presigned_multipart_upload_urls",
        "presigned_checksums_put_url",
    }


def test_errors_have_the_statuses_of_the_contract(document: Any) -> None:
    for _, _, operation in operations(document):
        assert {"400", "403", "404", "409", "413", "415", "500", "503", "504"} < set(operation["responses"])
    errors = document["components"]["responses"]
    assert "DATARANGE_OVERLAPS" in errors["Error409"]["description"]
    assert [status for status, error in errors.items() if "Retry-After" in error.get("headers", {})] == ["Error503"]


def test_required_fields_are_required(
    document: Any, server: "Server", bucket_request: dict[str, str], names: dict[str, str]
) -> None:
    tried = 0
    for verb, path, operation in operations(document):
        for parameter in operation.get("parameters", ()):
            assert parameter["required"]
            response = http_request(server.url, verb, path)
            assert (response.status, response.json["details"][0]["metadata"]["field"]) == (400, parameter["name"])
        if "requestBody" in operation:
            schema = _request_schema(document, operation)
            whole = {**names, **bucket_request}
            for missing in schema["required"]:
                body = {field: whole[field] for field in schema["required"] if field != missing}
                response = http_request(server.url, verb, path, body)
                if response.reason == "AUTH_OFF":  # it manages no tokens
                    continue
                assert response.json["message"] == f'"{missing}" is missing; add it to the request', (verb, path)
                tried += 1
    assert tried > 20


def test_requests_have_no_other_fields(document: Any, server: "Server") -> None:
    tried = 0
    for verb, path, operation in operations(document):
        if "requestBody" in operation:
            assert _request_schema(document, operation)["additionalProperties"] is False
            response = http_request(server.url, verb, path, {"other": 1})
            assert (response.status, response.reason) == (400, "UNKNOWN_FIELD")
            tried += 1
    assert tried > 10


def test_integers_are_bounded_as_described(document: Any, server: "Server", names: dict[str, str]) -> None:
    tried = 0
    for verb, path, operation in operations(document):
        if "requestBody" not in operation:
            continue
        schema = _request_schema(document, operation)
        whole = {field: names[field] for field in schema["required"] if field in names}
        for name, field in schema["properties"].items():
            for form in field.get("anyOf", ()):
                if form.get("type") == "integer":
                    for value in (form["minimum"] - 1, form["maximum"] + 1, str(form["maximum"] + 1)):
                        body = {**whole, name: value}
                        assert http_request(server.url, verb, path, body).status in (400, 404), (path, body)
                        tried += 1
    assert tried > 20


def test_schemathesis_finds_no_response_that_is_not_described(
    document: Any, server: "Server", names: dict[str, str]
) -> None:
    checks = _schemathesis_checks()
    for operation in _schemathesis_operations(document):

        @_FEW
        @hypothesis.given(case=operation.as_strategy(), existing=st.booleans())
        def drive(case: Any, *, existing: bool) -> None:
            for fields in (case.body, case.query):
                if existing and isinstance(fields, dict):
                    fields.update({name: value for name, value in names.items() if name in fields})
            case.call_and_validate(base_url=server.url, checks=checks)

        drive()


def test_requests_that_are_not_described_are_refused(document: Any, server: "Server") -> None:
    from schemathesis import GenerationMode
    from schemathesis.checks import negative_data_rejection

    checks = [*_schemathesis_checks(), negative_data_rejection]
    for operation in _schemathesis_operations(document):
        if not operation.body and not operation.query:
            continue  # any request is described

        @_FEW
        @hypothesis.given(case=operation.as_strategy(generation_mode=GenerationMode.NEGATIVE))
        def drive(case: Any) -> None:
            case.call_and_validate(base_url=server.url, checks=checks)

        drive()


def test_a_generated_client_does_the_main_job(
    document: Any,
    server: "Server",
    bucket_request: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    generated = _generated(document, tmp_path, monkeypatch)
    with generated("client").Client(server.url) as client:

        def call(module: str, request: str = "", **fields: Any) -> Any:
            """Send a request by the generated code, and return the response with its parsed body."""
            send = generated(f"api.{module}").sync_detailed
            if not request:
                return send(client=client, **fields)
            return send(client=client, body=getattr(generated("models"), request)(**fields))

        assert call("bucket_service.add_bucket_2", "AddBucketRequest", **bucket_request).status_code == 201
        names = {"name": "photos", "bucket": bucket_request["name"]}
        added = call("datas_3_t_service.add_datas_3_t", "AddDatas3TRequest", **names)
        assert (added.status_code, added.content) == (204, b"")
        _upload(call, archive(1, b"one", b"two"))
        _upload(call, large_archive(3))

        span = {"first_datapoint": 2, "last_datapoint": 2}
        signed = call("datarange_service.presign_download", "PresignDownloadRequest", datas3t_name="photos", **span)
        (segment,) = signed.parsed.download_segments
        start, last = map(int, segment.range_.removeprefix("bytes=").split("-"))
        assert get(segment.presigned_url, start, last + 1)[512:515] == b"two"
        ranges = call("datarange_service.list_dataranges", datas3t_name="photos").parsed.dataranges
        assert [(each.min_datapoint_key, each.max_datapoint_key) for each in ranges] == [(1, 2), (3, 5)]
        totals = {each.datas3t_name: each for each in call("datas_3_t_service.list_datas_3_ts").parsed}
        assert totals["photos"].total_datapoints == 5
        bitmap = call("datas_3_t_service.get_datapoints_bitmap", datas3t_name="photos").parsed
        assert list(BitMap64.deserialize(bitmap.payload.read())) == [1, 2, 3, 4, 5]
        absent = call("datarange_service.list_dataranges", datas3t_name="absent")
        assert (absent.status_code, absent.parsed.details[0].reason) == (404, "DATAS3T_NOT_FOUND")


def _upload(call: Callable[..., Any], made: Archive) -> None:
    """Upload an archive to the datas3t `photos`. One of the numbers is sent as text."""
    span = {"first_datapoint_index": made.first, "number_of_datapoints": str(made.count)}
    upload = {"datas3t_name": "photos", "data_size": len(made.data), **span}
    started = call("datarange_service.start_upload", "StartUploadRequest", **upload).parsed
    put(started.presigned_index_put_url, made.index)
    completion: dict[str, Any] = {"datarange_upload_id": started.datarange_upload_id}
    if started.use_direct_put:
        put(started.presigned_data_put_url, made.data)
    else:
        parts = [made.data[start : start + _PART] for start in range(0, len(made.data), _PART)]
        urls = started.presigned_multipart_upload_urls
        completion["upload_ids"] = [put(url, part) for url, part in zip(urls, parts, strict=True)]
    completed = call("datarange_service.complete_upload", "CompleteUploadRequest", **completion)
    assert (completed.status_code, completed.content) == (200, b"{}")


def _schemathesis_operations(document: Any) -> Iterator[Any]:
    import schemathesis  # takes a second, which other processes of the tests need not spend

    results: Iterator[Any] = schemathesis.openapi.from_dict(document).get_all_operations()
    return (result.ok() for result in results)


def _schemathesis_checks() -> list[Any]:
    from schemathesis import checks

    return [
        checks.not_a_server_error,
        checks.status_code_conformance,
        checks.content_type_conformance,
        checks.response_headers_conformance,
        checks.response_schema_conformance,
    ]


def _request_schema(document: Any, operation: dict[str, Any]) -> Any:
    reference = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    return document["components"]["schemas"][reference.rpartition("/")[2]]


def _generated(document: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Generate a client by openapi-python-client, and return a function that imports its modules."""
    (folder / "openapi.json").write_text(json.dumps(document))
    (folder / "config.json").write_text('{"post_hooks": []}')
    command = "-m openapi_python_client generate --path openapi.json --config config.json --meta none"
    command += " --output-path generated_client --fail-on-warning"
    done = subprocess.run(
        [sys.executable, *command.split()], cwd=folder, check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    monkeypatch.syspath_prepend(folder)
    return lambda module: importlib.import_module(f"generated_client.{module}")
