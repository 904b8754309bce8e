"""The bulk reader returns what the reference reader returns, or leaves the entry to it."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from datas3t.archive import ArchiveError, bulk, index, tar
from tests.support.tars import DIALECTS, archive, contents, entry, pax, raw_header


def scanned(path: Path) -> tar.Contents | str:
    """Return the result of scanning a file, or its error."""
    try:
        return tar.scan_file(path)
    except ArchiveError as error:
        return str(error)


def reference(path: Path) -> tar.Contents | str:
    """Return the same without the bulk reader."""
    raw = path.read_bytes()
    try:
        return tar.scan(lambda start, stop: raw[start:stop], len(raw))
    except ArchiveError as error:
        return str(error)


@pytest.fixture(params=["windows", "headers"])
def bulk_from_start(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the bulk reader from the first entry, in windows that end within entries, or by headers alone."""
    monkeypatch.setattr(tar, "_SAMPLE", 1)
    monkeypatch.setattr(tar, "_NUMPY_FROM", 0)
    monkeypatch.setattr(bulk, "_WINDOW", 20 << 10)
    monkeypatch.setattr(bulk, "_BATCH", 50)
    monkeypatch.setattr(bulk, "_LARGE", 1 << 30 if request.param == "windows" else 0)


@pytest.mark.usefixtures("bulk_from_start")
@pytest.mark.parametrize("dialect", DIALECTS)
def test_valid_archives_are_read_as_the_reference_reader_reads_them(dialect: str, tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    for seed in range(10):
        path.write_bytes(archive(seed, contents(seed, 200, 1500), dialect=dialect))
        found = reference(path)
        assert isinstance(found, tar.Contents)
        assert scanned(path) == found


@pytest.mark.usefixtures("bulk_from_start")
@pytest.mark.parametrize("seed", range(8))
def test_damaged_archives_give_the_error_of_the_reference_reader(seed: int, tmp_path: Path) -> None:
    source = random.Random(seed)
    path = tmp_path / "a.tar"
    refused = 0
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
        found = reference(path)
        assert scanned(path) == found
        refused += isinstance(found, str)
    assert refused > 10, "most of the damage must be found"


@pytest.mark.usefixtures("bulk_from_start")
def test_the_bulk_reader_reads_nearly_all_of_a_plain_archive(tmp_path: Path) -> None:
    for dialect in DIALECTS:
        path = tmp_path / f"{dialect}.tar"
        path.write_bytes(archive(1, contents(2, 300, 300), dialect=dialect))
        fd = os.open(path, os.O_RDONLY)
        try:
            reader = bulk.BulkReader(fd, path.stat().st_size, mean=1000)
            position, key = 0, 1
            while (taken := reader.read(position, key))[0]:
                key += len(taken[0]) // index.RECORD_SIZE
                position = taken[1]
        finally:
            os.close(fd)
        assert key == 301


NAME = b"%020d.bin"


def prefixed(name: bytes) -> bytes:
    """Return an entry whose header has a USTAR prefix."""
    block = bytearray(entry(name))
    block[345:348] = b"dir"
    return checked(block)


def checked(block: bytearray) -> bytes:
    """Return a header block with the right checksum."""
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block[:512])
    return bytes(block)


