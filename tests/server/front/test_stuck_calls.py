"""Clients that send half a call, or leave: neither uses up what other calls need."""

import contextlib
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from datas3t import v1
from datas3t.server.front.calls.threads import QUEUED, RUNNING
from datas3t.server.front.rpc.server import MAX_MESSAGE, MAX_METADATA, MAX_STREAMS
from datas3t.server.settings import Timeouts
from datas3t.v1.bucket_pb2_grpc import BucketServiceStub
from datas3t.v1.datarange_pb2_grpc import DatarangeServiceStub
from tests.support.front import RunningFront, running_front
from tests.support.stack import wait_until

_ADD = "/datas3t.v1.BucketService/AddBucket"
_REFLECT = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
_HALF_SENT = 2 * RUNNING


@pytest.fixture
def front() -> Iterator[RunningFront]:
    with running_front() as running:
        yield running


class Silent:
    """Requests that never come, until the test ends."""

    def __init__(self) -> None:
        self.ended = threading.Event()

    def __iter__(self) -> "Silent":
        return self

    def __next__(self) -> bytes:
        self.ended.wait(60)
        raise StopIteration


@pytest.mark.parametrize("path", [_ADD, _REFLECT])
def test_calls_without_a_message_keep_no_other_call_from_running(front: RunningFront, path: str) -> None:
    silent = Silent()
    with front.channel() as stuck, front.channel() as channel:
        raw: Any = stuck.stream_stream(path)
        calls = [raw(silent) for _ in range(_HALF_SENT)]
        # The last call of this connection has a message: it arrives after the headers of all the others.
        BucketServiceStub(stuck).AddBucket(v1.AddBucketRequest(name="x"), timeout=10)
        health: Any = health_pb2_grpc.HealthStub(channel)
        assert (
            health.Check(health_pb2.HealthCheckRequest(), timeout=10).status == health_pb2.HealthCheckResponse.SERVING
        )
        BucketServiceStub(channel).AddBucket(v1.AddBucketRequest(name="x"), timeout=10)
        assert front.request("POST", "/api/bucket", {"name": "x"}).status == 201
        for call in calls:
            call.cancel()
        silent.ended.set()


def refused_calls(front: RunningFront, code: str = "INVALID_ARGUMENT") -> bool:
    """Return whether one call of AddBucket was counted with this code, and none is running."""
    page = front.metrics.page().decode()
    counted = f'datas3t_calls_total{{code="{code}",method="datas3t.v1.BucketService/AddBucket",transport="grpc"}} 1.0'
    return counted in page and 'datas3t_calls_running{transport="grpc"} 0.0' in page


def test_a_call_whose_message_does_not_arrive_in_time_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    silent = Silent()
    with running_front(timeouts=Timeouts(request_body=0.2)) as front, front.channel() as channel:
        raw: Any = channel.stream_unary(_ADD)
        with pytest.raises(grpc.RpcError) as caught:
            raw(silent, timeout=20)
        silent.ended.set()
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert caught.value.details() == "the message did not arrive in time; send it again"
        assert "x-request-id" in {each.key for each in caught.value.trailing_metadata() or ()}
        wait_until(lambda: refused_calls(front) and "INVALID_ARGUMENT" in caplog.text, what="count and line")
        assert caplog.text.count("INVALID_ARGUMENT") == 1
        assert "Traceback" not in caplog.text
        BucketServiceStub(channel).AddBucket(v1.AddBucketRequest(name="x"), timeout=10)


def test_a_call_without_a_message_is_refused(front: RunningFront, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="datas3t.server.calls")
    with front.channel() as channel:
        raw: Any = channel.stream_unary(_ADD)
        with pytest.raises(grpc.RpcError) as caught:
            raw(iter(()), timeout=20)
    assert (caught.value.code(), caught.value.details()) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "the call has no message; send one",
    )
    wait_until(lambda: refused_calls(front) and "INVALID_ARGUMENT" in caplog.text, what="count and line")
    assert caplog.text.count("grpc datas3t.v1.BucketService/AddBucket INVALID_ARGUMENT") == 1


