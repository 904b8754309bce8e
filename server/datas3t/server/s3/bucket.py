"""A bucket in S3: every call that the server makes to it, and the URLs that it signs. ETags have no quotes."""

import threading
from base64 import b64encode
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import IO, Any
from urllib.parse import quote

from datas3t.archive.parts import MAX_PARTS
from datas3t.server.s3.counts import SIGNED
from datas3t.server.s3.faults import (
    InvalidParts,
    ObjectChanged,
    ObjectMissing,
    OtherDigest,
    UnknownOperation,
    UploadMissing,
    optional_operation,
    transfers_translated,
    translated,
    unavailable,
)
from datas3t.server.s3.listings import Listed, Page, limited, list_page, with_zone
from datas3t.server.s3.locations import Location
from datas3t.server.s3.on_demand import Clients
from datas3t.server.s3.presign import GetSigner, presign
from datas3t.server.s3.wire import FileBody, Piece, T, Wire
from datas3t.transport import Response, bare_etag

__all__ = [
    "Bucket",
    "Buckets",
    "InvalidParts",
    "Listed",
    "Location",
    "ObjectChanged",
    "ObjectMissing",
    "OtherDigest",
    "Piece",
    "UnknownOperation",
    "UploadMissing",
]

_MAX_CLIENTS = 256  # that are kept; each has its own connections and takes 5 ms to create
_PIECE_SIZE = 4 << 20  # bytes of one request of a stream
_CRC32C_SIZE = 4  # bytes


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """The size of an object in bytes, and its ETag."""

    size: int
    etag: str


@dataclass(frozen=True, slots=True)
class PartInfo:
    """A part that S3 has received, with its size in bytes."""

    number: int
    etag: str
    size: int


@dataclass(frozen=True, slots=True)
class CopyUrl:
    """A URL for UploadPartCopy, and the two headers that are signed with it."""

    url: str = field(repr=False)
    copy_source: str
    copy_source_range: str


