"""Tests of the relay's faults for reading: forged responses, Retry-After, waiting requests, and random faults."""

import http.client
import json
import threading
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.support.faults import Fault, Relay, relay
from tests.support.httpd import Fault as HttpFault
from tests.support.httpd import Httpd, httpd
from tests.support.random_faults import KINDS, RandomFaults
from tests.support.stack import wait_until

CONTENT = json.dumps(list(range(100_000))).encode()


@pytest.fixture
def server() -> Iterator[Httpd]:
    with httpd({"/object": CONTENT}) as running:
        yield running


@pytest.fixture
def between(server: Httpd) -> Iterator[Relay]:
    with relay(server.url) as running:
        yield running


def get(connection: http.client.HTTPConnection) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and body of the response for a range of the object."""
    connection.request("GET", "/object", headers={"Range": "bytes=10-400000"})
    response = connection.getresponse()
    return response.status, dict(response.getheaders()), response.read()


def test_a_forged_response_has_another_etag_and_every_byte_of_its_body_is_another(between: Relay) -> None:
    connection = http.client.HTTPConnection(between.address, timeout=10)
    right = get(connection)
    between.plan(Fault(other_object=True))
    status, headers, body = get(connection)
    assert (status, len(body)) == (206, len(right[2]))
    assert all(one != other for one, other in zip(body, right[2], strict=True))
    assert {name for name in headers if headers[name] != right[1][name]} == {"ETag"}
    assert get(connection) == right  # on the same connection
    connection.close()


def test_a_planned_error_can_have_a_retry_after_header(between: Relay) -> None:
    between.plan(Fault(status=429, retry_after=7))
    connection = http.client.HTTPConnection(between.address, timeout=10)
    status, headers, _ = get(connection)
    assert (status, headers["Retry-After"]) == (429, "7")
    connection.close()


def test_a_request_counts_as_waiting_until_its_response_begins(between: Relay, server: Httpd) -> None:
    server.rule = lambda _: HttpFault(delay=60)
    connections = [http.client.HTTPConnection(between.address, timeout=10) for _ in range(3)]
    threads = [threading.Thread(target=connection.request, args=("GET", "/object")) for connection in connections]
    for thread in threads:
        thread.start()
    wait_until(lambda: between.waiting == 3, 10, "three requests")
    server.stopping.set()
    for thread, connection in zip(threads, connections, strict=True):
        thread.join()
        assert len(connection.getresponse().read()) == len(CONTENT)
        connection.close()
    assert (between.waiting, between.most_waiting) == (0, 3)


def test_the_same_seed_gives_the_same_faults() -> None:
    probabilities = dict.fromkeys(KINDS, 0.1)
    first, second, other = (RandomFaults(seed, probabilities) for seed in (1, 1, 2))
    faults = [first(b"GET /") for _ in range(1_000)]
    assert faults == [second(b"GET /") for _ in range(1_000)]
    assert faults != [other(b"GET /") for _ in range(1_000)]
    assert set(first.counts) == set(KINDS)
    assert all(50 < count < 150 for count in first.counts.values())


def test_random_faults_only_happen_to_the_requests_that_they_are_meant_for() -> None:
    faults = RandomFaults(1, {"reset": 1.0}, only=b"signed")
    assert faults(b"GET /other") == Fault()
    assert faults(b"GET /signed") == Fault(refuse=True)
    assert faults.counts == Counter(reset=1)
