"""HTTP/1.1: for any bytes from a client, the response follows the contract, and the server keeps running."""

import contextlib
import gzip
import json
import logging
import random
import re
import socket
import time

import pytest

from datas3t import v1
from datas3t.server.front.rest.body import MAX_BODY
from datas3t.server.front.rest.connection import MAX_HEADER, MAX_HEADERS, MAX_LINE
from datas3t.server.settings import Timeouts
from datas3t.v1.bucket_pb2_grpc import BucketServiceStub
from tests.support.front import RunningFront, read_all, running_front
from tests.support.stack import wait_until

_ADD_BUCKET = json.dumps({"name": "x"}).encode()


def post(body: bytes, *headers: str, version: str = "1.1", length: bool = True) -> bytes:
    """Return the bytes of a request that adds a bucket."""
    lines = ["Host: x", "Connection: close", *headers, *([f"Content-Length: {len(body)}"] if length else [])]
    head = [f"POST /api/v1/buckets HTTP/{version}", *lines, "", ""]
    return "\r\n".join(head).encode() + body


@pytest.mark.parametrize(
    "kind", [None, "application/json", "text/plain", "application/x-www-form-urlencoded", "nonsense"]
)
def test_any_content_type_or_none_is_accepted(front: RunningFront, kind: str | None) -> None:
    headers = {"Content-Type": kind} if kind else {}
    response = front.request("POST", "/api/v1/buckets", raw=_ADD_BUCKET, headers=headers)
    assert (response.status, response.body, response.headers["content-type"]) == (201, b"{}", "application/json")


def test_responses_must_not_be_cached(front: RunningFront) -> None:
    assert front.request("GET", "/api/bucket").headers["cache-control"] == "no-store"


def test_a_body_as_large_as_the_limit_is_accepted(front: RunningFront) -> None:
    body = b'{"name": "x"}' + b" " * (MAX_BODY - 13)
    assert front.request("POST", "/api/v1/buckets", raw=body).status == 201


def test_ten_thousand_etags_are_within_the_limit(front: RunningFront) -> None:
    etags = [f'"{number:032x}-{number}"' for number in range(10_000)]
    response = front.request(
        "POST", "/api/v1/upload-datarange/complete", {"datarange_upload_id": 1, "upload_ids": etags}
    )
    assert (response.status, response.json) == (200, {})
    assert list(front.dataranges.last_request.upload_ids) == etags


def test_a_larger_body_is_a_413_that_names_the_limit(front: RunningFront) -> None:
    response = front.request("POST", "/api/v1/buckets", raw=b" " * (MAX_BODY + 1))
    assert (response.status, response.reason) == (413, "BODY_TOO_LARGE")
    assert response.json["details"][0]["metadata"] == {"limit": str(MAX_BODY)}


