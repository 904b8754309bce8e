"""Calls to a real server for buckets and datas3ts, and the errors of failed calls."""

import pickle
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from pyroaring import BitMap64

from datas3t.client import (
    AlreadyExists,
    Bucket,
    Cleared,
    Client,
    Datas3tInfo,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unavailable,
)
from datas3t.embedded.ports import free_ports
from tests.client.archives import sample
from tests.client.sites import Site
from tests.support.faults import Fault, relay


def test_adding_a_bucket_twice_adds_it_once(client: Client, bucket_settings: dict[str, str]) -> None:
    name = bucket_settings["bucket"]
    client.add_bucket(name, **bucket_settings)
    client.add_bucket(name, **bucket_settings)
    assert Bucket(name, bucket_settings["endpoint"], bucket_settings["bucket"], "us-east-1") in client.list_buckets()
    with pytest.raises(AlreadyExists) as raised:
        client.add_bucket(name + "-again", **bucket_settings)
    assert raised.value.reason == "BUCKET_EXISTS"
    client.delete_bucket(name)
    assert name not in [bucket.name for bucket in client.list_buckets()]


def test_credentials_are_replaced_unless_s3_refuses_the_new_ones(
    client: Client, bucket_settings: dict[str, str]
) -> None:
    name = bucket_settings["bucket"]
    client.add_bucket(name, **bucket_settings)
    keys = {key: bucket_settings[key] for key in ("access_key", "secret_key")}
    client.update_bucket(name, **keys)
    with pytest.raises(InvalidArgument) as raised:
        client.update_bucket(name, access_key="other", secret_key="wrong")
    assert raised.value.reason == "S3_CREDENTIALS_REFUSED"
    client.delete_bucket(name)
    with pytest.raises(NotFound):
        client.update_bucket(name, **keys)


def test_an_empty_datas3t_has_no_lowest_key(client: Client, datas3t: str, bucket_name: str) -> None:
    assert Datas3tInfo(datas3t, bucket_name, 0, 0, None, None, 0) in client.list_datas3ts()
    assert client.list_dataranges(datas3t) == []


@pytest.mark.usefixtures("datas3t")
def test_a_bucket_in_use_cannot_be_deleted(client: Client, bucket_name: str) -> None:
    with pytest.raises(FailedPrecondition) as raised:
        client.delete_bucket(bucket_name)
    assert raised.value.reason == "BUCKET_IN_USE"


def test_the_error_for_an_unknown_name_contains_the_name(client: Client) -> None:
    with pytest.raises(NotFound) as raised:
        client.list_dataranges("nowhere")
    assert raised.value.reason == "DATAS3T_NOT_FOUND"
    assert raised.value.metadata == {"datas3t": "nowhere"}
    assert "nowhere" in str(raised.value)


def test_the_error_for_an_unavailable_server_contains_its_url() -> None:
    with (
        Client(f"http://127.0.0.1:{free_ports(1)[0]}") as client,
        pytest.raises(Unavailable, match=r"http://127.*datas3t up"),
    ):
        client.list_buckets()


def test_an_idempotent_call_is_retried_after_a_lost_connection(client: Client) -> None:
    with relay(client.url, per_connection=True) as proxy, Client(proxy.url) as relayed_client:
        proxy.plan(Fault(refuse=True), Fault(cut_after=0))
        assert relayed_client.list_buckets() == client.list_buckets()
        assert proxy.planned == 0


def test_a_server_that_does_not_respond_in_time_raises_deadline_exceeded() -> None:
    stopped = threading.Event()

    def wait(request: bytes, context: grpc.ServicerContext) -> bytes:
        stopped.wait(60)
        return b""

    server = grpc.server(ThreadPoolExecutor(8))
    service = grpc.method_handlers_generic_handler(
        "datas3t.v1.BucketService", {"ListBuckets": grpc.unary_unary_rpc_method_handler(wait)}
    )
    server.add_generic_rpc_handlers([service])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with (
            Client(f"http://127.0.0.1:{port}", timeout=0.2) as client,
            pytest.raises(DeadlineExceeded, match="did not respond in time"),
        ):
            client.list_buckets()
    finally:
        stopped.set()
        server.stop(None)


def test_many_threads_use_one_client(client: Client, datas3t: str) -> None:
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(20):
                assert datas3t in [each.name for each in client.list_datas3ts()]
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_client_can_be_pickled_and_used_after_close(client: Client) -> None:
    before = client.list_buckets()
    restored = pickle.loads(pickle.dumps(client))
    assert (restored.url, restored.list_buckets()) == (client.url, before)
    client.close()
    assert client.list_buckets() == before
    restored.close()


def test_closing_a_client_ends_the_calls_in_flight(client: Client) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, ThreadPoolExecutor(1) as threads:
        waiting = Client(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=60)
        call = threads.submit(waiting.list_buckets)
        with silent.accept()[0] as peer:
            assert peer.recv(1)  # the call has begun
            waiting.close()
            with pytest.raises(FailedPrecondition, match="the client was closed"):
                call.result(30)


def test_the_generated_stubs_can_be_used(client: Client, datas3t: str) -> None:
    from datas3t import v1

    response = client.connection.datarange.ListDataranges(v1.ListDatarangesRequest(datas3t_name=datas3t))
    assert list(response.dataranges) == []


def test_a_datas3t_must_be_cleared_before_it_is_deleted(site: Site, tmp_path: Path) -> None:
    site.upload(sample(tmp_path / "1.tar", 1, 10, 10))
    with pytest.raises(FailedPrecondition) as raised:
        site.client.delete_datas3t(site.name)
    assert raised.value.reason == "DATAS3T_NOT_EMPTY"
    assert site.client.clear_datas3t(site.name) == Cleared(dataranges=1, objects=3)
    assert site.client.clear_datas3t(site.name) == Cleared(dataranges=0, objects=0)
    site.client.delete_datas3t(site.name)
    with pytest.raises(NotFound):
        site.client.list_dataranges(site.name)


def test_the_bitmap_has_exactly_the_existing_keys(site: Site, tmp_path: Path) -> None:
    assert site.client.datapoints_bitmap(site.name) == BitMap64()
    for first in (0, 7, 2**40):
        site.upload(sample(tmp_path / f"{first}.tar", first, 10, 10))
    assert site.client.datapoints_bitmap(site.name) == BitMap64([0, 1, 7, 8, 2**40, 2**40 + 1])


@pytest.mark.parametrize("limits", [{"target_size": -1}, {"max_aggregate_size": 2**64}, {"max_operations": 2**32}])
def test_limits_out_of_range_are_refused_by_name(limits: dict[str, int]) -> None:
    with Client("http://127.0.0.1:9") as client, pytest.raises(InvalidArgument, match=next(iter(limits))):
        client.plan_aggregates("any", **limits)
