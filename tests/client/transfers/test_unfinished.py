"""The files of an unfinished download: descriptors are closed, and a crash leaves nothing beside a complete output."""

import os
from pathlib import Path

import pytest

from datas3t.client import FileError
from datas3t.client._transfers import output_file
from datas3t.client._transfers.unfinished import UnfinishedDownload


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def hidden(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob(".*"))


def test_a_download_that_starts_over_keeps_no_descriptor(tmp_path: Path) -> None:
    before = open_files()
    unfinished = UnfinishedDownload(tmp_path / "out")
    unfinished.begin(["first plan"], 10)
    unfinished.mark_finished(0)
    while_open = open_files()
    assert unfinished.begin(["second plan"], 20) == set()
    assert open_files() == while_open
    unfinished.close()
    assert open_files() == before


def test_the_finished_chunks_are_known_to_the_next_run(tmp_path: Path) -> None:
    unfinished = UnfinishedDownload(tmp_path / "out")
    unfinished.begin(["plan"], 10)
    unfinished.mark_finished(3)
    unfinished.close()
    again = UnfinishedDownload(tmp_path / "out")
    assert again.begin(["plan"], 10) == {3}
    again.close()


@pytest.mark.parametrize("step", ["fsync", "unlink", "replace"])
def test_a_crash_at_the_end_leaves_nothing_that_the_next_run_does_not_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    output = tmp_path / "out"
    unfinished = UnfinishedDownload(output)
    unfinished.begin(["plan"], 10)
    unfinished.mark_finished(0)

    def crash(*_: object, **__: object) -> None:
        raise OSError(5, "crash")

    with monkeypatch.context() as patched:
        patched.setattr(os if step == "fsync" else Path, step, crash)
        with pytest.raises(FileError, match="crash"):
            unfinished.publish()
    unfinished.close()
    partial = output_file.partial(output).name
    assert not output.exists()
    assert hidden(tmp_path) == ([partial] if step == "replace" else [partial, f"{partial}-chunks"])
    again = UnfinishedDownload(output)
    assert again.begin(["plan"], 10) == (set() if step == "replace" else {0})
    again.publish()
    again.close()
    assert hidden(tmp_path) == []
    assert output.stat().st_size == 10
