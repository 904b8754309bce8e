"""The server's functions on a database and a bucket for each test, without a server process."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from datas3t.embedded.stack import Services
    from datas3t.server.resources import Resources
    from tests.support.uploads import Site


@pytest.fixture
def resources(services: "Services", database: str, tmp_path: Path) -> Iterator["Resources"]:
    """Yield the server's resources on an empty database."""
    from tests.support.uploads import open_resources

    with open_resources(database, services.encryption_key, tmp_path / "cache") as opened:
        yield opened


@pytest.fixture
def site(services: "Services", resources: "Resources", bucket: str, s3: "S3Client") -> "Site":
    """Return resources with the bucket configuration `local` on an empty bucket, and the datas3t `images` on it."""
    from tests.support.uploads import Site, add_bucket

    add_bucket(resources, services.s3, bucket)
    site = Site(resources, "images", bucket, s3)
    site.add()
    return site
