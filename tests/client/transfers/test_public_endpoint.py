"""A bucket whose clients reach S3 by another address than the server."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from datas3t.client import AlreadyExists, Client, InvalidArgument
from tests.client.archives import MIB, sample
from tests.support.faults import Relay, relay

if TYPE_CHECKING:
    from datas3t.embedded.stack import Services

SIGNED = b"X-Amz-Expires=86400"  # URLs for clients; those of the calls of the server have a shorter life


@pytest.fixture
def ways(services: "Services") -> Iterator[tuple[Relay, Relay]]:
    """Return two relays to S3, one for the server and one for clients."""
    with relay(services.s3.endpoint) as inner, relay(services.s3.endpoint) as public:
        yield inner, public


def test_signed_urls_name_the_public_endpoint_and_the_server_uses_its_own(
    client: Client, services: "Services", bucket: str, ways: tuple[Relay, Relay], tmp_path: Path
) -> None:
    inner, public = ways
    name = f"public-{bucket}"  # other tests have configurations named after buckets
    keys = {"access_key": services.s3.access_key, "secret_key": services.s3.secret_key}
    settings = {"endpoint": inner.url, "bucket": bucket, "public_endpoint": public.url, **keys}
    client.add_bucket(name, **settings)
    client.add_bucket(name, **settings)  # a repeat with the same settings
    with pytest.raises(AlreadyExists):
        client.add_bucket(name, **settings | {"public_endpoint": "http://elsewhere"})
    (added,) = [each for each in client.list_buckets() if each.name == name]
    assert (added.endpoint, added.public_endpoint) == (inner.url, public.url)

    # Upload in parts and in one PUT, merge by copies inside S3, read and download.
    client.add_datas3t(name, bucket=name)
    archives = [sample(tmp_path / f"{n}.tar", *each) for n, each in enumerate([(1, 21 * MIB), (2, 6 * MIB), (3, 9)])]
    for each in archives:
        client.upload_tar(name, each.path)
    assert client.aggregate(name, 1, 3).bytes_copied > 20 * MIB
    assert client.datas3t(name).get(3) == archives[2].contents[3]
    client.download_tar(name, 1, 3, tmp_path / "out.tar")
    (segment,) = client.presign_download(name, 2, 2)
    assert segment.url.startswith(public.url)

    assert [line for line in inner.requests if SIGNED in line] == []
    signed = [line for line in public.requests if SIGNED in line]
    assert len(signed) == len(public.requests) > 10
    assert any(line.startswith(b"PUT") and b"partNumber" in line for line in signed)


def test_a_public_endpoint_has_the_form_of_an_endpoint_and_is_not_tried(
    client: Client, bucket_settings: dict[str, str]
) -> None:
    for wrong in ("s3.example.com", "ftp://s3.example.com", "https://s3.example.com/path"):
        with pytest.raises(InvalidArgument, match="public_endpoint"):
            client.add_bucket("public", **bucket_settings, public_endpoint=wrong)
    client.add_bucket("public", **bucket_settings, public_endpoint="HTTPS://S3.example.com:443/")
    (added,) = [each for each in client.list_buckets() if each.name == "public"]
    assert added.public_endpoint == "https://s3.example.com"
    client.delete_bucket("public")
