"""Where a bucket is, and boto3 clients for it."""

import threading
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

from datas3t.server.s3.attempts import limit_attempts

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CONFIG = Config(
    signature_version="s3v4",
    s3={"addressing_style": "path"},
    request_checksum_calculation="when_required",  # stores other than AWS reject headers that they do not know
    response_checksum_validation="when_required",
    retries={"mode": "standard", "total_max_attempts": 3},
    connect_timeout=5,
    read_timeout=30,
    max_pool_connections=32,
    tcp_keepalive=True,
)
_creating = threading.Lock()  # one client at a time: sessions are not thread-safe


@dataclass(frozen=True, slots=True)
class Location:
    """A bucket at an endpoint (scheme, host and port), and the credentials for it, which its repr hides."""

    endpoint: str
    bucket: str
    region: str
    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)


def client_for(location: Location, config: Config = CONFIG) -> "S3Client":
    """Return a new client with our time-outs and retries, which signs for the configured region only."""
    with _creating:
        client: S3Client = _session().client(
            "s3",
            endpoint_url=location.endpoint,
            region_name=location.region,
            aws_access_key_id=location.access_key,
            aws_secret_access_key=location.secret_key,
            config=config,
        )
    limit_attempts(client, getattr(config, "read_timeout"))  # noqa: B009 - the stubs lack it
    client.meta.events.register_last("before-parameter-build.s3", _stay_in_region)
    return client


@cache
def _session() -> boto3.session.Session:
    """Return the process's session. Its first client takes 0.1 s, for it reads the model of S3; others take 5 ms."""
    return boto3.session.Session()


def _stay_in_region(context: dict[str, Any], **_: object) -> None:
    """Keep botocore from signing for the region that a redirect names: its calls would work, but not our URLs."""
    context["s3_redirect"]["redirected"] = True
