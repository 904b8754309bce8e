"""A datas3t on a bucket of its own: what tests upload to, and look into behind the SDK's back."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from datas3t import v1
from datas3t.client import Client
from datas3t.client._transfers.journal import Journal, JournalEntry
from datas3t.client._transfers.source import open_source
from tests.client.archives import Sample
from tests.support.faults import Relay

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@dataclass(frozen=True)
class Site:
    """The datas3t `name`; with a relay, all bytes between client and S3 pass through that."""

    client: Client
    name: str
    bucket: str
    s3: "S3Client"
    relay: Relay | None = None

    def upload(self, sample: Sample, **options: int) -> None:
        self.client.upload_tar(self.name, sample.path, **options)  # type: ignore[arg-type]

    def objects(self) -> list[str]:
        """The keys of all objects in the bucket."""
        return [found["Key"] for found in self.s3.list_objects_v2(Bucket=self.bucket).get("Contents", [])]

    def multiparts(self) -> list[str]:
        """The S3 ids of all open multipart uploads."""
        found = self.s3.list_multipart_uploads(Bucket=self.bucket).get("Uploads", [])
        return [each["UploadId"] for each in found]

    def object(self, key: str) -> bytes:
        return self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()

    def stored(self) -> tuple[bytes, bytes]:
        """Archive and index of the only datarange, as they are in the bucket."""
        (found,) = self.client.list_dataranges(self.name)
        return self.object(found.object_key), self.object(found.index_object_key)

    def journal(self, sample: Sample) -> Journal:
        """The journal of the sample's upload to here."""
        with open_source(sample.path) as source:
            return Journal.of_upload(self.client.url, self.name, source)

    def aggregate_journal(self, first: int, last: int) -> Journal:
        """The journal of the aggregate of these keys."""
        return Journal.of_aggregate(self.client.url, self.name, first, last)

    def begun(self, sample: Sample) -> JournalEntry:
        """What the journal says. There must be one."""
        found = self.journal(sample).read()
        assert found is not None
        return found

    def signed(self, upload_id: int, *parts: int) -> v1.SignUploadPartsResponse:
        """What the server tells of an open upload."""
        request = v1.SignUploadPartsRequest(datarange_upload_id=upload_id, part_numbers=parts)
        return self.client.connection.datarange.SignUploadParts(request)
