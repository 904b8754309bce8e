"""Fuzzing of the front end: REST bodies, gRPC messages and arbitrary bytes, on servicers without a database."""

import json
import random
import string
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc

from datas3t import v1
from tests.fuzz.loop import Note, Try
from tests.support.front import RunningFront, running_front

_ROUTES = (
    ("POST", "/api/v1/buckets"),
    ("POST", "/api/bucket"),
    ("GET", "/api/v1/buckets"),
    ("POST", "/api/v1/datas3ts"),
    ("POST", "/api/v1/datas3ts/import"),
    ("POST", "/api/v1/upload-datarange/complete"),
    ("POST", "/api/datarange/upload/complete"),
    ("POST", "/api/v1/download"),
    ("GET", "/api/v1/datapoints-bitmap?datas3t_name="),
)
_FIELDS = (
    "name", "endpoint", "bucket", "access_key", "secret_key", "region", "datas3t_name", "first_datapoint_index",
    "number_of_datapoints", "data_size", "datarange_upload_id", "upload_ids", "first_datapoint", "last_datapoint",
    "bucket_name", "page_size", "page_token", "first_datapoint_key",
)  # fmt: skip
_METHODS = (
    ("BucketService", "AddBucket", v1.AddBucketRequest(name="n", endpoint="http://h", bucket="b")),
    ("BucketService", "ListBuckets", v1.ListBucketsRequest(page_size=3)),
    ("Datas3tService", "AddDatas3t", v1.AddDatas3tRequest(name="n", bucket="b")),
    ("DatarangeService", "CompleteUpload", v1.CompleteUploadRequest(datarange_upload_id=3, upload_ids=["a", "b"])),
    ("DatarangeService", "PresignDownload", v1.PresignDownloadRequest(datas3t_name="n", last_datapoint=7)),
    ("ImportService", "Import", v1.ImportRequest(bucket_name="b")),
)
_SPECIAL_NAMES = ("wait", "break")  # names for which the test servicers wait or crash
_SERVER_ERRORS = (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DEADLINE_EXCEEDED)
_LINES = (
    b"GET /healthz HTTP/1.1", b"POST /api/bucket HTTP/1.1", b"GET  / HTTP/1.1", b"GET / HTTP/1.0", b"get / http/1.1",
    b"GET http://x/ HTTP/1.1", b"OPTIONS * HTTP/1.1", b"GET /\xff HTTP/1.1", b"CONNECT a:1 HTTP/1.1",
)  # fmt: skip
_HEADERS = (
    b"Host: x", b"Host: y", b"Content-Length: 5", b"Content-Length: -1", b"Content-Length: 5, 5", b" folded: x",
    b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip, chunked", b"Expect: 100-continue", b"Connection: close",
    b"Connection: upgrade", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk", b"a: \x00", b"b" * 9000 + b": c", b": empty",
    b"no colon", b"Content-Encoding: gzip",
)  # fmt: skip
_HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@contextmanager
def rest() -> Iterator[Try]:
    """Yield the target of REST bodies: no body may cause a 5xx status, and every error has a code and a message."""
    with running_front() as front:

        def attempt(source: random.Random, note: Note) -> None:
            verb, path = source.choice(_ROUTES)
            path += _text(source) if path.endswith("=") else ""
            raw = _body(source)
            headers = {"Content-Type": source.choice(("application/json", "text/plain", "", "application/x"))}
            note((verb, path, raw, headers))
            response = front.request(verb, _quoted(path), raw=raw, headers=headers)
            assert response.status < 500, f"status {response.status}: {response.body[:300]!r}"
            if response.status >= 400:
                assert {"code", "message"} <= set(response.json), response.body[:300]
                assert "\n" not in response.json["message"]
                assert "Traceback" not in response.json["message"]

        yield attempt


@contextmanager
def grpc_messages() -> Iterator[Try]:
    """Yield the target of gRPC messages: no bytes may cause an error of the server."""
    with running_front() as front, front.channel() as channel:

        def attempt(source: random.Random, note: Note) -> None:
            service, method, valid = source.choice(_METHODS)
            raw = bytearray(valid.SerializeToString())
            for _ in range(source.randint(0, 4)):
                _change(source, raw)
            note((service, method, bytes(raw)))
            if any(name.encode() in raw for name in _SPECIAL_NAMES):
                return
            code, details = _called(channel, f"/datas3t.v1.{service}/{method}", bytes(raw))
            assert code not in _SERVER_ERRORS, details
            assert "Traceback" not in details

        yield attempt


