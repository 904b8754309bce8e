"""Listings over REST: whole, in parts that are sent as they are fetched, and never a beginning that looks whole."""

import http.client
import json
import logging
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from tests.support.front import RunningFront, running_front
from tests.support.stack import wait_until

_PATH = "/api/v1/dataranges?datas3t_name="
_WHOLE = {"dataranges": [{"datarange_id": number} for number in range(6)]}


@pytest.fixture
def front() -> Iterator[RunningFront]:
    with running_front() as running:
        yield running


@contextmanager
def response_to(front: RunningFront, name: str) -> Iterator[http.client.HTTPResponse]:
    """Send a request for a listing, and yield its response, of which only the head was read."""
    with closing(http.client.HTTPConnection(*front.address, timeout=20)) as connection:
        connection.request("GET", _PATH + name)
        with connection.getresponse() as response:
            yield response


def test_the_parts_of_a_listing_are_one_json_value(front: RunningFront) -> None:
    with response_to(front, "x") as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == "application/json"
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["Transfer-Encoding"] == "chunked"
        assert json.load(response) == _WHOLE


def test_a_part_is_sent_before_the_next_one_is_fetched(front: RunningFront) -> None:
    with response_to(front, "wait") as response:
        first = response.read1()
        assert first == b'{"dataranges":[{"datarange_id":0},{"datarange_id":1}'
        assert front.gate.entered.acquire(timeout=20)
        front.gate.open.set()
        assert json.loads(first + response.read()) == _WHOLE


def test_an_error_before_the_first_part_has_its_status(front: RunningFront) -> None:
    with response_to(front, "missing") as response:
        assert response.status == 404
        assert json.load(response)["details"][0]["reason"] == "DATAS3T_NOT_FOUND"


def test_an_error_after_the_first_part_aborts_the_connection(
    front: RunningFront, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with response_to(front, "break") as response:
        assert response.status == 200
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            response.read()
    assert "rest datas3t.v1.DatarangeService/ListDataranges INTERNAL" in caplog.text
    assert 'code="INTERNAL",method="datas3t.v1.DatarangeService/ListDataranges"' in front.metrics.page().decode()


def test_a_client_that_leaves_between_two_parts_ends_the_call(front: RunningFront) -> None:
    with response_to(front, "wait"):
        assert front.gate.entered.acquire(timeout=20)
    ended = 'code="CANCELLED",method="datas3t.v1.DatarangeService/ListDataranges",transport="rest"} 1.0'
    wait_until(lambda: ended in front.metrics.page().decode(), what="the end of the call")
    front.gate.open.set()
    assert front.front.drain(20) is True


def test_a_head_request_has_no_body(front: RunningFront) -> None:
    connection = http.client.HTTPConnection(*front.address, timeout=20)
    for _ in range(2):  # on one connection: nothing of the first response is taken for the second
        connection.request("HEAD", _PATH + "x")
        response = connection.getresponse()
        assert (response.status, response.read()) == (200, b"")
    connection.close()


def test_a_head_request_fetches_one_part(front: RunningFront) -> None:
    connection = http.client.HTTPConnection(*front.address, timeout=20)
    for name in ("break", "wait"):  # what happens to the second part
        connection.request("HEAD", _PATH + name)
        response = connection.getresponse()
        assert (response.status, response.read()) == (200, b"")
    connection.close()
    assert front.front.drain(20) is True
    assert not front.gate.entered.acquire(blocking=False)


def test_a_client_of_http_1_0_gets_the_whole_without_chunks(front: RunningFront) -> None:
    received = front.send_raw(f"GET {_PATH}x HTTP/1.0\r\nHost: x\r\n\r\n".encode())
    head, _, content = received.partition(b"\r\n\r\n")
    assert b"chunked" not in head
    assert json.loads(content) == _WHOLE
