"""Where a bucket is, and the boto3 clients for it."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@dataclass(frozen=True, slots=True)
class Location:
    """A bucket at an endpoint (scheme, host and port), and the credentials for it, which its repr hides.

    Signed URLs name `public_endpoint`, by which clients reach the bucket; if it is empty, the endpoint.
    """

    endpoint: str
    bucket: str
    region: str
    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    public_endpoint: str = ""

    @property
    def public(self) -> "Location":
        """The location as clients reach it."""
        return replace(self, endpoint=self.public_endpoint) if self.public_endpoint else self


class Clients:
    """The boto3 clients for one location: the usual one, and a patient one. Each is created at its first use."""

    def __init__(self, location: Location) -> None:
        self._location = location

    @cached_property
    def usual(self) -> "S3Client":
        """The client for most requests."""
        from datas3t.server.s3.clients import client_for  # noqa: PLC0415 - imports boto3, which many calls do not need

        return client_for(self._location)

    @cached_property
    def patient(self) -> "S3Client":
        """A client that sends each request once and waits for its response for 15 minutes."""
        from datas3t.server.s3.clients import PATIENT_CONFIG, client_for  # noqa: PLC0415 - as above

        return client_for(self._location, PATIENT_CONFIG)