@contextmanager
def edge() -> Iterator[Try]:
    """Yield the target of malformed HTTP/1.1 and HTTP/2: each connection ends, and the server still serves others."""
    with running_front() as front:

        def attempt(source: random.Random, note: Note) -> None:
            raw = _http2(source) if source.random() < 0.5 else _http1(source)
            note(raw)
            received = front.send_raw(raw, half_close=True)
            assert b"Traceback" not in received
            _check_serves(front)

        yield attempt


def _called(channel: grpc.Channel, method: str, raw: bytes) -> tuple[grpc.StatusCode, str]:
    """Return the status and the message with which a call ends."""
    call: Any = channel.unary_stream(method)
    try:
        list(call(raw, timeout=20))
    except grpc.RpcError as error:
        ended: Any = error
        return ended.code(), str(ended.details())
    return grpc.StatusCode.OK, ""


def _check_serves(front: RunningFront) -> None:
    response = front.request("GET", "/healthz")
    assert response.status == 200, f"/healthz then responded {response.status}"


def _quoted(path: str) -> str:
    return "".join(each if each.isascii() and each.isprintable() and each != " " else "%7F" for each in path)


def _body(source: random.Random) -> bytes:
    """Return a body: mostly JSON, often with the names of fields, sometimes damaged."""
    kind = source.random()
    if kind < 0.1:
        return source.randbytes(source.randrange(200))
    if kind < 0.2:
        return b"[" * source.choice((10, 1000, 100_000))
    names = [source.choice(_FIELDS) if source.random() < 0.8 else _text(source) for _ in range(source.randrange(6))]
    raw = bytearray(json.dumps({name: _value(source, 3) for name in names}).encode())
    if source.random() < 0.3:
        _change(source, raw)
    return bytes(raw)


def _value(source: random.Random, depth: int) -> Any:
    """Return a JSON value."""
    if depth and source.random() < 0.2:
        inner = [_value(source, depth - 1) for _ in range(source.randrange(4))]
        return inner if source.random() < 0.5 else {_text(source): each for each in inner}
    return source.choice(
        (
            None,
            True,
            False,
            0,
            -1,
            1.5,
            1e300,
            2**63,
            2**64,
            -(2**70),
            "",
            "12",
            "a" * 300,
            "2e3",
            "\ud800",
            "\x00",
            "\u202e",
            _text(source),
            source.randrange(100),
            float("nan"),
            float("inf"),
        )
    )


def _text(source: random.Random) -> str:
    text = "".join(
        source.choice((*string.printable, "\ud800", "é", "\0", "\u202e")) for _ in range(source.randrange(9))
    )
    return "x" if text in _SPECIAL_NAMES else text


def _change(source: random.Random, raw: bytearray) -> None:
    """Change, remove or insert some bytes."""
    at = source.randrange(len(raw) + 1)
    what = source.random()
    if what < 0.4:
        raw[at : at + 1] = bytes([source.randrange(256)])
    elif what < 0.7:
        del raw[at : at + source.randrange(1, 9)]
    else:
        raw[at:at] = source.choice((b"\xff" * 9, b"\0", b"\xff\xff\xff\xff\x0f", source.randbytes(source.randrange(9))))


def _http1(source: random.Random) -> bytes:
    """Return one or more HTTP/1.1 requests with unusual or malformed parts."""
    long = b"GET /" + b"a" * source.choice((10, 9000, 70_000)) + b" HTTP/1.1"
    line = source.choice((*_LINES, long))
    end = source.choice((b"\r\n", b"\r\n", b"\n", b"\r"))
    headers = [source.choice(_HEADERS) for _ in range(source.randrange(6))]
    body = source.choice(
        (b"", b"{}", b"5\r\nhello\r\n0\r\n\r\n", b"ffffffffffffffffff\r\nx", b"-1\r\n\r\n", b"\0" * 100)
    )
    raw = bytearray(end.join((line, b"Host: x", *headers, b"", b"")) + body)
    for _ in range(source.choice((0, 0, 1, 4))):
        _change(source, raw)
    return bytes(raw) * source.choice((1, 1, 2))


def _http2(source: random.Random) -> bytes:
    """Return an HTTP/2 preface, sometimes cut short, and frames with random content."""
    raw = bytearray(_HTTP2 if source.random() < 0.9 else _HTTP2[: source.randrange(len(_HTTP2))])
    for _ in range(source.randrange(8)):
        payload = source.choice((b"", source.randbytes(source.randrange(40)), bytes(8), b"\x82\x86\x84\x41\x01x"))
        length = len(payload) if source.random() < 0.9 else source.randrange(1 << 24)
        stream = source.choice((0, 1, 1, 3, 2, 2**31 - 1))
        kind, flags = source.randrange(12), source.choice((0, 1, 4, 5, 0x24, 255))
        raw += length.to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload
    return bytes(raw)
