"""Many concurrent calls, and graceful shutdown: running calls end, new ones are refused, no response is lost."""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from datas3t import v1
from datas3t.server.front.calls.threads import RUNNING
from datas3t.v1.bucket_pb2_grpc import BucketServiceStub
from datas3t.v1.datarange_pb2_grpc import DatarangeServiceStub
from tests.support.front import RunningFront, running_front
from tests.support.stack import wait_until

WAIT = {"name": "wait"}  # a request whose call waits at the gate


@pytest.fixture
def front() -> Iterator[RunningFront]:
    with running_front() as running:
        yield running


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(64) as pool:
        yield pool


def start_waiting(front: RunningFront, pool: ThreadPoolExecutor, call: Callable[[], Any]) -> Future[Any]:
    """Start a call and return once it waits in its servicer."""
    running = pool.submit(call)
    assert front.gate.entered.acquire(timeout=20)
    return running


def test_sixteen_calls_of_each_protocol_run_concurrently(front: RunningFront, pool: ThreadPoolExecutor) -> None:
    with front.channel() as channel:
        stub = BucketServiceStub(channel)
        over_grpc = [pool.submit(stub.AddBucket, v1.AddBucketRequest(name="wait")) for _ in range(16)]
        over_rest = [pool.submit(front.request, "POST", "/api/bucket", WAIT) for _ in range(16)]
        for _ in range(32):
            assert front.gate.entered.acquire(timeout=20)
        front.gate.open.set()
        assert [call.result(20) for call in over_grpc] == [v1.AddBucketResponse()] * 16
        assert [call.result(20).status for call in over_rest] == [201] * 16


def test_pages_respond_while_all_call_threads_are_busy(front: RunningFront, pool: ThreadPoolExecutor) -> None:
    waiting = [pool.submit(front.request, "POST", "/api/bucket", WAIT) for _ in range(RUNNING + 8)]
    for _ in range(RUNNING):
        assert front.gate.entered.acquire(timeout=20)
    assert front.request("GET", "/healthz").json == {"status": "alive"}
    assert b'datas3t_calls_running{transport="rest"} 40.0' in front.request("GET", "/metrics").body
    front.gate.open.set()
    assert {call.result(20).status for call in waiting} == {201}


def test_many_concurrent_callers_of_both_protocols_get_their_own_responses(
    front: RunningFront, pool: ThreadPoolExecutor
) -> None:
    with front.channel() as channel:
        stub = DatarangeServiceStub(channel)

        def over_grpc(number: int) -> int:
            request = v1.StartUploadRequest(first_datapoint_index=number, number_of_datapoints=number % 7 * 100)
            response = stub.StartUpload(request)
            assert len(response.presigned_multipart_upload_urls) == number % 7 * 100
            return response.first_datapoint_index

        def over_rest(number: int) -> int:
            request = {"first_datapoint_index": number, "number_of_datapoints": number % 7 * 100}
            response = front.request("POST", "/api/v1/upload-datarange", request).json
            assert len(response.get("presigned_multipart_upload_urls", [])) == number % 7 * 100
            return int(response["first_datapoint_index"])

        numbers = range(200)
        rest = [pool.submit(over_rest, number) for number in numbers]
        assert list(pool.map(over_grpc, numbers)) == list(numbers)
        assert [call.result(60) for call in rest] == list(numbers)


def test_draining_lets_running_calls_end_and_refuses_new_ones(front: RunningFront, pool: ThreadPoolExecutor) -> None:
    with front.channel() as channel:
        stub = BucketServiceStub(channel)
        over_rest = start_waiting(front, pool, lambda: front.request("POST", "/api/bucket", WAIT))
        over_grpc = start_waiting(front, pool, lambda: stub.AddBucket(v1.AddBucketRequest(name="wait")))
        draining = pool.submit(front.front.drain, 30)
        wait_until(lambda: front.request("GET", "/readyz").status == 503, 10, "the end of readiness")
        assert front.request("GET", "/readyz").json == {"status": "draining"}
        refused = front.request("GET", "/api/bucket")
        assert (refused.status, refused.reason, refused.headers["connection"]) == (503, "SHUTTING_DOWN", "close")
        with pytest.raises(grpc.RpcError) as caught:
            stub.ListBuckets(v1.ListBucketsRequest())
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert caught.value.details() == "the server is shutting down; try again shortly"
        assert not draining.done()
        front.gate.open.set()
        assert over_grpc.result(20) == v1.AddBucketResponse()
        assert over_rest.result(20).status == 201
        assert draining.result(20) is True


def test_the_last_responses_arrive_whole_although_the_front_closes_after_them(
    front: RunningFront, pool: ThreadPoolExecutor
) -> None:
    with front.channel() as channel:
        stub = BucketServiceStub(channel)
        waiting = [
            start_waiting(front, pool, lambda: stub.AddBucket(v1.AddBucketRequest(name="wait"))) for _ in range(8)
        ]
        waiting += [start_waiting(front, pool, lambda: front.request("POST", "/api/bucket", WAIT)) for _ in range(8)]
        front.gate.open.set()
        assert front.front.drain(20) is True
        front.front.close()
        for call in waiting:
            call.result(20)


def test_clients_that_watch_health_receive_not_serving(front: RunningFront, pool: ThreadPoolExecutor) -> None:
    with front.channel() as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        statuses = health.Watch(health_pb2.HealthCheckRequest())
        assert next(statuses).status == health_pb2.HealthCheckResponse.SERVING
        draining = pool.submit(front.front.drain, 5)
        assert next(statuses).status == health_pb2.HealthCheckResponse.NOT_SERVING
        statuses.cancel()
        draining.result(20)


def test_a_call_that_does_not_end_is_cut_off_in_bounded_time(front: RunningFront, pool: ThreadPoolExecutor) -> None:
    start_waiting(front, pool, lambda: front.request("POST", "/api/bucket", WAIT))
    started = time.monotonic()
    assert front.front.drain(0.3) is False
    assert time.monotonic() - started < 5
    front.gate.open.set()


def test_idle_keep_alive_connections_do_not_delay_the_shutdown(front: RunningFront) -> None:
    import http.client

    idle = http.client.HTTPConnection(*front.address)
    idle.request("GET", "/healthz")
    assert json.loads(idle.getresponse().read()) == {"status": "alive"}
    started = time.monotonic()
    assert front.front.drain(20) is True
    front.front.close()
    assert time.monotonic() - started < 5
    idle.close()
