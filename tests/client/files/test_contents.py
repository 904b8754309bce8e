"""Archives that are made from files while they are read."""

import os
import random
from itertools import pairwise
from pathlib import Path

import pytest

from datas3t.archive import tar
from datas3t.archive.checksums import crc
from datas3t.client._files.contents import Contents
from datas3t.client._files.plan import grouped
from datas3t.client._files.walking import Source, Walker
from datas3t.client.errors import FileError

_SIZES = (0, 1, 511, 512, 513, 3_000, 1 << 20, (1 << 20) + 1, 2_500_000, 0, 700)


def contents_of(folder: Path, first: int = 5) -> Contents:
    base = os.fsencode(folder) + b"/"
    found = Walker(follow_links=False).find(Source(base, b""))
    return Contents(grouped([(each.name, 0, each.size, each.mtime_ns) for each in found]), [base], first)


def read(contents: Contents, positions: range, at_once: int = 1 << 21) -> bytes:
    """Read a part as libcurl does, never beyond its end."""
    part, got = contents.part(positions), bytearray()
    while len(got) < part.size:
        got += part.read(len(got), min(part.size, len(got) + at_once))
    return bytes(got)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("files")
    seeded = random.Random(1)
    for number, size in enumerate([*_SIZES, *(seeded.randrange(4_000) for _ in range(60))]):
        extension = (".jpg", ".tar.gz", "", ".é", "." + "x" * 90)[number % 5]
        (path / f"{number:04d}{extension}").write_bytes(seeded.randbytes(size))
    return path


def test_all_bytes_are_a_valid_archive_of_the_files(folder: Path) -> None:
    contents = contents_of(folder)
    archive = read(contents, range(contents.layout.size))
    scanned = tar.scan(lambda start, stop: archive[start:stop], len(archive))
    assert (scanned.first_key, scanned.index) == (5, contents.layout.index())
    assert contents.crcs().tolist() == [crc(path.read_bytes()) for path in sorted(folder.iterdir())]
    assert contents_of(folder).crc() is None


@pytest.mark.parametrize("seed", range(3))
def test_parts_in_any_order_have_the_same_bytes_and_checksums(folder: Path, seed: int) -> None:
    whole = contents_of(folder)
    archive = read(whole, range(whole.layout.size))
    seeded = random.Random(seed)
    starts = seeded.sample(whole.layout.starts.tolist(), 20)
    cuts = {0, len(archive), *starts, *(start + 512 for start in starts[:10])}
    cuts.update(seeded.randrange(len(archive)) for _ in range(30))
    parts = list(pairwise(sorted(cut for cut in cuts if cut <= len(archive))))
    seeded.shuffle(parts)
    contents = contents_of(folder)
    for start, stop in parts:
        positions = range(start, stop)
        assert read(contents, positions, seeded.choice((60_000, 1 << 21))) == archive[start:stop]
    assert contents.crcs().tolist() == whole.crcs().tolist()
    assert contents.crc() == whole.crc() == crc(archive)


def test_a_part_is_read_again_from_any_byte(folder: Path) -> None:
    contents = contents_of(folder)
    whole = read(contents, range(1_000, 2_000_000))
    part = contents.part(range(1_000, 2_000_000))
    for start in (0, 5_000, 1_500_000, 0, 700_000, 699_999):
        piece = part.read(start, start + 10)
        assert piece
        assert piece == whole[start : start + len(piece)]


def changed(path: Path) -> None:
    path.write_bytes(path.read_bytes()[::-1])
    os.utime(path, ns=(0, 7))


def grown(path: Path) -> None:
    before = path.stat().st_mtime_ns
    path.write_bytes(path.read_bytes() + b"x")
    os.utime(path, ns=(before, before))


def replaced_by_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def shortened(path: Path) -> None:
    before = path.stat().st_mtime_ns
    os.truncate(path, path.stat().st_size - 1)
    os.utime(path, ns=(before, before))


@pytest.mark.parametrize("size", [10, 2_000_000])
@pytest.mark.parametrize("change", [changed, grown, shortened, Path.unlink, replaced_by_a_pipe])
def test_a_file_that_is_not_as_listed_is_an_error_that_names_it(tmp_path: Path, size: int, change) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "b").write_bytes(random.Random(1).randbytes(size))
    contents = contents_of(tmp_path)
    change(tmp_path / "b")
    with pytest.raises(FileError, match=r"/b (changed while it was pushed|cannot be read)"):
        read(contents, range(contents.layout.size))
