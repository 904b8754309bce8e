"""How often calls ask the database and S3: bounds that keep them fast wherever these two are."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from datas3t.server import dataranges, datas3ts, downloads
from tests.support.faults import Relay, relay
from tests.support.uploads import Site, add_bucket, archive, open_resources

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from datas3t.embedded.stack import Services


@dataclass(frozen=True)
class Counted:
    """A site whose database and S3 are reached through relays that count."""

    site: Site
    database: Relay
    s3: Relay

    def reset(self) -> None:
        self.database.turns = 0
        self.s3.requests.clear()


@pytest.fixture
def counted(services: "Services", database: str, bucket: str, s3: "S3Client", tmp_path: Path) -> Iterator[Counted]:
    """Yield a site with two dataranges, whose connections are open and whose bucket has been used before."""
    address = database.rpartition("@")[2].partition("/")[0]
    with (
        relay(address) as between,
        relay(services.s3.endpoint) as s3_between,
        open_resources(database.replace(address, between.address), services.encryption_key, tmp_path) as resources,
    ):
        add_bucket(resources, services.s3, bucket, endpoint=s3_between.url)
        site = Site(resources, "images", bucket, s3)
        site.add()
        site.upload(archive(0, b"zero", b"one"))
        site.upload(archive(2, b"two"))
        counted = Counted(site, between, s3_between)
        counted.reset()
        yield counted


def test_a_small_upload_takes_five_requests_to_the_database_and_four_to_s3(counted: Counted) -> None:
    counted.site.upload(archive(3, b"three", b"four"))
    assert counted.database.turns == 5
    verbs = [line.partition(b" ")[0] for line in counted.s3.requests]
    assert sorted(verbs) == [b"GET", b"GET", b"PUT", b"PUT"]


def test_checksums_take_two_requests_to_s3_more(counted: Counted) -> None:
    counted.site.upload(archive(3, b"three", b"four"), b"")
    assert counted.database.turns == 5
    verbs = [line.partition(b" ")[0] for line in counted.s3.requests]
    assert sorted(verbs) == [b"GET"] * 3 + [b"PUT"] * 3


def test_urls_and_listings_take_one_request_to_the_database(counted: Counted) -> None:
    resources = counted.site.resources
    for call in (
        lambda: downloads.presign(resources, "images", 0, 2),
        lambda: dataranges.presign(resources, "images", None, None),
        lambda: dataranges.page(resources, "images", 0, ""),
        lambda: dataranges.json_page(resources, "images", ""),
        lambda: datas3ts.bitmap(resources, "images"),
        lambda: datas3ts.page(resources, 0, ""),
        lambda: datas3ts.json_page(resources, ""),
        lambda: counted.site.start(archive(100, b"x")),
    ):
        counted.reset()
        call()
        assert (counted.database.turns, counted.s3.requests) == (1, [])


def test_a_configuration_that_changes_is_read_again(counted: Counted) -> None:
    site = counted.site
    before, _, _ = downloads.presign(site.resources, "images", 0, 2)
    site.set_endpoint("http://elsewhere.example")
    after, _, _ = downloads.presign(site.resources, "images", 0, 2)
    assert before[0].url.startswith(counted.s3.url)
    assert after[0].url.startswith("http://elsewhere.example/")
