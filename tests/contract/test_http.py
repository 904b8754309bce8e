"""HTTP manners: whatever a client sends, the answer is the contract's, and the server goes on."""

import gzip
import json
import random
import re
import socket

import pytest

from datas3t.server.front.rest.app import BODY_LIMIT
from datas3t.server.settings import Patience
from tests.support.front import Running, read_all, running_front
from tests.support.stack import wait_until

_ADD = json.dumps({"name": "x"}).encode()


def post(body: bytes, *headers: str, version: str = "1.1", length: bool = True) -> bytes:
    lines = ["Host: x", "Connection: close", *headers, *([f"Content-Length: {len(body)}"] if length else [])]
    head = [f"POST /api/v1/buckets HTTP/{version}", *lines, "", ""]
    return "\r\n".join(head).encode() + body


@pytest.mark.parametrize(
    "kind", [None, "application/json", "text/plain", "application/x-www-form-urlencoded", "nonsense"]
)
def test_any_content_type_or_none_will_do(front: Running, kind: str | None) -> None:
    headers = {"Content-Type": kind} if kind else {}
    answer = front.ask("POST", "/api/v1/buckets", raw=_ADD, headers=headers)
    assert (answer.status, answer.body, answer.headers["content-type"]) == (201, b"{}", "application/json")


def test_answers_are_not_for_caches(front: Running) -> None:
    assert front.ask("GET", "/api/bucket").headers["cache-control"] == "no-store"


def test_a_body_of_the_limit_is_read(front: Running) -> None:
    filled = b'{"name": "x"}' + b" " * (BODY_LIMIT - 13)
    assert front.ask("POST", "/api/v1/buckets", raw=filled).status == 201


def test_ten_thousand_etags_are_within_the_limit(front: Running) -> None:
    etags = [f'"{number:032x}-{number}"' for number in range(10_000)]
    answer = front.ask("POST", "/api/v1/upload-datarange/complete", {"datarange_upload_id": 1, "upload_ids": etags})
    assert (answer.status, answer.json) == (200, {})
    assert list(front.dataranges.last.upload_ids) == etags


def test_a_larger_body_is_a_413_that_names_the_limit(front: Running) -> None:
    answer = front.ask("POST", "/api/v1/buckets", raw=b" " * (BODY_LIMIT + 1))
    assert (answer.status, answer.reason) == (413, "BODY_TOO_LARGE")
    assert answer.json["details"][0]["metadata"] == {"limit": str(BODY_LIMIT)}


def test_a_body_of_unknown_length_has_the_same_limit(front: Running) -> None:
    chunk = b"10000\r\n" + b" " * 65_536 + b"\r\n"
    sent = post(b"", "Transfer-Encoding: chunked", length=False) + chunk * (BODY_LIMIT // 65_536 + 1) + b"0\r\n\r\n"
    assert b"BODY_TOO_LARGE" in front.talk(sent)


def test_a_body_in_chunks_is_read(front: Running) -> None:
    body = b"4\r\n" + _ADD[:4] + b"\r\n" + f"{len(_ADD) - 4:x}".encode() + b"\r\n" + _ADD[4:] + b"\r\n0\r\n\r\n"
    assert b" 201 " in front.talk(post(body, "Transfer-Encoding: chunked", length=False))


def test_expect_100_continue_is_answered_before_the_body(front: Running) -> None:
    with socket.create_connection(front.address, 20) as sock:
        head, _, body = post(_ADD, "Expect: 100-continue").partition(b"\r\n\r\n")
        sock.sendall(head + b"\r\n\r\n")
        assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(body)
        assert b" 201 " in read_all(sock)


def test_expect_100_continue_of_too_much_is_refused_without_the_body(front: Running) -> None:
    with socket.create_connection(front.address, 20) as sock:
        sock.sendall(post(b"", "Expect: 100-continue", f"Content-Length: {10**12}", length=False))
        assert sock.recv(12) == b"HTTP/1.1 413"


def test_http_1_0_is_answered_and_closed(front: Running) -> None:
    answer = front.talk(post(_ADD, version="1.0"))
    assert answer.startswith(b"HTTP/1.0 201")


def test_pipelined_requests_are_answered_in_order(front: Running) -> None:
    asked = [b"GET /healthz", b"GET /api/bucket", b"GET /nowhere"]
    sent = b"".join(verb + b" HTTP/1.1\r\nHost: x\r\n\r\n" for verb in asked[:-1])
    answers = front.talk(sent + asked[-1] + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert re.findall(rb"HTTP/1.1 (\d+)", answers) == [b"200", b"200", b"404"]


def test_a_connection_is_kept_for_the_next_request(front: Running) -> None:
    with socket.create_connection(front.address, 20) as sock:
        for _ in range(3):
            sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = b""
            while not answer.endswith(b"}"):
                answer += sock.recv(65_536)
            assert answer.startswith(b"HTTP/1.1 200")


def test_a_declined_upgrade_to_http_2_is_answered_as_http_1(front: Running) -> None:
    upgrade = b"Connection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
    assert front.talk(b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + upgrade + b"\r\n").startswith(b"HTTP/1.1 200")


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
        post(_ADD, "Transfer-Encoding: chunked"),
    ],
    ids=["TLS", "zeros", "SSH", "version", "a long header", "a long path", "many headers", "length", "two lengths"],
)
def test_what_is_no_http_gets_a_400_in_json(front: Running, sent: bytes) -> None:
    head, _, body = front.talk(sent).partition(b"\r\n\r\n")
    assert head.split()[1] == b"400"
    assert json.loads(body)["details"][0]["reason"] == "MALFORMED_REQUEST"
    assert front.ask("GET", "/healthz").status == 200


