"""Temporary files for indices, and the errors of a disk that does not accept them."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from datas3t import v1
from datas3t.server.errors import Failure
from datas3t.server.objects.spool import IN_MEMORY, spool


@contextmanager
def limited_file_size(size: int) -> Iterator[None]:
    """Limit the size of files, as a full disk does."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_file_is_written_and_read_and_leaves_nothing_on_disk(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "yet"
    with spool(folder) as file:
        for n in range(5):
            file.write(bytes([n]) * IN_MEMORY)
        file.seek(3 * IN_MEMORY)
        assert file.read(2) == b"\3\3"
        assert list(folder.iterdir()) == []
    assert list(folder.iterdir()) == []


def test_a_full_disk_fails_with_advice(tmp_path: Path) -> None:
    message = "cache folder: File too large; free some space there, then call again"
    with limited_file_size(2 * IN_MEMORY), pytest.raises(Failure, match=message) as caught, spool(tmp_path) as file:
        file.write(bytes(5 * IN_MEMORY))
    assert caught.value.reason == v1.ERROR_REASON_INTERNAL


def test_a_small_file_needs_no_disk(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with spool(tmp_path / "file") as file:
        file.write(b"short")
    with pytest.raises(Failure, match="Not a directory; make the folder writable"), spool(tmp_path / "file") as file:
        file.write(bytes(2 * IN_MEMORY))


def test_other_errors_are_not_blamed_on_the_disk(tmp_path: Path) -> None:
    with pytest.raises(ConnectionResetError), spool(tmp_path):
        raise ConnectionResetError(104, "reset")
