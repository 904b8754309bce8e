"""Test each command against a real server: output streams, JSON, exit codes and confirmations."""

import json
import re
import shlex
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from datas3t import v1
from datas3t.client import Client
from tests.cli.conftest import Run
from tests.support.tars import archive
from tests.support.uploads import put

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from datas3t.embedded.stack import Services


@pytest.fixture
def run_with_photos(run: Run, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return `run` for a server whose datas3t `photos` has datapoints 1 to 5, with the server in the environment."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "work/a.tar").write_bytes(archive(1, [b"one\n", b"two\n", b"three\n", b"", b"five\n"]))

    def datas3t(*arguments: str, **options: str):  # type: ignore[no-untyped-def]
        return run(*arguments, DATAS3T_SERVER_URL=url, **options)

    with Client(url) as client:
        client.add_datas3t("photos", bucket="local")
        client.upload_tar("photos", tmp_path / "work/a.tar")
    return datas3t


def test_lists_are_tables_for_people_and_json_for_scripts(run_with_photos: Run) -> None:
    table = run_with_photos("datas3t", "list")
    assert table.stdout.splitlines()[0].split() == [
        *("NAME", "BUCKET", "DATARANGES", "DATAPOINTS", "LOWEST", "HIGHEST", "SIZE")
    ]
    assert table.stdout.splitlines()[1].split()[:6] == ["photos", "local", "1", "5", "1", "5"]
    assert run_with_photos("datas3t", "list", "--json").stdout == (
        '[\n  {\n    "datas3t_name": "photos",\n    "bucket_name": "local",\n    "datarange_count": 1,\n'
        '    "total_datapoints": 5,\n    "lowest_datapoint": 1,\n    "highest_datapoint": 5,\n'
        '    "total_bytes": 10240\n  }\n]\n'
    )
    ranges = run_with_photos("datarange", "list", "--datas3t", "photos").stdout.splitlines()
    assert ranges[0].split() == ["FIRST", "LAST", "DATAPOINTS", "SIZE", "ARCHIVE"]
    assert re.fullmatch(r" +1 +5 +5 +10.0 KB +datas3t/photos/dataranges/\S+\.tar", ranges[1])


def shape(value: Any) -> Any:
    """Return the field names in order and the types of their values. An empty list equals any other list."""
    if isinstance(value, dict):
        return [(name, shape(field)) for name, field in value.items()]
    if isinstance(value, list):
        return [shape(value[0])] if value else Anything()
    return type(value)


class Anything:
    """Equal to every object."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


PAGE = Path(__file__).parents[2] / "docs/cli.md"
DOCUMENTED = re.findall(r"^\$ datas3t ([^\n]* --json)\n([\[{].*?^[\]}])$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def test_json_has_the_documented_shape(run_with_photos: Run, url: str, tmp_path: Path) -> None:
    with Client(url) as client:
        client.datas3t("photos").table("labels").append([{"key": 1, "label": "cat"}])
    (tmp_path / "work/~/photos").mkdir(parents=True)
    (tmp_path / "work/~/photos/1.jpg").write_bytes(b"one")
    assert len(DOCUMENTED) >= 4
    for command, example in DOCUMENTED:
        done = run_with_photos(*shlex.split(command))
        assert shape(json.loads(done.stdout)) == shape(json.loads(example)), command
        assert done.stdout == json.dumps(json.loads(done.stdout), indent=2) + "\n"


def test_empty_lists_print_a_note_to_standard_error_and_an_empty_array_as_json(run: Run, url: str) -> None:
    empty = run("datas3t", "list", DATAS3T_SERVER_URL=url)
    assert (empty.stdout, empty.stderr, empty.returncode) == ("", "There are no datas3ts.\n", 0)
    assert run("datas3t", "list", "--json", DATAS3T_SERVER_URL=url).stdout == "[]\n"


def test_an_upload_prints_its_datapoints_and_its_duration(run_with_photos: Run, tmp_path: Path) -> None:
    added = run_with_photos("datas3t", "add", "--name", "more", "--bucket", "local")
    assert (added.returncode, added.stdout, added.stderr) == (0, "Added datas3t more.\n", "")
    done = run_with_photos("datarange", "upload-tar", "--datas3t", "more", "--file", "a.tar")
    assert (done.returncode, done.stdout) == (0, "more: datapoints 1 to 5, 10.0 KB\n")
    assert re.fullmatch(r"\d+\.\d s, \d+(\.\d)? [KMG]?B/s\n", done.stderr)


def test_a_download_is_an_archive_of_the_range(run_with_photos: Run, tmp_path: Path) -> None:
    span = ("--first-datapoint", "2", "--last-datapoint", "3")
    done = run_with_photos("datarange", "download-tar", "--datas3t", "photos", *span, "--output", "b.tar")
    assert done.returncode == 0
    assert done.stdout.startswith("b.tar: ")
    with tarfile.open(tmp_path / "work/b.tar") as downloaded:
        assert downloaded.getnames() == ["00000000000000000002.bin", "00000000000000000003.bin"]
    assert (tmp_path / "work/b.tar").read_bytes()[-1024:] == bytes(1024)


def test_cat_range_writes_only_the_contents(run_with_photos: Run) -> None:
    done = run_with_photos("cat-range", "photos", "1", "5")
    assert (done.stdout, done.stderr, done.returncode) == ("one\ntwo\nthree\nfive\n", "", 0)
    assert run_with_photos("cat-range", "photos", "4", "4").returncode == 0, "an empty datapoint exists"


def test_a_full_disk_is_a_one_line_error(run_with_photos: Run, url: str) -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "datas3t", "cat-range", "photos", "1", "5", "--server-url", url]
        done = subprocess.run(command, check=False, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (1, "Error: No space left on device\n")


def test_without_a_terminal_there_are_no_progress_bars(run_with_photos: Run) -> None:
    done = run_with_photos("datarange", "upload-tar", "--datas3t", "photos", "--file", "a.tar")
    assert done.returncode == 1, "the keys exist already"
    assert len(done.stderr.splitlines()) == 1
    assert "\x1b" not in done.stderr + done.stdout


def test_errors_are_one_line_that_says_what_to_do_next(run_with_photos: Run) -> None:
    cases = [
        (("datas3t", "add", "--name", "x", "--bucket", "none"), "no bucket configuration"),
        (("datas3t", "delete", "--name", "photos", "--force"), "contains 1 dataranges; clear it first"),
        (("datarange", "list", "--datas3t", "none"), "none"),
        (("datarange", "upload-tar", "--datas3t", "photos", "--file", "missing.tar"), "missing.tar"),
        (("cat-range", "none", "1", "2"), "none"),
        (("cat-range", "photos", "6", "9"), "photos has no datapoint from 6 to 9"),
        (("datarange", "pack", "--output", "b.tar", "missing"), "missing cannot be read"),
    ]
    for arguments, expected in cases:
        done = run_with_photos(*arguments)
        assert (done.returncode, done.stdout) == (1, ""), arguments
        assert done.stderr.startswith("Error: "), done.stderr
        assert done.stderr.count("\n") == 1, done.stderr
        assert expected in done.stderr, done.stderr


def test_a_download_that_fails_leaves_no_file(run_with_photos: Run, tmp_path: Path) -> None:
    span = ("--first-datapoint", "50", "--last-datapoint", "60")
    done = run_with_photos("datarange", "download-tar", "--datas3t", "photos", *span, "--output", "b.tar")
    assert done.returncode == 1
    assert not (tmp_path / "work/b.tar").exists()


DESTRUCTIVE = [
    (("bucket", "delete", "--name", "local"), "Remove bucket configuration local?"),
    (("datas3t", "clear", "--name", "photos"), "Remove all datapoints of photos?"),
    (("datas3t", "delete", "--name", "photos"), "Remove datas3t photos?"),
    (
        ("datarange", "delete", "--datas3t", "photos", "--first-datapoint", "1", "--last-datapoint", "5"),
        "Remove datapoints 1 to 5 of photos?",
    ),
]


def test_deleting_a_datas3t_names_its_tables_in_the_question(run_with_photos: Run, url: str) -> None:
    content = b"PAR1" + bytes(40) + b"PAR1"
    with Client(url) as client:
        for table in ("labels", "scores"):
            started = client.connection.table.StartTableFile(
                v1.StartTableFileRequest(datas3t_name="photos", table=table, first_key=1, last_key=9, size=len(content))
            )
            put(started.presigned_put_url, content)
            done = v1.CompleteTableFileRequest(table_file_id=started.table_file_id)
            client.connection.table.CompleteTableFile(done)
        client.delete_dataranges("photos", 1, 5)
    asked = run_with_photos("datas3t", "delete", "--name", "photos", answer="n\n")
    assert asked.stderr == "Remove datas3t photos and its 2 tables? [y/N] Nothing was changed.\n"
    assert run_with_photos("datas3t", "delete", "--name", "photos", answer="y\n").returncode == 0
    assert run_with_photos("list", "--json").stdout == "[]\n"


def test_destructive_commands_ask_and_do_nothing_unless_the_answer_is_yes(run_with_photos: Run) -> None:
    clear = DESTRUCTIVE[1]
    for (command, question), answer in [
        *((each, "n\n") for each in DESTRUCTIVE),
        (clear, "\n"),
        (clear, "yes please\n"),
    ]:
        done = run_with_photos(*command, answer=answer)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", f"{question} [y/N] Nothing was changed.\n")
    for command, question in DESTRUCTIVE:
        done = run_with_photos(*command, answer="")
        message = "Error: nobody answered, so nothing was changed; answer y, or give --force"
        assert (done.returncode, done.stdout, done.stderr) == (1, "", f"{question} [y/N] \n{message}\n")
    assert run_with_photos("cat-range", "photos", "1", "1").stdout == "one\n"


def test_purging_versions_asks_even_with_force(run_with_photos: Run) -> None:
    for command, question in DESTRUCTIVE:
        if command[0] == "bucket":
            continue
        done = run_with_photos(*command, "--force", "--purge-versions", answer="")
        message = "Error: nobody answered, so nothing was changed; answer y"
        asked = f"{question} With all versions of the objects? [y/N] \n{message}\n"
        assert (done.returncode, done.stdout, done.stderr) == (1, "", asked)
    span = ("--first-datapoint", "1", "--last-datapoint", "5")
    done = run_with_photos(
        "datarange", "delete", "--datas3t", "photos", *span, "--force", "--purge-versions", answer="y\n"
    )
    assert done.stdout == "Removed 1 datarange of photos.\n"
    for name in ("clear", "delete"):
        assert run_with_photos("datas3t", name, "--name", "photos", "--purge-versions", answer="y\n").returncode == 0


def test_a_destructive_command_proceeds_after_yes_or_with_force(run_with_photos: Run) -> None:
    span = ("--first-datapoint", "1", "--last-datapoint", "5")
    done = run_with_photos("datarange", "delete", "--datas3t", "photos", *span, answer="Yes\n")
    assert done.stdout == "Removed 1 datarange of photos.\n"
    cleared = run_with_photos("datas3t", "clear", "--name", "photos", "--force")
    assert (cleared.stdout, cleared.stderr) == ("Removed 0 dataranges of photos; deleting 0 objects.\n", "")
    deleted = run_with_photos("datas3t", "delete", "--name", "photos", answer="y")  # without a line feed
    assert deleted.stdout == "Removed datas3t photos.\n"
    assert run_with_photos("bucket", "delete", "--name", "none", "--force").returncode == 1


def test_buckets_with_wrong_credentials_are_neither_added_nor_updated(run_with_photos: Run) -> None:
    (local,) = json.loads(run_with_photos("bucket", "list", "--json").stdout)
    keys = ("--access-key", "wrong", "--secret-key", "wrong")
    added = run_with_photos(
        "bucket", "add", "--name", "two", "--endpoint", local["endpoint"], "--bucket", local["bucket"], *keys
    )
    assert added.returncode == 1
    updated = run_with_photos("bucket", "update", "--name", "local", *keys)
    assert "access key is unknown" in updated.stderr


def test_pack_numbers_files_in_path_order_and_lists_their_keys(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "work/in"
    (folder / "deep").mkdir(parents=True)
    for name in ("b.txt", "a.json.zst", "deep/c", "z.jpg"):
        (folder / name).write_text(name)
    done = run("datarange", "pack", "--first-datapoint", "7", "--output", "out.tar", "in")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("out.tar: datapoints 7 to 10, ")
    with tarfile.open(tmp_path / "work/out.tar") as packed:
        assert packed.getnames() == [
            *("00000000000000000007.json.zst", "00000000000000000008.txt"),
            *("00000000000000000009.bin", "00000000000000000010.jpg"),
        ]
    lines = [json.loads(line) for line in (tmp_path / "work/out.tar.names.jsonl").read_text().splitlines()]
    assert [line["key"] for line in lines] == [7, 8, 9, 10]
    assert [Path(line["path"]).name for line in lines] == ["a.json.zst", "b.txt", "c", "z.jpg"]


def test_pack_can_number_from_the_next_free_key_of_a_datas3t_on(run_with_photos: Run, tmp_path: Path) -> None:
    (tmp_path / "work/x.txt").write_text("six")
    overlapping = run_with_photos("datarange", "pack", "--first-datapoint", "5", "--output", "b.tar", "x.txt")
    assert overlapping.returncode == 0
    refused = run_with_photos("datarange", "upload-tar", "--datas3t", "photos", "--file", "b.tar")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == (
        "Error: datapoints 5 to 5 overlap the datarange from 1 to 5 of datas3t 'photos'; the next free key is 6\n"
    )
    packed = run_with_photos("datarange", "pack", "--after", "photos", "--output", "b.tar", "x.txt")
    assert packed.stdout.startswith("b.tar: datapoints 6 to 6, ")
    assert run_with_photos("datarange", "upload-tar", "--datas3t", "photos", "--file", "b.tar").returncode == 0
    assert run_with_photos("cat-range", "photos", "5", "6").stdout == "five\nsix"
    both = ("--after", "photos", "--first-datapoint", "9", "--output", "c.tar", "x.txt")
    assert run_with_photos("datarange", "pack", *both).returncode == 2
    assert "nowhere" in run_with_photos("datarange", "pack", "--after", "nowhere", "--output", "c.tar", "x.txt").stderr


def test_a_reader_that_exits_early_causes_no_error_message(run_with_photos: Run, url: str, tmp_path: Path) -> None:
    (tmp_path / "work/b.tar").write_bytes(archive(6, [b"x" * 1000] * 2000))
    assert run_with_photos("datarange", "upload-tar", "--datas3t", "photos", "--file", "b.tar").returncode == 0
    script = f"{sys.executable} -m datas3t cat-range photos 1 2005 --server-url {url} | head -c 1"
    done = subprocess.run(script, check=False, shell=True, capture_output=True)
    assert (done.stdout, done.stderr) == (b"o", b"")


def test_the_spellings_of_the_earlier_system_work(run_with_photos: Run, tmp_path: Path) -> None:
    (tmp_path / "work/b.tar").write_bytes(archive(6, [b"six\n"]))
    whole = ("--datas3t", "photos", "--first-datapoint", "1", "--last-datapoint", "6")
    for arguments, expected in [
        (("add", "--name", "more", "--bucket", "local"), "Added datas3t more."),
        (("list", "--json"), '"datas3t_name": "photos"'),
        (("upload-tar", "--datas3t", "photos", "--file", "b.tar", "--max-parallelism", "2"), "datapoints 6 to 6"),
        (("optimize-all", "--dry-run", "--min-score", "0"), "photos: would merge 2 dataranges"),
        (("datarange", "optimize", "--datas3t", "photos", "--dry-run", "--min-score", "0"), "photos: would merge 2"),
        (("datarange", "aggregate", *whole), "photos: datapoints 1 to 6"),
        (("import", "--bucket", "local", "--json"), '"imported_count": 0'),
        (("clear", "--name", "photos", "--force"), "Removed 1 datarange of photos"),
        (("delete", "--name", "photos", "--force"), "Removed datas3t photos."),
    ]:
        done = run_with_photos(*arguments)
        assert done.returncode == 0, done.stderr
        assert expected in done.stdout, arguments
    assert run_with_photos("optimize-all", "--all").returncode == 2
    top = run_with_photos("--help").stdout.partition("Commands:")[2]
    assert [line.split()[0] for line in top.splitlines() if line[2:3].strip()] == [
        *("aggregate", "bucket", "cat-range", "completion", "datarange", "datas3t", "import-webdataset"),
        *("keygen", "login", "logout", "optimize", "pull", "push", "rekey", "server", "table", "token", "up", "verify"),
        "whoami",
    ]


def test_the_keys_of_a_bucket_need_not_be_options(run_with_photos: Run, services: "Services", s3: "S3Client") -> None:
    stored = services.s3
    add = ("bucket", "add", "--endpoint", stored.endpoint, "--bucket", "keys-elsewhere")
    s3.create_bucket(Bucket="keys-elsewhere")
    access, secret = {"AWS_ACCESS_KEY_ID": stored.access_key}, {"AWS_SECRET_ACCESS_KEY": stored.secret_key}
    public = ("--public-endpoint", "https://s3.example.com")
    done = run_with_photos(*add, "--name", "x", *public, **access, **secret)
    assert (done.returncode, done.stdout, done.stderr) == (0, "Added bucket configuration x.\n", "")
    (_, _, row) = run_with_photos("bucket", "list").stdout.splitlines()
    assert row.split() == ["x", stored.endpoint, "keys-elsewhere", "us-east-1", "https://s3.example.com"]
    update = ("bucket", "update", "--name", "x", "--secret-key", "-")
    assert run_with_photos(*update, answer=f"{stored.secret_key}\n", **access).returncode == 0
    wrong = run_with_photos(*update, answer="wrong", **access, **secret)
    assert (wrong.returncode, "the secret key is wrong" in wrong.stderr) == (1, True)
    empty = run_with_photos(*update, **access, **secret)
    assert (empty.returncode, empty.stderr) == (1, "Error: standard input is empty; it must have the secret key\n")
    assert run_with_photos(*add, "--name", "y", **access).returncode == 2
    assert run_with_photos("bucket", "delete", "--name", "x", "--force").stdout == "Removed bucket configuration x.\n"
    s3.delete_bucket(Bucket="keys-elsewhere")
