"""Stores that differ from Amazon's on the wire, proxies in between, expired URLs, and clocks that differ."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest

from datas3t.transport import Engine, MemorySink, Range, Request, Response, TransferError
from datas3t.transport.head import parse_head
from tests.support.httpd import Fault, Httpd, Pattern, etag_of, httpd

SIZE = 1 << 20
ETAG = etag_of("/a")
SPANS = [(at, at + 100) for at in range(0, 4000, 100)]


@pytest.fixture
def server() -> Iterator[Httpd]:
    """Yield a server with an object of 1 MiB and one of 100 bytes."""
    with httpd({"/a": Pattern(SIZE), "/short": Pattern(104)}) as running:
        yield running


@pytest.fixture
def engine() -> Iterator[Engine]:
    """Yield an engine with short timeouts."""
    with Engine(connect_timeout=5, stall_timeout=5) as created:
        yield created


def read(engine: Engine, server: Httpd, etag: str = ETAG) -> int:
    """Read small ranges and a large one, check the bytes, and return the number of requests."""
    before, received = len(server.requests), [b""] * len(SPANS)
    ranges = [Range(server.url + "/a", etag, *span) for span in SPANS]
    engine.each(ranges, received.__setitem__, parallelism=4)
    assert b"".join(received) == Pattern(SIZE)[0:4000]
    large = bytearray(SIZE)
    engine.run([Request("GET", server.url + "/a", 0, SIZE, etag, sink=MemorySink(memoryview(large)))], parallelism=1)
    assert large == Pattern(SIZE)[0:SIZE]
    return len(server.requests) - before


@pytest.mark.parametrize("written", ['"{}"', 'W/"{}"', "{}", "W/{}", ""])
@pytest.mark.parametrize("etag", [ETAG, 'a"b', "a-1"])
def test_etags_may_be_weak_unquoted_or_missing(server: Httpd, engine: Engine, written: str, etag: str) -> None:
    server.rule = lambda _: Fault(headers={"ETag": written.format(etag)}, ignore_if_match=True)
    assert read(engine, server, etag) == len(SPANS) + 1
    assert {seen.headers["if-match"] for seen in server.requests} == {f'"{etag}"'}


def test_an_unknown_etag_is_not_required(server: Httpd, engine: Engine) -> None:
    assert read(engine, server, etag="") == len(SPANS) + 1
    assert not any("if-match" in seen.headers for seen in server.requests)


@pytest.mark.parametrize("written", ['W/"{}"', "{}"])
def test_a_store_that_compares_etags_otherwise_is_asked_without_if_match(
    server: Httpd, engine: Engine, written: str
) -> None:
    server.rule = lambda _: Fault(headers={"ETag": written.format(ETAG)})  # the server compares text
    read(engine, server)
    assert read(engine, server) == len(SPANS) + 1, "it is remembered"
    server.rule = lambda _: Fault(headers={"ETag": 'W/"other"'})
    with pytest.raises(TransferError) as caught:
        engine.fetch([Request("GET", server.url + "/a", 0, 8, ETAG)], parallelism=1)
    assert caught.value.changed


def test_a_refused_if_match_is_not_forgotten_where_responses_have_no_etag(server: Httpd, engine: Engine) -> None:
    server.rule = lambda _: Fault(headers={"ETag": ""})
    with pytest.raises(TransferError) as caught:
        engine.fetch([Request("GET", server.url + "/a", 0, 8, "other")], parallelism=1)
    assert caught.value.changed


@pytest.mark.parametrize("size", [8, SIZE])
def test_where_if_match_is_not_sent_any_more_each_response_must_have_the_etag(
    server: Httpd, engine: Engine, size: int
) -> None:
    server.rule = lambda _: Fault(headers={"ETag": f'W/"{ETAG}"'})
    read(engine, server)
    server.rule = lambda _: Fault(headers={"ETag": ""}, ignore_if_match=True)
    with pytest.raises(TransferError) as caught:
        engine.fetch([Request("GET", server.url + "/a", 0, size, ETAG)], parallelism=1)
    assert caught.value.changed
    assert "if-match" not in server.requests[-1].headers


@pytest.mark.parametrize("wait", ["\xb2", "-1", "9" * 400, "soon"])
def test_any_retry_after_can_be_read(server: Httpd, engine: Engine, wait: str) -> None:
    server.rule = lambda _: Fault(status=400, headers={"Retry-After": wait})
    with pytest.raises(TransferError, match="400"):
        engine.fetch([Request("GET", server.url + "/a", 0, 8, ETAG)], parallelism=1)


def test_a_range_may_have_status_200(server: Httpd, engine: Engine) -> None:
    server.rule = lambda _: Fault(range_as_200=True)
    assert read(engine, server) == len(SPANS) + 1


def test_a_whole_object_may_be_sent_for_a_range_that_is_all_of_it(server: Httpd, engine: Engine) -> None:
    server.rule = lambda _: Fault(ignore_range=True)
    whole = [Request("GET", server.url + "/short", 0, 104, etag) for etag in (etag_of("/short"), None)]
    assert engine.fetch(whole[:1], parallelism=1) == [Pattern(104)[0:104]]
    assert engine.fetch(whole[1:], parallelism=1) == [Pattern(104)[0:104]]
    for start, stop in ((0, 100), (4, 104)):
        with pytest.raises(TransferError, match=r"does not hold bytes|longer"):
            engine.fetch([Request("GET", server.url + "/short", start, stop, etag_of("/short"))], parallelism=1)


def signed(server: Httpd, at: float, lifetime: int, path: str = "/a") -> str:
    """Return a URL as a signer makes it."""
    instant = datetime.fromtimestamp(at, UTC)
    return f"{server.url}{path}?X-Amz-Date={instant:%Y%m%dT%H%M%SZ}&X-Amz-Expires={lifetime}&X-Amz-Signature=secret"


def fetch_renewable(engine: Engine, urls: list[str]) -> bytes:
    """Fetch bytes by the first URL, and by the next ones when it is refused."""
    left = list(urls)

    def url(is_refused: bool) -> str:
        if is_refused:
            left.pop(0)
        return left[0]

    return engine.fetch([Request("GET", url, 8, 16, ETAG)], parallelism=1)[0]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_a_url_whose_time_is_over_is_renewed_whatever_status_refuses_it(
    server: Httpd, engine: Engine, status: int
) -> None:
    old, new = signed(server, time.time() - 100, 60), signed(server, time.time(), 60)
    server.rule = lambda seen: Fault(status=status, code="Odd") if seen.query in old else Fault()
    assert fetch_renewable(engine, [old, new]) == Pattern(SIZE)[8:16]


@pytest.mark.parametrize(("status", "code"), [(401, "Unauthorized"), (400, "ExpiredToken"), (400, "RequestExpired")])
def test_a_url_that_is_refused_as_expired_is_renewed(server: Httpd, engine: Engine, status: int, code: str) -> None:
    server.plan(*[Fault(status=status, code=code)] * 2)
    assert fetch_renewable(engine, [signed(server, time.time(), 60 + n) for n in range(5)]) == Pattern(SIZE)[8:16]


def test_a_url_is_over_by_the_clock_of_s3_too(server: Httpd, engine: Engine) -> None:
    later = format_datetime(datetime.fromtimestamp(time.time() + 100, UTC), usegmt=True)
    server.plan(*[Fault(status=400, code="Odd", headers={"Date": later})] * 2)
    assert fetch_renewable(engine, [signed(server, time.time(), 60 + n) for n in range(5)]) == Pattern(SIZE)[8:16]


def test_a_bad_request_that_has_time_left_is_final(server: Httpd, engine: Engine) -> None:
    server.rule = lambda _: Fault(status=400, code="InvalidArgument")
    with pytest.raises(TransferError, match="400 InvalidArgument") as caught:
        fetch_renewable(engine, [signed(server, time.time(), 60)] * 2)
    assert caught.value.final


PAGE = b"<html><head><title>413 Request Entity\nToo Large\x1b[0m</title></head><body>nginx</body></html>"


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (413, PAGE, r"413 with a page of HTML \(413 Request Entity Too Large\?\[0m\), .* client_max_body_size"),
        (400, b"<!DOCTYPE HTML><p>Bad", "400 with a page of HTML, as a proxy"),
        (400, b"Client sent an HTTP request to an HTTPS server.\n", "write https:// instead of http://"),
        (413, b"", "S3 returned 413; the limit there"),
    ],
)
def test_what_a_proxy_says_is_told_in_one_line(
    server: Httpd, engine: Engine, status: int, body: bytes, words: str
) -> None:
    server.rule = lambda _: Fault(status=status, body=body)
    with pytest.raises(TransferError, match=words) as caught:
        engine.run([Request("PUT", server.url + "/p?secret", body=b"x" * 100)], parallelism=1)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)
    assert caught.value.final


@pytest.mark.parametrize("hours", [-3, 3])
@pytest.mark.parametrize("code", ["RequestTimeTooSkewed", "AccessDenied"])
def test_clocks_that_differ_are_named(server: Httpd, engine: Engine, hours: int, code: str) -> None:
    theirs = datetime.fromtimestamp(time.time() + 3600 * hours, UTC)
    server.rule = lambda _: Fault(status=403, code=code, headers={"Date": format_datetime(theirs, usegmt=True)})
    with pytest.raises(TransferError, match=f"S3's clock says {theirs:%Y-%m-%d %H:%M}") as caught:
        engine.fetch([Request("GET", lambda _: signed(server, time.time(), 60), 8, 16, ETAG)], parallelism=1)
    assert f"ours {datetime.now(UTC):%Y-%m-%d}" in str(caught.value)


def test_the_clock_of_a_signer_is_named_if_a_new_url_is_refused(server: Httpd, engine: Engine) -> None:
    now = format_datetime(datetime.now(UTC), usegmt=True)
    server.rule = lambda _: Fault(status=403, code="AccessDenied", headers={"Date": now})
    with pytest.raises(TransferError, match="and the URL was signed at"):
        engine.fetch([Request("GET", lambda _: signed(server, time.time() - 9999, 60), 8, 16, ETAG)], parallelism=1)
    with pytest.raises(TransferError) as caught:
        engine.fetch([Request("GET", lambda _: signed(server, time.time(), 60), 8, 16, ETAG)], parallelism=1)
    assert "clock" not in str(caught.value)


def test_the_etag_of_a_part_is_bare(server: Httpd, engine: Engine) -> None:
    responses: list[Response] = []
    server.rule = lambda _: Fault(headers={"ETag": 'W/"abc"'})
    engine.run(
        [Request("PUT", server.url + "/p", body=b"x")], parallelism=1, on_done=lambda _, done: responses.append(done)
    )
    assert responses[0].etag == "abc"


def test_the_last_status_line_counts_and_nothing_else_is_taken_for_one() -> None:
    lines = [b"HTTP/1.1 100 Continue", b"X-Old: 1", b"HTTP/1.1 206 OK: partly", b"ETag: a", b"HTTP/2-Settings: 1"]
    headers = {"etag": "a", "http/2-settings": "1"}
    assert parse_head([line + b"\r\n" for line in lines]) == (206, headers)
    assert parse_head([b"HTTP/1.1\r\n", b"HTTP/1.1 2x0 OK\r\n", b"HTTP/1.1 2000 OK\r\n"]) == (0, {})
    assert parse_head([b"HTTP/2 200 \r\n"]) == parse_head([b"HTTP/1.1 200\r\n"]) == (200, {})
