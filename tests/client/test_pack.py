"""Packing files and folders into an archive."""

import json
import os
import tarfile
from pathlib import Path

import pytest

from datas3t.archive import tar
from datas3t.client import pack
from datas3t.client._files.pack import extension
from datas3t.client.errors import FileError, InvalidArgument


def write_files(folder: Path, **contents: bytes) -> Path:
    """Write files with these names and contents. In a name, `__` stands for a slash and `_dot_` for a dot."""
    for name, content in contents.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def read_json_lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_files_and_folders_are_numbered_in_path_order(tmp_path: Path) -> None:
    source = write_files(
        tmp_path / "in", b__2_dot_txt=b"two", a_dot_png=b"one" * 500, b__1=b"", z_dot_json_dot_zst=b"last"
    )
    packed = pack([source / "z.json.zst", source], tmp_path / "out.tar", first=7)
    with tarfile.open(packed.archive) as archive:
        members = archive.getmembers()
        contents = [archive.extractfile(member).read() for member in members]  # type: ignore[union-attr]
    assert [member.name[17:] for member in members] == ["007.png", "008.bin", "009.txt", "010.json.zst"]
    assert contents == [b"one" * 500, b"", b"two", b"last"]
    assert read_json_lines(packed.names) == [
        {"key": key, "path": str(source / path)}
        for key, path in enumerate(("a.png", "b/1", "b/2.txt", "z.json.zst"), 7)
    ]
    assert (packed.first, packed.last, packed.size) == (7, 10, packed.archive.stat().st_size)


def test_the_archive_is_valid(tmp_path: Path) -> None:
    source = write_files(tmp_path / "in", a_dot_txt=b"1", b_dot_txt=b"2" * 512, c_dot_é=b"3" * 513)
    packed = pack([source], tmp_path / "out.tar", first=2**63 - 3)
    contents = tar.scan_file(packed.archive)
    assert (contents.first_key, contents.count, contents.archive_size) == (2**63 - 3, 3, packed.size)


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    source = write_files(tmp_path / "in", a=b"1", b=b"22")
    first = pack([source], tmp_path / "1.tar")
    os.utime(source / "a", (1, 1))
    (source / "b").chmod(0o600)
    second = pack([source], tmp_path / "2.tar")
    assert first.archive.read_bytes() == second.archive.read_bytes()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.png", "png"),
        ("a.b.png", "png"),
        ("a.json.zst", "json.zst"),
        ("a.gz", "gz"),
        (".gz", "bin"),
        (".hidden", "bin"),
        (".hidden.txt", "txt"),
        ("plain", "bin"),
        ("dot.", "bin"),
        ("a.données", "données"),
        ("a.\udcff", "bin"),
    ],
)
def test_the_extension_is_kept(name: str, expected: str) -> None:
    assert extension(name) == expected


def test_an_output_within_a_source_is_not_packed(tmp_path: Path) -> None:
    write_files(tmp_path, a=b"1")
    once = pack([tmp_path], tmp_path / "out.tar").archive.read_bytes()
    assert pack([tmp_path], tmp_path / "out.tar").archive.read_bytes() == once


def test_a_link_to_a_file_is_packed_as_that_file(tmp_path: Path) -> None:
    write_files(tmp_path, target=b"content")
    (tmp_path / "in").mkdir()
    (tmp_path / "in/link.txt").symlink_to(tmp_path / "target")
    packed = pack([tmp_path / "in"], tmp_path / "out.tar")
    with tarfile.open(packed.archive) as archive:
        assert archive.getmembers()[0].isreg()


def test_a_source_that_is_not_a_file_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    source = write_files(tmp_path / "in", a=b"1", f__b=b"2")
    for name, points_to in {"fifo": None, "broken": "nowhere", "loop": "f"}.items():
        if points_to is None:
            os.mkfifo(source / name)
        else:
            (source / name).symlink_to(points_to)
        with pytest.raises(FileError, match=name):
            pack([source], tmp_path / "out.tar")
        (source / name).unlink()
    with pytest.raises(FileError, match="missing"):
        pack([source, source / "missing"], tmp_path / "out.tar")
    assert os.listdir(tmp_path) == ["in"]


def test_a_file_that_grows_while_it_is_packed_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    source = write_files(tmp_path / "in", a=b"1" * (3 << 20), b=b"2")

    def grow(phase: str, current: int, total: int) -> None:
        if current == 0:
            (source / "b").write_bytes(b"longer")

    with pytest.raises(FileError, match="b changed"):
        pack([source], tmp_path / "out.tar", progress=grow)
    assert os.listdir(tmp_path) == ["in"]


def test_progress_goes_from_nothing_to_everything_and_never_decreases(tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    source = write_files(tmp_path / "in", a=b"1" * (5 << 20), b=b"2")
    pack([source], tmp_path / "out.tar", progress=lambda *step: seen.append(step))
    total = (5 << 20) + 1
    assert seen[0] == ("pack", 0, total)
    assert seen[-1] == ("pack", total, total)
    assert seen == sorted(seen)


def test_no_files_and_keys_out_of_range_are_refused(tmp_path: Path) -> None:
    source = write_files(tmp_path / "in", a=b"1", b=b"2")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidArgument, match="no file"):
        pack([tmp_path / "empty"], tmp_path / "out.tar")
    for first in (-1, 2**63 - 1):
        with pytest.raises(InvalidArgument, match="2\\^63-1"):
            pack([source], tmp_path / "out.tar", first=first)


def test_an_impossible_output_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    for output in (tmp_path, tmp_path / "nowhere/out.tar"):
        with pytest.raises(FileError, match=str(output.name) if output == tmp_path else "nowhere"):
            pack([tmp_path / "missing"], output)
