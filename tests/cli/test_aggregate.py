"""Test `datas3t aggregate` against a real server."""

from pathlib import Path

import pytest

from datas3t.client import Client
from tests.cli.conftest import Run
from tests.support.tars import archive


@pytest.fixture
def photos(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the URL of a server whose datas3t `photos` has datapoints 1 to 6 in three dataranges, and 10."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with Client(url) as client:
        client.add_datas3t("photos", bucket="local")
        for first, contents in [(1, [b"one", b"two"]), (3, [b"three", b""]), (5, [b"five", b"six"]), (10, [b"ten"])]:
            (tmp_path / "photos.tar").write_bytes(archive(first, contents))
            client.upload_tar("photos", tmp_path / "photos.tar")
    return url


def in_photos(first: int, last: int) -> list[str]:
    return ["--datas3t", "photos", "--first-datapoint", str(first), "--last-datapoint", str(last)]


def test_the_result_goes_to_standard_output_and_the_bytes_moved_to_standard_error(run: Run, photos: str) -> None:
    done = run("aggregate", *in_photos(1, 6), "--max-parallelism", "2", "--max-retries", "1", "--server-url", photos)
    assert (done.returncode, done.stdout) == (0, "photos: datapoints 1 to 6, 6.5 KB\n")
    assert done.stderr == "S3 copied 0 B; this client moved 6.5 KB.\n"
    assert run("--server-url", photos, "cat-range", "photos", "1", "10").stdout == "onetwothreefivesixten"
    with Client(photos) as client:
        assert [(each.first, each.last) for each in client.list_dataranges("photos")] == [(1, 6), (10, 10)]


def test_a_range_that_cannot_be_aggregated_is_one_line_that_names_the_nearest_one(run: Run, photos: str) -> None:
    done = run("aggregate", *in_photos(2, 10), DATAS3T_SERVER_URL=photos)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "Error: datapoints 2 to 10 of datas3t 'photos' cannot be aggregated: "
        "it cuts through the datarange from 1 to 2; the nearest range that can be aggregated is 1 to 6\n"
    )


@pytest.mark.parametrize("missing", ["--datas3t", "--first-datapoint", "--last-datapoint"])
def test_a_missing_option_is_wrong_usage(run: Run, missing: str) -> None:
    options = in_photos(1, 6)
    at = options.index(missing)
    done = run("aggregate", *options[:at], *options[at + 2 :])
    assert done.returncode == 2
    assert f"Missing option '{missing}'" in done.stderr
