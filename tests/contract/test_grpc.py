"""gRPC as any client sees it: reflection, health, request ids, limits and deadlines, all through the one port."""

import logging
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from datas3t import v1
from datas3t.server.front.calls.threads import RUNNING
from datas3t.v1.bucket_pb2_grpc import BucketServiceStub
from datas3t.v1.datarange_pb2_grpc import DatarangeServiceStub
from tests.support.front import RunningFront
from tests.support.stack import wait_until


def test_reflection_returns_the_services_and_their_descriptors(front: RunningFront) -> None:
    with front.channel() as channel:
        reflection = ProtoReflectionDescriptorDatabase(channel)
        services = {f"datas3t.v1.{name}Service" for name in ("Bucket", "Datas3t", "Datarange", "Import")}
        assert services < set(reflection.get_services())
        assert "grpc.health.v1.Health" in reflection.get_services()
        file = reflection.FindFileContainingSymbol("datas3t.v1.BucketService")
    assert "AddBucket" in {method.name for method in file.service[0].method}


def test_the_standard_health_service_reports_serving(front: RunningFront) -> None:
    with front.channel() as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        for service in ("", "datas3t.v1.BucketService"):
            response = health.Check(health_pb2.HealthCheckRequest(service=service))
            assert response.status == health_pb2.HealthCheckResponse.SERVING


def test_clients_that_watch_health_take_no_thread_from_calls(front: RunningFront) -> None:
    with front.channel() as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        watching = [health.Watch(health_pb2.HealthCheckRequest()) for _ in range(RUNNING + 8)]
        for watched in watching:
            assert next(watched).status == health_pb2.HealthCheckResponse.SERVING
        BucketServiceStub(channel).AddBucket(v1.AddBucketRequest(name="x"), timeout=10)
        for watched in watching:
            watched.cancel()


def test_a_response_of_many_megabytes_is_sent(front: RunningFront) -> None:
    with front.channel() as channel:
        request = v1.StartUploadRequest(number_of_datapoints=20_000, all_urls=True)
        assert len(DatarangeServiceStub(channel).StartUpload(request).presigned_multipart_upload_urls) == 20_000


def test_a_request_with_ten_thousand_etags_is_accepted_and_a_far_larger_one_is_refused(front: RunningFront) -> None:
    with front.channel() as channel:
        stub = DatarangeServiceStub(channel)
        stub.CompleteUpload(v1.CompleteUploadRequest(upload_ids=["e" * 600] * 10_000))
        with pytest.raises(grpc.RpcError) as caught:
            stub.CompleteUpload(v1.CompleteUploadRequest(upload_ids=["e" * 1000] * 20_000))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize(
    ("given", "kept"), [("my-id.1", True), (None, False), ("x" * 200, False), ("a b", False)], ids=str
)
def test_a_call_has_the_request_id_of_its_caller_if_that_is_valid(
    front: RunningFront, given: str | None, kept: bool
) -> None:
    headers = {"x-request-id": given} if given else {}
    over_rest = front.request("GET", "/api/bucket", headers=headers).headers["x-request-id"]
    with front.channel() as channel:
        metadata = tuple(headers.items())
        _, call = BucketServiceStub(channel).ListBuckets.with_call(v1.ListBucketsRequest(), metadata=metadata)
    over_grpc = _request_id(call)
    for returned in (over_rest, over_grpc):
        assert (returned == given) is kept
        assert re.fullmatch("[ -~]{1,128}", str(returned))


def _request_id(call: Any) -> str:
    return str(dict(call.trailing_metadata())["x-request-id"])


def test_a_failed_call_returns_its_request_id(front: RunningFront) -> None:
    with front.channel() as channel, pytest.raises(grpc.RpcError) as caught:
        BucketServiceStub(channel).AddBucket(v1.AddBucketRequest(name="refuse"), metadata=(("x-request-id", "mine"),))
    assert _request_id(caught.value) == "mine"
    refused = front.request("POST", "/api/v1/buckets", {"name": "refuse"}, {"x-request-id": "mine"})
    assert refused.headers["x-request-id"] == "mine"


def test_a_call_is_one_line_in_the_log_without_its_request(
    front: RunningFront, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO), front.channel() as channel:
        request = v1.AddBucketRequest(name="x", secret_key="hush")
        BucketServiceStub(channel).AddBucket(request, metadata=(("x-request-id", "first"),))
        front.request("POST", "/api/v1/buckets", {"name": "refuse", "secret_key": "hush"}, {"x-request-id": "second"})
        wait_until(lambda: len(caplog.records) == 2, 10)
    first, second = sorted(caplog.messages)
    assert re.fullmatch(r"grpc datas3t.v1.BucketService/AddBucket OK [0-9.]+ ms request_id=first", first)
    assert re.fullmatch(r"rest datas3t.v1.BucketService/AddBucket ALREADY_EXISTS [0-9.]+ ms request_id=second", second)


