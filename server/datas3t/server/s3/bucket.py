"""A bucket in S3: every call that the server makes to it, and the URLs that it signs. ETags are without quotes."""

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import IO, TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from botocore.exceptions import ClientError

from datas3t import v1
from datas3t.server.errors import Failure
from datas3t.server.s3.clients import Location, client_for
from datas3t.server.s3.faults import (
    InvalidParts,
    ObjectChanged,
    ObjectMissing,
    UploadMissing,
    translated,
)
from datas3t.server.s3.presign import presign

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from mypy_boto3_s3 import S3Client

__all__ = ["Bucket", "Buckets", "InvalidParts", "Location", "ObjectChanged", "ObjectMissing", "UploadMissing"]

_CLIENTS = 256
_DELETE_AT_ONCE = 1000  # S3's limit
_WANTS_MD5 = ("NotImplemented", "MissingContentMD5", "InvalidRequest")


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """An object that is there; its size in bytes."""

    size: int
    etag: str


@dataclass(frozen=True, slots=True)
class Listed:
    """An object of a listing."""

    key: str
    size: int
    etag: str
    modified: datetime


@dataclass(frozen=True, slots=True)
class PartInfo:
    """A part that S3 has."""

    number: int
    etag: str
    size: int


class CopyUrl(NamedTuple):
    """A URL for UploadPartCopy and the two headers that are signed with it."""

    url: str
    copy_source: str
    copy_source_range: str


