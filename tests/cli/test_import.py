"""Test `datas3t datas3t import`: it prints names to standard output and skipped objects to standard error."""

import json
from typing import TYPE_CHECKING

from tests.cli.conftest import Run
from tests.support.uploads import archive

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_FOLDER = "datas3t/photos/dataranges"
_ARCHIVE = f"{_FOLDER}/{1:020d}-{2:020d}-{1:012d}.tar"
_NOT_AN_ARCHIVE = f"{_FOLDER}/{9:020d}-{9:020d}-{2:012d}.tar"


def _put_archives(s3: "S3Client", bucket: str) -> None:
    """Put a valid archive of two datapoints and an invalid one into the bucket."""
    s3.put_object(Bucket=bucket, Key=_ARCHIVE, Body=archive(1, b"one", b"two").data)
    s3.put_object(Bucket=bucket, Key=_NOT_AN_ARCHIVE, Body=b"no archive")


def test_archives_in_the_bucket_are_added_and_skipped_objects_are_printed(
    run: Run, url: str, bucket: str, s3: "S3Client"
) -> None:
    _put_archives(s3, bucket)
    done = run("datas3t", "import", "--bucket", "local", "--server-url", url)
    assert (done.returncode, done.stdout) == (0, "photos\n")
    skipped, summary = done.stderr.splitlines()
    assert skipped.startswith(f"Skipped {_NOT_AN_ARCHIVE}: it cannot be read as an archive: ")
    assert summary == "Imported 1 datas3t; skipped 1 object."
    listed = run("cat-range", "photos", "1", "2", "--server-url", url)
    assert listed.stdout == "onetwo"


def test_json_has_the_fields_of_the_rest_response(run: Run, url: str, bucket: str, s3: "S3Client") -> None:
    _put_archives(s3, bucket)
    done = run("--server-url", url, "datas3t", "import", "--bucket", "local", "--json")
    imported = json.loads(done.stdout)
    assert list(imported) == ["imported_datas3ts", "imported_count", "skipped"]
    assert (imported["imported_datas3ts"], imported["imported_count"]) == (["photos"], 1)
    (skipped,) = imported["skipped"]
    assert list(skipped) == ["object_key", "reason"]
    assert done.stdout == json.dumps(imported, indent=2) + "\n"


def test_an_unknown_bucket_configuration_is_a_one_line_error(run: Run, url: str) -> None:
    done = run("datas3t", "import", "--bucket", "nowhere", "--server-url", url)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: there is no bucket configuration 'nowhere'")
    assert done.stderr.count("\n") == 1


def test_names_from_the_bucket_change_no_terminal_and_forge_no_line(
    run: Run, url: str, bucket: str, s3: "S3Client"
) -> None:
    key = f"{_FOLDER}/\x1b]0;title\x07\nError: forged \u202egnp.tar"
    s3.put_object(Bucket=bucket, Key=key, Body=b"")
    done = run("datas3t", "import", "--bucket", "local", "--server-url", url)
    as_json = run("datas3t", "import", "--bucket", "local", "--json", "--server-url", url)
    s3.delete_object(Bucket=bucket, Key=key)  # no XML can name it, so it is not deleted with others
    assert done.returncode == 0
    assert r"\x1b]0;title\x07\nError: forged \u202egnp.tar" in done.stderr
    assert not {"\x1b", "\x07", "\u202e"} & set(done.stderr + as_json.stdout)
    assert "\nError" not in done.stderr
    assert json.loads(as_json.stdout)["skipped"][0]["object_key"] == key
