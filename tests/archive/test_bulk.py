"""The bulk reader says what the scalar reader says, or says nothing."""

import os
import random
from pathlib import Path

import pytest

from datas3t.archive import bulk, index, tar
from datas3t.archive.errors import ArchiveError
from tests.support.tars import DIALECTS, archive, contents


def outcome(path: Path) -> tar.Contents | str:
    try:
        return tar.scan_file(path)
    except ArchiveError as error:
        return str(error)


def scalar(path: Path) -> tar.Contents | str:
    raw = path.read_bytes()
    try:
        return tar.scan(lambda start, stop: raw[start:stop], len(raw))
    except ArchiveError as error:
        return str(error)


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bulk reader from the first entry on, in windows that cut through entries."""
    monkeypatch.setattr(tar, "_LOOK_FIRST", 1)
    monkeypatch.setattr(tar, "_WORTH", 0)
    monkeypatch.setattr(bulk, "_WINDOW", 20 << 10)


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("dialect", DIALECTS)
def test_sound_archives_are_read_alike(dialect: str, tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    for seed in range(10):
        path.write_bytes(archive(seed, contents(seed, 200, 1500), dialect=dialect))
        found = scalar(path)
        assert isinstance(found, tar.Contents)
        assert outcome(path) == found


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("seed", range(8))
def test_damaged_archives_are_read_alike(seed: int, tmp_path: Path) -> None:
    source = random.Random(seed)
    path = tmp_path / "a.tar"
    differing = 0
    for _ in range(60):
        raw = bytearray(archive(1, contents(seed, 60, 900), dialect=source.choice(list(DIALECTS))))
        for _ in range(source.randint(1, 3)):
            block = source.randrange(len(raw) // 512) * 512
            raw[block + source.choice((0, 19, 21, 124, 130, 135, 148, 150, 154, 156, 257, 262, 300, 345))] = (
                source.choice((0, 32, 48, 57, 47, 120, 255, source.randrange(256)))
            )
        if source.random() < 0.2:
            del raw[source.randrange(len(raw)) :]
        path.write_bytes(raw)
        found = scalar(path)
        assert outcome(path) == found
        differing += isinstance(found, str)
    assert differing > 10, "the damage is found"


@pytest.mark.usefixtures("eager")
def test_the_bulk_reader_takes_nearly_all_of_a_plain_archive(tmp_path: Path) -> None:
    for dialect in DIALECTS:
        path = tmp_path / f"{dialect}.tar"
        path.write_bytes(archive(1, contents(2, 300, 300), dialect=dialect))
        fd = os.open(path, os.O_RDONLY)
        try:
            reader = bulk.Bulk(fd, path.stat().st_size)
            position, key = 0, 1
            while (taken := reader.take(position, key))[0]:
                key += len(taken[0]) // index.RECORD_SIZE
                position = taken[1]
        finally:
            os.close(fd)
        assert key == 301


def test_keys_near_the_greatest_are_left_to_the_scalar_reader(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(archive(2**63 - 50, [b"x"] * 50))
    assert tar.scan_file(path).last_key == 2**63 - 1
