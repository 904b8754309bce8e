"""What is too large for memory lies in a file without a name, and a disk that does not take it is said."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from datas3t import v1
from datas3t.server.errors import Failure
from datas3t.server.spool import IN_MEMORY, spool


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """As a full disk would do."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_what_is_written_is_read_again_and_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "yet"
    with spool(folder) as file:
        for n in range(5):
            file.write(bytes([n]) * IN_MEMORY)
        file.seek(3 * IN_MEMORY)
        assert file.read(2) == b"\3\3"
        assert list(folder.iterdir()) == []
    assert list(folder.iterdir()) == []


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    said = "cache folder: File too large; free some space there, then call again"
    with files_of_at_most(2 * IN_MEMORY), pytest.raises(Failure, match=said) as caught, spool(tmp_path) as file:
        file.write(bytes(5 * IN_MEMORY))
    assert caught.value.reason == v1.ERROR_REASON_INTERNAL


def test_what_is_short_needs_no_disk(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with spool(tmp_path / "file") as file:
        file.write(b"short")
    with pytest.raises(Failure, match="Not a directory; make the folder writable"), spool(tmp_path / "file") as file:
        file.write(bytes(2 * IN_MEMORY))


def test_what_else_goes_wrong_is_not_the_disks_fault(tmp_path: Path) -> None:
    with pytest.raises(ConnectionResetError), spool(tmp_path):
        raise ConnectionResetError(104, "reset")