def test_a_body_whose_chunks_are_wrong_is_a_400(front: Running) -> None:
    answer = front.talk(post(b"zz\r\nnonsense\r\n", "Transfer-Encoding: chunked", length=False))
    assert answer.split()[1] == b"400"
    assert b"MALFORMED_REQUEST" in answer


def test_random_bytes_do_no_harm(front: Running) -> None:
    source = random.Random(8765)
    for _ in range(100):
        front.talk(source.randbytes(source.randrange(1, 400)), then_stop=True)
    assert front.ask("GET", "/healthz").status == 200


def test_a_body_that_does_not_come_is_given_up() -> None:
    with running_front(patience=Patience(body=0.2, rest_of_body=0.1)) as front:
        answer = front.talk(post(_ADD)[:-3])
        assert answer.split()[1] == b"400"
        assert b"did not arrive in time" in answer


def test_a_client_that_does_not_read_its_answer_is_cut_off() -> None:
    with (
        running_front(patience=Patience(answer=0.3)) as front,
        socket.socket() as sock,
    ):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(front.address)
        asked = json.dumps({"number_of_datapoints": 40_000}).encode()
        head = f"POST /api/v1/upload-datarange HTTP/1.1\r\nHost: x\r\nContent-Length: {len(asked)}\r\n\r\n"
        sock.sendall(head.encode() + asked)
        ended = 'datas3t_calls_total{code="OK",method="datas3t.v1.DatarangeService/StartUpload",transport="rest"} 1.0'
        wait_until(lambda: ended in front.metrics.page().decode(), what="an answer")
        assert front.front.drain(10) is True, "the call is over though its answer was never read"
        sock.settimeout(20)
        assert len(read_all(sock)) < 21_000_000


def test_a_body_that_is_not_compressed_as_it_says_is_a_400(front: Running) -> None:
    assert b"MALFORMED_REQUEST" in front.talk(post(_ADD, "Content-Encoding: gzip"))
    assert front.talk(post(gzip.compress(_ADD), "Content-Encoding: gzip")).split()[1] == b"201"


def test_little_that_unpacks_to_much_is_too_large(front: Running) -> None:
    assert b"BODY_TOO_LARGE" in front.talk(post(gzip.compress(b" " * 2**28, 1), "Content-Encoding: gzip"))


def test_a_query_on_a_route_with_a_body_is_refused(front: Running) -> None:
    answer = front.ask("POST", "/api/v1/buckets?name=x", {"name": "x"})
    assert (answer.status, answer.reason) == (400, "UNKNOWN_FIELD")


@pytest.mark.parametrize("query", ["datas3t_name=%ff", "&".join(f"a{n}=1" for n in range(500))])
def test_a_query_that_cannot_be_read_is_refused(front: Running, query: str) -> None:
    answer = front.ask("GET", f"/api/v1/datapoints-bitmap?{query}")
    assert (answer.status, answer.reason) == (400, "MALFORMED_REQUEST")


def test_a_call_goes_on_when_its_client_has_left(front: Running) -> None:
    with socket.create_connection(front.address, 20) as sock:
        sock.sendall(post(json.dumps({"name": "wait"}).encode()))
        assert front.doors.entered.acquire(timeout=20)
    front.doors.open.set()
    ended = 'datas3t_calls_total{code="OK",method="datas3t.v1.BucketService/AddBucket",transport="rest"} 1.0'
    wait_until(lambda: ended in front.metrics.page().decode(), what="the end of the call")
