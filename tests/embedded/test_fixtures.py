"""The fixtures of the tests: each test has a database and a bucket that no other test uses."""

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import psycopg
import pytest

from tests.support.stack import DatabasePool, wait_until

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ROOT = Path(__file__).parents[2]


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


_TESTS = """
import sys, time
from pathlib import Path
from tests.support.stack import Process
print(Process(["-c", "import time; time.sleep(600)"], Path(sys.argv[1])).pid, flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_a_process_ends_with_the_tests_that_started_it(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", _TESTS, tmp_path / "log"], stdout=subprocess.PIPE, cwd=ROOT) as tests:
        assert tests.stdout
        process = psutil.Process(int(tests.stdout.readline()))
        assert process.is_running()
        tests.kill()
        wait_until(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE, what="its end")
