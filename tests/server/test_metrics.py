"""The numbers of `/metrics`: every call is counted, whatever becomes of it, and readings never break the page."""

from collections.abc import Iterator, Mapping

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from datas3t import v1
from datas3t.server.metrics import Metrics
from datas3t.v1.bucket_pb2_grpc import BucketServiceStub
from tests.support.front import Running, running_front
from tests.support.stack import wait_until

ADD = "datas3t.v1.BucketService/AddBucket"


@pytest.fixture
def front() -> Iterator[Running]:
    with running_front() as running:
        yield running


def calls(front: Running) -> dict[tuple[str, str, str], float]:
    """Counted calls by method, transport and code."""
    page = front.ask("GET", "/metrics").body.decode()
    return {
        (sample.labels["method"], sample.labels["transport"], sample.labels["code"]): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == "datas3t_calls_total"
    }


def test_calls_are_counted_by_method_transport_and_code(front: Running) -> None:
    front.ask("POST", "/api/bucket", {"name": "x"})
    front.ask("POST", "/api/v1/buckets", {"name": "x"})
    front.ask("POST", "/api/v1/buckets", {"name": "refuse"})
    front.ask("POST", "/api/v1/buckets", {"nome": "x"})
    front.ask("GET", "/nowhere/" + "x" * 50)
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


def test_pages_are_no_calls(front: Running) -> None:
    for path in ("/healthz", "/readyz", "/metrics"):
        assert front.ask("GET", path).status == 200
    assert calls(front) == {}


def test_the_page_is_prometheus_text_with_the_version(front: Running) -> None:
    answer = front.ask("GET", "/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert b'datas3t_build_info{version="' in answer.body


def test_a_reading_that_fails_is_left_out_and_the_page_answers() -> None:
    def away() -> Mapping[str, float]:
        raise ConnectionError("the database is away")

    metrics = Metrics()
    metrics.watch({"datas3t_queued": "What waits"}, away)
    metrics.watch({"datas3t_size": "How much there is"}, lambda: {"datas3t_size": 7})
    page = metrics.page().decode()
    assert "datas3t_size 7.0" in page
    assert "datas3t_queued" not in page


def test_two_servers_in_one_process_count_on_their_own(front: Running) -> None:
    with running_front() as other:
        other.ask("POST", "/api/bucket", {"name": "x"})
        assert calls(front) == {}
        assert calls(other) == {(ADD, "rest", "OK"): 1}
