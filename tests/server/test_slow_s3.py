"""An endpoint that sends its answers a byte at a time, or never: it holds up the calls that need it, and no others."""

import socket
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from botocore.config import Config
from botocore.exceptions import ReadTimeoutError

from datas3t import v1
from datas3t.server.app.server import Server
from datas3t.server.call import Call, caller_left, working_on
from datas3t.server.errors import Failure
from datas3t.server.front.calls.threads import RUNNING
from datas3t.server.s3.clients import CONFIG, client_for
from datas3t.server.s3.gate import IN_TOTAL, PER_BUCKET, WAITING, Gate
from datas3t.server.s3.locations import Location
from datas3t.v1.bucket_pb2_grpc import BucketServiceStub
from datas3t.v1.datarange_pb2_grpc import DatarangeServiceStub
from tests.support.front import http_request
from tests.support.serving import serving, settings_for
from tests.support.stack import wait_until
from tests.support.trickling import Trickling, trickling_server

if TYPE_CHECKING:
    from datas3t.embedded.stack import Services


@pytest.fixture
def slow() -> Iterator[Trickling]:
    with trickling_server() as server:
        yield server


@pytest.fixture
def server(services: "Services", database: str, tmp_path: Path) -> Iterator[Server]:
    with serving(settings_for(services, database, tmp_path, drain=timedelta(seconds=1))) as running:
        yield running


def location(url: str, bucket: str = "bucket") -> Location:
    return Location(url, bucket, "us-east-1", "access", "secret")


def add_request(slow: Trickling, number: int) -> dict[str, str]:
    bucket = {"endpoint": slow.url, "bucket": f"bucket-{number}", "access_key": "access", "secret_key": "secret"}
    return {"name": f"slow-{number}", **bucket}


def test_a_trickled_answer_ends_after_the_time_of_an_attempt(slow: Trickling) -> None:
    config = CONFIG.merge(Config(read_timeout=1, retries={"mode": "standard", "total_max_attempts": 1}))
    started = time.monotonic()
    with pytest.raises(ReadTimeoutError):
        client_for(location(slow.url), config).list_objects_v2(Bucket="bucket")
    assert time.monotonic() - started < 10
    wait_until(lambda: slow.open == 0, what="the end of the connection")


def test_the_body_of_a_stream_is_within_the_time_of_its_attempt(slow: Trickling) -> None:
    config = CONFIG.merge(Config(read_timeout=1, retries={"mode": "standard", "total_max_attempts": 1}))
    body = client_for(location(slow.url), config).get_object(Bucket="bucket", Key="key")["Body"]
    with pytest.raises(Exception, match=r"(?i)connection|incomplete|timed out|end of file"):
        body.read()
    wait_until(lambda: slow.open == 0, what="the end of the connection")


def test_an_attempt_ends_when_its_call_is_ended(slow: Trickling) -> None:
    call = Call(60)
    with ThreadPoolExecutor(1) as pool:

        def listing() -> None:
            with working_on(call):
                client_for(location(slow.url)).list_objects_v2(Bucket="bucket")

        running = pool.submit(listing)
        wait_until(lambda: slow.open == 1, what="the request")
        call.end(caller_left())
        with pytest.raises(Failure) as caught:
            running.result(5)
    assert caught.value.reason == v1.ERROR_REASON_CALLER_LEFT


def test_a_bucket_takes_a_bounded_number_of_calls_and_others_go_on() -> None:
    gate, here, there = Gate(), location("http://here"), location("http://there")
    calls = [Call(60) for _ in range(PER_BUCKET + WAITING + 1)]
    with ThreadPoolExecutor(len(calls)) as pool:

        def passing(call: Call) -> None:
            with working_on(call), gate.admitted(here), gate.admitted(here):
                call_ended = Waiting(call)
                call_ended.wait()

        passed = [pool.submit(passing, call) for call in calls[:-1]]
        wait_until(lambda: gate._admitted.total() + gate._waiting.total() == PER_BUCKET + WAITING, what="the calls")
        with working_on(calls[-1]):
            with pytest.raises(Failure, match="too many calls wait for S3 at http://here"), gate.admitted(here):
                pass
            with gate.admitted(there):
                pass
        with gate.admitted(here):
            pass  # no client waits for this: the reaper
        for call in calls:
            call.end(caller_left())
        for each in passed:
            with pytest.raises(Failure, match="the client cancelled"):
                each.result(20)
    assert not gate._admitted
    assert not gate._waiting
    assert not gate._requests


def test_threads_of_one_call_that_wait_together_count_once() -> None:
    gate, here = Gate(), location("http://here")
    holders, changes = [Call(60) for _ in range(PER_BUCKET)], list[int]()
    helped = Call(60, release_slot=lambda: changes.append(-1), take_slot=lambda: changes.append(1))
    with ThreadPoolExecutor(PER_BUCKET + 4) as pool:

        def passing(call: Call) -> None:
            with working_on(call), gate.admitted(here):
                Waiting(call).wait()

        def helping() -> None:
            with working_on(helped), gate.admitted(here):
                pass

        held = [pool.submit(passing, call) for call in holders]
        wait_until(lambda: gate._admitted.total() == PER_BUCKET, what="the calls")
        helpers = [pool.submit(helping) for _ in range(4)]
        wait_until(lambda: gate._waiters.total() == 4, what="the threads of one call")
        assert gate._waiting.total() == 1
        for call in holders:
            call.end(caller_left())
        for each in helpers:
            each.result(20)
        for each in held:
            with pytest.raises(Failure, match="the client cancelled"):
                each.result(20)
    assert not gate._admitted
    assert not gate._waiting
    assert not gate._waiters
    assert not gate._requests
    assert sum(changes) == 0


