"""gRPC as any client meets it: reflection, health, ids, limits and deadlines, all through the one port."""

import logging
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from datas3t import v1
from datas3t.server.front.rpc.server import THREADS
from datas3t.v1.bucket_pb2_grpc import BucketServiceStub
from datas3t.v1.datarange_pb2_grpc import DatarangeServiceStub
from tests.support.front import Running
from tests.support.stack import wait_until


def test_reflection_tells_the_services_and_their_descriptors(front: Running) -> None:
    with front.channel() as channel:
        told = ProtoReflectionDescriptorDatabase(channel)
        services = {f"datas3t.v1.{name}Service" for name in ("Bucket", "Datas3t", "Datarange", "Import")}
        assert services < set(told.get_services())
        assert "grpc.health.v1.Health" in told.get_services()
        file = told.FindFileContainingSymbol("datas3t.v1.BucketService")
    assert "AddBucket" in {method.name for method in file.service[0].method}


def test_the_standard_health_service_says_serving(front: Running) -> None:
    with front.channel() as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        for service in ("", "datas3t.v1.BucketService"):
            answer = health.Check(health_pb2.HealthCheckRequest(service=service))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_whoever_watches_health_takes_no_thread_from_others(front: Running) -> None:
    with front.channel() as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        watching = [health.Watch(health_pb2.HealthCheckRequest()) for _ in range(THREADS + 8)]
        for watched in watching:
            assert next(watched).status == health_pb2.HealthCheckResponse.SERVING
        BucketServiceStub(channel).AddBucket(v1.AddBucketRequest(name="x"), timeout=10)
        for watched in watching:
            watched.cancel()


def test_an_answer_of_many_megabytes_passes(front: Running) -> None:
    with front.channel() as channel:
        asked = v1.StartUploadRequest(number_of_datapoints=20_000, all_urls=True)
        assert len(DatarangeServiceStub(channel).StartUpload(asked).presigned_multipart_upload_urls) == 20_000


def test_a_request_of_ten_thousand_etags_passes_and_an_absurd_one_does_not(front: Running) -> None:
    with front.channel() as channel:
        stub = DatarangeServiceStub(channel)
        stub.CompleteUpload(v1.CompleteUploadRequest(upload_ids=["e" * 600] * 10_000))
        with pytest.raises(grpc.RpcError) as caught:
            stub.CompleteUpload(v1.CompleteUploadRequest(upload_ids=["e" * 1000] * 20_000))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize(
    ("given", "kept"), [("my-id.1", True), (None, False), ("x" * 200, False), ("a b", False)], ids=str
)
def test_each_call_has_an_id_that_is_the_callers_where_it_is_sane(
    front: Running, given: str | None, kept: bool
) -> None:
    headers = {"x-request-id": given} if given else {}
    over_rest = front.ask("GET", "/api/bucket", headers=headers).headers["x-request-id"]
    with front.channel() as channel:
        metadata = tuple(headers.items())
        _, call = BucketServiceStub(channel).ListBuckets.with_call(v1.ListBucketsRequest(), metadata=metadata)
    over_grpc = _told_id(call)
    for answered in (over_rest, over_grpc):
        assert (answered == given) is kept
        assert re.fullmatch("[ -~]{1,128}", str(answered))


def _told_id(call: Any) -> str:
    return str(dict(call.trailing_metadata())["x-request-id"])


def test_a_refused_call_tells_its_id_too(front: Running) -> None:
    with front.channel() as channel, pytest.raises(grpc.RpcError) as caught:
        BucketServiceStub(channel).AddBucket(v1.AddBucketRequest(name="refuse"), metadata=(("x-request-id", "mine"),))
    assert _told_id(caught.value) == "mine"
    refused = front.ask("POST", "/api/v1/buckets", {"name": "refuse"}, {"x-request-id": "mine"})
    assert refused.headers["x-request-id"] == "mine"


def test_a_call_is_one_line_in_the_log_without_what_it_said(front: Running, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), front.channel() as channel:
        asked = v1.AddBucketRequest(name="x", secret_key="hush")
        BucketServiceStub(channel).AddBucket(asked, metadata=(("x-request-id", "first"),))
        front.ask("POST", "/api/v1/buckets", {"name": "refuse", "secret_key": "hush"}, {"x-request-id": "second"})
        wait_until(lambda: len(caplog.records) == 2, 10)
    first, second = sorted(caplog.messages)
    assert re.fullmatch(r"grpc datas3t.v1.BucketService/AddBucket OK [0-9.]+ ms request_id=first", first)
    assert re.fullmatch(r"rest datas3t.v1.BucketService/AddBucket ALREADY_EXISTS [0-9.]+ ms request_id=second", second)


def test_a_call_whose_time_was_over_before_it_had_a_thread_is_not_begun(front: Running) -> None:
    with front.channel() as channel, ThreadPoolExecutor(THREADS) as pool:
        stub = BucketServiceStub(channel)
        waiting = [pool.submit(stub.AddBucket, v1.AddBucketRequest(name="wait")) for _ in range(THREADS)]
        for _ in range(THREADS):
            assert front.doors.entered.acquire(timeout=20)
        with pytest.raises(grpc.RpcError) as caught:
            stub.AddBucket(v1.AddBucketRequest(name="wait"), timeout=0.2)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        front.doors.open.set()
        for call in waiting:
            call.result(20)
        stub.AddBucket(v1.AddBucketRequest(name="after"))  # the queue is empty again
    assert not front.doors.entered.acquire(blocking=False)


def test_a_client_that_cancels_a_stream_leaves_no_call_running(front: Running) -> None:
    from datas3t.v1.import_pb2_grpc import ImportServiceStub

    with front.channel() as channel:
        stream: Any = ImportServiceStub(channel).Import(v1.ImportRequest(bucket_name="b"))
        next(stream)
        stream.cancel()
    running = 'datas3t_calls_running{transport="grpc"} 0.0'
    wait_until(lambda: running in front.metrics.page().decode(), 10, "the end of the call")


def test_bytes_that_are_no_message_are_refused_and_the_connection_lives(front: Running) -> None:
    with front.channel() as channel:
        raw: Any = channel.unary_unary("/datas3t.v1.BucketService/AddBucket")
        nothing: Any = channel.unary_unary("/datas3t.v1.BucketService/Nothing")
        with pytest.raises(grpc.RpcError) as caught:
            raw(b"\xff\xff\xff")
        assert caught.value.code() is grpc.StatusCode.INTERNAL
        with pytest.raises(grpc.RpcError) as caught:
            nothing(b"")
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        BucketServiceStub(channel).AddBucket(v1.AddBucketRequest(name="x"))


def test_the_socket_behind_the_edge_is_for_this_user_alone(front: Running) -> None:
    folder = front.front._rpc.socket.parent
    assert folder.stat().st_mode & 0o777 == 0o700
