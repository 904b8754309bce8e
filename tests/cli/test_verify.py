"""`datas3t verify`: what it prints, and its exit codes."""

import json
import urllib.request
from pathlib import Path

import pytest

from datas3t import v1
from datas3t.archive import tar
from datas3t.client import Client
from tests.cli.conftest import Run
from tests.support.tars import archive

RIGHT = archive(1, [b"one", b"two", b"three"])


def upload_as_is(url: str, data: bytes, index: bytes, first: int) -> None:
    """Upload an archive of three datapoints with any bytes, without checksums or the checks of our client."""
    with Client(url) as client:
        calls = client.connection.datarange
        started = calls.StartUpload(
            v1.StartUploadRequest(
                datas3t_name="photos", first_datapoint_index=first, number_of_datapoints=3, data_size=len(data)
            )
        )
        for target, body in ((started.presigned_data_put_url, data), (started.presigned_index_put_url, index)):
            urllib.request.urlopen(urllib.request.Request(target, body, method="PUT"), timeout=30).close()
        calls.CompleteUpload(v1.CompleteUploadRequest(datarange_upload_id=started.datarange_upload_id))


@pytest.fixture
def filled(run: Run, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the URL of a server whose datas3t `photos` has a datarange with checksums and one without."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "a.tar").write_bytes(RIGHT)
    with Client(url) as client:
        client.add_datas3t("photos", bucket="local")
        client.upload_tar("photos", tmp_path / "a.tar")
    raw = archive(4, [b"four", b"five", b"six"])
    upload_as_is(url, raw, tar.scan(lambda start, stop: raw[start:stop], len(raw)).index, 4)
    return url


def test_what_is_right_and_what_is_added(run: Run, filled: str) -> None:
    done = run("verify", "--datas3t", "photos", "--server-url", filled)
    expected = "photos: 0 of 2 dataranges wrong, 6 datapoints right, 20.0 KB read, 1 datarange without checksums\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, expected, "")
    done = run("verify", "--all", "--add", "--max-rate", "1GB", "--server-url", filled)
    expected = "photos: 0 of 2 dataranges wrong, 6 datapoints right, 20.0 KB read, checksums added to 1 datarange\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, expected, "")
    done = run("verify", "--datas3t", "photos", "--json", "--first-datapoint", "5", "--server-url", filled)
    (found,) = json.loads(done.stdout)["datas3ts"]
    assert found == {
        "datas3t_name": "photos",
        "dataranges": 1,
        "datapoints": 3,
        "bytes_read": 10_240,
        "without_checksums": 0,
        "added": 0,
        "wrong": [],
    }


def test_a_line_for_each_datarange_that_is_wrong(run: Run, filled: str) -> None:
    raw = bytearray(archive(7, [b"seven", b"eight", b"nine"]))
    index = tar.scan(lambda start, stop: bytes(raw[start:stop]), len(raw)).index
    raw[1000] = 1  # in a padding, which the server does not read
    upload_as_is(filled, bytes(raw), index, 7)
    done = run("verify", "--datas3t", "photos", "--server-url", filled)
    assert (done.returncode, done.stderr) == (1, "")
    wrong, summary = done.stdout.splitlines()
    assert wrong.startswith("photos: datapoints 7 to 9 are wrong, datas3t/photos/dataranges/")
    assert wrong.endswith("the padding of one of the datapoints 7 to 9 is not zero")
    assert summary.startswith("photos: 1 of 3 dataranges wrong, 6 datapoints right")
    done = run("verify", "--datas3t", "photos", "--json", "--server-url", filled)
    assert done.returncode == 1
    assert [each["min_datapoint_key"] for each in json.loads(done.stdout)["datas3ts"][0]["wrong"]] == [7]


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--all", "--datas3t", "photos"),
        ("--datas3t", "photos", "--fraction", "0"),
        ("--datas3t", "photos", "--fraction", "0.5", "--add"),
        ("--datas3t", "photos", "--first-datapoint", "2", "--last-datapoint", "1"),
    ],
)
def test_wrong_usage(run: Run, arguments: tuple[str, ...]) -> None:
    done = run("verify", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
