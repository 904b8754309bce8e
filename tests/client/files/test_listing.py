"""Lists of files."""

import io
import os
import threading
from pathlib import Path

import numpy as np
import pytest

from datas3t.client._files import sources
from datas3t.client._files.listing import NO_TIME, Listing, hashes_of, stored_time
from datas3t.client._files.walking import Source, Walker
from datas3t.client.errors import FileError, InvalidArgument
from tests.client.files.folders import filled


def listing(named: list[Source], prefix: str = "", known: frozenset[str] = frozenset()) -> Listing:
    hashes = hashes_of(sorted(known))
    return Listing(
        named,
        prefix,
        Walker(follow_links=False),
        lambda paths, _sizes, _times: np.isin(paths, hashes),
        threading.Event(),
    )


def listed(made: Listing) -> list[str]:
    made.fill()
    return [made.path_of(name) for batch in made for name, *_ in batch.unpacked()]


def test_paths_are_relative_to_the_folder_that_was_named_and_follow_the_prefix(tmp_path: Path) -> None:
    filled(tmp_path, {"in/cats/1.jpg": b"123", "in/a%": b"", "other.txt": b"45"})
    made = listing(sources.named([tmp_path / "in", tmp_path / "other.txt"]), "x/")
    assert listed(made) == ["x/a%25", "x/cats/1.jpg", "x/other.txt"]
    assert (made.files, made.size, made.known, made.is_complete) == (3, 5, 0, True)


def test_known_files_are_left_out_and_counted(tmp_path: Path) -> None:
    filled(tmp_path, {"a": b"1", "b": b"2", "c": b"3"})
    made = listing(sources.named([tmp_path]), known=frozenset(("a", "c")))
    assert listed(made) == ["b"]
    assert (made.files, made.size, made.known) == (1, 1, 2)


def test_many_files_keep_their_sizes_times_and_order(tmp_path: Path) -> None:
    filled(tmp_path, {f"{number:05d}": b"x" * (number % 7) for number in range(5_000)})
    made = listing(sources.named([tmp_path]))
    made.fill()
    found = [file for batch in made for file in batch.unpacked()]
    assert [name for name, *_ in found] == [b"%05d" % number for number in range(5_000)]
    assert [size for _, _, size, _ in found] == [number % 7 for number in range(5_000)]
    assert all(made.bases[base] == os.fsencode(tmp_path) + b"/" for _, base, _, _ in found)
    assert found[9][3] == (tmp_path / "00009").stat().st_mtime_ns


def test_two_files_with_one_path_are_refused_and_named(tmp_path: Path) -> None:
    filled(tmp_path, {"a/x/1": b"", "b/x/1": b"", "b/2": b""})
    made = listing(sources.named([tmp_path / "a", tmp_path / "b"]))
    with pytest.raises(InvalidArgument, match=r"a/x/1' and '.*b/x/1' would both have the path 'x/1'"):
        listed(made)


def test_a_time_beyond_64_bits_is_none() -> None:
    assert stored_time(1 << 63) == stored_time(-(1 << 63)) == NO_TIME
    assert stored_time(-5) == -5


def test_a_source_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="does not exist"):
        sources.named([tmp_path / "missing"])
    with pytest.raises(InvalidArgument, match="empty"):
        sources.named([""])


def test_lines_of_a_list_are_relative_to_the_folder(tmp_path: Path) -> None:
    base = os.fsencode(tmp_path) + b"/"
    lines = [b"a", b"./b/../c", os.fsencode(tmp_path / "d"), b"."]
    assert sources.listed(lines, tmp_path) == [Source(base, name) for name in (b"a", b"c", b"d", b"")]
    assert sources.listed([b"./a"], ".") == [Source(b"", b"a")]


@pytest.mark.parametrize("line", [b"../a", b"b/../../a", b"/etc/passwd", b".."])
def test_a_line_that_leaves_the_folder_is_refused(tmp_path: Path, line: bytes) -> None:
    with pytest.raises(InvalidArgument, match="line 2 names"):
        sources.listed([b"a", line], tmp_path)


@pytest.mark.parametrize("content", [b"a\nb c\n\nd", b"a\0b c\0d\0", b"\na\nb c\nd\n"])
def test_names_in_a_list_are_separated_by_lines_or_by_nul(
    tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "list").write_bytes(content)
    assert list(sources.lines_of(tmp_path / "list")) == [b"a", b"b c", b"d"]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
    assert list(sources.lines_of("-")) == [b"a", b"b c", b"d"]


def test_a_nul_after_many_lines_is_refused(tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(b"name\n" * 300_000 + b"a\0b\n")
    with pytest.raises(InvalidArgument, match="line 300001 has a NUL character"):
        sources.listed(sources.lines_of(tmp_path / "list"), tmp_path)


def test_a_list_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="cannot be read"):
        list(sources.lines_of(tmp_path / "missing"))
