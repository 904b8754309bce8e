"""Operations on bucket configurations, as methods of the client."""

from abc import ABC, abstractmethod

from datas3t.client._calls import buckets
from datas3t.client._calls.buckets import Bucket
from datas3t.client._calls.connection import Connection


class BucketMethods(ABC):
    """The part of `Client` that adds, lists, changes and deletes bucket configurations."""

    @property
    @abstractmethod
    def connection(self) -> Connection:
        """This process's gRPC channel with the generated stubs."""

    def add_bucket(
        self,
        name: str,
        *,
        endpoint: str,
        bucket: str,
        access_key: str,
        secret_key: str,
        region: str | None = None,
        public_endpoint: str | None = None,
    ) -> None:
        """Add a bucket configuration. The server tries it before it stores it.

        Calling this again with the same settings does nothing.

        Args:
            name: The name to store it under.
            endpoint: The URL of the S3 service, such as "https://s3.eu-central-1.amazonaws.com".
            bucket: The bucket's name on that service.
            access_key: The access key id.
            secret_key: The secret access key.
            region: The region used in signatures; None: us-east-1.
            public_endpoint: The URL of the S3 service for clients, if they reach it by another address than the server.

        Raises:
            AlreadyExists: The name is taken, or the bucket is stored under another name.
            InvalidArgument: Endpoint, bucket or credentials do not work; `reason` says which.
        """
        buckets.add(
            self.connection,
            name,
            endpoint=endpoint,
            bucket=bucket,
            access_key=access_key,
            secret_key=secret_key,
            region=region,
            public_endpoint=public_endpoint,
        )

    def list_buckets(self) -> list[Bucket]:
        """Return the bucket configurations, by name."""
        return buckets.list_all(self.connection)

    def update_bucket(self, name: str, *, access_key: str, secret_key: str) -> None:
        """Replace the credentials of a bucket configuration. The server tries them before it stores them.

        Args:
            name: The bucket configuration.
            access_key: The new access key id.
            secret_key: The new secret access key.

        Raises:
            NotFound: There is no bucket configuration of that name.
            InvalidArgument: S3 refuses the credentials.
        """
        buckets.update(self.connection, name, access_key, secret_key)

    def delete_bucket(self, name: str) -> None:
        """Delete a bucket configuration; the bucket's objects are left as they are.

        Raises:
            NotFound: There is no bucket configuration of that name.
            FailedPrecondition: A datas3t uses it, or the server still has to delete objects in the bucket.
        """
        buckets.delete(self.connection, name)
