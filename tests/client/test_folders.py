"""Where indices and journals are kept."""

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
def homeless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user without a home directory; the folder for temporary files."""

    def no_home(*_: object) -> Path:
        raise RuntimeError("could not determine the home directory")  # as platformdirs does

    monkeypatch.setattr(folders, "user_cache_path", no_home)
    monkeypatch.setattr(folders, "user_state_path", no_home)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv("DATAS3T_CACHE_DIR")
    return tmp_path


def test_who_has_no_home_keeps_things_among_temporary_files(homeless: Path) -> None:
    own = homeless / f"datas3t-{os.getuid()}"
    assert Client("http://127.0.0.1:9").cache_dir == own / "indices"
    assert stat.S_IMODE(own.stat().st_mode) == 0o700
    journal().write(JournalEntry(7))
    assert journal().read() == JournalEntry(7)
    assert Client("http://127.0.0.1:9", cache_dir=homeless / "mine").cache_dir == homeless / "mine" / "indices"


def elsewhere(own: Path) -> None:
    (own.parent / "bait").mkdir()
    own.symlink_to(own.parent / "bait")


@pytest.mark.parametrize("squat", [Path.touch, elsewhere], ids=["a file", "a link"])
def test_what_is_not_our_own_folder_is_not_used(squat: Callable[[Path], None], homeless: Path) -> None:
    squat(homeless / f"datas3t-{os.getuid()}")
    with pytest.raises(NotADirectoryError):
        Client("http://127.0.0.1:9").cache_dir.mkdir(parents=True)
    journal().write(JournalEntry(7))
    assert journal().read() is None
    assert [path for path in homeless.rglob("*") if path.suffix == ".json"] == []
