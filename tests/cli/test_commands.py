"""Each command against a real server: what goes to which stream, JSON, exit codes, questions."""

import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.support.tars import archive


@pytest.fixture
def ready(run: Run, url: str, tmp_path: Path) -> Run:
    """A datas3t `first` with datapoints 1 to 5; commands find the server by the environment."""
    (tmp_path / "work/a.tar").write_bytes(archive(1, [b"one\n", b"two\n", b"three\n", b"", b"five\n"]))

    def datas3t(*arguments: str, **options: str):  # type: ignore[no-untyped-def]
        return run(*arguments, DATAS3T_SERVER_URL=url, **options)

    assert datas3t("datas3t", "add", "--name", "first", "--bucket", "local").returncode == 0
    assert datas3t("datarange", "upload-tar", "--datas3t", "first", "--file", "a.tar").returncode == 0
    return datas3t


def test_lists_are_tables_for_people_and_json_for_scripts(ready: Run) -> None:
    table = ready("datas3t", "list")
    assert table.stdout.splitlines()[0].split() == [
        *("NAME", "BUCKET", "DATARANGES", "DATAPOINTS", "LOWEST", "HIGHEST", "SIZE")
    ]
    assert table.stdout.splitlines()[1].split()[:6] == ["first", "local", "1", "5", "1", "5"]
    (found,) = json.loads(ready("datas3t", "list", "--json").stdout)
    assert list(found.items())[:-1] == [
        ("datas3t_name", "first"),
        ("bucket_name", "local"),
        ("datarange_count", 1),
        ("total_datapoints", 5),
        ("lowest_datapoint", 1),
        ("highest_datapoint", 5),
    ]
    ranges = ready("datarange", "list", "--datas3t", "first", "--json")
    ((row,),) = json.loads(ranges.stdout).values()
    assert list(row) == [
        *("datarange_id", "data_object_key", "index_object_key", "min_datapoint_key", "max_datapoint_key", "size_bytes")
    ]
    assert ranges.stdout.startswith('{\n  "dataranges": [\n    {\n')
    assert (row["min_datapoint_key"], row["max_datapoint_key"]) == (1, 5)
    (bucket,) = json.loads(ready("bucket", "list", "--json").stdout)
    assert list(bucket) == ["name", "endpoint", "bucket"]
    assert "datas3t/first/dataranges/" in ready("datarange", "list", "--datas3t", "first").stdout


def test_empty_lists_say_so_on_standard_error_and_are_empty_arrays_in_json(run: Run, url: str) -> None:
    empty = run("datas3t", "list", DATAS3T_SERVER_URL=url)
    assert (empty.stdout, empty.stderr, empty.returncode) == ("", "There are no datas3ts.\n", 0)
    assert run("datas3t", "list", "--json", DATAS3T_SERVER_URL=url).stdout == "[]\n"


def test_what_is_downloaded_is_an_archive_of_the_range(ready: Run, tmp_path: Path) -> None:
    span = ("--first-datapoint", "2", "--last-datapoint", "3")
    done = ready("datarange", "download-tar", "--datas3t", "first", *span, "--output", "b.tar")
    assert done.returncode == 0
    assert done.stdout.startswith(f"{tmp_path / 'work/b.tar'}: ")
    with tarfile.open(tmp_path / "work/b.tar") as found:
        assert found.getnames() == ["00000000000000000002.bin", "00000000000000000003.bin"]
    assert (tmp_path / "work/b.tar").read_bytes()[-1024:] == bytes(1024)


def test_cat_range_writes_contents_alone(ready: Run) -> None:
    done = ready("cat-range", "first", "1", "5")
    assert (done.stdout, done.stderr, done.returncode) == ("one\ntwo\nthree\nfive\n", "", 0)


def test_progress_is_silent_where_there_is_no_terminal(ready: Run) -> None:
    (done) = ready("datarange", "upload-tar", "--datas3t", "first", "--file", "a.tar")
    assert done.returncode == 1, "the keys are taken"
    assert len(done.stderr.splitlines()) == 1
    assert "\x1b" not in done.stderr + done.stdout


