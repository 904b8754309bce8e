"""`datas3t datas3t import`: names to standard output, what was left out to standard error."""

import json
from typing import TYPE_CHECKING

from tests.cli.conftest import Run
from tests.support.uploads import archive

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_FOLDER = "datas3t/photos/dataranges"
_GOOD = f"{_FOLDER}/{1:020d}-{2:020d}-{1:012d}.tar"
_BAD = f"{_FOLDER}/{9:020d}-{9:020d}-{2:012d}.tar"


def _leave(s3: "S3Client", bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key=_GOOD, Body=archive(1, b"one", b"two").data)
    s3.put_object(Bucket=bucket, Key=_BAD, Body=b"no archive")


def test_what_stands_in_the_bucket_is_added_and_the_rest_told(run: Run, url: str, bucket: str, s3: "S3Client") -> None:
    _leave(s3, bucket)
    done = run("datas3t", "import", "--bucket", "local", "--server-url", url)
    assert (done.returncode, done.stdout) == (0, "photos\n")
    told, summary = done.stderr.splitlines()
    assert told.startswith(f"Left out {_BAD}: it is no archive that can be read: ")
    assert summary == "Imported into 1 datas3ts; left out 1 objects."
    listed = run("cat-range", "photos", "1", "2", "--server-url", url)
    assert listed.stdout == "onetwo"


def test_json_has_the_fields_of_the_rest_answer(run: Run, url: str, bucket: str, s3: "S3Client") -> None:
    _leave(s3, bucket)
    done = run("--server-url", url, "datas3t", "import", "--bucket", "local", "--json")
    found = json.loads(done.stdout)
    assert list(found) == ["imported_datas3ts", "imported_count", "skipped"]
    assert (found["imported_datas3ts"], found["imported_count"]) == (["photos"], 1)
    (skipped,) = found["skipped"]
    assert list(skipped) == ["object_key", "reason"]
    assert done.stdout == json.dumps(found, indent=2) + "\n"


def test_a_bucket_that_is_not_configured_fails_in_one_line(run: Run, url: str) -> None:
    done = run("datas3t", "import", "--bucket", "nowhere", "--server-url", url)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: there is no bucket configuration 'nowhere'")
    assert done.stderr.count("\n") == 1
