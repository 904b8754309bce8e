"""What S3 did although nobody heard of it is not left behind."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.faults.holdings import NAME, Library, library
from tests.support.faults import Fault
from tests.support.tars import archive

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from datas3t.embedded.stack import Services


@pytest.fixture
def shelves(tmp_path: Path, services: "Services", database: str, bucket: str) -> Iterator[Library]:
    with library(tmp_path, services, database, bucket) as made:
        yield made


def test_a_multipart_upload_whose_id_was_lost_is_aborted(shelves: Library, s3: "S3Client") -> None:
    path = shelves.folder / "large.tar"
    path.write_bytes(archive(1_000, [bytes(11 << 20)] * 2))
    shelves.fill([(1, [b"a"])])
    shelves.relay.plan(Fault(cut_after=0, only=b"?uploads"))
    with shelves.serve(3600) as (_, client):
        client.upload_tar(NAME, path)
        assert len(client.datas3t(NAME)) == 3
    assert shelves.relay.planned == 0
    assert not s3.list_multipart_uploads(Bucket=shelves.bucket).get("Uploads")
