"""Which files are found in folders, and in which order."""

import os
import socket
from pathlib import Path

import pytest

from datas3t.client._files.walking import Found, Source, Walker
from tests.client.files.folders import filled


def names(walker: Walker, folder: Path, name: bytes = b"") -> list[bytes]:
    return [found.name for found in walker.find(Source(os.fsencode(folder) + b"/", name))]


def test_files_are_found_by_path_with_size_and_time(tmp_path: Path) -> None:
    filled(tmp_path, {"b/2.txt": b"two", "a.png": b"one", "b/.hidden": b"", "b.txt": b"x", "b/c/3": b"y"})
    os.utime(tmp_path / "a.png", ns=(1, 1_234_567_890_123_456_789))
    walker = Walker(follow_links=False)
    found = list(walker.find(Source(os.fsencode(tmp_path) + b"/", b"")))
    assert found[0] == Found(b"a.png", 3, 1_234_567_890_123_456_789)
    assert [each.name for each in found[1:]] == [b"b/.hidden", b"b/2.txt", b"b/c/3", b"b.txt"]
    assert not walker.refused.count
    assert not walker.left_out.count


def test_a_source_may_be_a_file_or_a_part_of_its_base(tmp_path: Path) -> None:
    filled(tmp_path, {"b/2.txt": b"", "b/1.txt": b"", "c": b""})
    assert names(Walker(follow_links=False), tmp_path, b"b") == [b"b/1.txt", b"b/2.txt"]
    assert names(Walker(follow_links=False), tmp_path, b"c") == [b"c"]


def test_names_that_are_no_text_are_found(tmp_path: Path) -> None:
    for name in (b"caf\xe9", b"two\nlines", b"100%"):
        (tmp_path / os.fsdecode(name)).write_bytes(b"")
    assert names(Walker(follow_links=False), tmp_path) == [b"100%", b"caf\xe9", b"two\nlines"]


def test_links_to_files_are_followed_and_links_to_folders_refused(tmp_path: Path) -> None:
    filled(tmp_path, {"in/a": b"abc", "out/b": b"", "far": b"12345"})
    (tmp_path / "in" / "link").symlink_to(tmp_path / "far")
    (tmp_path / "in" / "folder").symlink_to(tmp_path / "out")
    (tmp_path / "in" / "nothing").symlink_to(tmp_path / "missing")
    walker = Walker(follow_links=False)
    found = {each.name: each.size for each in walker.find(Source(os.fsencode(tmp_path / "in") + b"/", b""))}
    assert found == {b"a": 3, b"link": 5}
    assert walker.refused.count == 2
    assert "folder is a link to a folder" in walker.refused.texts[0]
    assert "nothing cannot be read" in walker.refused.texts[1]


def test_links_to_folders_are_followed_if_asked_for_but_not_in_circles(tmp_path: Path) -> None:
    filled(tmp_path, {"in/a": b"", "out/b": b""})
    (tmp_path / "in" / "folder").symlink_to(tmp_path / "out")
    (tmp_path / "out" / "back").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "self").symlink_to(".")
    walker = Walker(follow_links=True)
    assert names(walker, tmp_path / "in") == [b"a", b"folder/b"]
    assert walker.left_out.count == 2
    assert "folder/back leads back" in walker.left_out.texts[0]
    assert not walker.refused.count


def test_pipes_and_sockets_are_left_out(tmp_path: Path) -> None:
    filled(tmp_path, {"a": b""})
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        walker = Walker(follow_links=False)
        assert names(walker, tmp_path) == [b"a"]
    assert walker.left_out.count == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    filled(tmp_path, {"a": b"", "shut/b": b""})
    (tmp_path / "shut").chmod(0)
    walker = Walker(follow_links=False)
    assert names(walker, tmp_path) == [b"a"]
    assert walker.refused.count == 1


def test_what_is_missing_is_refused(tmp_path: Path) -> None:
    walker = Walker(follow_links=False)
    assert names(walker, tmp_path, b"missing") == []
    assert walker.refused.count == 1
