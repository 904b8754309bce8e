"""A front with a small servicer of our own behind it, and ways to speak to it byte by byte."""
# ruff: noqa: N802 - gRPC names the methods

import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast
from urllib.parse import urlsplit

import grpc
from google.api.httpbody_pb2 import HttpBody
from google.protobuf.descriptor import ServiceDescriptor

from datas3t import v1
from datas3t.server.errors import Failure
from datas3t.server.front.front import Front
from datas3t.server.metrics import Metrics
from datas3t.server.settings import Address, Patience
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

HERE = Address("127.0.0.1", 0)
PATIENT = Patience()


class Serving(NamedTuple):
    """What a registry lists."""

    descriptor: ServiceDescriptor
    servicer: Any
    add_to_server: Any


@dataclass
class Doors:
    """Calls that wait: `entered` is set by a call, which goes on when `open` is."""

    entered: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    open: threading.Event = field(default_factory=threading.Event)

    def wait(self) -> None:
        self.entered.release()
        assert self.open.wait(60)


class Buckets(bucket_pb2_grpc.BucketServiceServicer):
    def __init__(self, doors: Doors) -> None:
        self.doors = doors

    def AddBucket(self, request: v1.AddBucketRequest, context: Any) -> v1.AddBucketResponse:
        """What to do is in the name."""
        if request.name == "wait":
            self.doors.wait()
        elif request.name == "refuse":
            raise Failure(v1.ERROR_REASON_BUCKET_EXISTS, "bucket 'refuse' exists; use another name", bucket="refuse")
        elif request.name == "break":
            raise RuntimeError("secret_key=hush\nSELECT everything")
        return v1.AddBucketResponse()

    def ListBuckets(self, request: v1.ListBucketsRequest, context: Any) -> v1.ListBucketsResponse:
        """Three pages of two."""
        page = int(request.page_token or "0")
        made = [v1.Bucket(name=f"b{page}{n}", endpoint="http://s3", bucket=f"s{n}", region="x") for n in range(2)]
        return v1.ListBucketsResponse(buckets=made, next_page_token=str(page + 1) if page < 2 else "")


class Datas3ts(datas3t_pb2_grpc.Datas3tServiceServicer):
    def AddDatas3t(self, request: v1.AddDatas3tRequest, context: Any) -> v1.AddDatas3tResponse:
        return v1.AddDatas3tResponse()

    def GetDatapointsBitmap(self, request: v1.GetDatapointsBitmapRequest, context: Any) -> Iterator[HttpBody]:
        yield HttpBody(content_type="application/octet-stream", data=b"\x00\x01")
        if request.datas3t_name == "torn":
            raise Failure(v1.ERROR_REASON_DATAS3T_NOT_FOUND, "no datas3t 'torn'", datas3t="torn")
        if request.datas3t_name == "broken":
            raise RuntimeError("secret_key=hush")
        yield HttpBody(data=b"\x02")


class Dataranges(datarange_pb2_grpc.DatarangeServiceServicer):
    def __init__(self) -> None:
        self.last: Any = None

    def StartUpload(self, request: v1.StartUploadRequest, context: Any) -> v1.StartUploadResponse:
        """Answers as many URLs as datapoints were announced."""
        self.last = request
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
        self.last = request
        return v1.CompleteUploadResponse()

    def PresignDownload(self, request: v1.PresignDownloadRequest, context: Any) -> v1.PresignDownloadResponse:
        self.last = request
        return v1.PresignDownloadResponse()


class Imports(import_pb2_grpc.ImportServiceServicer):
    def Import(self, request: v1.ImportRequest, context: Any) -> Iterator[v1.ImportResponse]:
        yield v1.ImportResponse(imported_datas3ts=["a"], objects_seen=1)
        yield v1.ImportResponse(skipped=[v1.SkippedObject(object_key="k", reason="r")], objects_seen=2)
        yield v1.ImportResponse(imported_datas3ts=["b"], imported_count=2)


class Answered(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def reason(self) -> str:
        return str(self.json["details"][0]["reason"])


@dataclass
class Running:
    """A front that serves, and what is behind it."""

    front: Front
    metrics: Metrics
    doors: Doors
    dataranges: Dataranges

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.front.url)
        assert parts.hostname
        assert parts.port
        return parts.hostname, parts.port

    def ask(
        self,
        verb: str,
        path: str,
        body: object = None,
        headers: dict[str, str] | None = None,
        *,
        raw: bytes | None = None,
    ) -> Answered:
        """One request over a connection of its own."""
        return ask(self.front.url, verb, path, body, headers, raw=raw)

    def channel(self) -> grpc.Channel:
        options = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
        return grpc.insecure_channel("{}:{}".format(*self.address), options=options)

    def talk(self, sent: bytes, *, then_stop: bool = False) -> bytes:
        """Sends bytes and reads until the server closes."""
        with socket.create_connection(self.address, timeout=20) as sock:
            sock.sendall(sent)
            if then_stop:
                sock.shutdown(socket.SHUT_WR)
            return read_all(sock)


def ask(
    url: str,
    verb: str,
    path: str,
    body: object = None,
    headers: dict[str, str] | None = None,
    *,
    raw: bytes | None = None,
) -> Answered:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    try:
        connection.request(verb, path, json.dumps(body).encode() if body is not None else raw, headers or {})
        answer = connection.getresponse()
        return Answered(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
    finally:
        connection.close()


def read_all(sock: socket.socket) -> bytes:
    found = b""
    with contextlib.suppress(ConnectionError):
        while data := sock.recv(65_536):
            found += data
    return found


def servings(doors: Doors, dataranges: Dataranges) -> Sequence[Serving]:
    def of(module: Any, name: str, servicer: object, add: Any) -> Serving:
        return Serving(module.DESCRIPTOR.services_by_name[name], servicer, add)

    buckets, datas3ts = cast(Any, Buckets)(doors), cast(Any, Datas3ts)()
    return (
        of(bucket_pb2, "BucketService", buckets, bucket_pb2_grpc.add_BucketServiceServicer_to_server),
        of(datas3t_pb2, "Datas3tService", datas3ts, datas3t_pb2_grpc.add_Datas3tServiceServicer_to_server),
        of(datarange_pb2, "DatarangeService", dataranges, datarange_pb2_grpc.add_DatarangeServiceServicer_to_server),
        of(import_pb2, "ImportService", Imports(), import_pb2_grpc.add_ImportServiceServicer_to_server),
    )


@contextlib.contextmanager
def running_front(
    address: Address = HERE, grpc_address: Address | None = None, patience: Patience = PATIENT
) -> Iterator[Running]:
    """A front that serves as long as the block."""
    doors, dataranges, metrics = Doors(), cast(Any, Dataranges)(), Metrics()
    front = Front(
        servings(doors, dataranges), metrics, lambda: None, addr=address, grpc_addr=grpc_address, patience=patience
    )
    front.start()
    try:
        yield Running(front, metrics, doors, dataranges)
    finally:
        doors.open.set()
        front.drain(5)
        front.close()
