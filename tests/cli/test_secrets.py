"""Secrets of a server in files: what is wrong with one is told in one line, which does not show it."""

from collections.abc import Callable
from pathlib import Path

import click
import pytest

from datas3t.cli.options import secret
from tests.cli.conftest import Run


@pytest.mark.parametrize("content", ["hush", "hush\n", "hush\r\n"])
def test_a_secret_is_read_without_the_end_of_its_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "file").write_bytes(content.encode())
    assert secret(None, tmp_path / "file", "DB_URL") == "hush"
    assert secret("hush", None, "DB_URL") == "hush"
    assert secret(None, None, "DB_URL") is None


@pytest.mark.parametrize(
    ("prepare", "value", "words"),
    [
        (lambda path: None, None, "file, given as --db-url-file, cannot be read: No such file or directory"),
        (lambda path: path.mkdir(), None, "cannot be read: Is a directory"),
        (lambda path: path.write_text("\n"), None, "is empty"),
        (lambda path: path.write_bytes(b"hush\xff"), None, "is not text"),
        (
            lambda path: path.write_text("hush"),
            "hush",
            "--db-url (DB_URL) and --db-url-file (DB_URL_FILE) are both set; set one of them",
        ),
    ],
    ids=["missing", "folder", "empty", "not text", "both"],
)
def test_a_secret_that_cannot_be_read_is_one_line_without_it(
    tmp_path: Path, prepare: Callable[[Path], object], value: str | None, words: str
) -> None:
    prepare(tmp_path / "file")
    with pytest.raises(click.UsageError) as caught:
        secret(value, tmp_path / "file", "DB_URL")
    assert words in caught.value.message
    assert "hush" not in caught.value.message
    assert "\n" not in caught.value.message


def test_commands_take_their_secrets_from_files(run: Run, database: str, tmp_path: Path) -> None:
    (tmp_path / "url").write_text(database + "\n")
    (tmp_path / "key").write_text("a2V5\n")
    files = {"DB_URL_FILE": str(tmp_path / "url"), "ENCRYPTION_KEY_FILE": str(tmp_path / "key")}
    done = run("rekey", **files)
    assert (done.stdout, done.stderr) == ("Encrypted the credentials of 0 of 0 bucket configurations.\n", "")
    both = run("server", ENCRYPTION_KEY="a2V5", **files)
    assert both.returncode == 2
    assert "--encryption-key (ENCRYPTION_KEY) and --encryption-key-file (ENCRYPTION_KEY_FILE) are both" in both.stderr
    assert "a2V5" not in both.stderr
