"""The folders of indices and journals for a user without a home directory."""

import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from datas3t.client import Client
from datas3t.client._transfers.journal import Journal, JournalEntry
from datas3t.local import folders


def journal() -> Journal:
    return Journal.of_aggregate("http://127.0.0.1:9", "any", 1, 2)


@pytest.fixture
def temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Remove the home directory of the user, and return the folder for temporary files."""

    def raise_no_home(*_: object) -> Path:
        raise RuntimeError("could not determine the home directory")  # as platformdirs does

    monkeypatch.setattr(folders, "user_cache_path", raise_no_home)
    monkeypatch.setattr(folders, "user_state_path", raise_no_home)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv("DATAS3T_CACHE_DIR")
    return tmp_path


def test_a_user_without_a_home_directory_gets_folders_among_temporary_files(temporary_folder: Path) -> None:
    own = temporary_folder / f"datas3t-{os.getuid()}"
    assert Client("http://127.0.0.1:9").cache_dir == own / "indices"
    assert stat.S_IMODE(own.stat().st_mode) == 0o700
    journal().write(JournalEntry(7))
    assert journal().read() == JournalEntry(7)
    named = temporary_folder / "named"
    assert Client("http://127.0.0.1:9", cache_dir=named).cache_dir == named / "indices"


def link_to_other_folder(folder: Path) -> None:
    (folder.parent / "other").mkdir()
    folder.symlink_to(folder.parent / "other")


@pytest.mark.parametrize("occupy", [Path.touch, link_to_other_folder], ids=["a file", "a link"])
def test_a_folder_that_another_user_could_have_made_is_not_used(
    occupy: Callable[[Path], None], temporary_folder: Path
) -> None:
    occupy(temporary_folder / f"datas3t-{os.getuid()}")
    with pytest.raises(NotADirectoryError):
        Client("http://127.0.0.1:9").cache_dir.mkdir(parents=True)
    journal().write(JournalEntry(7))
    assert journal().read() is None
    assert [path for path in temporary_folder.rglob("*") if path.suffix == ".json"] == []
