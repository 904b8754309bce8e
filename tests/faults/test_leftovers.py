"""Tests that what S3 created in a request whose response was lost does not stay."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.faults.relayed import NAME, RelayedDatas3t, relayed_datas3t
from tests.support.faults import Fault
from tests.support.tars import archive

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from datas3t.embedded.stack import Services


@pytest.fixture
def relayed(tmp_path: Path, services: "Services", database: str, bucket: str) -> Iterator[RelayedDatas3t]:
    """Yield an empty datas3t, used by only this test, behind a relay."""
    with relayed_datas3t(tmp_path, services, database, bucket) as created:
        yield created


def test_a_multipart_upload_whose_id_was_lost_is_aborted(relayed: RelayedDatas3t, s3: "S3Client") -> None:
    path = relayed.folder / "large.tar"
    path.write_bytes(archive(1_000, [bytes(11 << 20)] * 2))
    relayed.fill([(1, [b"a"])])
    relayed.relay.plan(Fault(cut_after=0, only=b"?uploads"))
    with relayed.serve(3600) as (_, client):
        client.upload_tar(NAME, path)
        assert len(client.datas3t(NAME)) == 3
    assert relayed.relay.planned == 0
    assert not s3.list_multipart_uploads(Bucket=relayed.bucket).get("Uploads")
