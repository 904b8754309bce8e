"""The bulk reader says what the scalar reader says, or says nothing."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from datas3t.archive import ArchiveError, bulk, index, tar
from tests.support.tars import DIALECTS, archive, contents, entry, pax, raw_header


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


@pytest.fixture(params=["reading", "skipping"])
def eager(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bulk reader from the first entry on, in windows that cut through entries, or by headers alone."""
    monkeypatch.setattr(tar, "_LOOK_FIRST", 1)
    monkeypatch.setattr(tar, "_WORTH", 0)
    monkeypatch.setattr(bulk, "_WINDOW", 20 << 10)
    monkeypatch.setattr(bulk, "_BATCH", 50)
    monkeypatch.setattr(bulk, "_LARGE", 1 << 30 if request.param == "reading" else 0)


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
            reader = bulk.Bulk(fd, path.stat().st_size, mean=1000)
            position, key = 0, 1
            while (taken := reader.take(position, key))[0]:
                key += len(taken[0]) // index.RECORD_SIZE
                position = taken[1]
        finally:
            os.close(fd)
        assert key == 301


NAME = b"%020d.bin"


def prefixed(name: bytes) -> bytes:
    block = bytearray(entry(name))
    block[345:348] = b"dir"
    return checked(block)


def checked(block: bytearray) -> bytes:
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block[:512])
    return bytes(block)


MIXED = {
    "PAX and plain by turns": [(pax({b"mtime": b"1.5"}) if key % 2 else b"") + entry(NAME % key) for key in range(90)],
    "names of all extensions": [entry(NAME % key + b"x" * (key % 70)) for key in range(90)],
    "two PAX headers now and then": [pax({b"mtime": b"1"}) * (key % 7) + entry(NAME % key) for key in range(60)],
    "a PAX path now and then": [
        entry(NAME % key) if key % 9 else pax({b"path": NAME % key}) + entry(b"short") for key in range(90)
    ],
    "PAX records of many lengths": [
        pax({b"mtime": b"1" * (1 + key % 30), b"uid": b"%d" % key}) + entry(NAME % key) for key in range(90)
    ],
    "a slash in a late extension": [entry(NAME % key + (b"/a" if key == 70 else b"")) for key in range(90)],
    "a slash early in an extension": [entry(NAME % key if key != 70 else b"%020d.a/b" % key) for key in range(90)],
    "a prefix": [entry(NAME % key) if key != 70 else prefixed(NAME % key) for key in range(90)],
    "PAX records of one block in two": [
        (entry(b"x", b"11 mtime=1\n" + bytes(600 * (key > 69)), kind=b"x")) + entry(NAME % key) for key in range(90)
    ],
    "empty PAX headers": [entry(b"x", b"", kind=b"x") + entry(NAME % key, b"y" * (key % 8 == 1)) for key in range(90)],
    "a name of zeros behind its end": [entry(NAME % key + b"\0/" * (key == 70)) for key in range(90)],
    "a key that wraps around 2^64": [entry(b"%020d.bin" % (key + 2**64 * (key == 70))) for key in range(90)],
    "a PAX size now and then": [
        entry(NAME % key) if key % 9 else pax({b"size": b"3"}) + raw_header(NAME % key, 0) + bytes(512)
        for key in range(90)
    ],
    "a sparse file behind PAX times": [
        pax({b"mtime": b"1"} if key != 70 else {b"GNU.sparse.major": b"1"}) + entry(NAME % key) for key in range(90)
    ],
    "a PAX record that does not end": [
        (pax({b"mtime": b"123"}) if key != 70 else entry(b"x", b"13 mtime=1234", kind=b"x")) + entry(NAME % key)
        for key in range(90)
    ],
}


REFUSED = {
    "a slash in a late extension": "00000000000000000070.bin/a' is not named",
    "a slash early in an extension": "00000000000000000070.a/b' is not named",
    "a prefix": "dir/00000000000000000070.bin' is not named",
    "a key that wraps around 2^64": "18446744073709551686.bin' has a key above",
    "a sparse file behind PAX times": "00000000000000000070.bin' is a sparse file",
    "a PAX record that does not end": "has a malformed record",
}


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("case", MIXED)
def test_what_is_not_plain_is_read_alike(case: str, tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(b"".join(MIXED[case]) + bytes(1024))
    found = scalar(path)
    if said := REFUSED.get(case):
        assert isinstance(found, str)
        assert said in found
    else:
        assert isinstance(found, tar.Contents)
    assert outcome(path) == found


@pytest.mark.usefixtures("eager")
def test_a_checksum_that_is_off_by_16_bits_is_wrong(tmp_path: Path) -> None:
    entries = [bytearray(entry(NAME % key)) for key in range(60)]
    block = entries[40]
    block[157:257] = b"\xff" * 100
    block[265:329] = b"\xff" * 64
    block[345:512] = b"\xff" * 167
    block[257:265] = b"ustar  \0"
    total = sum(block[:148]) + 8 * 32 + sum(block[156:512])
    assert total > 65_536
    path = tmp_path / "a.tar"
    for said, sound in ((total, True), (total - 65_536, False), (total - 65_535, False)):
        block[148:156] = b"%06o\0 " % said
        path.write_bytes(b"".join(entries) + bytes(1024))
        found = outcome(path)
        assert found == scalar(path)
        assert isinstance(found, tar.Contents) == sound


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("cut", [1, 511, 513, 1023, 1025, 1536, 2047])
def test_files_that_end_within_a_block_are_read_alike(cut: int, tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(archive(1, contents(4, 90, 300), dialect="pax").rstrip(b"\0")[:-cut])
    found = scalar(path)
    assert isinstance(found, str)
    assert outcome(path) == found


def test_many_small_entries_then_large_ones_and_back(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    sizes = [10] * 3000 + [40_000] * 3000 + [10] * 60_000
    with path.open("wb") as out:
        for key, size in enumerate(sizes):
            out.write(raw_header(NAME % key, size))
            out.seek(index.padded(size), os.SEEK_CUR)
        out.write(bytes(1024))
    found = tar.scan_file(path)
    assert (found.first_key, found.count) == (0, 66_000)
    assert index.check(found.index, found.archive_size) == found.entries_end


def test_a_bulk_reader_that_finds_next_to_nothing_is_asked_seldom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.tar"
    unusual = [pax({b"path": NAME % key}) + entry(b"short") if key % 2 else entry(NAME % key) for key in range(20_000)]
    path.write_bytes(b"".join(unusual) + bytes(1024))
    monkeypatch.setattr(tar, "_WORTH", 0)
    taken = []
    take = bulk.Bulk.take

    def counted(self: bulk.Bulk, position: int, key: int) -> tuple[bytes, int]:
        taken.append(key)
        return take(self, position, key)

    monkeypatch.setattr(bulk.Bulk, "take", counted)
    assert tar.scan_file(path).count == 20_000
    assert 0 < len(taken) < 60


def test_small_archives_are_read_without_numpy(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(archive(1, [b"x"] * 3000))
    code = (
        "import sys; from datas3t.archive import index, join, names, parts, reads, tar, write;"
        f"found = tar.scan_file({str(path)!r}); index.check(found.index, found.archive_size);"
        "join.shifted(found.index, 512); sys.exit('numpy' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_keys_near_the_greatest_are_left_to_the_scalar_reader(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(archive(2**63 - 50, [b"x"] * 50))
    assert tar.scan_file(path).last_key == 2**63 - 1
