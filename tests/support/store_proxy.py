"""A proxy in front of an S3 server that makes it behave like other stores.

It understands HTTP and S3's operations, unlike the relay of `faults`, which passes bytes on. The Host header stays as
the client wrote it, so signatures hold for the proxy's address.
"""

import contextlib
import http.client
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.message import Message
from functools import partial
from http.server import BaseHTTPRequestHandler
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

from tests.support.threaded import ThreadedHTTPServer

_HOP_BY_HOP = frozenset(("connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade"))
_SHIFT = 512  # bytes
_PART_NUMBER = re.compile(rb"<PartNumber>(\d+)</PartNumber>")


@dataclass(frozen=True)
class Ways:
    """How a store differs from Amazon's. Every field is named after what the proxy does."""

    equal_parts_only: bool = False  # R2, B2: all parts but the last must have one size
    no_copy: bool = False  # UploadPartCopy is not implemented
    no_bulk_delete: bool = False  # older Google Cloud Storage: DeleteObjects is InvalidArgument
    no_list_parts: bool = False  # s3rver, s3s-fs
    no_list_uploads: bool = False  # s3rver, localbucket
    ranges_as_200: bool = False  # rclone serve s3, lakeFS: status 200 with the right Content-Range
    weak_etags: bool = False  # W/"..." on every response
    no_etags: bool = False  # responses to GET and HEAD have none
    expired_as_400: bool = False  # rclone: an expired URL is a bad request
    completion_seconds: float = 0.0  # before the response to CompleteMultipartUpload
    completion_deferred: bool = False  # the response is an error; S3 joins the parts when the test says so
    completion_forgets: bool = False  # StorageGRID: while a completion runs, its upload id is unknown
    no_archive_crc32c: bool = False  # a multipart upload that asks for a checksum of the object is not implemented
    parts_need_crc32c: bool = False  # Amazon: then each part must have one, which presigned URLs cannot have
    joins_need_crc32c: bool = False  # then the request that joins the parts must have the checksums of all of them
    completion_refuses: bool = False  # while a completion runs, another one is InvalidPart, and parts are listed