def test_calls_that_clients_left_are_not_started(front: RunningFront) -> None:
    with front.channel() as channel, ThreadPoolExecutor(RUNNING) as pool:
        stub = BucketServiceStub(channel)
        waiting = [pool.submit(stub.AddBucket, v1.AddBucketRequest(name="wait")) for _ in range(RUNNING)]
        for _ in range(RUNNING):
            assert front.gate.entered.acquire(timeout=20)
        abandoned = [stub.AddBucket.future(v1.AddBucketRequest(name="wait")) for _ in range(20)]
        running = f'datas3t_calls_running{{transport="grpc"}} {RUNNING}.0'
        more = f'datas3t_calls_running{{transport="grpc"}} {RUNNING + 20}.0'
        wait_until(lambda: more in front.metrics.page().decode(), 20, "the calls that wait for a thread")
        for call in abandoned:
            call.cancel()
        wait_until(lambda: running in front.metrics.page().decode(), 20, "the end of the abandoned calls")
        front.gate.open.set()
        for running_call in waiting:
            running_call.result(20)
        stub.AddBucket(v1.AddBucketRequest(name="x"), timeout=10)
    assert not front.gate.entered.acquire(blocking=False)


@pytest.mark.parametrize("transport", ["grpc", "rest"])
def test_a_call_that_takes_too_long_gets_its_answer_although_its_thread_hangs(transport: str) -> None:
    with running_front(timeouts=Timeouts(call=0.3)) as front, front.channel() as channel:
        if transport == "grpc":
            with pytest.raises(grpc.RpcError) as caught:
                BucketServiceStub(channel).AddBucket(v1.AddBucketRequest(name="wait"), timeout=20)
            assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            assert "took longer than" in str(caught.value.details())
        else:
            response = front.request("POST", "/api/bucket", {"name": "wait"})
            assert (response.status, response.reason) == (504, "CALL_TOO_LONG")
        front.gate.open.set()


def test_more_calls_than_can_wait_are_refused_and_those_that_wait_are_answered(front: RunningFront) -> None:
    with contextlib.ExitStack() as stack:
        channels = [stack.enter_context(front.channel()) for _ in range((RUNNING + QUEUED) // MAX_STREAMS + 1)]
        stubs = [BucketServiceStub(channel) for channel in channels]
        request = v1.AddBucketRequest(name="wait")
        calls = [stubs[number // MAX_STREAMS].AddBucket.future(request) for number in range(RUNNING + QUEUED)]
        full = f'datas3t_calls_running{{transport="grpc"}} {RUNNING + QUEUED}.0'
        wait_until(lambda: full in front.metrics.page().decode(), 30, "the calls that wait for a thread")
        refused = front.request("POST", "/api/bucket", {"name": "x"})
        assert (refused.status, refused.reason) == (503, "SERVER_BUSY")
        assert front.request("GET", "/healthz").status == 200
        front.gate.open.set()
        for call in calls:
            assert call.result(30) == v1.AddBucketResponse()


def test_a_connection_may_have_a_bounded_number_of_streams(front: RunningFront) -> None:
    silent = Silent()
    with front.channel() as channel:
        raw: Any = channel.stream_unary(_ADD)
        calls = [raw.future(silent) for _ in range(MAX_STREAMS)]
        with pytest.raises(grpc.RpcError) as caught:
            BucketServiceStub(channel).AddBucket(v1.AddBucketRequest(name="x"), timeout=0.5)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED, "the client waits for a free stream"
        with front.channel() as other:
            BucketServiceStub(other).AddBucket(v1.AddBucketRequest(name="x"), timeout=10)
        for call in calls:
            call.cancel()
        silent.ended.set()


def test_metadata_has_a_limit(front: RunningFront) -> None:
    with front.channel() as channel:
        stub = BucketServiceStub(channel)
        stub.AddBucket(v1.AddBucketRequest(name="x"), metadata=(("fits", "x" * (MAX_METADATA // 2)),))
        with pytest.raises(grpc.RpcError) as caught:
            stub.AddBucket(v1.AddBucketRequest(name="x"), metadata=(("long", "x" * 2 * MAX_METADATA),))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        stub.AddBucket(v1.AddBucketRequest(name="x"))


def test_a_message_has_a_limit_and_may_not_be_compressed(front: RunningFront) -> None:
    with front.channel() as channel:
        stub = DatarangeServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.CompleteUpload(v1.CompleteUploadRequest(upload_ids=["e" * MAX_MESSAGE]))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        bomb = v1.CompleteUploadRequest(upload_ids=["e" * 2**20] * 15)
        with pytest.raises(grpc.RpcError) as caught:
            stub.CompleteUpload(bomb, compression=grpc.Compression.Gzip)
        assert caught.value.code() in (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.INTERNAL)
        stub.CompleteUpload(v1.CompleteUploadRequest(upload_ids=["e"]))