def test_a_call_whose_deadline_passes_before_it_gets_a_thread_is_not_started(front: RunningFront) -> None:
    with front.channel() as channel, ThreadPoolExecutor(RUNNING) as pool:
        stub = BucketServiceStub(channel)
        waiting = [pool.submit(stub.AddBucket, v1.AddBucketRequest(name="wait")) for _ in range(RUNNING)]
        for _ in range(RUNNING):
            assert front.gate.entered.acquire(timeout=20)
        with pytest.raises(grpc.RpcError) as caught:
            stub.AddBucket(v1.AddBucketRequest(name="wait"), timeout=0.2)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        # The time is over for the server a moment later than for the client.
        running = f'datas3t_calls_running{{transport="grpc"}} {RUNNING}.0'
        wait_until(lambda: running in front.metrics.page().decode(), 20, "the end of the late call")
        front.gate.open.set()
        for call in waiting:
            call.result(20)
        stub.AddBucket(v1.AddBucketRequest(name="after"))  # gets a thread only after all earlier calls
    assert not front.gate.entered.acquire(blocking=False)


def test_a_client_that_cancels_a_stream_leaves_no_call_running(front: RunningFront) -> None:
    from datas3t.v1.import_pb2_grpc import ImportServiceStub

    with front.channel() as channel:
        stream: Any = ImportServiceStub(channel).Import(v1.ImportRequest(bucket_name="b"))
        next(stream)
        stream.cancel()
    running = 'datas3t_calls_running{transport="grpc"} 0.0'
    wait_until(lambda: running in front.metrics.page().decode(), 10, "the end of the call")


def test_bytes_that_are_not_a_message_are_refused_and_the_connection_stays_open(front: RunningFront) -> None:
    with front.channel() as channel:
        raw: Any = channel.unary_unary("/datas3t.v1.BucketService/AddBucket")
        unknown: Any = channel.unary_unary("/datas3t.v1.BucketService/Nothing")
        with pytest.raises(grpc.RpcError) as caught:
            raw(b"\xff\xff\xff")
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert caught.value.details() == "the bytes are not a message datas3t.v1.AddBucketRequest"
        with pytest.raises(grpc.RpcError) as caught:
            unknown(b"")
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        BucketServiceStub(channel).AddBucket(v1.AddBucketRequest(name="x"))


def test_only_this_user_can_reach_the_unix_socket_of_grpc(front: RunningFront) -> None:
    folder = front.front._rpc.socket.parent
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_both_versions_of_reflection_resolve_every_service_and_method(front: RunningFront, version: str) -> None:
    from google.protobuf import descriptor_pb2
    from google.protobuf.descriptor_database import DescriptorDatabase
    from google.protobuf.descriptor_pool import DescriptorPool
    from grpc_reflection.v1alpha import reflection_pb2

    with front.channel() as channel:
        converse: Any = channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )

        def ask(**question: Any) -> Any:
            (answer,) = converse(iter([reflection_pb2.ServerReflectionRequest(**question)]), timeout=20)
            return answer

        names = [service.name for service in ask(list_services="*").list_services_response.service]
        assert {f"grpc.reflection.{each}.ServerReflection" for each in ("v1", "v1alpha")} < set(names)
        for name in names:
            files = ask(file_containing_symbol=name).file_descriptor_response.file_descriptor_proto
            protos = [descriptor_pb2.FileDescriptorProto.FromString(file) for file in files]
            services = [each for proto in protos for each in proto.service if f"{proto.package}.{each.name}" == name]
            assert len(services) == 1, name
            database = DescriptorDatabase()
            for proto in protos:
                database.Add(proto)
            assert DescriptorPool(database).FindServiceByName(name).methods, "the files have all types"
            for method in services[0].method:
                found = ask(file_containing_symbol=f"{name}.{method.name}")
                assert found.file_descriptor_response.file_descriptor_proto == files
        field = ask(file_containing_symbol="datas3t.v1.AddBucketRequest.name")
        assert field.file_descriptor_response.file_descriptor_proto
        unknown = ask(file_containing_symbol="datas3t.v1.BucketService.Nothing")
        assert unknown.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


def test_bytes_that_are_no_message_are_refused_by_the_standard_services_too(
    front: RunningFront, caplog: pytest.LogCaptureFixture
) -> None:
    with front.channel() as channel:
        for path in ("/grpc.health.v1.Health/Check", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"):
            raw: Any = channel.stream_stream(path)
            with pytest.raises(grpc.RpcError) as caught:
                list(raw(iter([b"\xff\xff\xff"]), timeout=20))
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "Traceback" not in caplog.text
