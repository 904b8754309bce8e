"""Test `datas3t table`: rows go in and out in each format, and what is printed."""

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datas3t.cli import main
from datas3t.client import Client
from tests.cli.conftest import Run
from tests.support.tars import archive, contents

Table = Callable[..., tuple[int, str, str]]

CSV = 'key,label,score\n1,cat,0.5\n3,"a ""dog""",\n2,,1.5\n'
ROWS = [
    {"key": 1, "label": "cat", "score": 0.5},
    {"key": 2, "label": None, "score": 1.5},
    {"key": 3, "label": 'a "dog"', "score": None},
]


@pytest.fixture
def photos(url: str, tmp_path: Path) -> str:
    """Return the URL of a server whose datas3t `photos` has datapoints 1 to 5."""
    with Client(url) as client:
        client.add_datas3t("photos", bucket="local")
        (tmp_path / "photos.tar").write_bytes(archive(1, contents(1, 5, 100)))
        client.upload_tar("photos", tmp_path / "photos.tar")
    return url


@pytest.fixture
def table(photos: str, capfd: pytest.CaptureFixture[str]) -> Table:
    """Return a function that runs `datas3t table` in this process; it returns exit code, output and errors."""

    def run_table(command: str, *arguments: str) -> tuple[int, str, str]:
        capfd.readouterr()
        code = main.run(["table", command, "--datas3t", "photos", *arguments, "--server-url", photos])
        return code, *capfd.readouterr()

    return run_table


def test_rows_go_in_and_out_in_each_format(table: Table, run: Run, photos: str, tmp_path: Path) -> None:
    def printed(command: str, *arguments: str) -> str:
        code, out, errors = table(command, *arguments)
        assert (code, errors) == (0, "")
        return out

    (tmp_path / "labels.csv").write_text(CSV)
    appended = printed("append", "--table", "labels", "--file", str(tmp_path / "labels.csv"))
    assert appended == "Appended 3 rows to labels.\n"
    lines = printed("export", "--table", "labels", "--output", "-").splitlines()
    assert [json.loads(line) for line in lines] == ROWS

    for suffix in ("parquet", "csv", "jsonl"):
        path = tmp_path / f"out.{suffix}"
        exported = printed("export", "--table", "labels", "--output", str(path))
        assert exported == f"Exported 3 rows of labels to {path}.\n"
        printed("append", "--table", suffix, "--file", str(path))
    with Client(photos) as client:
        for name in ("labels", "parquet", "csv", "jsonl"):
            assert client.datas3t("photos").table(name).read().to_pylist() == ROWS
    assert pq.read_table(tmp_path / "out.parquet").to_pylist() == ROWS

    replaced = '{"key": 2, "label": "bird"}\n{"key": 4, "score": 2}'
    of_labels = ("--datas3t", "photos", "--table", "labels", "--server-url", photos)
    assert run("table", "append", *of_labels, "--file", "-", answer=replaced).stdout == "Appended 2 rows to labels.\n"
    assert printed("show", "--table", "labels", "--limit", "3") == (
        'key  label    score\n  1  cat        0.5\n  2  bird         -\n  3  a "dog"      -\n'
    )
    assert json.loads(printed("show", "--table", "labels", "--json"))[3] == {"key": 4, "label": None, "score": 2.0}

    listed = json.loads(printed("list", "--json"))["tables"]
    assert [each["table"] for each in listed] == ["csv", "jsonl", "labels", "parquet"]
    assert listed[2]["file_count"] == 2
    assert printed("list").splitlines()[0] == "TABLE    FILES  LOWEST  HIGHEST    SIZE"
    assert printed("drop", "--table", "csv", "--force") == "Removed table csv of photos (1 file).\n"
    assert len(json.loads(printed("list", "--json"))["tables"]) == 3


def test_what_has_no_rows_is_an_error_of_one_line(
    table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, content, message in (
        ("rows.txt", "key\n1\n", "rows.txt: the name must end with .parquet, .csv or .jsonl"),
        ("rows.csv", "key,n\n1,one,two\n", "rows.csv: CSV parse error"),
        ("rows.csv", "key\none\n", "rows.csv: In CSV column #0"),
        ("rows.csv", "n\n1\n", "the rows have neither 'key' nor 'path'"),
        ("rows.csv", "path\na.jpg\n", "no datapoint has the path 'a.jpg'"),
        ("rows.jsonl", '{"key": 1', "rows.jsonl: JSON parse error"),
        ("rows.parquet", "key", "rows.parquet: "),
        ("missing.csv", None, "missing.csv cannot be read: No such file or directory"),
    ):
        if content is not None:
            Path(name).write_text(content)
        code, out, errors = table("append", "--table", "t", "--file", name)
        assert (code, out) == (1, "")
        assert errors.startswith(f"Error: {message}")
        assert errors.count("\n") == 1
    for command in ("show", "export", "drop"):
        more = {"export": ["--output", "-"], "drop": ["--force"]}.get(command, [])
        code, out, errors = table(command, "--table", "none", *more)
        assert (code, out) == (1, "")
        assert "'none'" in errors
    assert table("list") == (0, "", "photos has no tables.\n")


def test_csv_holds_no_lists_and_no_part_of_a_file_is_left(table: Table, photos: str, tmp_path: Path) -> None:
    with Client(photos) as client:
        client.datas3t("photos").table("boxes").append(pa.table({"key": [1], "box": [[1, 2]]}))
    folder = tmp_path / "out"
    folder.mkdir()
    code, _, errors = table("export", "--table", "boxes", "--output", str(folder / "boxes.csv"))
    assert code == 1
    assert errors.startswith("Error: CSV cannot hold a column: ")
    assert list(folder.iterdir()) == []
    assert json.loads(table("export", "--table", "boxes", "--output", "-")[1]) == {"key": 1, "box": [1, 2]}


def test_without_pyarrow_the_command_says_how_to_install_it(run: Run, tmp_path: Path) -> None:
    (tmp_path / "pyarrow.py").write_text("raise ModuleNotFoundError('blocked', name='pyarrow')")
    arguments = ("table", "show", "--datas3t", "photos", "--table", "t", "--server-url", "http://127.0.0.1:1")
    done = run(*arguments, PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "Error: this needs pyarrow; run: pip install 'datas3t[tables]'\n"


def test_optimize_merges_the_files_of_tables(photos: str, capfd: pytest.CaptureFixture[str]) -> None:
    with Client(photos) as client:
        for number in range(3):
            client.datas3t("photos").table("labels").append([{"key": 1 + number, "n": 1}])
    arguments = ["optimize", "--datas3t", "photos", "--server-url", photos]
    for more, start in (("--dry-run", "would merge"), ("--max-retries=1", "merged")):
        assert main.run([*arguments, more]) == 0
        assert capfd.readouterr().out.startswith(f"photos: {start} 3 files of table labels into one of ")
    assert main.run(arguments) == 0
    assert capfd.readouterr().out == ""
