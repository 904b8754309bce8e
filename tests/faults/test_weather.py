"""The faults of reading: forged answers, refusals that name a time, rules, and weather out of a seed."""

import http.client
import json
import threading
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.support.faults import Fault, Relay, relay
from tests.support.httpd import Fault as HttpFault
from tests.support.httpd import Httpd, httpd
from tests.support.stack import wait_until
from tests.support.weather import KINDS, Weather

CONTENT = json.dumps(list(range(100_000))).encode()


@pytest.fixture
def server() -> Iterator[Httpd]:
    with httpd({"/object": CONTENT}) as serving:
        yield serving


@pytest.fixture
def between(server: Httpd) -> Iterator[Relay]:
    with relay(server.url) as passing:
        yield passing


def get(connection: http.client.HTTPConnection) -> tuple[int, dict[str, str], bytes]:
    connection.request("GET", "/object", headers={"Range": "bytes=10-400000"})
    answer = connection.getresponse()
    return answer.status, dict(answer.getheaders()), answer.read()


def test_a_forged_answer_differs_in_etag_and_each_byte_and_in_nothing_else(between: Relay) -> None:
    connection = http.client.HTTPConnection(between.address, timeout=10)
    right = get(connection)
    between.plan(Fault(another=True))
    status, headers, body = get(connection)
    assert (status, len(body)) == (206, len(right[2]))
    assert all(one != other for one, other in zip(body, right[2], strict=True))
    assert {name for name in headers if headers[name] != right[1][name]} == {"ETag"}
    assert get(connection) == right  # on the same connection
    connection.close()


def test_a_refusal_says_when_to_come_back(between: Relay) -> None:
    between.plan(Fault(status=429, retry_after=7))
    connection = http.client.HTTPConnection(between.address, timeout=10)
    status, headers, _ = get(connection)
    assert (status, headers["Retry-After"]) == (429, "7")
    connection.close()


def test_requests_wait_until_their_answers_begin(between: Relay, server: Httpd) -> None:
    server.rule = lambda _: HttpFault(delay=60)
    connections = [http.client.HTTPConnection(between.address, timeout=10) for _ in range(3)]
    threads = [threading.Thread(target=connection.request, args=("GET", "/object")) for connection in connections]
    for thread in threads:
        thread.start()
    wait_until(lambda: between.waiting == 3, 10, "three requests")
    server.over.set()
    for thread, connection in zip(threads, connections, strict=True):
        thread.join()
        assert len(connection.getresponse().read()) == len(CONTENT)
        connection.close()
    assert (between.waiting, between.most_waiting) == (0, 3)


def test_the_same_seed_makes_the_same_weather() -> None:
    chances = dict.fromkeys(KINDS, 0.1)
    first, second, other = (Weather(seed, chances) for seed in (1, 1, 2))
    faults = [first(b"GET /") for _ in range(1_000)]
    assert faults == [second(b"GET /") for _ in range(1_000)]
    assert faults != [other(b"GET /") for _ in range(1_000)]
    assert set(first.dealt) == set(KINDS)
    assert all(50 < count < 150 for count in first.dealt.values())


def test_weather_is_only_for_those_it_is_meant_for() -> None:
    weather = Weather(1, {"reset": 1.0}, only=b"signed")
    assert weather(b"GET /other") == Fault()
    assert weather(b"GET /signed") == Fault(refuse=True)
    assert weather.dealt == Counter(reset=1)
