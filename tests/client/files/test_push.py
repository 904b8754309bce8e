"""Folders pushed to a datas3t."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from datas3t.archive.checksums import crc
from datas3t.client import FilesFailed, InvalidArgument, NotFound, Pushed
from datas3t.client._files.listing import Batch, Listing
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


def test_files_are_found_again_by_their_paths(site: Site, tmp_path: Path) -> None:
    names = {b"cats/1.jpg": "cats/1.jpg", b"caf\xe9": "caf\udce9", b"100%": "100%", b"two\nlines": "two\nlines"}
    for name in names:
        file = tmp_path / "in" / os.fsdecode(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(name)
    images = site.client.datas3t(site.name)
    images.push(tmp_path / "in", prefix="all")
    for content, path in names.items():
        assert images.get(images.find(f"all/{path}")) == content
    assert sorted(images.glob("all/c*/*")) == [images.find("all/cats/1.jpg")]


def test_the_rows_say_which_file_each_datapoint_was(site: Site, tmp_path: Path) -> None:
    source = filled(tmp_path / "in", {"a.jpg": b"one", "b": os.urandom(3_000_000)})
    os.utime(source / "a.jpg", ns=(5, 1_234_567_890_123_456_789))
    images = site.client.datas3t(site.name)
    images.push(source)
    rows = images.table("files").read().to_pylist()
    assert [(row["key"], row["path"], row["size"]) for row in rows] == [(1, "a.jpg", 3), (2, "b", 3_000_000)]
    assert rows[0]["mtime"].value == 1_234_567_890_123_456_789
    assert [row["crc32c"] for row in rows] == [crc((source / name).read_bytes()) for name in ("a.jpg", "b")]


def test_a_second_push_sends_only_what_is_new_or_changed(site: Site, tmp_path: Path) -> None:
    source = filled(tmp_path / "in", {"a": b"1", "b": b"2", "c": b"3"})
    images = site.client.datas3t(site.name)
    images.push(source)
    assert images.push(source) == Pushed(files=0, size=0, archives=0, unchanged=3, left_out=0, failed=0)
    filled(source, {"b": b"other", "d/e": b"5"})
    again = images.push(source)
    assert (again.files, again.unchanged) == (2, 2)
    images.refresh()
    assert [images.get(images.find(name)) for name in ("a", "b", "c", "d/e")] == [b"1", b"other", b"3", b"5"]
    assert images.find_all("b") == [4, 2]
    assert images.push(source).files == 0


def test_what_was_deleted_is_pushed_again(site: Site, tmp_path: Path) -> None:
    source = filled(tmp_path / "in", {"a": b"1", "b": b"2"})
    images = site.client.datas3t(site.name)
    images.push(source)
    images.clear()
    assert images.push(source).files == 2
    assert images.push(source, dry_run=True).files == 0


def test_a_dry_run_counts_and_sends_nothing(site: Site, tmp_path: Path) -> None:
    source = filled(tmp_path / "in", {str(number): b"x" * 3_000 for number in range(10)})
    images = site.client.datas3t(site.name)
    planned = images.push(source, archive_size=10_000, dry_run=True)
    assert (planned.files, planned.size, planned.archives) == (10, 30_000, 5)
    assert not site.objects()
    assert images.push(source, archive_size=10_000).archives == 5


def test_a_file_that_changes_while_it_is_pushed_fails_its_archive_alone(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = filled(tmp_path / "in", dict.fromkeys("abcdef", b"x" * 3000))
    images = site.client.datas3t(site.name)
    found = Listing._found

    def found_and_changed(listing: Listing) -> Iterator[Batch]:
        for batch in found(listing):
            (source / "c").write_bytes(b"y" * 3_001)
            (source / "f").unlink()
            yield batch

    images.push(source / "a")
    monkeypatch.setattr(Listing, "_found", found_and_changed)
    with pytest.raises(FilesFailed, match="were not pushed") as failed:
        images.push(source, archive_size=9_000)
    result = failed.value.result
    assert (result.files, result.unchanged, result.failed) == (2, 1, 3)
    assert any("c changed while it was pushed" in text for text in result.failures)
    assert any("f cannot be read" in text for text in result.failures)
    monkeypatch.undo()
    assert images.push(source, archive_size=9_000).files == 2
    images.refresh()
    assert images.get(images.find("c")) == b"y" * 3_001


def test_two_sources_are_pushed_under_their_own_paths(site: Site, tmp_path: Path) -> None:
    filled(tmp_path, {"one/x/a": b"1", "two/b": b"2", "c.txt": b"3"})
    images = site.client.datas3t(site.name)
    images.push([tmp_path / "one", tmp_path / "two", tmp_path / "c.txt"])
    assert images.paths([1, 2, 3]) == ["x/a", "b", "c.txt"]


def test_the_same_path_twice_is_refused_before_anything_is_sent(site: Site, tmp_path: Path) -> None:
    filled(tmp_path, {"one/a": b"1", "two/a": b"2", "one/b": b"3"})
    with pytest.raises(InvalidArgument, match="would both have the path 'a'"):
        site.client.datas3t(site.name).push([tmp_path / "one", tmp_path / "two"])
    assert not site.objects()


@pytest.mark.parametrize("prefix", ["../x", "a/../b", "/a", "a//b", "."])
def test_a_prefix_that_pull_would_refuse_is_refused(site: Site, tmp_path: Path, prefix: str) -> None:
    with pytest.raises(InvalidArgument, match="prefix"):
        site.client.datas3t(site.name).push(tmp_path, prefix=prefix)


def test_there_must_be_something_to_push_and_a_datas3t(site: Site, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="nothing to push"):
        site.client.datas3t(site.name).push()
    with pytest.raises(InvalidArgument, match="name one source"):
        site.client.datas3t(site.name).push([tmp_path, tmp_path], files_from="-")
    with pytest.raises(NotFound):
        site.client.datas3t("missing").push(tmp_path)
    (tmp_path / "in").mkdir()
    assert site.client.datas3t(site.name).push(tmp_path / "in").files == 0
