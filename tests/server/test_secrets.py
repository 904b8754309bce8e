"""Secrets do not appear in logs, errors, reprs or URLs. docs/secrets.md lists every place and its test."""

import dataclasses
import importlib
import logging
import pkgutil
import re
from types import ModuleType
from typing import Any

import grpc
import pytest
from google.api import annotations_pb2
from google.protobuf.descriptor import Descriptor, MethodDescriptor

import datas3t.client
import datas3t.embedded
import datas3t.server
import datas3t.transport
from datas3t.embedded.data_dir import Secrets
from datas3t.embedded.stack import S3
from datas3t.server.db import pool
from datas3t.server.db.s3_buckets import S3Bucket
from datas3t.server.s3.locations import Location
from datas3t.v1 import aggregate_pb2, bucket_pb2, datarange_pb2, datas3t_pb2, import_pb2
from tests.support.front import running_front
from tests.support.stack import wait_until

CREDENTIAL_FIELDS = {"access_key", "secret_key"}
PRESIGNED_PATH = "/bucket/key.tar?X-Amz-Credential=hush&X-Amz-Signature=hush"


@pytest.mark.parametrize(
    "holder",
    [
        Location("http://s3", "b", "r", "hush", "hush"),
        S3Bucket(1, "b", "http://s3", "b", "r", "hush", "hush"),
        Secrets("hush", "hush", "hush", "hush"),
        S3("http://s3", "b", "hush", "hush"),
    ],
    ids=lambda holder: type(holder).__name__,
)
def test_the_repr_of_an_object_does_not_show_its_secrets(holder: object) -> None:
    assert "hush" not in repr(holder)


_URL = re.compile(r"(^|_)urls?$")
_NO_SECRETS = {"datas3t.client._calls.connection.Address.url"}  # the address of a server


def shown_urls(record: Any) -> list[str]:
    """Return the fields of a record that hold URLs, by their names, and that its repr shows."""
    if dataclasses.is_dataclass(record):
        return [each.name for each in dataclasses.fields(record) if each.repr and _URL.search(each.name)]
    if not issubclass(record, tuple):
        return []
    names = [name for name in getattr(record, "_fields", ()) if _URL.search(name)]
    filled = {name: [each == name and "hush" for each in record._fields] for name in names}
    return [name for name in names if "hush" in repr(record._make(filled[name]))]


@pytest.mark.parametrize("package", [datas3t.server, datas3t.client, datas3t.transport, datas3t.embedded], ids=str)
def test_no_repr_of_a_record_shows_a_url(package: ModuleType) -> None:
    shown, seen = set(), 0
    for info in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if info.name.endswith(".launcher"):  # a program, which does its work when it is imported
            continue
        module = importlib.import_module(info.name)
        records = [each for each in vars(module).values() if isinstance(each, type) and each.__module__ == info.name]
        shown |= {f"{info.name}.{record.__name__}.{name}" for record in records for name in shown_urls(record)}
        seen += sum(dataclasses.is_dataclass(record) for record in records)
    assert seen
    assert shown <= _NO_SECRETS


@pytest.mark.parametrize(
    "sent",
    [
        b"POST /api/bucket HTTP/9.9\r\nAuthorization: hush\r\n\r\nhush",
        b"PUT " + PRESIGNED_PATH.encode() + b" HTTP/1.1\r\nContent-Length: hush\r\n\r\n",
        b"hush\x00\r\n\r\n",
    ],
    ids=["version", "length", "not HTTP"],
)
def test_bytes_that_are_not_http_are_neither_logged_nor_returned(sent: bytes, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), running_front() as front:
        response = front.send_raw(sent)
    assert b"MALFORMED_REQUEST" in response
    assert b"hush" not in response
    assert "hush" not in caplog.text


@pytest.mark.parametrize("verb", ["GET", "PUT", "POST"])
def test_the_query_of_a_presigned_url_that_was_sent_here_is_neither_logged_nor_returned(
    verb: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG), running_front() as front:
        response = front.request(verb, PRESIGNED_PATH, raw=b"hush")
    assert response.reason == "ROUTE_NOT_FOUND"
    assert b"hush" not in response.body
    assert "hush" not in caplog.text


@pytest.mark.parametrize(
    "body",
    [
        b'{"secret_key": hush}',
        b'{"secret_key": "hush',
        b'{"secret_key": "hush", "secret_key": "hush"}',
        b'{"secret_key": ["hush"]}',
        b'{"secret_key": {"hush": "hush"}}',
        b'{"secret_key": "hush\\ud800"}',
        b'{"secret_key": "hush\xff"}',
        b'{"secret_key": "hush", "unknown": "hush"}',
        b'["hush"]',
        b'"hush"',
    ],
)
def test_errors_about_a_json_body_do_not_repeat_its_values(body: bytes, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), running_front() as front:
        response = front.request("POST", "/api/bucket", raw=body)
    assert response.status == 400
    assert b"hush" not in response.body
    assert "hush" not in caplog.text


def test_a_grpc_message_that_cannot_be_parsed_is_neither_logged_nor_returned(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), running_front() as front, front.channel() as channel:
        call: Any = channel.unary_unary("/datas3t.v1.BucketService/AddBucket")
        with pytest.raises(grpc.RpcError) as caught:
            call(b"\x0a\xffhush")
    assert "hush" not in str(caught.value)
    assert "hush" not in caplog.text


def test_the_database_pool_does_not_log_the_password(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        connections = pool.open_pool("postgresql://me:hush@127.0.0.1:1/x?application_name=hush")
        try:
            wait_until(lambda: bool(connections.get_stats().get("connections_errors")), what="a failed connection")
        finally:
            connections.close()
    assert "hush" not in caplog.text


def contract_methods() -> list[MethodDescriptor]:
    """Return every method of the contract."""
    files = (bucket_pb2, datas3t_pb2, datarange_pb2, import_pb2, aggregate_pb2)
    services = (service for file in files for service in file.DESCRIPTOR.services_by_name.values())
    return [method for service in services for method in service.methods]


def field_names(message: Descriptor) -> set[str]:
    """Return the names of all fields of a message and of the messages inside it."""
    inner = (field.message_type for field in message.fields if field.message_type)
    return {field.name for field in message.fields}.union(*map(field_names, inner))


@pytest.mark.parametrize("method", contract_methods(), ids=lambda method: str(method.full_name))
def test_no_response_has_a_field_for_credentials(method: MethodDescriptor) -> None:
    assert not CREDENTIAL_FIELDS & field_names(method.output_type)


def test_credentials_travel_in_bodies_and_never_in_urls() -> None:
    methods = [method for method in contract_methods() if CREDENTIAL_FIELDS & field_names(method.input_type)]
    assert {method.name for method in methods} == {"AddBucket", "UpdateBucket"}
    for method in methods:
        rule = method.GetOptions().Extensions[annotations_pb2.http]
        for binding in (rule, *rule.additional_bindings):
            assert not binding.WhichOneof("pattern") or binding.body == "*"


def test_the_metrics_show_nothing_that_a_client_sent() -> None:
    with running_front() as front:
        front.request("POST", "/api/bucket", {"name": "hush", "secret_key": "hush"}, {"x-request-id": "hush"})
        front.request("GET", PRESIGNED_PATH)
        front.request("HUSH", "/hush")
        page = front.request("GET", "/metrics").body.decode()
    assert "hush" not in page.lower()
