"""`push` and `pull` in processes of their own."""

import json
from pathlib import Path

import pytest

from datas3t.client import Client
from tests.cli.conftest import Run
from tests.client.files.folders import filled


@pytest.fixture
def photos(url: str) -> str:
    """Return the URL of a server with the empty datas3t `photos`."""
    with Client(url) as client:
        client.add_datas3t("photos", bucket="local")
    return url


def test_push_tells_what_was_pushed(run: Run, photos: str, tmp_path: Path) -> None:
    filled(tmp_path / "work", {"in/a.jpg": b"one", "in/b/c": b"three"})
    planned = run("push", "--datas3t", "photos", "in", "--dry-run", "--server-url", photos)
    assert (planned.returncode, planned.stdout) == (0, "photos: would push 2 files, 8 B, in 1 archive\n")
    done = run("push", "--datas3t", "photos", "in", "--server-url", photos)
    assert (done.returncode, done.stdout) == (0, "photos: pushed 2 files, 8 B, in 1 archive\n")
    assert "B/s" in done.stderr


def test_a_list_of_files_comes_from_standard_input(run: Run, photos: str, tmp_path: Path) -> None:
    filled(tmp_path / "work", {"a.jpg": b"one", "b.jpg": b"two", "c.jpg": b"no"})
    done = run(
        "push",
        "--datas3t",
        "photos",
        "--files-from",
        "-",
        "--json",
        answer="./b.jpg\na.jpg\n",
        DATAS3T_SERVER_URL=photos,
    )
    assert json.loads(done.stdout) == {
        "files": 2, "size_bytes": 6, "archives": 1, "unchanged": 0, "left_out": 0, "failed": 0
    }  # fmt: skip
    with Client(photos) as client:
        assert client.datas3t("photos").get_many([1, 2]) == [b"two", b"one"]


def test_what_could_not_be_pushed_is_named_and_the_exit_code_is_1(run: Run, photos: str, tmp_path: Path) -> None:
    source = filled(tmp_path / "work" / "in", {"a.jpg": b"one"})
    (source / "link").symlink_to("missing")
    done = run("push", "--datas3t", "photos", "in", "--json", "--server-url", photos)
    assert done.returncode == 1
    assert json.loads(done.stdout)["files"] == json.loads(done.stdout)["failed"] == 1
    assert done.stderr.splitlines() == [
        "Not pushed: in/link cannot be read: No such file or directory",
        "Error: 1 file was not pushed: in/link cannot be read: No such file or directory; all others were",
    ]


def test_wrong_usage_of_push_is_told(run: Run, tmp_path: Path) -> None:
    nothing = run("push", "--datas3t", "photos")
    assert nothing.returncode == 2
    assert "name a file or a folder to push" in nothing.stderr
    (tmp_path / "work" / "list").write_text("../x\n")
    outside = run("push", "--datas3t", "photos", "--files-from", "list")
    assert outside.returncode == 1
    assert "line 1 names '../x', which is not in the folder" in outside.stderr


def test_pulled_files_are_those_that_were_packed_or_pushed(run: Run, photos: str, tmp_path: Path) -> None:
    filled(tmp_path / "work", {"one/a.jpg": b"one", "two/b.jpg": b"two"})
    run("datarange", "pack", "--output", "one.tar", "one")
    named = ("--file", "one.tar", "--names", "one.tar.names.jsonl")
    assert run("datarange", "upload-tar", "--datas3t", "photos", *named, "--server-url", photos).returncode == 0
    run("push", "--datas3t", "photos", "two", "--prefix", "two", "--server-url", photos)
    done = run("pull", "--datas3t", "photos", "--output", "out", "--server-url", photos)
    assert (done.returncode, done.stdout) == (0, "out: pulled 2 files, 6 B\n")
    assert (tmp_path / "work/out/one/a.jpg").read_bytes() == b"one"
    assert (tmp_path / "work/out/two/b.jpg").read_bytes() == b"two"
    again = run("pull", "--datas3t", "photos", "--output", "out", "--json", "--server-url", photos)
    assert json.loads(again.stdout) == {"files": 0, "size_bytes": 0, "unchanged": 2, "failed": 0}
    (tmp_path / "work/out/one/a.jpg").write_bytes(b"mine")
    refused = run("pull", "--datas3t", "photos", "--output", "out", "--match", "one/*", "--server-url", photos)
    assert refused.returncode == 1
    assert refused.stdout == "out: pulled 0 files, 0 B\n"
    assert "Not pulled: one/a.jpg: something else is there" in refused.stderr
