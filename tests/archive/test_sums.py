"""Checksums that are made while an archive is checked are those of its contents, however it is read."""

import random
from dataclasses import replace
from pathlib import Path

import pytest

from datas3t.archive import ArchiveError, bulk, checksums, index, tar
from tests.support.tars import DIALECTS, archive, contents, write_archive


@pytest.fixture
def bulk_from_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the bulk reader from the first entry, in windows that end within entries."""
    monkeypatch.setattr(tar, "_SAMPLE", 1)
    monkeypatch.setattr(tar, "_NUMPY_FROM", 0)
    monkeypatch.setattr(bulk, "_WINDOW", 20 << 10)


def check(path: Path, extension: str) -> None:
    """Compare what a scan says of a file with its bytes."""
    raw, found = path.read_bytes(), tar.scan_file(path, checksums=True)
    places = [each.content for each in index.decode(found.index)]
    own = [checksums.crc(raw[place.start : place.stop]) for place in places]
    assert checksums.decode(found.checksums).tolist() == own
    assert (found.crc, found.extension) == (checksums.crc(raw), extension)
    assert replace(found, checksums=b"", crc=0, extension="") == tar.scan_file(path)
    for wide in (512, 3000, 1 << 20):
        assert tar.scan(lambda start, stop: raw[start:stop], len(raw), wide=wide, checksums=True) == found


@pytest.mark.usefixtures("bulk_from_start")
@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_bulk_reader_makes_checksums(dialect: str, tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    for seed in range(5):
        path.write_bytes(archive(seed, contents(seed, 200, 1500), extension="tar.gz", dialect=dialect))
        check(path, "tar.gz")


@pytest.mark.parametrize("piece", [512, 1 << 10, 64 << 10])
def test_contents_larger_than_what_is_read_at_once_have_checksums(
    piece: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tar, "_CHUNK", piece)
    write_archive(tmp_path / "a.tar", 1, 1, [0, 1, 70_000, 511, 512, 513, 0, 300_000, 5])
    check(tmp_path / "a.tar", "bin")


@pytest.mark.usefixtures("bulk_from_start")
@pytest.mark.parametrize("at", [0, 1, 150, 299])
def test_an_entry_with_another_extension_is_noticed(at: int, tmp_path: Path) -> None:
    bodies = contents(at, 300, 300)
    pieces = [
        archive(key, [body], extension="json" if key == at else "jsom")[: 512 + -(-len(body) // 512) * 512]
        for key, body in enumerate(bodies)
    ]
    path = tmp_path / "a.tar"
    path.write_bytes(b"".join(pieces) + bytes(1024))
    check(path, "")
    path.write_bytes(pieces[at] + bytes(1024))
    check(path, "json")


@pytest.mark.usefixtures("bulk_from_start")
@pytest.mark.parametrize("extension", ["e" * 78, "e" * 79, "e" * 80, "é" * 10])
def test_long_and_foreign_extensions_are_known_as_well(extension: str, tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(archive(1, contents(1, 50, 300), extension=extension, dialect="pax"))
    check(path, extension)
    path.write_bytes(archive(1, contents(1, 50, 300), extension=extension, dialect="gnu"))
    check(path, extension)


@pytest.mark.usefixtures("bulk_from_start")
def test_damage_is_named_as_without_checksums(tmp_path: Path) -> None:
    source = random.Random(4)
    path, refused = tmp_path / "a.tar", 0
    for _ in range(40):
        raw = bytearray(archive(1, contents(4, 60, 900)))
        raw[source.randrange(len(raw) // 512) * 512 + source.choice((0, 124, 135, 148, 156))] = source.randrange(256)
        path.write_bytes(raw)
        found = []
        for wanted in (False, True):
            try:
                found.append(str(replace(tar.scan_file(path, checksums=wanted), checksums=b"", crc=0, extension="")))
            except ArchiveError as error:
                found.append(str(error))
        assert found[0] == found[1]
        refused += "Contents" not in found[0]
    assert refused > 10