class Waiting:
    """Blocks a thread until its call is ended."""

    def __init__(self, call: Call) -> None:
        import threading

        self._call = call
        self._ended = threading.Event()

    def wait(self) -> None:
        with self._call.interruptible(self._ended.set):
            assert self._ended.wait(30)
        self._call.raise_if_ended()


def test_calls_to_slow_endpoints_leave_room_for_calls_to_the_database(server: Server, slow: Trickling) -> None:
    address = server.url.removeprefix("http://")
    with ThreadPoolExecutor(8) as pool, grpc.insecure_channel(address) as channel:
        sockets = [send_and_leave_open(server.url, add_request(slow, number)) for number in range(2 * RUNNING)]
        stub = BucketServiceStub(channel)
        over_grpc: list[Any] = [stub.AddBucket.future(v1.AddBucketRequest(**add_request(slow, n))) for n in range(40)]
        # Far more calls than threads are on their way to S3.
        wait_until(lambda: slow.open > 2 * RUNNING, 20, "the requests to the endpoint")
        answers = list(pool.map(lambda _: http_request(server.url, "GET", "/api/v1/datas3ts").status, range(40)))
        assert answers == [200] * 40
        assert stub.ListBuckets(v1.ListBucketsRequest(), timeout=10) == v1.ListBucketsResponse()
        # The clients leave: their calls end, and so do the requests to the endpoint.
        for call in over_grpc:
            call.cancel()
        for each in sockets:
            each.close()
        wait_until(lambda: slow.open == 0, 10, "the end of the requests to the endpoint")
        assert 2 * RUNNING < IN_TOTAL


def send_and_leave_open(url: str, request: Mapping[str, object], path: str = "/api/bucket") -> socket.socket:
    """Send a request, and return the connection on which the response would come."""
    import json

    host, port = url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), 20)
    body = json.dumps(request).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body)
    return connection


def test_a_call_that_waits_in_the_database_ends_when_its_client_leaves(
    server: Server, services: "Services", bucket: str, database: str
) -> None:
    import psycopg

    s3 = services.s3
    added = {"endpoint": s3.endpoint, "bucket": bucket, "access_key": s3.access_key, "secret_key": s3.secret_key}
    assert http_request(server.url, "POST", "/api/bucket", {"name": "store", **added}).status == 201
    assert http_request(server.url, "POST", "/api/datas3t", {"name": "images", "bucket": "store"}).status == 204
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    address = server.url.removeprefix("http://")
    with (
        psycopg.connect(database) as holder,
        psycopg.connect(database, autocommit=True) as watcher,
        grpc.insecure_channel(address) as channel,
    ):

        def waiting_calls() -> int:
            return int(watcher.execute(waiting).fetchall()[0][0])

        holder.execute("SELECT 1 FROM datas3ts FOR UPDATE")
        upload = {"datas3t_name": "images", "first_datapoint_index": 1, "number_of_datapoints": 1, "data_size": 2048}
        over_rest = send_and_leave_open(server.url, upload, "/api/v1/upload-datarange")
        over_grpc: Any = DatarangeServiceStub(channel).StartUpload.future(v1.StartUploadRequest(**upload))  # type: ignore[arg-type]
        wait_until(lambda: waiting_calls() == 2, 20, "the calls that wait for the lock")
        over_rest.close()
        over_grpc.cancel()
        wait_until(lambda: waiting_calls() == 0, 10, "the end of their statements")
        holder.rollback()
    # Nobody else's statement is cancelled: the connections work.
    for _ in range(20):
        assert http_request(server.url, "GET", "/api/v1/datas3ts").status == 200


@pytest.mark.timing
def test_clients_that_leave_long_listings_do_not_keep_the_server_busy(
    server: Server, services: "Services", bucket: str, database: str
) -> None:
    import psycopg

    s3 = services.s3
    added = {"endpoint": s3.endpoint, "bucket": bucket, "access_key": s3.access_key, "secret_key": s3.secret_key}
    assert http_request(server.url, "POST", "/api/bucket", {"name": "store", **added}).status == 201
    assert http_request(server.url, "POST", "/api/datas3t", {"name": "images", "bucket": "store"}).status == 204
    with psycopg.connect(database, autocommit=True) as conn:
        names = "SELECT 'd' || number, bucket_id FROM datas3ts, generate_series(1, 10000) AS number"
        conn.execute(f"INSERT INTO datas3ts (name, bucket_id) {names}")
    host, port = server.url.removeprefix("http://").split(":")
    for _ in range(10 * RUNNING):
        with socket.create_connection((host, int(port)), 20) as connection:
            connection.sendall(f"GET /api/v1/datas3ts HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    started = time.monotonic()
    assert http_request(server.url, "GET", "/api/v1/buckets").status == 200
    assert time.monotonic() - started < 10
