"""The boto3 clients of a bucket. Importing boto3 takes 0.2 s, so only what needs a client imports this module."""

import os
import threading
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3
import botocore.session
from botocore.config import Config
from botocore.configprovider import BOTOCORE_DEFAUT_SESSION_VARIABLES

from datas3t.server.s3.attempts import limit_attempts
from datas3t.server.s3.counts import COUNTS
from datas3t.server.s3.locations import Location
from datas3t.transport import ca_bundle, is_loopback

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CONFIG = Config(
    signature_version="s3v4",
    # Without the last two, botocore takes their values from the environment.
    s3={"addressing_style": "path", "us_east_1_regional_endpoint": "regional", "use_arn_region": False},  # type: ignore[arg-type] # the stubs lack some
    request_checksum_calculation="when_required",  # some stores other than AWS reject unknown headers
    response_checksum_validation="when_required",
    retries={"mode": "standard", "total_max_attempts": 3},
    connect_timeout=5,
    read_timeout=30,
    max_pool_connections=32,
    tcp_keepalive=True,
)
_DIRECT = Config(proxies={})
# For CompleteMultipartUpload, which may take minutes. Sent twice, it could find its multipart upload gone.
PATIENT_CONFIG = CONFIG.merge(Config(retries={"total_max_attempts": 1, "mode": "standard"}, read_timeout=900))
_creating = threading.Lock()  # one client at a time: sessions are not thread-safe


def client_for(location: Location, config: Config = CONFIG) -> "S3Client":
    """Return a new client with our time-outs and retries, which signs for the configured region only."""
    client = plain_client(location, config)
    limit_attempts(client, getattr(config, "read_timeout"))  # noqa: B009 - the stubs lack it
    client.meta.events.register_last("before-parameter-build.s3", _stay_in_region)
    client.meta.events.register("after-call.s3", _count)
    client.meta.events.register("after-call-error.s3", _count_error)
    return client


def plain_client(location: Location, config: Config) -> "S3Client":
    """Return a new client, which takes nothing from the environment but the CA bundle and the proxy.

    Connections to this machine are direct, whatever proxy the environment names.
    """
    trusted = ca_bundle()
    if is_loopback(urlsplit(location.endpoint).hostname or ""):
        config = config.merge(_DIRECT)
    with _creating:
        client: S3Client = _session().client(
            "s3",
            endpoint_url=location.endpoint,
            region_name=location.region,
            aws_access_key_id=location.access_key,
            aws_secret_access_key=location.secret_key,
            config=config,
            verify=trusted.path if trusted and trusted.variable else None,
        )
    return client


@cache
def _session() -> boto3.session.Session:
    """Return the process's session. Its first client takes 0.1 s, for it reads the model of S3; others take 5 ms.

    A bucket configuration is complete. So neither AWS_PROFILE nor another variable or file of the AWS command line
    changes what a client does, or keeps it from being made. Only the CA bundle is read from the environment.
    """
    defaults = {
        name: (None, None, default, conversion)
        for name, (_key, _variable, default, conversion) in BOTOCORE_DEFAUT_SESSION_VARIABLES.items()
    }
    no_file = (None, None, os.devnull, None)
    ca_bundle = {"ca_bundle": (None, "AWS_CA_BUNDLE", None, None)}
    variables = defaults | {"config_file": no_file, "credentials_file": no_file} | ca_bundle
    return boto3.session.Session(botocore_session=botocore.session.Session(session_vars=variables))


def _stay_in_region(context: dict[str, Any], **_: object) -> None:
    """Keep botocore from signing for the region that a redirect names: its calls would work, but not our URLs."""
    context["s3_redirect"]["redirected"] = True


def _count(http_response: Any, parsed: dict[str, Any], model: Any, **_: object) -> None:
    code = parsed.get("Error", {}).get("Code")
    COUNTS.add(model.name, str(code or http_response.status_code))


def _count_error(event_name: str, **_: object) -> None:
    COUNTS.add(event_name.rpartition(".")[2], "unreachable")