MIXED = {
    "with and without PAX in turns": [
        (pax({b"mtime": b"1.5"}) if key % 2 else b"") + entry(NAME % key) for key in range(90)
    ],
    "names of all extensions": [entry(NAME % key + b"x" * (key % 70)) for key in range(90)],
    "two PAX headers before a late entry": [
        pax({b"mtime": b"1"}) * (1 + (key == 70)) + entry(NAME % key) for key in range(90)
    ],
    "a path that is set twice": [
        pax({b"mtime": b"1"} if key != 70 else {b"path": NAME % key}, {b"path": NAME % key} if key == 70 else {})
        + entry(NAME % key)
        for key in range(90)
    ],
    "a global header after a PAX header": [
        pax({b"mtime": b"1"}) + pax({b"a": b"b"}, kind=b"g") * (key == 70) + entry(NAME % key) for key in range(90)
    ],
    "a late PAX header that is too large": [
        pax({b"mtime": b"1" if key != 70 else b"1" * 2**20}) + entry(NAME % key) for key in range(90)
    ],
    "a PAX path now and then": [
        entry(NAME % key) if key % 9 else pax({b"path": NAME % key}) + entry(b"short") for key in range(90)
    ],
    "PAX records of many lengths": [
        pax({b"mtime": b"1" * (1 + key % 30), b"uid": b"%d" % key}) + entry(NAME % key) for key in range(90)
    ],
    "a slash in a late extension": [entry(NAME % key + (b"/a" if key == 70 else b"")) for key in range(90)],
    "a slash early in an extension": [entry(NAME % key if key != 70 else b"%020d.a/b" % key) for key in range(90)],
    "a prefix": [entry(NAME % key) if key != 70 else prefixed(NAME % key) for key in range(90)],
    "PAX records that claim two blocks": [
        (entry(b"x", b"11 mtime=1\n" + bytes(600 * (key > 69)), kind=b"x")) + entry(NAME % key) for key in range(90)
    ],
    "empty PAX headers": [entry(b"x", b"", kind=b"x") + entry(NAME % key, b"y" * (key % 8 == 1)) for key in range(90)],
    "bytes after the end of a name": [entry(NAME % key + b"\0/" * (key == 70)) for key in range(90)],
    "a key that wraps around 2^64": [entry(b"%020d.bin" % (key + 2**64 * (key == 70))) for key in range(90)],
    "a PAX size now and then": [
        entry(NAME % key) if key % 9 else pax({b"size": b"3"}) + raw_header(NAME % key, 0) + bytes(512)
        for key in range(90)
    ],
    "a sparse file after PAX times": [
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
    "a sparse file after PAX times": "00000000000000000070.bin' is a sparse file",
    "a PAX record that does not end": "has a malformed record",
    "two PAX headers before a late entry": "has two PAX headers",
    "a path that is set twice": "sets 'path' twice",
    "a global header after a PAX header": "follows other headers of the entry",
    "a late PAX header that is too large": "has extended headers of more than 1048576 bytes",
}


@pytest.mark.usefixtures("bulk_from_start")
@pytest.mark.parametrize("case", MIXED)
def test_entries_that_are_not_plain_are_read_as_the_reference_reader_reads_them(case: str, tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(b"".join(MIXED[case]) + bytes(1024))
    found = reference(path)
    if message := REFUSED.get(case):
        assert isinstance(found, str)
        assert message in found
    else:
        assert isinstance(found, tar.Contents)
    assert scanned(path) == found


@pytest.mark.usefixtures("bulk_from_start")
def test_a_checksum_is_compared_with_all_its_bits(tmp_path: Path) -> None:
    entries = [bytearray(entry(NAME % key)) for key in range(60)]
    block = entries[40]
    block[157:257] = b"\xff" * 100
    block[265:329] = b"\xff" * 64
    block[345:512] = b"\xff" * 167
    block[257:265] = b"ustar  \0"
    total = sum(block[:148]) + 8 * 32 + sum(block[156:512])
    assert total > 65_536
    path = tmp_path / "a.tar"
    for stored, valid in ((total, True), (total - 65_536, False), (total - 65_535, False)):
        block[148:156] = b"%06o\0 " % stored
        path.write_bytes(b"".join(entries) + bytes(1024))
        found = scanned(path)
        assert found == reference(path)
        assert isinstance(found, tar.Contents) == valid


@pytest.mark.usefixtures("bulk_from_start")
@pytest.mark.parametrize("cut", [1, 511, 513, 1023, 1025, 1536, 2047])
def test_files_that_end_within_a_block_give_the_error_of_the_reference_reader(cut: int, tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(archive(1, contents(4, 90, 300), dialect="pax").rstrip(b"\0")[:-cut])
    found = reference(path)
    assert isinstance(found, str)
    assert scanned(path) == found


def test_small_entries_followed_by_large_and_small_ones_are_read(tmp_path: Path) -> None:
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


def test_the_bulk_reader_is_tried_rarely_if_entries_are_not_plain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.tar"
    unusual = [pax({b"path": NAME % key}) + entry(b"short") if key % 2 else entry(NAME % key) for key in range(20_000)]
    path.write_bytes(b"".join(unusual) + bytes(1024))
    monkeypatch.setattr(tar, "_NUMPY_FROM", 0)
    calls = []
    read = bulk.BulkReader.read

    def counted(self: bulk.BulkReader, position: int, key: int) -> tuple[bytes, int]:
        calls.append(key)
        return read(self, position, key)

    monkeypatch.setattr(bulk.BulkReader, "read", counted)
    assert tar.scan_file(path).count == 20_000
    assert 0 < len(calls) < 60


def test_small_archives_are_read_without_numpy(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(archive(1, [b"x"] * 3000))
    code = (
        "import sys; from datas3t.archive import index, join, names, parts, reads, tar, write;"
        f"found = tar.scan_file({str(path)!r}); index.check(found.index, found.archive_size);"
        "join.shifted(found.index, 512); sys.exit('numpy' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_keys_near_the_largest_possible_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(archive(2**63 - 50, [b"x"] * 50))
    assert tar.scan_file(path).last_key == 2**63 - 1
