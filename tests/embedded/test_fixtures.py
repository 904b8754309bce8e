"""The fixtures themselves: every test has a database and a bucket to itself."""

from typing import TYPE_CHECKING

import psycopg
import pytest

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@pytest.mark.parametrize("turn", [1, 2])
def test_each_test_has_a_migrated_database_of_its_own(database: str, turn: int) -> None:
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT count(*) FROM s3_buckets").fetchone() == (0,)
        connection.execute("CREATE TABLE only_here ()")


def test_an_empty_database_is_empty(empty_database: str) -> None:
    with psycopg.connect(empty_database) as connection:
        tables = "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'"
        assert connection.execute(tables).fetchone() == (0,)


@pytest.mark.parametrize("turn", [1, 2])
def test_each_test_has_a_bucket_of_its_own(s3: "S3Client", bucket: str, turn: int) -> None:
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="left/behind", Body=b"content")
    upload = s3.create_multipart_upload(Bucket=bucket, Key="open")
    s3.upload_part(Bucket=bucket, Key="open", UploadId=upload["UploadId"], PartNumber=1, Body=b"part")
