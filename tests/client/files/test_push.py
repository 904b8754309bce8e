"""Folders pushed to a datas3t."""

import os
from pathlib import Path

import pytest

from datas3t.client import FilesFailed, Pushed
from tests.client.files.folders import filled
from tests.client.sites import Site


def test_files_become_datapoints_in_the_order_of_their_paths(site: Site, tmp_path: Path) -> None:
    source = filled(tmp_path / "in", {"b/2.txt": b"two", "a.png": b"one" * 500, "b/1": b"", "z.json.zst": b"last"})
    pushed = site.client.datas3t(site.name).push(source)
    assert pushed == Pushed(files=4, size=1507, archives=1, unchanged=0, left_out=0, failed=0)
    found = [(each.key, each.name[20:], each.content) for each in site.client.datas3t(site.name).scan()]
    assert found == [(1, ".png", b"one" * 500), (2, ".bin", b""), (3, ".txt", b"two"), (4, ".json.zst", b"last")]


def test_many_archives_are_numbered_in_order(site: Site, tmp_path: Path) -> None:
    contents = {f"{number:03d}.bin": os.urandom(number * 50) for number in range(200)}
    source = filled(tmp_path / "in", contents)
    steps: list[tuple[str, int, int]] = []
    pushed = site.client.datas3t(site.name).push(source, archive_size=50_000, progress=lambda *step: steps.append(step))
    assert pushed.archives == len(site.client.list_dataranges(site.name)) > 20
    assert [each.content for each in site.client.datas3t(site.name).scan()] == list(contents.values())
    assert steps[-1] == ("files", 200, 200)
    for phase in ("push", "files"):
        done = [current for name, current, _ in steps if name == phase]
        assert done == sorted(done)


def test_parts_of_an_archive_are_sent_and_joined(site: Site, tmp_path: Path) -> None:
    contents = {f"{number}.bin": os.urandom(9_000_000) for number in range(5)}
    source = filled(tmp_path / "in", contents)
    assert site.client.datas3t(site.name).push(source).archives == 1
    assert [each.content for each in site.client.datas3t(site.name).scan()] == list(contents.values())
    assert not site.multiparts()


def test_a_file_that_cannot_be_read_fails_its_archive_alone(site: Site, tmp_path: Path) -> None:
    source = filled(tmp_path / "in", {"a": b"1" * 3_000, "b": b"2" * 3_000, "d": b"3" * 3_000})
    (source / "c").symlink_to(source / "missing")
    with pytest.raises(FilesFailed, match=r"1 file was not pushed: .*/c cannot be read") as failed:
        site.client.datas3t(site.name).push(source, archive_size=5_000)
    assert failed.value.result.files == 3
    assert len(site.client.datas3t(site.name)) == 3
