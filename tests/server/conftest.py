"""A service on the test's own database and bucket, without any server process around it."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from datas3t.embedded.stack import Services
    from datas3t.server.resources import Service
    from tests.support.uploads import Site


@pytest.fixture
def service(services: "Services", database: str, tmp_path: Path) -> Iterator["Service"]:
    """A service on a fresh database."""
    from tests.support.uploads import open_service

    with open_service(database, services.encryption_key, tmp_path / "cache") as opened:
        yield opened


@pytest.fixture
def site(services: "Services", service: "Service", bucket: str, s3: "S3Client") -> "Site":
    """The service with bucket configuration `local` on a fresh bucket, and a datas3t `images` there."""
    from tests.support.uploads import Site, add_bucket

    add_bucket(service, services.s3, bucket)
    site = Site(service, "images", bucket, s3)
    site.add()
    return site