class Buckets:
    """The buckets that are in use: one session, one client per location, made when first asked for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._clients: OrderedDict[Location, S3Client] = OrderedDict()

    def at(self, location: Location) -> "Bucket":
        """The bucket there. No call is made."""
        with self._lock:
            client = self._clients.pop(location, None) or client_for(location)
            self._clients[location] = client
            if len(self._clients) > _CLIENTS:
                self._clients.popitem(last=False)
        return Bucket(location, client)


class Bucket:
    """Calls raise Failure (S3_UNAVAILABLE, S3_REFUSED) where S3 is away or refuses us; what else, they say."""

    def __init__(self, location: Location, client: "S3Client") -> None:
        self.location = location
        self._client = client
        self._name = location.bucket

    def head(self, key: str) -> ObjectInfo | None:
        """The object, or None where it is not there."""
        try:
            with translated(self.location):
                found = self._client.head_object(Bucket=self._name, Key=key)
                return ObjectInfo(found["ContentLength"], found["ETag"].strip('"'))
        except ObjectMissing:
            return None

    def get(self, key: str, start: int, stop: int, *, etag: str | None = None) -> bytes:
        """Exactly these bytes. Raises ObjectMissing, or ObjectChanged where ETag or length are not as expected."""
        if start >= stop:
            return b""
        with translated(self.location), self._opened(key, start, stop, etag) as body:
            return body.read()

    def stream(self, key: str, start: int, stop: int, *, etag: str | None = None) -> Iterator[bytes]:
        """As `get`, in pieces of at most 1 MiB."""
        if start >= stop:
            return
        with translated(self.location), self._opened(key, start, stop, etag) as body:
            yield from body.iter_chunks(1 << 20)

    def put(self, key: str, data: bytes | IO[bytes]) -> str:
        """Writes an object of at most 5 GiB, from memory or from the whole of a file; its ETag."""
        if not isinstance(data, bytes):
            data.seek(0)
        with translated(self.location):
            return self._client.put_object(Bucket=self._name, Key=key, Body=data)["ETag"].strip('"')

    def objects(self, prefix: str, *, start_after: str = "") -> Iterator[list[Listed]]:
        """The objects whose keys begin with `prefix`, a page at a time, in order only within one folder."""
        pages = self._client.get_paginator("list_objects_v2")
        after = {"StartAfter": start_after} if start_after else {}
        with translated(self.location):
            for page in pages.paginate(Bucket=self._name, Prefix=prefix, **after):  # type: ignore[arg-type]
                yield [
                    Listed(each["Key"], each["Size"], each["ETag"].strip('"'), each["LastModified"])
                    for each in page.get("Contents", ())
                ]

    def folders(self, prefix: str) -> Iterator[list[str]]:
        """The keys' next steps behind `prefix`, up to and with the slash, a page at a time."""
        pages = self._client.get_paginator("list_objects_v2")
        with translated(self.location):
            for page in pages.paginate(Bucket=self._name, Prefix=prefix, Delimiter="/"):
                yield [each["Prefix"] for each in page.get("CommonPrefixes", ())]

    def create_multipart(self, key: str) -> str:
        """Opens the only multipart upload of a key; its id in S3."""
        with translated(self.location):
            answer = self._client.create_multipart_upload(Bucket=self._name, Key=key)
            upload_id = answer["UploadId"]
        if answer["ResponseMetadata"]["RetryAttempts"]:  # of an answer that was lost, an upload may be left
            for found, other, _ in self.list_multiparts(key):
                if found == key and other != upload_id:
                    self.abort_multipart(key, other)
        return upload_id

    def list_parts(self, key: str, upload_id: str, etags: Sequence[str] = ()) -> list[PartInfo]:
        """The parts that S3 has, by number. Raises UploadMissing.

        Some list every one where a part was sent more than once, by the second and in no order: that which has the
        ETag of its number in `etags` counts, else the latest.
        """
        chosen: dict[int, tuple[bool, datetime, PartInfo]] = {}
        pages = self._client.get_paginator("list_parts")
        with translated(self.location):
            for page in pages.paginate(Bucket=self._name, Key=key, UploadId=upload_id):
                for each in page.get("Parts", ()):
                    part = PartInfo(each["PartNumber"], each["ETag"].strip('"'), each["Size"])
                    meant = part.etag in etags[part.number - 1 : part.number]
                    known = chosen.get(part.number)
                    if known is None or (meant, each["LastModified"]) >= known[:2]:
                        chosen[part.number] = (meant, each["LastModified"], part)
        return [chosen[number][2] for number in sorted(chosen)]

    def complete_multipart(self, key: str, upload_id: str, etags: Sequence[str]) -> str:
        """Puts parts 1 to n together; the object's ETag. Raises UploadMissing, InvalidParts."""
        parts = [{"PartNumber": number, "ETag": f'"{etag}"'} for number, etag in enumerate(etags, 1)]
        with translated(self.location):
            done = self._client.complete_multipart_upload(
                Bucket=self._name,
                Key=key,
                UploadId=upload_id,
                MultipartUpload={"Parts": parts},  # type: ignore[typeddict-item]
            )
            return done["ETag"].strip('"')

    def abort_multipart(self, key: str, upload_id: str) -> None:
        """Ends a multipart upload; one that is gone is fine."""
        try:
            with translated(self.location):
                self._client.abort_multipart_upload(Bucket=self._name, Key=key, UploadId=upload_id)
        except (UploadMissing, ObjectMissing):
            return

    def list_multiparts(self, prefix: str) -> list[tuple[str, str, datetime]]:
        """The open multipart uploads of keys that begin with `prefix`: key, id, and when each was opened."""
        pages = self._client.get_paginator("list_multipart_uploads")
        with translated(self.location):
            return [
                (each["Key"], each["UploadId"], each["Initiated"])
                for page in pages.paginate(Bucket=self._name, Prefix=prefix)
                for each in page.get("Uploads", ())
            ]

    def delete(self, keys: Sequence[str]) -> dict[str, str]:
        """Deletes objects; those that are gone already count. Answers what could not be deleted, and why."""
        refused: dict[str, str] = {}
        for start in range(0, len(keys), _DELETE_AT_ONCE):
            refused.update(self._delete_some(keys[start : start + _DELETE_AT_ONCE]))
        return refused

    def get_url(self, key: str, lifetime: timedelta) -> str:
        """GETs any range of the object."""
        return presign(self.location, "GET", key, lifetime)

    def put_url(self, key: str, lifetime: timedelta) -> str:
        """PUTs the object."""
        return presign(self.location, "PUT", key, lifetime)

    def part_url(self, key: str, upload_id: str, number: int, lifetime: timedelta) -> str:
        """PUTs a part."""
        query = {"partNumber": str(number), "uploadId": upload_id}
        return presign(self.location, "PUT", key, lifetime, query=query)

    def copy_part_url(
        self, key: str, upload_id: str, number: int, source_key: str, start: int, stop: int, lifetime: timedelta
    ) -> CopyUrl:
        """Has S3 copy bytes `start` up to `stop` of another object of this bucket into a part."""
        query = {"partNumber": str(number), "uploadId": upload_id}
        source, wanted = quote(f"{self._name}/{source_key}", safe="/-._~"), f"bytes={start}-{stop - 1}"
        headers = {"x-amz-copy-source": source, "x-amz-copy-source-range": wanted}
        url = presign(self.location, "PUT", key, lifetime, query=query, headers=headers)
        return CopyUrl(url, source, wanted)

    @contextmanager
    def _opened(self, key: str, start: int, stop: int, etag: str | None) -> "Iterator[StreamingBody]":
        match = {"IfMatch": f'"{etag}"'} if etag else {}
        wanted = f"bytes={start}-{stop - 1}"
        found = self._client.get_object(Bucket=self._name, Key=key, Range=wanted, **match)  # type: ignore[arg-type]
        with closing(found["Body"]) as body:
            if found["ContentLength"] != stop - start:
                raise ObjectChanged
            yield body

    def _delete_some(self, keys: Sequence[str]) -> dict[str, str]:
        objects = [{"Key": key} for key in keys]
        with translated(self.location):
            try:
                done = self._client.delete_objects(
                    Bucket=self._name,
                    Delete={"Objects": objects, "Quiet": True},  # type: ignore[typeddict-item]
                )
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") not in _WANTS_MD5:
                    raise
                return self._delete_singly(keys)  # an old S3, which wants a Content-MD5
        refused = ((each.get("Key", ""), each.get("Code", "unknown")) for each in done.get("Errors", ()))
        return {key: code for key, code in refused if code != "NoSuchKey"}

    def _delete_singly(self, keys: Sequence[str]) -> dict[str, str]:
        refused: dict[str, str] = {}
        for key in keys:
            try:
                with translated(self.location):
                    self._client.delete_object(Bucket=self._name, Key=key)
            except ObjectMissing:
                continue
            except Failure as failure:
                if failure.reason != v1.ERROR_REASON_S3_REFUSED:
                    raise
                refused[key] = failure.message
        return refused