def test_errors_are_one_line_that_says_what_to_do(ready: Run) -> None:
    cases = [
        (("datas3t", "add", "--name", "x", "--bucket", "none"), "no bucket configuration"),
        (("datas3t", "delete", "--name", "first", "--force"), "contains 1 dataranges; clear it first"),
        (("datarange", "list", "--datas3t", "none"), "none"),
        (("datarange", "upload-tar", "--datas3t", "first", "--file", "missing.tar"), "missing.tar"),
        (("cat-range", "none", "1", "2"), "none"),
    ]
    for arguments, said in cases:
        done = ready(*arguments)
        assert (done.returncode, done.stdout) == (1, ""), arguments
        assert done.stderr.startswith("Error: "), done.stderr
        assert done.stderr.count("\n") == 1, done.stderr
        assert said in done.stderr, done.stderr


def test_a_download_that_fails_leaves_no_file(ready: Run, tmp_path: Path) -> None:
    span = ("--first-datapoint", "50", "--last-datapoint", "60")
    done = ready("datarange", "download-tar", "--datas3t", "first", *span, "--output", "b.tar")
    assert done.returncode == 1
    assert not (tmp_path / "work/b.tar").exists()


@pytest.mark.parametrize("answer", ["", "\n", "n\n", "no\n", "yes please\n"])
def test_destructive_commands_ask_and_take_anything_but_yes_for_no(ready: Run, answer: str) -> None:
    done = ready("datas3t", "clear", "--name", "first", answer=answer)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "Remove all datapoints of first? [y/N] Not done.\n"
    assert ready("cat-range", "first", "1", "1").stdout == "one\n"


def test_yes_or_force_proceeds(ready: Run) -> None:
    span = ("--first-datapoint", "1", "--last-datapoint", "5")
    done = ready("datarange", "delete", "--datas3t", "first", *span, answer="Yes\n")
    assert "Removed 1 datarange of first." in done.stderr
    assert ready("datas3t", "clear", "--name", "first", "--force").returncode == 0
    assert "Removed datas3t first." in ready("datas3t", "delete", "--name", "first", answer="y\n").stderr
    assert ready("bucket", "delete", "--name", "none", "--force").returncode == 1


def test_buckets_are_added_updated_and_refused_by_what_is_wrong(ready: Run) -> None:
    (local,) = json.loads(ready("bucket", "list", "--json").stdout)
    keys = ("--access-key", "wrong", "--secret-key", "wrong")
    added = ready("bucket", "add", "--name", "two", "--endpoint", local["endpoint"], "--bucket", local["bucket"], *keys)
    assert added.returncode == 1
    updated = ready("bucket", "update", "--name", "local", *keys)
    assert "access key is unknown" in updated.stderr


def test_pack_numbers_files_in_path_order_and_says_which_is_which(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "work/in"
    (folder / "deep").mkdir(parents=True)
    for name in ("b.txt", "a.json.zst", "deep/c", "z.jpg"):
        (folder / name).write_text(name)
    done = run("datarange", "pack", "--first-datapoint", "7", "--output", "out.tar", "in")
    assert done.returncode == 0, done.stderr
    with tarfile.open(tmp_path / "work/out.tar") as found:
        assert found.getnames() == [
            *("00000000000000000007.json.zst", "00000000000000000008.txt"),
            *("00000000000000000009.bin", "00000000000000000010.jpg"),
        ]
    lines = [json.loads(line) for line in (tmp_path / "work/out.tar.names.jsonl").read_text().splitlines()]
    assert [line["key"] for line in lines] == [7, 8, 9, 10]
    assert [Path(line["path"]).name for line in lines] == ["a.json.zst", "b.txt", "c", "z.jpg"]


def test_a_reader_that_goes_away_is_no_error_to_speak_of(ready: Run, url: str, tmp_path: Path) -> None:
    (tmp_path / "work/b.tar").write_bytes(archive(6, [b"x" * 1000] * 2000))
    assert ready("datarange", "upload-tar", "--datas3t", "first", "--file", "b.tar").returncode == 0
    script = f"{sys.executable} -m datas3t cat-range first 1 2005 --server-url {url} | head -c 1"
    done = subprocess.run(script, check=False, shell=True, capture_output=True)
    assert (done.stdout, done.stderr) == (b"o", b"")
