"""Calls for bucket configurations: an S3 endpoint, a bucket on it and its credentials, stored under a name."""

from dataclasses import dataclass

from datas3t import v1
from datas3t.client._calls.arguments import check_secret, check_text
from datas3t.client._calls.connection import Connection
from datas3t.client._calls.rpc import pages


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket configuration, without its credentials, which the server never returns.

    Attributes:
        name: The configuration's name.
        endpoint: The URL of the S3 service.
        bucket: The bucket's name on that service.
        region: The region used in signatures.
        public_endpoint: The URL of the S3 service in signed URLs, if clients reach it by another address than the
            server; otherwise empty.
    """

    name: str
    endpoint: str
    bucket: str
    region: str
    public_endpoint: str = ""


def add(
    connection: Connection,
    name: str,
    *,
    endpoint: str,
    bucket: str,
    access_key: str,
    secret_key: str,
    region: str | None,
    public_endpoint: str | None,
) -> None:
    """Add a bucket configuration; see `Client.add_bucket`."""
    check_text(name=name, endpoint=endpoint, bucket=bucket, region=region, public_endpoint=public_endpoint)
    check_secret(access_key=access_key, secret_key=secret_key)
    request = v1.AddBucketRequest(
        name=name,
        endpoint=endpoint,
        bucket=bucket,
        access_key=access_key,
        secret_key=secret_key,
        region=region,
        public_endpoint=public_endpoint,
    )
    connection.bucket.AddBucket(request)


def list_all(connection: Connection) -> list[Bucket]:
    """Return all bucket configurations; see `Client.list_buckets`."""
    listing = pages(lambda token: connection.bucket.ListBuckets(v1.ListBucketsRequest(page_token=token)))
    return [
        Bucket(each.name, each.endpoint, each.bucket, each.region, each.public_endpoint)
        for page in listing
        for each in page.buckets
    ]


def update(connection: Connection, name: str, access_key: str, secret_key: str) -> None:
    """Replace the credentials of a bucket configuration; see `Client.update_bucket`."""
    check_text(name=name)
    check_secret(access_key=access_key, secret_key=secret_key)
    connection.bucket.UpdateBucket(v1.UpdateBucketRequest(name=name, access_key=access_key, secret_key=secret_key))


def delete(connection: Connection, name: str) -> None:
    """Delete a bucket configuration; see `Client.delete_bucket`."""
    check_text(name=name)
    connection.bucket.DeleteBucket(v1.DeleteBucketRequest(name=name))