class StoreProxy:
    """Listens on 127.0.0.1. `requests` holds method and target of every request, in order of arrival.

    `on_completion` is called when a CompleteMultipartUpload arrives. `refused_keys` cannot be deleted. Ranges of
    `shifted_keys` have the bytes that follow 512 bytes later, and their first ones at the end. Both are paths.
    """

    def __init__(self, endpoint: str, ways: Ways) -> None:
        self.ways = ways
        self.requests: list[tuple[str, str]] = []
        self.target = urlsplit(endpoint).netloc
        self.part_sizes: dict[str, dict[int, int]] = {}  # by upload id
        self.completing: set[str] = set()
        self.crc32c_uploads: set[str] = set()  # ids of multipart uploads that ask for a checksum of the object
        self.deferred: list[Callable[[], object]] = []
        self.on_completion: Callable[[], None] = lambda: None
        self.refused_keys: set[str] = set()
        self.shifted_keys: set[str] = set()
        handler = type("Handler", (_Handler,), {"proxy": self})
        self._server = ThreadedHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=[0.05], daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """The endpoint to configure."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def finish_completions(self) -> None:
        """Have the server join the parts of all completions that were deferred."""
        while self.deferred:
            self.deferred.pop()()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextlib.contextmanager
def store_proxy(endpoint: str, ways: Ways) -> Iterator[StoreProxy]:
    """Run a proxy until the block ends."""
    proxy = StoreProxy(endpoint, ways)
    try:
        yield proxy
    finally:
        proxy.close()


class _Handler(BaseHTTPRequestHandler):
    proxy: ClassVar[StoreProxy]
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def handle_one_request(self) -> None:
        """Serve one request of any method."""
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        # The client may have left, or the server stay silent.
        with contextlib.suppress(OSError, http.client.HTTPException):
            self._serve()
            return
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Print nothing."""

    def _serve(self) -> None:
        proxy, ways = self.proxy, self.proxy.ways
        query = {
            name: values[0] for name, values in parse_qs(urlsplit(self.path).query, keep_blank_values=True).items()
        }
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        proxy.requests.append((self.command, self.path))
        upload_id = query.get("uploadId", "")
        if refusal := self._refusal(query, body):
            return self._send(refusal[0], _headers(), _error(refusal[1]))
        if self.command == "PUT" and "partNumber" in query:
            self._note_part(upload_id, int(query["partNumber"]), len(body))
        completes = self.command == "POST" and bool(upload_id)
        if completes:
            proxy.on_completion()
        if completes and (ways.completion_forgets or ways.completion_deferred):
            proxy.completing.add(upload_id)
        if completes and ways.completion_deferred:
            proxy.deferred.append(partial(_forward, proxy.target, self.command, self.path, self.headers, body))
            return self._send(500, _headers(), _error("InternalError"))
        status, headers, answer = _forward(proxy.target, self.command, self.path, self.headers, body)
        if "x-amz-checksum-algorithm" in self.headers and b"<UploadId>" in answer:
            proxy.crc32c_uploads.add(answer.partition(b"<UploadId>")[2].partition(b"<")[0].decode())
        if completes and ways.completion_seconds:
            time.sleep(ways.completion_seconds)
        if status == 206 and urlsplit(self.path).path in proxy.shifted_keys:
            answer = answer[_SHIFT:] + answer[:_SHIFT]
        if ways.expired_as_400 and status == 403 and b"xpired" in answer:
            status = 400
        if ways.ranges_as_200 and status == 206:
            status = 200
        return self._send(status, self._changed(headers), answer)

    def _refusal(self, query: dict[str, str], body: bytes) -> tuple[int, str] | None:
        """Return status and code where the store does not do what was asked for."""
        proxy, ways, request = self.proxy, self.proxy.ways, self.command
        upload_id = query.get("uploadId", "")
        refusals = (
            (ways.no_archive_crc32c and "x-amz-checksum-algorithm" in self.headers, (501, "NotImplemented")),
            (
                ways.parts_need_crc32c and request == "PUT" and upload_id in proxy.crc32c_uploads,
                (400, "InvalidRequest"),
            ),
            (
                ways.joins_need_crc32c and request == "POST" and upload_id in proxy.crc32c_uploads,
                (400, "InvalidRequest"),
            ),
            (ways.no_copy and "x-amz-copy-source" in self.headers, (501, "NotImplemented")),
            (ways.no_bulk_delete and request == "POST" and "delete" in query, (400, "InvalidArgument")),
            (ways.no_list_parts and request == "GET" and upload_id, (501, "NotImplemented")),
            (ways.no_list_uploads and request == "GET" and "uploads" in query, (501, "NotImplemented")),
            (request == "DELETE" and urlsplit(self.path).path in proxy.refused_keys, (403, "AccessDenied")),
            (upload_id in proxy.completing and not ways.completion_refuses, (404, "NoSuchUpload")),
            (upload_id in proxy.completing and request == "POST", (400, "InvalidPart")),
            (
                ways.equal_parts_only and request == "POST" and self._has_unequal_parts(upload_id, body),
                (400, "InvalidPart"),
            ),
        )
        return next((answer for applies, answer in refusals if applies), None)

    def _has_unequal_parts(self, upload_id: str, body: bytes) -> bool:
        sizes = [self.proxy.part_sizes.get(upload_id, {}).get(int(number), 0) for number in _PART_NUMBER.findall(body)]
        return len(set(sizes[:-1])) > 1 or (len(sizes) > 1 and sizes[-1] > sizes[0])

    def _note_part(self, upload_id: str, number: int, size: int) -> None:
        if copied := self.headers.get("x-amz-copy-source-range"):
            start, _, last = copied.removeprefix("bytes=").partition("-")
            size = int(last) + 1 - int(start)
        self.proxy.part_sizes.setdefault(upload_id, {})[number] = size

    def _changed(self, headers: Message) -> Message:
        ways = self.proxy.ways
        etag = headers.get("ETag")
        if etag and ways.weak_etags:
            headers.replace_header("ETag", etag if etag.startswith("W/") else f"W/{etag}")
        if etag and ways.no_etags and self.command in ("GET", "HEAD"):
            del headers["ETag"]
        return headers

    def _send(self, status: int, headers: Message, body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in _HOP_BY_HOP and name.lower() != "content-length":
                self.send_header(name, value)
        length = headers.get("Content-Length") if self.command == "HEAD" else None
        if status != 204:
            self.send_header("Content-Length", length or str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _headers() -> Message:
    headers = Message()
    headers["Content-Type"] = "application/xml"
    return headers


def _error(code: str) -> bytes:
    return f"<Error><Code>{code}</Code><Message>this store does not do that</Message></Error>".encode()


def _forward(target: str, method: str, path: str, sent: Message, body: bytes) -> tuple[int, Message, bytes]:
    """Send a request to the server; return status, headers and body of the response."""
    connection = http.client.HTTPConnection(target, timeout=60)
    try:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in sent.items():
            if name.lower() not in _HOP_BY_HOP and name.lower() != "expect":
                connection.putheader(name, value)
        connection.endheaders(body or None)
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()
