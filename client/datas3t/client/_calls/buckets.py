"""Bucket configurations: an S3 endpoint, a bucket there and its credentials, under a name."""

from dataclasses import dataclass

from datas3t import v1
from datas3t.client._calls.connection import Connection
from datas3t.client._calls.rpc import pages


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket configuration; the server never shows its credentials."""

    name: str
    endpoint: str
    bucket: str
    region: str


def add(
    connection: Connection,
    name: str,
    *,
    endpoint: str,
    bucket: str,
    access_key: str,
    secret_key: str,
    region: str | None,
) -> None:
    """As Client.add_bucket."""
    request = v1.AddBucketRequest(
        name=name, endpoint=endpoint, bucket=bucket, access_key=access_key, secret_key=secret_key, region=region
    )
    connection.bucket.AddBucket(request)


def list_all(connection: Connection) -> list[Bucket]:
    """As Client.list_buckets."""
    listing = pages(lambda token: connection.bucket.ListBuckets(v1.ListBucketsRequest(page_token=token)))
    return [Bucket(b.name, b.endpoint, b.bucket, b.region) for page in listing for b in page.buckets]


def update(connection: Connection, name: str, access_key: str, secret_key: str) -> None:
    """As Client.update_bucket."""
    connection.bucket.UpdateBucket(v1.UpdateBucketRequest(name=name, access_key=access_key, secret_key=secret_key))


def delete(connection: Connection, name: str) -> None:
    """As Client.delete_bucket."""
    connection.bucket.DeleteBucket(v1.DeleteBucketRequest(name=name))