def test_a_body_of_unknown_length_has_the_same_limit(front: RunningFront) -> None:
    chunk = b"10000\r\n" + b" " * 65_536 + b"\r\n"
    sent = post(b"", "Transfer-Encoding: chunked", length=False) + chunk * (MAX_BODY // 65_536 + 1) + b"0\r\n\r\n"
    assert b"BODY_TOO_LARGE" in front.send_raw(sent)


def test_a_chunked_body_is_accepted(front: RunningFront) -> None:
    body = (
        b"4\r\n"
        + _ADD_BUCKET[:4]
        + b"\r\n"
        + f"{len(_ADD_BUCKET) - 4:x}".encode()
        + b"\r\n"
        + _ADD_BUCKET[4:]
        + b"\r\n0\r\n\r\n"
    )
    assert b" 201 " in front.send_raw(post(body, "Transfer-Encoding: chunked", length=False))


def test_100_continue_is_sent_before_the_body(front: RunningFront) -> None:
    with socket.create_connection(front.address, 20) as sock:
        head, _, body = post(_ADD_BUCKET, "Expect: 100-continue").partition(b"\r\n\r\n")
        sock.sendall(head + b"\r\n\r\n")
        assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(body)
        assert b" 201 " in read_all(sock)


def test_a_request_for_100_continue_with_too_large_a_body_is_refused_at_once(front: RunningFront) -> None:
    with socket.create_connection(front.address, 20) as sock:
        sock.sendall(post(b"", "Expect: 100-continue", f"Content-Length: {10**12}", length=False))
        assert sock.recv(12) == b"HTTP/1.1 413"


def test_http_1_0_gets_a_response_and_the_connection_is_closed(front: RunningFront) -> None:
    response = front.send_raw(post(_ADD_BUCKET, version="1.0"))
    assert response.startswith(b"HTTP/1.0 201")


def test_pipelined_requests_get_their_responses_in_order(front: RunningFront) -> None:
    requests = [b"GET /healthz", b"GET /api/bucket", b"GET /nowhere"]
    sent = b"".join(line + b" HTTP/1.1\r\nHost: x\r\n\r\n" for line in requests[:-1])
    responses = front.send_raw(sent + requests[-1] + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert re.findall(rb"HTTP/1.1 (\d+)", responses) == [b"200", b"200", b"404"]


def test_a_connection_stays_open_for_the_next_request(front: RunningFront) -> None:
    with socket.create_connection(front.address, 20) as sock:
        for _ in range(3):
            sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            response = b""
            while not response.endswith(b"}"):
                response += sock.recv(65_536)
            assert response.startswith(b"HTTP/1.1 200")


def test_a_request_to_upgrade_to_http_2_is_served_as_http_1(front: RunningFront) -> None:
    upgrade = b"Connection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
    assert front.send_raw(b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + upgrade + b"\r\n").startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
        b"\x00" * 64,
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\n" + b"X: " + b"a" * 100_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\n" + b"".join(b"X-%d: a\r\n" % n for n in range(2000)) + b"\r\n",
        post(b"", "Content-Length: minus one", length=False),
        post(_ADD_BUCKET, "Transfer-Encoding: chunked"),
    ],
    ids=["TLS", "zeros", "SSH", "version", "a long header", "a long path", "many headers", "length", "two lengths"],
)
def test_bytes_that_are_not_http_get_a_400_in_json(front: RunningFront, sent: bytes) -> None:
    head, _, body = front.send_raw(sent).partition(b"\r\n\r\n")
    assert head.split()[1] == b"400"
    assert json.loads(body)["details"][0]["reason"] == "MALFORMED_REQUEST"
    assert front.request("GET", "/healthz").status == 200


def get_with(line: int = 0, header: int = 0, headers: int = 0) -> bytes:
    """Return a request with a path and a header of these lengths, and this number of headers in all."""
    lines = [b"Host: x", b"Connection: close", b"Long: " + b"a" * header]
    more = [b"X-%d: a" % number for number in range(headers - len(lines))]
    return b"\r\n".join([b"GET /healthz?" + b"a" * line + b" HTTP/1.1", *lines, *more, b"", b""])


@pytest.mark.parametrize("head", [{"line": MAX_LINE}, {"header": MAX_HEADER}, {"headers": MAX_HEADERS}], ids=str)
def test_the_head_of_a_request_has_limits(front: RunningFront, head: dict[str, int]) -> None:
    ((name, limit),) = head.items()
    fits = limit - (30 if name == "line" else 0)  # the limit is for the whole line
    assert front.send_raw(get_with(**{name: fits})).split()[1] == b"200"
    answer, _, body = front.send_raw(get_with(**{name: limit + 1})).partition(b"\r\n\r\n")  # until it is closed
    assert answer.split()[1] == b"400"
    assert json.loads(body)["message"] == (
        "the head of this request is too large; its first line may have 8190 bytes, each header 8190, and there may be"
        " 128 headers"
    )


