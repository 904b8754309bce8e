"""Which archives are accepted and which are refused, and the messages."""

import itertools
import pickle
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datas3t.archive import ArchiveError, index, tar, write
from datas3t.archive.index import Entry
from tests.support.tars import DIALECTS, archive, entry, pax, raw_header

END = write.END
N1, N2 = b"00000000000000000001.txt", b"00000000000000000002.txt"


def scan(raw: bytes, first_key: int | None = None) -> tar.Contents:
    """Scan an archive in memory."""
    return tar.scan(lambda start, stop: raw[start:stop], len(raw), first_key=first_key)


def long_name(name: bytes, *, kind: bytes = b"L") -> bytes:
    """Return a GNU header with a long name, or a long link of kind `K`, for the next entry."""
    return entry(b"././@LongLink", name + b"\0", kind=kind, magic=b"ustar  \0")


ACCEPTED = {
    "two plain entries": entry(N1) + entry(N2),
    "no content": entry(N1, b""),
    "a type of NUL and no magic, as in V7": entry(N1, kind=b"\0", magic=b""),
    "octal that ends with a blank": raw_header(N1, 1, size_field=b"00000000001 ") + b"x" + bytes(511),
    "octal that fills its field": raw_header(N1, 1, size_field=b"000000000001") + b"x" + bytes(511),
    "a size in base 256": raw_header(N1, 1, size_field=b"\x80" + bytes(10) + b"\x01") + b"x" + bytes(511),
    "a PAX header of times": pax({b"mtime": b"1.5"}) + entry(N1),
    "a PAX path": pax({b"path": b"00000000000000000001.\xc3\xa9"}) + entry(b"short"),
    "a PAX size": pax({b"size": b"1"}) + raw_header(N1, 0) + b"x" + bytes(511),
    "one header of each type": pax({b"comment": b"hi"}, kind=b"g")
    + long_name(N1, kind=b"K")
    + pax({b"mtime": b"1"})
    + long_name(N1)
    + entry(b"short"),
    "a PAX record that is repeated but ignored": pax({b"mtime": b"1"}, {b"mtime": b"2"}) + entry(N1),
    "extended headers of 1 MiB": pax({b"comment": b"c" * 500_000}, kind=b"g")
    + pax({b"comment": b"c" * (2**20 - 500_000 - 2 * len(b"500015 comment=\n"))})
    + entry(N1),
    "a GNU long name": long_name(N1[:-3] + b"e" * 200) + entry(N1),
    "a harmless global header": pax({b"comment": b"hi"}, kind=b"g") + entry(N1),
    "a prefix field that GNU uses for other data": entry(N1, magic=b"ustar  \0"),
    "many dots": entry(b"00000000000000000001.json.zst"),
}


