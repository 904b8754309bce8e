"""The fixtures of the tests: each test has a database and a bucket that no other test uses."""

from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.support.stack import DatabasePool

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@pytest.mark.parametrize("turn", [1, 2])
def test_each_test_has_a_migrated_database_of_its_own(database: str, turn: int) -> None:
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT count(*) FROM s3_buckets").fetchone() == (0,)
        connection.execute("CREATE TABLE only_here ()")


@pytest.mark.parametrize("turn", [1, 2])
def test_rows_of_a_test_are_gone_when_the_next_one_has_the_database(database: str, turn: int) -> None:
    insert = """INSERT INTO s3_buckets (name, endpoint, bucket, region, access_key, secret_key)
                VALUES ('a', 'b', 'c', 'd', 'e', 'f') RETURNING id"""
    with psycopg.connect(database) as connection:
        assert connection.execute(insert).fetchone() == (1,)


def test_a_database_that_other_connections_still_use_is_lent_again(databases: DatabasePool) -> None:
    with databases.lend() as url:
        connection = psycopg.connect(url)
        connection.execute("SELECT FROM s3_buckets")
    with databases.lend() as same:
        assert same == url
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    connection.close()


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
