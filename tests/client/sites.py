"""A datas3t on its own bucket, with direct access to the bucket, the server and the journals."""

import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from datas3t import v1
from datas3t.archive.index import RECORD_SIZE
from datas3t.client import Client, InvalidArgument
from datas3t.client._transfers.journal import Journal, JournalEntry
from datas3t.client._transfers.source import open_source
from tests.client.archives import Sample
from tests.support.faults import Relay

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@dataclass(frozen=True)
class Site:
    """The datas3t `name`. With a relay, all bytes between the client and S3 pass through it."""

    client: Client
    name: str
    bucket: str
    s3: "S3Client"
    relay: Relay | None = None

    def upload(self, sample: Sample, **options: int) -> None:
        """Upload the sample."""
        self.client.upload_tar(self.name, sample.path, **options)  # type: ignore[arg-type]

    def upload_unchecked(self, data: bytes, index: bytes, first: int) -> None:
        """Upload an archive and an index of any bytes, without the checks of our client.

        The server checks a random sample of the headers, so it is tried until the sample has no wrong one.
        """
        stub = self.client.connection.datarange
        count = len(index) // RECORD_SIZE
        while True:
            started = stub.StartUpload(
                v1.StartUploadRequest(
                    datas3t_name=self.name,
                    first_datapoint_index=first,
                    number_of_datapoints=count,
                    data_size=len(data),
                )
            )
            for url, body in ((started.presigned_data_put_url, data), (started.presigned_index_put_url, index)):
                urllib.request.urlopen(urllib.request.Request(url, body, method="PUT"), timeout=30).close()
            with suppress(InvalidArgument):
                stub.CompleteUpload(v1.CompleteUploadRequest(datarange_upload_id=started.datarange_upload_id))
                return

    def objects(self) -> list[str]:
        """Return the keys of all objects in the bucket."""
        return [each["Key"] for each in self.s3.list_objects_v2(Bucket=self.bucket).get("Contents", [])]

    def multiparts(self) -> list[str]:
        """Return the S3 ids of all open multipart uploads."""
        uploads = self.s3.list_multipart_uploads(Bucket=self.bucket).get("Uploads", [])
        return [each["UploadId"] for each in uploads]

    def object(self, key: str) -> bytes:
        """Return the bytes of an object."""
        return self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()

    def stored(self) -> tuple[bytes, bytes]:
        """Return the archive and the index of the only datarange, as they are in the bucket."""
        (datarange,) = self.client.list_dataranges(self.name)
        return self.object(datarange.object_key), self.object(datarange.index_object_key)

    def journal(self, sample: Sample) -> Journal:
        """Return the journal of the sample's upload to this datas3t."""
        with open_source(sample.path) as source:
            return Journal.of_upload(self.client.url, self.name, source)

    def aggregate_journal(self, first: int, last: int) -> Journal:
        """Return the journal of the aggregate of these keys."""
        return Journal.of_aggregate(self.client.url, self.name, first, last)

    def journal_entry(self, sample: Sample) -> JournalEntry:
        """Return the entry in the journal of the sample's upload, which must exist."""
        entry = self.journal(sample).read()
        assert entry is not None
        return entry

    def sign_parts(self, upload_id: int, *parts: int) -> v1.SignUploadPartsResponse:
        """Have the server sign these parts of an open upload."""
        request = v1.SignUploadPartsRequest(datarange_upload_id=upload_id, part_numbers=parts)
        return self.client.connection.datarange.SignUploadParts(request)
