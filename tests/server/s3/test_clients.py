"""Clients for buckets take nothing from the environment of the server but the CA bundle."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from botocore.configprovider import BOTOCORE_DEFAUT_SESSION_VARIABLES

from datas3t.embedded.ports import free_ports
from datas3t.server.s3 import clients
from datas3t.server.s3.clients import client_for
from datas3t.server.s3.locations import Location

if TYPE_CHECKING:
    from datas3t.embedded.stack import Services

# The variables of botocore, and those that it has in no table.
VARIABLES = {
    name
    for _key, names, _default, _conversion in BOTOCORE_DEFAUT_SESSION_VARIABLES.values()
    for name in ([names] if isinstance(names, str) else names or [])
} | {
    "AWS_ACCESS_KEY_ID",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_S3_US_EAST_1_REGIONAL_ENDPOINT",
    "AWS_S3_USE_ARN_REGION",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
}


@pytest.fixture
def location(services: "Services", bucket: str) -> Location:
    s3 = services.s3
    return Location(s3.endpoint, bucket, "us-east-1", s3.access_key, s3.secret_key)


@pytest.fixture(autouse=True)
def _new_session() -> Iterator[None]:
    """Have the sessions of a test read its environment, and no later one."""
    clients._session.cache_clear()
    yield
    clients._session.cache_clear()


def works(location: Location) -> bool:
    """Return whether a new client can write and read."""
    client = client_for(location)
    client.put_object(Bucket=location.bucket, Key="a", Body=b"content")
    content = client.get_object(Bucket=location.bucket, Key="a")["Body"].read()
    client.close()
    return content == b"content"


@pytest.mark.parametrize("value", ["nonsense", "true"])
def test_no_variable_of_aws_changes_a_client(location: Location, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    for name in VARIABLES - {"AWS_CA_BUNDLE"}:
        monkeypatch.setenv(name, value)
    assert works(location)


def test_no_file_of_aws_changes_a_client(location: Location, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws/config").write_text("[default]\nuse_fips_endpoint = true\nretry_mode = nonsense\n")
    (tmp_path / ".aws/credentials").write_text("this is [ no configuration\n")
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert works(location)


def test_loopback_goes_through_no_proxy(location: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_ports(1)[0]}")
    for name in ("no_proxy", "NO_PROXY"):  # which the session's services set
        monkeypatch.delenv(name, raising=False)
    assert works(location)
    clients._session.cache_clear()
    assert works(Location(location.endpoint.replace("127.0.0.1", "localhost"), *location_of(location)))


def location_of(location: Location) -> tuple[str, str, str, str]:
    """Return all of a location but its endpoint."""
    return location.bucket, location.region, location.access_key, location.secret_key


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "AWS_CA_BUNDLE"])
def test_the_ca_bundle_counts(location: Location, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    from botocore.exceptions import BotoCoreError

    for variable in ("SSL_CERT_FILE", "AWS_CA_BUNDLE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv(name, str(tmp_path / "missing.pem"))
    encrypted = Location(location.endpoint.replace("http://", "https://"), *location_of(location))
    with pytest.raises(BotoCoreError, match="No such file"):
        works(encrypted)
