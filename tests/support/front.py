"""A front with small servicers that need no database, and ways to send it requests, also byte by byte."""
# ruff: noqa: N802 - gRPC names the methods

import contextlib
import http.client
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, cast
from urllib.parse import urlsplit

import grpc
from google.api.httpbody_pb2 import HttpBody

from datas3t import v1
from datas3t.server.db.listings import JsonPage
from datas3t.server.errors import Failure
from datas3t.server.front.calls import Service
from datas3t.server.front.rest.cross_site import CrossSite
from datas3t.server.front.server import Front
from datas3t.server.settings import Address, Timeouts, TlsFiles
from datas3t.server.telemetry.metrics import Metrics
from datas3t.v1 import (
    bucket_pb2,
    bucket_pb2_grpc,
    datarange_pb2,
    datarange_pb2_grpc,
    datas3t_pb2,
    datas3t_pb2_grpc,
    import_pb2,
    import_pb2_grpc,
)

LOCALHOST = Address("127.0.0.1", 0)
_DEFAULT_TIMEOUTS = Timeouts()


@dataclass
class Gate:
    """Holds calls inside their servicer: each one releases `entered`, then waits until the test sets `open`."""

    entered: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    open: threading.Event = field(default_factory=threading.Event)

    def wait(self) -> None:
        """Hold the call."""
        self.entered.release()
        assert self.open.wait(60)


class FakeBuckets(bucket_pb2_grpc.BucketServiceServicer):
    def __init__(self, gate: Gate) -> None:
        self.gate = gate

    def AddBucket(self, request: v1.AddBucketRequest, context: Any) -> v1.AddBucketResponse:
        """Wait, fail, crash or succeed: the name says which."""
        if request.name == "wait":
            self.gate.wait()
        elif request.name == "refuse":
            raise Failure(v1.ERROR_REASON_BUCKET_EXISTS, "bucket 'refuse' exists; use another name", bucket="refuse")
        elif request.name == "break":
            raise RuntimeError("secret_key=hush\nSELECT everything")
        return v1.AddBucketResponse()

    def ListBuckets(self, request: v1.ListBucketsRequest, context: Any) -> v1.ListBucketsResponse:
        """Return three pages of two buckets."""
        page = int(request.page_token or "0")
        buckets = [v1.Bucket(name=f"b{page}{n}", endpoint="http://s3", bucket=f"s{n}", region="x") for n in range(2)]
        return v1.ListBucketsResponse(buckets=buckets, next_page_token=str(page + 1) if page < 2 else "")


class FakeDatas3ts(datas3t_pb2_grpc.Datas3tServiceServicer):
    def AddDatas3t(self, request: v1.AddDatas3tRequest, context: Any) -> v1.AddDatas3tResponse:
        return v1.AddDatas3tResponse()

    def GetDatapointsBitmap(self, request: v1.GetDatapointsBitmapRequest, context: Any) -> Iterator[HttpBody]:
        yield HttpBody(content_type="application/octet-stream", data=b"\x00\x01")
        if request.datas3t_name == "torn":
            raise Failure(v1.ERROR_REASON_DATAS3T_NOT_FOUND, "no datas3t 'torn'", datas3t="torn")
        if request.datas3t_name == "broken":
            raise RuntimeError("secret_key=hush")
        yield HttpBody(data=b"\x02")


class FakeDataranges(datarange_pb2_grpc.DatarangeServiceServicer):
    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.last_request: Any = None

    def ListDatarangesAsJson(self, request: v1.ListDatarangesRequest, context: Any) -> JsonPage:
        """Return three pages of two dataranges; the name says what happens to the second one."""
        page = int(request.page_token or "0")
        if page == 1 and request.datas3t_name == "wait":
            self.gate.wait()
        elif page == 1 and request.datas3t_name == "break":
            raise RuntimeError("secret_key=hush")
        elif request.datas3t_name == "missing":
            raise Failure(v1.ERROR_REASON_DATAS3T_NOT_FOUND, "no datas3t 'missing'", datas3t="missing")
        objects = b",".join(b'{"datarange_id":%d}' % (2 * page + number) for number in range(2))
        return JsonPage(objects, str(page + 1) if page < 2 else "")

    def StartUpload(self, request: v1.StartUploadRequest, context: Any) -> v1.StartUploadResponse:
        """Return as many URLs as the request has datapoints."""
        self.last_request = request
        urls = [
            f"http://s3.example/part?X-Amz-Signature={number:0>500}" for number in range(request.number_of_datapoints)
        ]
        return v1.StartUploadResponse(
            datarange_upload_id=2**53 + 1,
            first_datapoint_index=request.first_datapoint_index,
            presigned_multipart_upload_urls=urls,
            part_size=7,
        )

    def CompleteUpload(self, request: v1.CompleteUploadRequest, context: Any) -> v1.CompleteUploadResponse:
        self.last_request = request
        return v1.CompleteUploadResponse()

    def PresignDownload(self, request: v1.PresignDownloadRequest, context: Any) -> v1.PresignDownloadResponse:
        self.last_request = request
        return v1.PresignDownloadResponse()