class Buckets:
    """The clients of buckets, one per location, which are created when they are first needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._clients: OrderedDict[Location, Clients] = OrderedDict()

    def at(self, location: Location) -> "Bucket":
        """Return the bucket at a location, without a call."""
        with self._lock:
            clients = self._clients.pop(location, None) or Clients(location)
            self._clients[location] = clients
            if len(self._clients) > _MAX_CLIENTS:
                self._clients.popitem(last=False)
        return Bucket(location, clients)


class Bucket:
    """A bucket at a location.

    All calls raise the failures S3_UNAVAILABLE and S3_REFUSED. Other exceptions are named at the methods.
    """

    def __init__(self, location: Location, clients: Clients) -> None:
        self.location = location
        self._public = location.public
        self._clients = clients
        self._wire = Wire(location)
        self._name = location.bucket

    def head(self, key: str) -> ObjectInfo | None:
        """Return size and ETag of an object, or None if it does not exist."""
        try:
            with transfers_translated(self.location, "HeadObject"):
                response = self._wire.send("HeadObject", "HEAD", key)
        except ObjectMissing:
            return None
        size = response.headers.get("content-length", "")
        if not size.isdigit():
            raise unavailable(self.location, "its response has no Content-Length")
        return ObjectInfo(int(size), response.etag)

    def get(self, key: str, start: int, stop: int, *, etag: str | None = None) -> bytes:
        """Return the bytes from `start` up to `stop`.

        Raises ObjectMissing, or ObjectChanged if the object has another ETag or fewer bytes.
        """
        return self._get(key, start, stop, etag).body if start < stop else b""

    def read(self, key: str, start: int, stop: int) -> tuple[bytes, ObjectInfo | None]:
        """Return what `get` returns, and what the response says about the whole object: None if it lacks some of it."""
        response = self._get(key, start, stop, None)
        size = response.whole_size
        return response.body, ObjectInfo(size, response.etag) if size is not None and response.etag else None

    def get_each(self, wanted: Iterable[tuple[T, Piece]], on_body: Callable[[T, bytes], None]) -> None:
        """Call `on_body` for small pieces of objects, with what identifies each and its bytes, in any order.

        Raises as `get` for the first piece that cannot be read, and gives up the others.
        """
        with transfers_translated(self.location, "GetObject"):
            self._wire.each("GetObject", wanted, on_body)

    def stream(self, key: str, start: int, stop: int, *, etag: str | None = None) -> Iterator[bytes]:
        """Yield the bytes that `get` returns, in pieces of at most 4 MiB, which are read one by one."""
        for at in range(start, stop, _PIECE_SIZE):
            response = self._get(key, at, min(at + _PIECE_SIZE, stop), etag)
            etag = etag or response.etag or None
            yield response.body

    def put(self, key: str, data: bytes | IO[bytes]) -> str:
        """Write an object of at most 5 GiB from memory or from a whole file, and return its ETag."""
        body = data if isinstance(data, bytes) else FileBody(data)
        with transfers_translated(self.location, "PutObject"):
            response = self._wire.send("PutObject", "PUT", key, body=body)
        if response.etag:
            return response.etag
        # Some stores return no ETag here, and a server that is not a store may return anything.
        size, stored = len(body) if isinstance(body, bytes) else body.size, self.head(key)
        if stored is None or stored.size != size:
            raise unavailable(self.location, "it has not stored an object that it has accepted")
        return stored.etag

    def objects(self, prefix: str, *, start_after: str = "") -> Iterator[list[Listed]]:
        """Yield the pages of the listing of all keys that begin with `prefix`.

        The keys of one folder are in order. Some stores order folders differently from S3.
        """
        query = {"start-after": start_after} if start_after else {}
        for page in self._pages({"prefix": prefix, **query}):
            yield page.objects

    def folders(self, prefix: str) -> Iterator[list[str]]:
        """Yield the pages of the listing of folders in `prefix`. Names begin with `prefix` and end with a slash."""
        for page in self._pages({"prefix": prefix, "delimiter": "/"}):
            yield page.folders

    def create_multipart(self, key: str, *, crc32c: bool = False) -> str:
        """Start a multipart upload of a key that has no other one, and return its id.

        With `crc32c` S3 is to compute the CRC-32C of the whole object. Raises UnknownOperation if it refuses that.
        """
        options: Any = {"ChecksumAlgorithm": "CRC32C", "ChecksumType": "FULL_OBJECT"} if crc32c else {}
        with translated(self.location), optional_operation() if crc32c else nullcontext():
            response = self._clients.usual.create_multipart_upload(Bucket=self._name, Key=key, **options)
            upload_id = response["UploadId"]
        # If the response to an earlier attempt was lost, that attempt may have started an upload as well.
        if response["ResponseMetadata"]["RetryAttempts"]:
            with suppress(UnknownOperation):
                for other_key, other_id, _ in self.list_multiparts(key):
                    if other_key == key and other_id != upload_id:
                        self.abort_multipart(key, other_id)
        return upload_id

    def list_parts(self, key: str, upload_id: str, etags: Sequence[str] = ()) -> list[PartInfo] | None:
        """Return the parts that S3 has received, in order of their numbers, or None if the store cannot list them.

        Some stores list a part several times if it was sent several times, in any order and with times in whole
        seconds. Of these, the one whose ETag is in `etags` is returned, otherwise the latest. Raises UploadMissing.
        """
        chosen: dict[int, tuple[bool, datetime, PartInfo]] = {}
        pages = self._clients.usual.get_paginator("list_parts")
        try:
            with translated(self.location), optional_operation():
                for page in limited(pages.paginate(Bucket=self._name, Key=key, UploadId=upload_id)):
                    if "UploadId" not in page:  # the store took this for another operation
                        return None
                    for each in page.get("Parts", ()):
                        part = PartInfo(each["PartNumber"], bare_etag(each.get("ETag", "")), each["Size"])
                        if not part.etag:
                            return None
                        if not (1 <= part.number <= MAX_PARTS and 0 <= part.size < 2**63):
                            raise ValueError(f"part {part.number} of {part.size} bytes")
                        expected = part.etag in etags[part.number - 1 : part.number]
                        other, at = chosen.get(part.number), with_zone(each["LastModified"])
                        if other is None or (expected, at) >= other[:2]:
                            chosen[part.number] = (expected, at, part)
        except UnknownOperation:
            return None
        return [chosen[number][2] for number in sorted(chosen)]

    def complete_multipart(self, key: str, upload_id: str, etags: Sequence[str], *, crc32c: int | None = None) -> None:
        """Join the parts, numbered from 1, by one request that may take 15 minutes.

        With `crc32c`, S3 compares that with what it has computed for the whole object, if it does that at all.

        Raises UploadMissing, InvalidParts, or OtherDigest if the CRC-32C of the object is another one.
        """
        options: Any = {}
        if crc32c is not None:
            value = b64encode(crc32c.to_bytes(_CRC32C_SIZE, "big")).decode()
            options = {"ChecksumCRC32C": value, "ChecksumType": "FULL_OBJECT"}
        parts = [{"PartNumber": number, "ETag": f'"{etag}"'} for number, etag in enumerate(etags, 1)]
        with translated(self.location):
            self._clients.patient.complete_multipart_upload(
                Bucket=self._name,
                Key=key,
                UploadId=upload_id,
                MultipartUpload={"Parts": parts},  # type: ignore[typeddict-item]
                **options,
            )

    def abort_multipart(self, key: str, upload_id: str) -> None:
        """Abort a multipart upload. One that does not exist is not an error."""
        try:
            with translated(self.location):
                self._clients.usual.abort_multipart_upload(Bucket=self._name, Key=key, UploadId=upload_id)
        except (UploadMissing, ObjectMissing):
            return

    def list_multiparts(self, prefix: str) -> list[tuple[str, str, datetime]]:
        """Return key, id and start time of the multipart uploads whose keys begin with `prefix`.

        Raises UnknownOperation if the store cannot list them.
        """
        pages = self._clients.usual.get_paginator("list_multipart_uploads")
        with translated(self.location), optional_operation():
            return [
                (each["Key"], each["UploadId"], with_zone(each["Initiated"]))
                for page in limited(pages.paginate(Bucket=self._name, Prefix=prefix))
                for each in page.get("Uploads", ())
            ]

    def versions(self, key: str) -> Iterator[str]:
        """Yield the ids of all versions and delete markers of a key.

        Raises UnknownOperation if the store cannot list them.
        """
        pages = iter(self._clients.usual.get_paginator("list_object_versions").paginate(Bucket=self._name, Prefix=key))
        while True:
            # While the caller works on a page, the call does not count as waiting for S3.
            with translated(self.location), optional_operation():
                page = next(pages, None)
            if page is None:
                return
            for each in (*page.get("Versions", ()), *page.get("DeleteMarkers", ())):
                if each.get("Key") == key and "VersionId" in each:
                    yield each["VersionId"]

    def delete(self, key: str, version_id: str | None = None) -> None:
        """Delete an object, or one of its versions. One that does not exist is not an error."""
        query = {"versionId": version_id} if version_id else {}
        with suppress(ObjectMissing), transfers_translated(self.location, "DeleteObject"):
            self._wire.send("DeleteObject", "DELETE", key, query=query)

    def delete_many(self, keys: Sequence[str]) -> dict[str, str]:
        """Delete at most 1,000 objects by one request, and return S3's errors by the keys that could not be deleted.

        Objects that do not exist count as deleted. Raises UnknownOperation if the store deletes only one by one.
        """
        objects = [{"Key": key} for key in keys]
        with translated(self.location), optional_operation():
            response = self._clients.usual.delete_objects(
                Bucket=self._name,
                Delete={"Objects": objects, "Quiet": True},  # type: ignore[typeddict-item]
            )
        refused = ((each.get("Key", ""), each.get("Code", "unknown")) for each in response.get("Errors", ()))
        return {key: code for key, code in refused if code != "NoSuchKey"}

    def get_url(self, key: str, lifetime: timedelta) -> str:
        """Return a URL to GET any range of an object."""
        return self._signed("GET", key, lifetime)

    def get_signer(self, lifetime: timedelta) -> GetSigner:
        """Return what signs the URLs of `get_url` for many objects."""
        return GetSigner(self._public, lifetime)

    def put_url(self, key: str, lifetime: timedelta) -> str:
        """Return a URL to PUT an object."""
        return self._signed("PUT", key, lifetime)

    def part_url(self, key: str, upload_id: str, number: int, lifetime: timedelta) -> str:
        """Return a URL to PUT a part of a multipart upload."""
        query = {"partNumber": str(number), "uploadId": upload_id}
        return self._signed("PUT", key, lifetime, query=query)

    def copy_part_url(
        self, key: str, upload_id: str, number: int, source_key: str, start: int, stop: int, lifetime: timedelta
    ) -> CopyUrl:
        """Return a URL that makes S3 copy bytes `start` up to `stop` of another object of this bucket to a part."""
        query = {"partNumber": str(number), "uploadId": upload_id}
        source, source_range = quote(f"{self._name}/{source_key}", safe="/-._~"), f"bytes={start}-{stop - 1}"
        headers = {"x-amz-copy-source": source, "x-amz-copy-source-range": source_range}
        url = self._signed("PUT", key, lifetime, query=query, headers=headers)
        return CopyUrl(url, source, source_range)

    def _signed(self, method: str, key: str, lifetime: timedelta, **further: Mapping[str, str]) -> str:
        SIGNED[method].add()
        return presign(self._public, method, key, lifetime, query=further.get("query"), headers=further.get("headers"))

    def _get(self, key: str, start: int, stop: int, etag: str | None) -> Response:
        with transfers_translated(self.location, "GetObject"):
            return self._wire.send("GetObject", "GET", key, start=start, stop=stop, etag=etag)

    def _pages(self, query: dict[str, str]) -> Iterator[Page]:
        """Yield the pages of a listing. While the caller works on one, the call does not count as waiting for S3."""
        token = ""
        while True:
            page = list_page(self._wire, self.location, query | ({"continuation-token": token} if token else {}))
            yield page
            if not page.next_token:
                return
            if page.next_token == token:
                raise unavailable(self.location, "its listing does not go on")
            token = page.next_token
