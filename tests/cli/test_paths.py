"""Paths as people type them: empty ones, `-`, names of every kind, and outputs that are not plain files."""

import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from datas3t.cli import main
from datas3t.client import Client, FileError, InvalidArgument, pack
from tests.cli.conftest import Run


def names(raw: bytes) -> list[str]:
    """Return the names of an archive's entries."""
    with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
        return archive.getnames()


@pytest.fixture
def work(run: Run, tmp_path: Path) -> Path:
    """Return the folder in which `run` works, with a file to pack."""
    (tmp_path / "work/in.txt").write_text("content")
    return tmp_path / "work"


@pytest.mark.parametrize(
    "arguments",
    [
        ("datarange", "pack", "--output", "x.tar", ""),
        ("datarange", "pack", "--output", "x.tar", "in.txt", ""),
        ("datarange", "pack", "--output", "", "in.txt"),
        ("datarange", "pack", "--output=", "in.txt"),
        ("datarange", "upload-tar", "--datas3t", "x", "--file", ""),
        ("datarange", "upload-tar", "--datas3t", "", "--file", "in.txt"),
        ("--server-url", "", "datas3t", "list"),
        ("bucket", "add", "--name=", "--endpoint", "http://h", "--bucket", "b"),
        ("cat-range", "", "1", "2"),
        ("up", "--data-dir", ""),
        ("server", "--cache-dir", ""),
        ("",),
    ],
)
def test_an_empty_argument_is_wrong_usage(
    work: Path, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(work)
    assert main.run(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert " is empty; " in shown.err
    assert os.listdir(work) == ["in.txt"]


def test_an_empty_path_is_an_invalid_argument_of_the_sdk(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    with Client("http://127.0.0.1:9") as client:
        for call in (
            lambda: pack([""], tmp_path / "x.tar"),
            lambda: pack([tmp_path / "a"], ""),
            lambda: pack(["a\0b"], tmp_path / "x.tar"),
            lambda: client.upload_tar("x", ""),
            lambda: client.download_tar("x", 1, 2, ""),
            lambda: client.download_tar("x", 1, 2, "a\0b"),
            lambda: Client(""),
            lambda: Client("http://127.0.0.1:9", cache_dir=""),
        ):
            with pytest.raises(InvalidArgument, match=r"is empty|NUL"):
                call()
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize(
    "arguments",
    [("datarange", "pack", "--output", "x.tar", "-"), ("up", "--data-dir", "-"), ("server", "--cache-dir", "-")],
)
def test_a_dash_is_refused_where_it_cannot_be_standard_input(
    work: Path, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(work)
    assert main.run(arguments) == 2
    assert "write ./- for a file or folder named -" in capsys.readouterr().err
    assert os.listdir(work) == ["in.txt"]


def test_a_file_named_dash_can_be_packed(run: Run, work: Path) -> None:
    (work / "-").write_text("dash")
    assert run("datarange", "pack", "--output", "x.tar", "./-").returncode == 0
    assert names((work / "x.tar").read_bytes()) == [f"{1:020d}.bin"]


def test_a_dash_is_standard_output_and_input(url: str, run: Run, work: Path) -> None:
    def raw(*arguments: str, given: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
        command = [sys.executable, "-m", "datas3t", *arguments]
        return subprocess.run(command, check=True, cwd=work, input=given, capture_output=True)

    packed = raw("datarange", "pack", "--output", "-", "in.txt")
    assert names(packed.stdout) == [f"{1:020d}.txt"]
    assert packed.stderr.startswith(b"standard output: datapoints 1 to 1, ")
    target = ("--datas3t", "d", "--server-url", url)
    assert run("datas3t", "add", "--name", "d", "--bucket", "local", "--server-url", url).returncode == 0
    raw("datarange", "upload-tar", "--file", "-", *target, given=packed.stdout)
    span = ("--first-datapoint", "1", "--last-datapoint", "1")
    back = raw("datarange", "download-tar", "--output", "-", *span, *target)
    assert names(back.stdout) == [f"{1:020d}.txt"]
    assert os.listdir(work) == ["in.txt"]


OUTPUTS = {
    "folder": "is a folder, not a regular file",
    "folder/": "names a folder; add the name of a file",
    "new/": "names a folder; add the name of a file",
    ".": "names a folder; add the name of a file",
    "in.txt/x.tar": "is not a folder",
    "pipe": "is a pipe, not a regular file",
    "/dev/null": "is a device, not a regular file",
    "loop": "Too many levels of symbolic links",
    "nowhere": "is not a folder; create it",
}


@pytest.mark.parametrize("output", OUTPUTS)
def test_an_output_that_cannot_be_a_file_is_reported(
    work: Path, output: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(work)
    (work / "folder").mkdir()
    os.mkfifo(work / "pipe")
    (work / "loop").symlink_to("loop")
    (work / "nowhere").symlink_to("missing/x.tar")
    before = sorted(os.listdir(work))
    span = ("--first-datapoint", "1", "--last-datapoint", "1", "--server-url", "http://127.0.0.1:9")
    for command in (("pack", "in.txt"), ("download-tar", "--datas3t", "d", *span)):
        assert main.run(["datarange", command[0], "--output", output, *command[1:]]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert OUTPUTS[output] in line
    assert sorted(os.listdir(work)) == before


def test_links_to_files_and_names_of_any_length_are_outputs(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    (tmp_path / "link").symlink_to("target.tar")
    assert pack([tmp_path / "a"], tmp_path / "link").archive == tmp_path / "target.tar"
    assert (tmp_path / "link").is_symlink()
    longest = "n" * (255 - len(".names.jsonl"))
    assert pack([tmp_path / "a"], tmp_path / longest).archive.is_file()
    with pytest.raises(FileError, match=r"names\.jsonl cannot be written: File name too long"):
        pack([tmp_path / "a"], tmp_path / (longest + "n"))


def test_the_same_files_give_the_same_bytes_and_names_in_any_locale(run: Run, work: Path) -> None:
    for name in (b"caf\xc3\xa9.donn\xc3\xa9es", b"\xff.bin", b"b.\xff"):
        (work / os.fsdecode(name)).write_bytes(name)
    outputs = []
    for number, environment in enumerate(
        ({"LC_ALL": "C.UTF-8"}, {"LC_ALL": "C"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"})
    ):
        output = f"../{number}.tar"
        assert run("datarange", "pack", "--output", output, ".", **environment).returncode == 0
        outputs.append([(work / f"{output}{suffix}").read_bytes() for suffix in ("", ".names.jsonl")])
    assert outputs[0] == outputs[1] == outputs[2]
    assert b"donn\xc3\xa9es" in outputs[0][0]


def test_a_name_that_is_not_unicode_is_reported(run: Run) -> None:
    done = run("datarange", "list", "--datas3t", os.fsdecode(b"\xff"), "--server-url", "http://127.0.0.1:9")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "is not valid Unicode" in done.stderr