class FakeImports(import_pb2_grpc.ImportServiceServicer):
    def Import(self, request: v1.ImportRequest, context: Any) -> Iterator[v1.ImportResponse]:
        yield v1.ImportResponse(imported_datas3ts=["a"], objects_seen=1)
        yield v1.ImportResponse(skipped=[v1.SkippedObject(object_key="k", reason="r")], objects_seen=2)
        yield v1.ImportResponse(imported_datas3ts=["b"], imported_count=2)


class HttpResponse(NamedTuple):
    """A response that was read whole; the names of its headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def reason(self) -> str:
        """The reason of an error."""
        return str(self.json["details"][0]["reason"])


@dataclass
class RunningFront:
    """A front that serves, and the parts that tests look into."""

    front: Front
    metrics: Metrics
    gate: Gate
    dataranges: FakeDataranges
    trusted: Path | None = None  # the CA of the front's certificate, which is for localhost

    @property
    def address(self) -> tuple[str, int]:
        """Host and port, for a socket."""
        parts = urlsplit(self.front.url)
        assert parts.hostname
        assert parts.port
        return parts.hostname, parts.port

    def request(
        self,
        verb: str,
        path: str,
        body: object = None,
        headers: dict[str, str] | None = None,
        *,
        raw: bytes | None = None,
    ) -> HttpResponse:
        """Send one request over a new connection."""
        return http_request(self.front.url, verb, path, body, headers, raw=raw, trusted=self.trusted)

    def channel(self) -> grpc.Channel:
        """Return a channel with its own connection and no limit for responses."""
        options = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
        if self.trusted:
            credentials = grpc.ssl_channel_credentials(self.trusted.read_bytes())
            return grpc.secure_channel(f"localhost:{self.address[1]}", credentials, options=options)
        return grpc.insecure_channel("{}:{}".format(*self.address), options=options)

    def connect(self) -> socket.socket:
        """Return a new connection, encrypted if the front speaks TLS."""
        plain = socket.create_connection(self.address, timeout=20)
        if not self.trusted:
            return plain
        return ssl.create_default_context(cafile=self.trusted).wrap_socket(plain, server_hostname="localhost")

    def send_raw(self, sent: bytes, *, half_close: bool = False) -> bytes:
        """Send bytes, and return everything that the server sends until it closes the connection."""
        with self.connect() as sock:
            sock.sendall(sent)
            if half_close:
                sock.shutdown(socket.SHUT_WR)
            return read_all(sock)


def http_request(
    url: str,
    verb: str,
    path: str,
    body: object = None,
    headers: dict[str, str] | None = None,
    *,
    raw: bytes | None = None,
    trusted: Path | None = None,
) -> HttpResponse:
    """Send one request over a new connection, with `body` as JSON or `raw` bytes. `trusted` is the CA for https."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    if trusted:
        context = ssl.create_default_context(cafile=trusted)
        connection = http.client.HTTPSConnection("localhost", urlsplit(url).port, timeout=30, context=context)
    try:
        connection.request(verb, path, json.dumps(body).encode() if body is not None else raw, headers or {})
        response = connection.getresponse()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return HttpResponse(response.status, headers, response.read())
    finally:
        connection.close()


def read_all(sock: socket.socket) -> bytes:
    """Return everything until the other side closes or resets the connection."""
    received = b""
    with contextlib.suppress(ConnectionError):
        while data := sock.recv(65_536):
            received += data
    return received


def fake_services(gate: Gate, dataranges: FakeDataranges) -> Sequence[Service]:
    """Return four of the contract's services with the servicers above."""

    def service(proto: Any, name: str, servicer: Any) -> Service:
        return Service(proto.DESCRIPTOR.services_by_name[name], servicer)

    return (
        service(bucket_pb2, "BucketService", cast(Any, FakeBuckets)(gate)),
        service(datas3t_pb2, "Datas3tService", cast(Any, FakeDatas3ts)()),
        service(datarange_pb2, "DatarangeService", dataranges),
        service(import_pb2, "ImportService", cast(Any, FakeImports)()),
    )


@contextlib.contextmanager
def running_front(
    address: Address = LOCALHOST,
    grpc_address: Address | None = None,
    timeouts: Timeouts = _DEFAULT_TIMEOUTS,
    *,
    is_ready: Callable[[], bool] = lambda: True,
    cross_site: CrossSite | None = None,
    tls: TlsFiles | None = None,
    trusted: Path | None = None,
) -> Iterator[RunningFront]:
    """Yield a front that serves until the block ends. `trusted` is the CA of its certificate."""
    gate, metrics = Gate(), Metrics()
    dataranges = cast(Any, FakeDataranges)(gate)
    front = Front(
        fake_services(gate, dataranges),
        metrics,
        is_ready,
        addr=address,
        grpc_addr=grpc_address,
        timeouts=timeouts,
        cross_site=cross_site or CrossSite(address, hosts=["x"]),
        tls=tls,
    )
    front.start()
    try:
        yield RunningFront(front, metrics, gate, dataranges, trusted)
    finally:
        gate.open.set()
        front.drain(5)
        front.close()