@pytest.mark.parametrize("raw", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_all_dialects_are_accepted(raw: bytes, tmp_path: Path) -> None:
    whole = raw + END + bytes(512 * 7)
    contents = scan(whole)
    assert (contents.first_key, contents.entries_end) == (1, len(raw))
    assert index.check(contents.index, len(whole)) == len(raw)
    for number, each in enumerate(index.decode(contents.index)):
        headers = whole[each.position : each.content.start]
        assert tar.check_entry(headers, each, 1 + number).startswith(f"{1 + number:020d}.")
    (tmp_path / "a.tar").write_bytes(whole)
    assert tar.scan_file(tmp_path / "a.tar", first_key=1) == contents


REFUSED = {
    "an empty file": (b"", "it has 0 bytes"),
    "only an end marker": (END, "end marker but no entry"),
    "a directory": (entry(N1, b"", kind=b"5") + END, "is a directory"),
    "a symbolic link": (entry(N1, b"", kind=b"2") + END, "is a symbolic link"),
    "a hard link": (entry(N1, b"", kind=b"1") + END, "is a hard link"),
    "a device": (entry(N1, b"", kind=b"3") + END, "is a character device"),
    "sparse, GNU": (entry(N1, kind=b"S") + END, "is a sparse file"),
    "sparse, PAX": (pax({b"GNU.sparse.major": b"1"}) + entry(N1) + END, "is a sparse file"),
    "a leading ./": (entry(b"./" + N1) + END, "is not named <20 digits>.<extension>"),
    "no extension": (entry(b"00000000000000000001") + END, "is not named"),
    "an empty extension": (entry(b"00000000000000000001.") + END, "is not named"),
    "a slash": (entry(b"00000000000000000001.a/b") + END, "is not named"),
    "a USTAR prefix": (raw_header(N1, 0)[:345] + b"dir".ljust(167, b"\0") + END, "is not named"),
    "too few digits": (entry(b"1.txt") + END, "is not named"),
    "a key above the largest": (entry(b"09223372036854775808.txt") + END, "above 9223372036854775807"),
    "a gap": (entry(N1) + entry(b"00000000000000000003.txt") + END, "follows key 1: keys must be consecutive"),
    "a repeat": (entry(N1) + entry(N1) + END, "follows key 1"),
    "another first key": (entry(N1) + END, "the first key must be 7"),
    "a wrong checksum": (entry(N1).replace(b"0000644", b"0000645") + END, "has a wrong checksum"),
    "no end marker": (entry(N1), "without an end marker"),
    "half an end marker": (entry(N1) + bytes(512), "end marker would end at"),
    "a truncated content": (raw_header(N1, 5000) + bytes(512), "is truncated: it ends at byte"),
    "a truncated block": (entry(N1) + END + b"\0", "not a multiple of 512"),
    "other bytes after the end marker": (
        entry(N1) + END + bytes(52) + b"x" + bytes(459),
        "byte 2100 is after the archive's end marker",
    ),
    "a malformed size": (raw_header(N1, 0, size_field=b"0000000009x\0") + END, "has a malformed size"),
    "a global path": (pax({b"path": N1}, kind=b"g") + entry(N1) + END, "sets 'path', which only an entry's header may"),
    "a global size": (
        pax({b"size": b"1"}, kind=b"g") + entry(N1) + END,
        "sets 'size', which only an entry's header may",
    ),
    "a malformed PAX record": (entry(b"x", b"99 path=a\n", kind=b"x") + entry(N1) + END, "has a malformed record"),
    "two PAX headers": (pax({b"mtime": b"1"}) + pax({b"path": N1}) + entry(b"short") + END, "has two PAX headers"),
    "two paths in a PAX header": (pax({b"path": N1}, {b"path": N2}) + entry(b"short") + END, "sets 'path' twice"),
    "two sizes in a PAX header": (pax({b"size": b"1"}, {b"size": b"1"}) + entry(N1) + END, "sets 'size' twice"),
    "two long names": (long_name(N1) + long_name(N2) + entry(b"short") + END, "has two GNU long names"),
    "two long links": (long_name(N1, kind=b"K") * 2 + entry(N1) + END, "has two GNU long links"),
    "two global headers": (pax({b"a": b"b"}, kind=b"g") * 2 + entry(N1) + END, "follows other headers of the entry"),
    "a global header between a PAX header and its entry": (
        pax({b"path": N1}) + pax({b"a": b"b"}, kind=b"g") + entry(N2) + END,
        "the global header at byte 1024 follows other headers of the entry at byte 0",
    ),
    "a long name and a PAX path": (
        long_name(N1) + pax({b"path": N2}) + entry(N1) + END,
        "has a GNU long name and a PAX path",
    ),
    "a PAX path and a long name": (
        pax({b"path": N1}) + long_name(N1) + entry(N1) + END,
        "has a GNU long name and a PAX path",
    ),
    "a size that only libarchive applies": (pax({b"SCHILY.realsize": b"600"}) + entry(N1) + END, "is a sparse file"),
    "a PAX header of more than 1 MiB": (
        pax({b"comment": b"c" * 2**20}) + entry(N1) + END,
        "the entry at byte 0 has extended headers of more than 1048576 bytes",
    ),
    "a long name of more than 1 MiB": (long_name(b"n" * 2**20) + entry(N1) + END, "of more than 1048576 bytes"),
    "extended headers of more than 1 MiB together": (
        entry(N1) + pax({b"a": b"c" * 600_000}, kind=b"g") + pax({b"comment": b"c" * 600_000}) + entry(N2) + END,
        "the entry at byte 1024 has extended headers of more than 1048576 bytes",
    ),
    "an extended header without an entry": (pax({b"mtime": b"1"}) + END, "is not followed by an entry"),
    "a huge base-256 size": (
        raw_header(N1, 0, size_field=b"\x80" + b"\xff" * 11) + END,
        "the limits are 281474976710655 bytes",
    ),
    "only a prefix of an archive": (entry(N1) + entry(N2)[:300], "without an end marker"),
    "a global header without an entry": (
        entry(N1) + pax({b"a": b"b"}, kind=b"g") + END,
        "is not followed by an entry",
    ),
    "a long name cut short": (entry(b"x", bytes(600), kind=b"L")[:1024], "is truncated: the archive ends at byte 1024"),
    "sparse, in a global header": (pax({b"GNU.sparse.major": b"1"}, kind=b"g") + entry(N1) + END, "is a sparse file"),
    "a malformed PAX size": (pax({b"size": b"-1"}) + entry(N1) + END, "malformed size in its extended header"),
    "a PAX path with a slash": (pax({b"path": b"./" + N1}) + entry(N1) + END, "is not named"),
    "a long name with a slash": (long_name(b"a/" + N1) + entry(N1) + END, "is not named"),
    "a negative base-256 size": (raw_header(N1, 0, size_field=b"\xff" * 12) + END, "has a malformed size"),
    "lzip": (b"LZIP\x01" + b"1" * 100, "compressed with lzip"),
    "lz4": (b"\x04\x22\x4d\x18" + b"1" * 100, "compressed with lz4"),
    "compress": (b"\x1f\x9d\x90" + b"1" * 2000, "compressed with compress"),
    "zstd after a skippable frame": (b"\x50\x2a\x4d\x18" + b"1" * 100, "compressed with zstd"),
    "gzip": (b"\x1f\x8b" + bytes(2000), "compressed with gzip; decompress it first"),
    "zstd": (b"\x28\xb5\x2f\xfd" + b"1" * 2000, "compressed with zstd"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_archive_that_breaks_a_rule_is_refused_with_a_message(case: str, tmp_path: Path) -> None:
    raw, message = REFUSED[case]
    if case == "a USTAR prefix":
        block = bytearray(raw[:512])
        block[148:156] = b" " * 8
        block[148:156] = b"%06o\0 " % sum(block)
        raw = bytes(block) + END
    first_key = 7 if case == "another first key" else None
    with pytest.raises(ArchiveError) as caught:
        scan(raw, first_key)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    (tmp_path / "a.tar").write_bytes(raw)
    with pytest.raises(ArchiveError, match=r"."):
        tar.scan_file(tmp_path / "a.tar", first_key=first_key)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


AMBIGUOUS = [case for case, (_, message) in REFUSED.items() if "two " in case or "between" in case or "and a" in case]


@pytest.mark.parametrize("case", AMBIGUOUS)
def test_readers_of_one_entry_refuse_what_a_scan_refuses(case: str) -> None:
    raw, message = REFUSED[case]
    headers = raw[: -len(END) - 512]
    assert len(headers) % 512 == 0
    with pytest.raises(ArchiveError) as caught:
        tar.check_entry(headers, Entry(0, len(headers) // 512, 1), 1)
    assert message in str(caught.value)


def test_records_that_are_ignored_need_no_memory(tmp_path: Path) -> None:
    keys = itertools.islice(itertools.product(b"ABCDEFGHIJKLMNOPQRST", repeat=4), 2**15)
    payload = b"".join(b"8 %s=\n" % bytes(key) for key in keys)
    assert len(payload) == 256 << 10
    path = tmp_path / "bomb.tar"
    path.write_bytes(entry(b"PaxHeaders/x", payload, kind=b"x") + entry(N1) + END)
    tracemalloc.start()
    try:
        assert tar.scan_file(path).count == 1
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()


def test_an_index_entry_that_differs_from_the_headers_is_found() -> None:
    raw = archive(5, [b"abc", b"de"])
    first, second = index.decode(scan(raw).index)
    with pytest.raises(ArchiveError, match="according to the index it has key 6"):
        tar.check_entry(raw[:512], first, 6)
    with pytest.raises(ArchiveError, match="has 1 header blocks and 3 bytes, but according to the index 1 and 4"):
        tar.check_entry(raw[:512], first._replace(size=4), 5)
    large = archive(5, [bytes(600)])
    with pytest.raises(ArchiveError, match="has 1 header blocks and 600 bytes, but according to the index 1 and 3"):
        tar.check_entry(large[:512], Entry(0, 1, 3), 5)
    with pytest.raises(ArchiveError, match="has more than 1 header blocks"):
        tar.check_entry(pax({b"path": N1}), Entry(0, 1, 3), 1)
    with pytest.raises(ArchiveError, match="according to the index 2 and 2"):
        tar.check_entry(raw[1024:2048], second._replace(header_blocks=2), 6)
    with pytest.raises(ArchiveError, match="has zeros there"):
        tar.check_entry(bytes(512), Entry(2048, 1, 0), 7)


def test_a_content_above_8_gib_is_skipped_and_not_read(tmp_path: Path) -> None:
    size = (8 << 30) + 5
    path = tmp_path / "large.tar"
    head = write.header("00000000000000000001.bin", size)
    with path.open("wb") as out:
        out.write(head)
        out.truncate(len(head) + size + (-size % 512) + 1024)
    contents = tar.scan_file(path)
    assert index.entry_at(contents.index, 0) == Entry(0, len(head) // 512, size)
    assert len(head) > 512, "a PAX header is needed because the size does not fit eleven octal digits"


def test_progress_never_decreases_and_ends_with_the_size(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(archive(1, [b"x"] * 3000))
    seen: list[tuple[int, int]] = []
    tar.scan_file(path, progress=lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert seen[-1] == (path.stat().st_size, path.stat().st_size)
    assert len(seen) > 2


def damaged(raw: bytes, position: int, value: int) -> bytes:
    """Return the bytes with one of them changed."""
    return raw[:position] + bytes([raw[position] ^ value]) + raw[position + 1 :]


WHOLE = {dialect: archive(1, [b"abc", b"", b"x" * 600], dialect=dialect) for dialect in DIALECTS}


@given(st.sampled_from(sorted(WHOLE)), st.integers(0, 2**20), st.integers(1, 255))
def test_a_changed_byte_is_found_or_has_no_effect(dialect: str, place: int, value: int) -> None:
    raw = WHOLE[dialect]
    position = place % len(raw)
    before = scan(raw)
    try:
        after = scan(damaged(raw, position, value))
    except ArchiveError:
        return
    assert after == before
    assert position < before.entries_end, "from the end marker on, only zeros are accepted"


@given(st.sampled_from(sorted(WHOLE)), st.data())
def test_a_truncated_archive_is_refused(dialect: str, data: st.DataObject) -> None:
    raw = WHOLE[dialect]
    needed = scan(raw).entries_end + 1024
    with pytest.raises(ArchiveError):
        scan(raw[: data.draw(st.integers(0, needed - 1))])
    assert scan(raw[:needed]).count == 3


@given(st.sampled_from(sorted(WHOLE)), st.binary(min_size=1, max_size=2000).filter(any))
def test_only_zeros_are_accepted_after_the_end_marker(dialect: str, garbage: bytes) -> None:
    raw = WHOLE[dialect]
    with pytest.raises(ArchiveError, match=r"after the archive's end marker|not a multiple of 512"):
        scan(raw + garbage)
    assert scan(raw + bytes(512 * len(garbage))).count == 3


@given(st.lists(st.integers(0, 60_000), min_size=1, max_size=40), st.integers(0, 3000), st.integers(1, 9))
def test_a_scan_reads_each_byte_at_most_once(sizes: list[int], large: int, wide: int) -> None:
    raw = b"".join(entry(b"%020d.x" % key, bytes(size)) for key, size in enumerate(sizes)) + END
    requested: list[range] = []

    def read(start: int, stop: int) -> bytes:
        requested.append(range(start, stop))
        assert 0 <= start < stop <= len(raw)
        return raw[start:stop]

    found = tar.scan(read, len(raw), wide=wide * 4096, large=large)
    assert [each.size for each in index.decode(found.index)] == sizes
    starts = [each.start for each in requested]
    assert starts == sorted(starts), "no byte may be read twice"


def test_an_index_that_is_written_to_a_file_is_not_kept_in_memory(tmp_path: Path) -> None:
    raw = WHOLE["pax"]
    whole = scan(raw)
    with (tmp_path / "index").open("w+b") as file:
        found = tar.scan(lambda start, stop: raw[start:stop], len(raw), into=file)
        file.seek(0)
        assert file.read() == whole.index
    assert (found.index, found.count, found.entries_end) == (b"", whole.count, whole.entries_end)


def test_after_large_contents_only_headers_are_read() -> None:
    sizes = [3 << 20] * 20
    raw = b"".join(entry(b"%020d.x" % key, bytes(size)) for key, size in enumerate(sizes)) + END
    requested: list[int] = []

    def read(start: int, stop: int) -> bytes:
        requested.append(stop - start)
        return raw[start:stop]

    assert tar.scan(read, len(raw), wide=1 << 20).count == 20
    assert len(requested) < 25
    assert sum(requested[1:]) < 1 << 18
