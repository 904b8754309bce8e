"""The `/metrics` page: every call is counted, also one that fails, and a metric that cannot be read breaks nothing."""

from collections.abc import Iterator, Mapping

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from datas3t import v1
from datas3t.server.telemetry.metrics import Metrics
from datas3t.v1.bucket_pb2_grpc import BucketServiceStub
from tests.support.front import RunningFront, running_front
from tests.support.stack import wait_until

ADD = "datas3t.v1.BucketService/AddBucket"


@pytest.fixture
def front() -> Iterator[RunningFront]:
    with running_front() as running:
        yield running


def calls(front: RunningFront) -> dict[tuple[str, str, str], float]:
    """Return the counted calls by method, transport and code."""
    page = front.request("GET", "/metrics").body.decode()
    return {
        (sample.labels["method"], sample.labels["transport"], sample.labels["code"]): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == "datas3t_calls_total"
    }


def test_calls_are_counted_by_method_transport_and_code(front: RunningFront) -> None:
    front.request("POST", "/api/bucket", {"name": "x"})
    front.request("POST", "/api/v1/buckets", {"name": "x"})
    front.request("POST", "/api/v1/buckets", {"name": "refuse"})
    front.request("POST", "/api/v1/buckets", {"nome": "x"})
    front.request("GET", "/nowhere/" + "x" * 50)
    with front.channel() as channel:
        BucketServiceStub(channel).AddBucket(v1.AddBucketRequest(name="x"))
        with pytest.raises(grpc.RpcError):
            BucketServiceStub(channel).AddBucket(v1.AddBucketRequest(name="break"))
    wait_until(lambda: len(calls(front)) == 6, 10)
    assert calls(front) == {
        (ADD, "rest", "OK"): 2,
        (ADD, "rest", "ALREADY_EXISTS"): 1,
        (ADD, "rest", "INVALID_ARGUMENT"): 1,
        ("none", "rest", "NOT_FOUND"): 1,
        (ADD, "grpc", "OK"): 1,
        (ADD, "grpc", "INTERNAL"): 1,
    }


def test_requests_for_pages_are_not_counted_as_calls(front: RunningFront) -> None:
    for path in ("/healthz", "/readyz", "/metrics"):
        assert front.request("GET", path).status == 200
    assert calls(front) == {}


def test_the_page_is_prometheus_text_with_the_version(front: RunningFront) -> None:
    response = front.request("GET", "/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    assert b'datas3t_build_info{version="' in response.body
    for name in (b"process_resident_memory_bytes", b"process_cpu_seconds_total", b"process_open_fds"):
        assert b"\n" + name + b" " in response.body


def test_a_metric_that_cannot_be_read_is_left_out_of_the_page() -> None:
    def unreachable() -> Mapping[str, float]:
        raise ConnectionError("the database is unreachable")

    metrics = Metrics()
    metrics.watch({"datas3t_queued": "Queued"}, unreachable)
    metrics.watch({"datas3t_size": "Size"}, lambda: {"datas3t_size": 7})
    page = metrics.page().decode()
    assert "datas3t_size 7.0" in page
    assert "datas3t_queued" not in page


def test_two_servers_in_one_process_count_separately(front: RunningFront) -> None:
    with running_front() as other:
        other.request("POST", "/api/bucket", {"name": "x"})
        assert calls(front) == {}
        assert calls(other) == {(ADD, "rest", "OK"): 1}