def test_a_head_that_never_ends_is_refused_at_its_limit(front: RunningFront) -> None:
    sent, chunk = 0, b"a" * 65_536
    with socket.create_connection(front.address, 20) as sock:
        sock.sendall(b"GET /healthz HTTP/1.1\r\nLong: ")
        with contextlib.suppress(ConnectionError):
            while sent < 2**30:
                sock.sendall(chunk)
                sent += len(chunk)
    assert sent < 64 * 2**20


def test_a_body_with_invalid_chunks_is_a_400(front: RunningFront) -> None:
    response = front.send_raw(post(b"zz\r\nnonsense\r\n", "Transfer-Encoding: chunked", length=False))
    assert response.split()[1] == b"400"
    assert b"MALFORMED_REQUEST" in response


def test_random_bytes_do_not_stop_the_server(front: RunningFront) -> None:
    source = random.Random(8765)
    for _ in range(100):
        front.send_raw(source.randbytes(source.randrange(1, 400)), half_close=True)
    assert front.request("GET", "/healthz").status == 200


def test_a_body_that_does_not_arrive_in_time_is_a_400() -> None:
    with running_front(timeouts=Timeouts(request_body=0.2, unread_body=0.1)) as front:
        response = front.send_raw(post(_ADD_BUCKET)[:-3])
        assert response.split()[1] == b"400"
        assert b"did not arrive in time" in response


def test_a_client_that_does_not_read_its_response_is_disconnected() -> None:
    with (
        running_front(timeouts=Timeouts(response=0.3)) as front,
        socket.socket() as sock,
    ):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(front.address)
        body = json.dumps({"number_of_datapoints": 40_000}).encode()
        head = f"POST /api/v1/upload-datarange HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        sock.sendall(head.encode() + body)
        ended = 'datas3t_calls_total{code="OK",method="datas3t.v1.DatarangeService/StartUpload",transport="rest"} 1.0'
        wait_until(lambda: ended in front.metrics.page().decode(), what="the end of the call")
        assert front.front.drain(10) is True, "the call ends although its response is never read"
        sock.settimeout(20)
        assert len(read_all(sock)) < 21_000_000


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "GZIP", "identity, gzip"])
def test_a_content_encoding_is_a_415(front: RunningFront, encoding: str) -> None:
    headers = {"Content-Encoding": encoding}
    response = front.request("POST", "/api/bucket", headers=headers, raw=gzip.compress(_ADD_BUCKET))
    assert (response.status, response.reason) == (415, "CONTENT_ENCODING")
    assert response.json["details"][0]["metadata"] == {"encoding": encoding}
    assert front.send_raw(post(_ADD_BUCKET, "Content-Encoding: identity", "Connection: close")).split()[1] == b"201"


def test_compressed_bodies_are_neither_read_nor_decompressed(front: RunningFront) -> None:
    bomb = gzip.compress(b" " * 2**28, 1)
    started = time.monotonic()
    for _ in range(30):
        assert b"CONTENT_ENCODING" in front.send_raw(post(bomb, "Content-Encoding: gzip"))
    assert time.monotonic() - started < 10, "30 such bodies stopped the event loop for 18 s"


