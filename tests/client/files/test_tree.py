"""Files that are written by their paths below one folder."""

import os
import resource
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from datas3t.archive.checksums import crc
from datas3t.client._files import tree
from datas3t.client._files.tree import Refused, Tree
from datas3t.client.errors import FileError
from tests.client.files.folders import filled


def write(root: Path, path: bytes, content: bytes, mtime_ns: int | None = None) -> None:
    written = Tree(str(root))
    try:
        with written.place(path) as place:
            tree.write(place, lambda fd: tree.write_all(fd, content), mtime_ns)
    finally:
        written.close()


def names(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir())


def test_a_file_is_written_with_its_folders_and_its_time(tmp_path: Path) -> None:
    write(tmp_path / "out", b"a/b/caf\xe9\n.txt", b"content", 1_234_567_890_123_456_789)
    path = os.fsencode(tmp_path / "out") + b"/a/b/caf\xe9\n.txt"
    assert Path(os.fsdecode(path)).read_bytes() == b"content"
    assert os.stat(path).st_mtime_ns == 1_234_567_890_123_456_789
    assert os.listdir(os.path.dirname(path)) == [b"caf\xe9\n.txt"]


OUTSIDE = [b"../x", b"a/../../x", b"/x", b"a/..", b"..", b"", b".", b"a//b", b"a/./b", b"a/", b"a\0b"]
TOO_LONG = [b"a" * 300, b"b/" + b"a" * 300]


@pytest.mark.parametrize("path", [*OUTSIDE, *TOO_LONG])
def test_a_path_that_does_not_stay_below_the_folder_is_refused(tmp_path: Path, path: bytes) -> None:
    with pytest.raises(Refused):
        write(tmp_path / "out", path, b"content")
    assert names(tmp_path) == []


def test_links_are_not_followed(tmp_path: Path) -> None:
    filled(tmp_path, {"outside/file": b"before", "out/kept": b""})
    (tmp_path / "out" / "folder").symlink_to(tmp_path / "outside")
    (tmp_path / "out" / "file").symlink_to(tmp_path / "outside" / "file")
    with pytest.raises(Refused, match="a link or a file is where a folder must be"):
        write(tmp_path / "out", b"folder/new", b"content")
    with pytest.raises(Refused):
        write(tmp_path / "out", b"folder/deeper/new", b"content")
    write(tmp_path / "out", b"file", b"content")  # replaces the link itself
    assert (tmp_path / "outside" / "file").read_bytes() == b"before"
    assert names(tmp_path / "outside") == ["file"]
    assert (tmp_path / "out" / "file").read_bytes() == b"content"


def test_a_link_that_is_planted_while_files_are_written_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    written = Tree(str(tmp_path / "out"))
    with written.place(b"a/b/1") as place:
        (tmp_path / "out" / "a" / "b").rename(tmp_path / "moved")
        (tmp_path / "out" / "a" / "b").symlink_to(tmp_path / "outside")
        tree.write(place, lambda fd: tree.write_all(fd, b"content"), None)
    written.close()
    assert names(tmp_path / "outside") == []
    assert names(tmp_path / "moved") == ["1"]


def test_a_file_where_a_folder_must_be_and_a_folder_where_a_file_must_be_are_refused(tmp_path: Path) -> None:
    filled(tmp_path / "out", {"file": b"", "folder/x": b""})
    with pytest.raises(Refused, match="where a folder must be"):
        write(tmp_path / "out", b"file/x", b"")
    with pytest.raises(Refused, match="a folder is where the file must be"):
        write(tmp_path / "out", b"folder", b"")
    assert names(tmp_path / "out") == ["file", "folder/x"]


def test_what_is_there_is_known_by_size_and_checksum(tmp_path: Path) -> None:
    filled(tmp_path, {"a": b"content"})
    (tmp_path / "link").symlink_to("a")
    os.mkfifo(tmp_path / "pipe")
    written = Tree(str(tmp_path))
    found = []
    for path, content in ((b"a", b"content"), (b"a", b"contenT"), (b"a", b"c"), (b"b", b""), (b"link", b"content")):
        with written.place(path) as place:
            found.append(tree.is_there(place, len(content), crc(content)))
    with written.place(b"pipe") as place:
        found.append(tree.is_there(place, 0, 0))
    written.close()
    assert found == [True, False, False, None, False, False]


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    filled(tmp_path, {"a": b"before"})
    written = Tree(str(tmp_path))

    def fail(fd: int) -> None:
        os.write(fd, b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(FileError, match="No space left"), written.place(b"a") as place:
        tree.write(place, fail, None)
    written.close()
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"before"


def test_what_a_killed_process_left_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "outside").write_bytes(b"before")
    write(tmp_path / "out", b"a", b"1")
    written = Tree(str(tmp_path / "out"))
    with pytest.raises(KeyboardInterrupt), written.place(b"a") as place:
        tree.write(place, lambda _fd: plant(tmp_path / "out", tmp_path / "outside"), None)
    written.close()
    write(tmp_path / "out", b"a", b"2")
    assert names(tmp_path / "out") == ["a"]
    assert (tmp_path / "outside").read_bytes() == b"before"


def plant(folder: Path, target: Path) -> None:
    """Put a link in place of the temporary file, and end."""
    (temporary,) = folder.glob(".*.datas3t-part")
    temporary.unlink()
    temporary.symlink_to(target)
    raise KeyboardInterrupt


def test_a_file_that_another_process_is_writing_is_not_touched(tmp_path: Path) -> None:
    one, other = Tree(str(tmp_path)), Tree(str(tmp_path))

    def fill(fd: int) -> None:
        tree.write_all(fd, b"con")
        with pytest.raises(Refused, match="another process is writing it"), other.place(b"a") as place:
            tree.write(place, lambda fd: tree.write_all(fd, b"other"), None)
        tree.write_all(fd, b"tent")

    with one.place(b"a") as place:
        tree.write(place, fill, None)
    one.close()
    other.close()
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"content"


def test_processes_that_write_the_same_files_never_show_half_a_file(tmp_path: Path) -> None:
    whole = {str(number).encode() * 3_000 for number in range(4)}

    def write_many(content: bytes) -> int:
        def slowly(fd: int) -> None:
            for at in range(0, len(content), 100):
                tree.write_all(fd, content[at : at + 100])

        written, refused = Tree(str(tmp_path)), 0
        for number in range(60):
            try:
                with written.place(b"folder/%d" % (number % 3)) as place:
                    tree.write(place, slowly, None)
            except Refused:
                refused += 1
            for path in (tmp_path / "folder").glob("[0-9]"):
                assert path.read_bytes() in whole
        written.close()
        return refused

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(write_many, whole)) < 240
    assert names(tmp_path) == ["folder/0", "folder/1", "folder/2"]


def test_a_path_of_300_folders_needs_few_descriptors(tmp_path: Path) -> None:
    deep = b"a/" * 300
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    written = Tree(str(tmp_path / "out"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 40, limits[1]))
    try:
        for name in (b"1", b"a/a/2", deep + b"3", deep + b"4", b"a/5"):
            with written.place(name) as place:
                tree.write(place, lambda fd: tree.write_all(fd, b"content"), None)
                assert tree.is_there(place, 7, crc(b"content"))
    finally:
        written.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert sorted(os.listdir(tmp_path / "out")) == ["1", "a"]
    assert sorted(os.listdir(tmp_path / "out" / "a")) == ["5", "a"]
