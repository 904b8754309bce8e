"""boto3's clients, with settings that every S3 takes."""

from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

from datas3t.server.s3.location import Location

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CONFIG = Config(
    signature_version="s3v4",
    s3={"addressing_style": "path"},
    request_checksum_calculation="when_required",  # stores other than AWS refuse what they do not know
    response_checksum_validation="when_required",
    retries={"mode": "standard", "total_max_attempts": 3},
    connect_timeout=5,
    read_timeout=30,
    max_pool_connections=32,
    tcp_keepalive=True,
)


def client_for(session: boto3.session.Session, location: Location, config: Config = CONFIG) -> "S3Client":
    """A client with our time-outs and retries, which signs for the configured region or not at all."""
    client: S3Client = session.client(
        "s3",
        endpoint_url=location.endpoint,
        region_name=location.region,
        aws_access_key_id=location.access_key,
        aws_secret_access_key=location.secret_key,
        config=config,
    )
    client.meta.events.register_last("before-parameter-build.s3", _stay_in_the_region)
    return client


def _stay_in_the_region(context: dict[str, Any], **_: object) -> None:
    """Else botocore signs anew for the region that S3 names: its calls would work, but not the URLs that we sign."""
    context["s3_redirect"]["redirected"] = True
