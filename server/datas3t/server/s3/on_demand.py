"""The boto3 clients of a bucket, created when they are needed: importing boto3 takes 0.2 s; most calls need none."""

from functools import cached_property
from typing import TYPE_CHECKING

from datas3t.server.s3.locations import Location

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


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
