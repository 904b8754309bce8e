"""Files that are written whole or not at all."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from datas3t.local import atomic


@pytest.mark.parametrize("durable", [False, True])
def test_a_file_is_written_and_replaced(durable: bool, tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content in (b"first", b"second and longer", b""):
        atomic.write(path, content, durable=durable)
        assert path.read_bytes() == content
    assert os.listdir(tmp_path) == ["file"]


def test_only_its_owner_may_read_a_file_unless_another_mode_is_given(tmp_path: Path) -> None:
    atomic.write(tmp_path / "private", b"")
    atomic.write(tmp_path / "public", b"", mode=0o644)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes["private"] == 0o600
    assert modes["public"] & 0o600 == 0o600


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    atomic.write(path, b"old")

    def failing(fd: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(OSError, match="disk full"):
        atomic.write(path, b"new", durable=True)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_concurrent_writers_never_mix_their_contents(tmp_path: Path) -> None:
    path = tmp_path / "file"
    contents = [b"%d" % number * 100_000 for number in range(8)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda content: atomic.write(path, content), contents))
    assert path.read_bytes() in contents
    assert os.listdir(tmp_path) == ["file"]


def test_an_unfinished_file_is_published_under_its_final_name(tmp_path: Path) -> None:
    unfinished, path = tmp_path / ".part", tmp_path / "file"
    path.write_bytes(b"old")
    unfinished.write_bytes(b"new")
    atomic.publish(unfinished, path, durable=True)
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["file"]
