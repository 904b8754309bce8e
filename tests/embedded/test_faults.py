"""The relay of the tests: it causes the planned faults and passes on everything else unchanged, with signatures."""

import http.client
import os
import socket
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.support.faults import Fault, Relay, relay
from tests.support.stack import wait_until

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from datas3t.embedded.stack import Services

CONTENT = os.urandom(100_000)


@pytest.fixture
def relayed(services: "Services") -> Iterator[Relay]:
    with relay(services.s3.endpoint) as passing:
        yield passing


@pytest.fixture
def path(services: "Services", s3: "S3Client", bucket: str, relayed: Relay) -> str:
    """Return the presigned path and query of an object, signed for the relay's address."""
    s3.put_object(Bucket=bucket, Key="object", Body=CONTENT)
    client = services.seaweedfs.client(endpoint=relayed.url)
    url = client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "object"})
    client.close()
    return url.removeprefix(relayed.url)


def get(relayed: Relay, path: str, connection: http.client.HTTPConnection | None = None) -> tuple[int, bytes]:
    connection = connection or http.client.HTTPConnection(relayed.address, timeout=1)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def test_without_a_plan_everything_is_passed_on_unchanged(relayed: Relay, path: str) -> None:
    connection = http.client.HTTPConnection(relayed.address)
    for _ in range(3):  # on one connection
        connection.request("GET", path)
        assert connection.getresponse().read() == CONTENT
    connection.close()
    assert len(relayed.requests) == 3
    wait_until(lambda: relayed.bytes_to_client > 3 * len(CONTENT), what="the last count")  # counted after sending


def test_a_response_is_cut_where_planned_and_the_next_one_is_whole(relayed: Relay, path: str) -> None:
    relayed.plan(Fault(cut_after=0), Fault(cut_after=5_000))
    with pytest.raises(http.client.RemoteDisconnected):
        get(relayed, path)
    with pytest.raises(http.client.IncompleteRead):
        get(relayed, path)
    assert get(relayed, path) == (200, CONTENT)
    assert relayed.planned == 0


def test_each_request_of_a_kept_connection_has_its_own_fault(relayed: Relay, path: str) -> None:
    relayed.plan(Fault(), Fault(cut_after=0))
    connection = http.client.HTTPConnection(relayed.address, timeout=5)
    connection.request("GET", path)
    assert connection.getresponse().read() == CONTENT
    connection.request("GET", path)
    with pytest.raises(http.client.RemoteDisconnected):
        connection.getresponse()
    connection.close()


def test_a_planned_status_is_returned_without_the_server(relayed: Relay, path: str) -> None:
    relayed.plan(Fault(status=503), Fault(status=503))
    assert [get(relayed, path)[0] for _ in range(3)] == [503, 503, 200]


def test_a_refused_request_is_a_reset_connection(relayed: Relay, path: str) -> None:
    relayed.plan(Fault(refuse=True))
    with pytest.raises(ConnectionResetError):
        get(relayed, path)
    assert get(relayed, path) == (200, CONTENT)


def test_a_stalled_response_never_ends(relayed: Relay, path: str) -> None:
    relayed.plan(Fault(stall_after=1_000))
    with pytest.raises(TimeoutError):
        get(relayed, path)


def test_a_delay_is_before_the_first_byte(relayed: Relay, path: str) -> None:
    relayed.always = Fault(delay=0.2)
    before = time.monotonic()
    assert get(relayed, path) == (200, CONTENT)
    assert time.monotonic() - before >= 0.2


def test_a_fault_for_other_requests_waits_for_them(relayed: Relay, path: str) -> None:
    relayed.plan(Fault(status=503, only=b"PUT "))
    assert get(relayed, path) == (200, CONTENT)
    assert relayed.planned == 1


def test_a_torn_request_leaves_no_object(services: "Services", s3: "S3Client", bucket: str, relayed: Relay) -> None:
    from botocore.exceptions import BotoCoreError

    client = services.seaweedfs.client(endpoint=relayed.url)
    relayed.plan(Fault(cut_request_after=50_000))
    with pytest.raises(BotoCoreError):
        client.put_object(Bucket=bucket, Key="torn", Body=CONTENT)
    client.put_object(Bucket=bucket, Key="whole", Body=CONTENT)
    client.close()
    assert [item["Key"] for item in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["whole"]


def test_a_stopped_relay_refuses_connections_and_has_the_same_address_afterwards(relayed: Relay, path: str) -> None:
    with relayed.down(), pytest.raises(ConnectionRefusedError):
        get(relayed, path)
    assert get(relayed, path) == (200, CONTENT)


def test_a_fault_of_a_whole_connection_counts_the_bytes_of_all_its_messages() -> None:
    with socket.create_server(("127.0.0.1", 0)) as echo:
        threading.Thread(target=_echo, args=[echo], daemon=True).start()
        with relay(f"127.0.0.1:{echo.getsockname()[1]}", per_connection=True) as relayed:
            relayed.plan(Fault(cut_after=6))
            with socket.create_connection(("127.0.0.1", int(relayed.address.rpartition(":")[2])), timeout=5) as client:
                received = b""
                for word in (b"one ", b"two ", b"three"):
                    client.sendall(word)
                    received += client.recv(100)
                    if len(received) == 6:
                        break
                assert received == b"one tw"
                assert client.recv(100) == b""


def _echo(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    with connection:
        while chunk := connection.recv(100):
            connection.sendall(chunk)
