"""Many calls at once, and a front that is told to stop: what runs ends, what comes is sent away, nothing is lost."""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from datas3t import v1
from datas3t.server.front.rest.app import THREADS
from datas3t.v1.bucket_pb2_grpc import BucketServiceStub
from datas3t.v1.datarange_pb2_grpc import DatarangeServiceStub
from tests.support.front import Running, running_front
from tests.support.stack import wait_until

WAIT = {"name": "wait"}


@pytest.fixture
def front() -> Iterator[Running]:
    with running_front() as running:
        yield running


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(64) as pool:
        yield pool


def begun(front: Running, pool: ThreadPoolExecutor, call: Callable[[], Any]) -> Future[Any]:
    """A call that has reached its servicer and waits there."""
    running = pool.submit(call)
    assert front.doors.entered.acquire(timeout=20)
    return running


def test_sixteen_calls_of_each_kind_run_at_once(front: Running, pool: ThreadPoolExecutor) -> None:
    with front.channel() as channel:
        stub = BucketServiceStub(channel)
        over_grpc = [pool.submit(stub.AddBucket, v1.AddBucketRequest(name="wait")) for _ in range(16)]
        over_rest = [pool.submit(front.ask, "POST", "/api/bucket", WAIT) for _ in range(16)]
        for _ in range(32):
            assert front.doors.entered.acquire(timeout=20)
        front.doors.open.set()
        assert [call.result(20) for call in over_grpc] == [v1.AddBucketResponse()] * 16
        assert [call.result(20).status for call in over_rest] == [201] * 16


def test_pages_answer_while_every_thread_is_busy(front: Running, pool: ThreadPoolExecutor) -> None:
    waiting = [pool.submit(front.ask, "POST", "/api/bucket", WAIT) for _ in range(THREADS + 8)]
    for _ in range(THREADS):
        assert front.doors.entered.acquire(timeout=20)
    assert front.ask("GET", "/healthz").json == {"status": "alive"}
    assert b'datas3t_calls_running{transport="rest"} 32.0' in front.ask("GET", "/metrics").body
    front.doors.open.set()
    assert {call.result(20).status for call in waiting} == {201}


def test_many_callers_of_both_kinds_get_their_own_answers(front: Running, pool: ThreadPoolExecutor) -> None:
    with front.channel() as channel:
        stub = DatarangeServiceStub(channel)

        def over_grpc(number: int) -> int:
            asked = v1.StartUploadRequest(first_datapoint_index=number, number_of_datapoints=number % 7 * 100)
            answer = stub.StartUpload(asked)
            assert len(answer.presigned_multipart_upload_urls) == number % 7 * 100
            return answer.first_datapoint_index

        def over_rest(number: int) -> int:
            asked = {"first_datapoint_index": number, "number_of_datapoints": number % 7 * 100}
            answer = front.ask("POST", "/api/v1/upload-datarange", asked).json
            assert len(answer.get("presigned_multipart_upload_urls", [])) == number % 7 * 100
            return int(answer["first_datapoint_index"])

        numbers = range(200)
        rest = [pool.submit(over_rest, number) for number in numbers]
        assert list(pool.map(over_grpc, numbers)) == list(numbers)
        assert [call.result(60) for call in rest] == list(numbers)


def test_draining_lets_running_calls_end_and_sends_new_ones_away(front: Running, pool: ThreadPoolExecutor) -> None:
    with front.channel() as channel:
        stub = BucketServiceStub(channel)
        over_rest = begun(front, pool, lambda: front.ask("POST", "/api/bucket", WAIT))
        over_grpc = begun(front, pool, lambda: stub.AddBucket(v1.AddBucketRequest(name="wait")))
        draining = pool.submit(front.front.drain, 30)
        wait_until(lambda: front.ask("GET", "/readyz").status == 503, 10, "the end of readiness")
        assert front.ask("GET", "/readyz").json == {"status": "draining"}
        refused = front.ask("GET", "/api/bucket")
        assert (refused.status, refused.reason, refused.headers["connection"]) == (503, "SHUTTING_DOWN", "close")
        with pytest.raises(grpc.RpcError) as caught:
            stub.ListBuckets(v1.ListBucketsRequest())
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert caught.value.details() == "the server is about to stop; try again shortly"
        assert not draining.done()
        front.doors.open.set()
        assert over_grpc.result(20) == v1.AddBucketResponse()
        assert over_rest.result(20).status == 201
        assert draining.result(20) is True


def test_the_last_answers_arrive_whole_when_the_front_closes_behind_them(
    front: Running, pool: ThreadPoolExecutor
) -> None:
    with front.channel() as channel:
        stub = BucketServiceStub(channel)
        waiting = [begun(front, pool, lambda: stub.AddBucket(v1.AddBucketRequest(name="wait"))) for _ in range(8)]
        waiting += [begun(front, pool, lambda: front.ask("POST", "/api/bucket", WAIT)) for _ in range(8)]
        front.doors.open.set()
        assert front.front.drain(20) is True
        front.front.close()
        for call in waiting:
            call.result(20)


def test_health_says_not_serving_to_whoever_watches(front: Running, pool: ThreadPoolExecutor) -> None:
    with front.channel() as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        watching = health.Watch(health_pb2.HealthCheckRequest())
        assert next(watching).status == health_pb2.HealthCheckResponse.SERVING
        draining = pool.submit(front.front.drain, 5)
        assert next(watching).status == health_pb2.HealthCheckResponse.NOT_SERVING
        watching.cancel()
        draining.result(20)


def test_a_call_that_does_not_end_is_cut_off_in_bounded_time(front: Running, pool: ThreadPoolExecutor) -> None:
    begun(front, pool, lambda: front.ask("POST", "/api/bucket", WAIT))
    started = time.monotonic()
    assert front.front.drain(0.3) is False
    assert time.monotonic() - started < 5
    front.doors.open.set()


def test_idle_kept_connections_do_not_hold_up_the_end(front: Running) -> None:
    import http.client

    kept = http.client.HTTPConnection(*front.address)
    kept.request("GET", "/healthz")
    assert json.loads(kept.getresponse().read()) == {"status": "alive"}
    started = time.monotonic()
    assert front.front.drain(20) is True
    front.front.close()
    assert time.monotonic() - started < 5
    kept.close()