def test_a_refused_body_is_not_read_to_its_end(front: RunningFront) -> None:
    size, chunk, sent = 2**30, b" " * 2**20, 0
    with socket.create_connection(front.address, 20) as sock:
        sock.sendall(f"POST /api/bucket HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode())
        with contextlib.suppress(ConnectionError):
            while sent < size:
                sock.sendall(chunk)
                sent += len(chunk)
    assert sent < 64 * 2**20


def test_a_response_of_503_says_when_to_retry() -> None:
    with running_front(is_ready=lambda: False) as front:
        assert front.request("GET", "/readyz").headers["retry-after"] == "2"
        front.front.drain(0)
        refused = front.request("POST", "/api/bucket", {"name": "x"})
        assert (refused.status, refused.headers["retry-after"]) == (503, "2")


@pytest.mark.parametrize(
    "body",
    [
        b'{"\\ud800": 1}',
        b'{"name": "\\ud800"}',
        b'{"name": "x", "bucket": "\\udfff\\ud800"}',
        b'{"\\ud800": 1, "\\ud800": 2}',
        b'{"name": {"\\ud800": 1}}',
        b'{"name": ["\\ud800"]}',
    ],
)
def test_halves_of_surrogate_pairs_are_a_400_anywhere(
    front: RunningFront, caplog: pytest.LogCaptureFixture, body: bytes
) -> None:
    response = front.request("POST", "/api/bucket", raw=body)
    assert response.status == 400
    assert response.json["message"]
    assert "log_id" not in caplog.text


_TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_a_traceparent_is_returned_and_logged(front: RunningFront, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="datas3t.server.calls"):
        response = front.request("POST", "/api/bucket", {"name": "x"}, headers={"traceparent": _TRACE})
    assert response.headers["traceparent"] == _TRACE
    assert "trace_id=0af7651916cd43dd8448eb211c80319c" in caplog.text
    with front.channel() as channel:
        stub = BucketServiceStub(channel)
        _, call = stub.AddBucket.with_call(v1.AddBucketRequest(name="x"), metadata=(("traceparent", _TRACE),))
    assert ("traceparent", _TRACE) in [tuple(each) for each in call.trailing_metadata()]


_OTHER_TRACES = ["", "x", _TRACE.upper(), "01" + _TRACE[2:], f"00-{'0' * 32}{_TRACE[35:]}"]


@pytest.mark.parametrize("given", _OTHER_TRACES)
def test_a_traceparent_that_is_not_one_is_ignored(front: RunningFront, given: str) -> None:
    assert "traceparent" not in front.request("GET", "/api/bucket", headers={"traceparent": given}).headers


@pytest.mark.parametrize("body", [{"name": "x"}, None])
def test_a_query_on_a_route_with_a_body_is_refused_and_told_where_it_belongs(
    front: RunningFront, body: dict[str, str] | None
) -> None:
    response = front.request("POST", "/api/v1/buckets?name=x", body)
    assert (response.status, response.reason) == (400, "UNKNOWN_FIELD")
    assert response.json["message"] == (
        '"name" belongs in the JSON body of this request, not in the query of its URL; move it'
    )
    response = front.request("POST", "/api/v1/buckets?nome=x", body)
    assert (response.status, response.reason) == (400, "UNKNOWN_FIELD")
    assert 'there is no field "nome"' in response.json["message"]


def test_a_field_in_the_body_of_a_get_is_told_where_it_belongs(front: RunningFront) -> None:
    response = front.request("GET", "/api/v1/datapoints-bitmap", {"datas3t_name": "x"})
    assert (response.status, response.reason) == (400, "UNKNOWN_FIELD")
    assert response.json["message"] == (
        '"datas3t_name" belongs in the query of the URL of this request, not in its body; move it'
    )
    for harmless in (b"{}", b"null", b"no JSON", b"[" * 100_000):
        assert front.request("GET", "/api/bucket", raw=harmless).status == 200


@pytest.mark.parametrize("query", ["datas3t_name=%ff", "&".join(f"a{n}=1" for n in range(500))])
def test_a_query_that_cannot_be_parsed_is_refused(front: RunningFront, query: str) -> None:
    response = front.request("GET", f"/api/v1/datapoints-bitmap?{query}")
    assert (response.status, response.reason) == (400, "MALFORMED_REQUEST")


def test_a_call_ends_when_its_client_disconnects(front: RunningFront) -> None:
    with socket.create_connection(front.address, 20) as sock:
        sock.sendall(post(json.dumps({"name": "wait"}).encode()))
        assert front.gate.entered.acquire(timeout=20)
    ended = 'code="CANCELLED",method="datas3t.v1.BucketService/AddBucket",transport="rest"} 1.0'
    wait_until(lambda: ended in front.metrics.page().decode(), what="the end of the call")
    front.gate.open.set()
