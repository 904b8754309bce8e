"""Fuzzing of archives: the scalar, bulk and ranged readers must agree, and tarfile must read what they accept."""

import io
import random
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from datas3t.archive import ArchiveError, bulk, checksums, index, tar
from datas3t.archive.header import Read
from tests.fuzz.loop import Note, Try, replaced
from tests.support.tars import entry, pax, raw_header

_KEYS = (b"path", b"size", b"mtime", b"comment", b"GNU.sparse.major", b"SCHILY.realsize", b"uid")
_FIELDS = (0, 19, 20, 21, 99, 100, 124, 130, 135, 136, 148, 150, 155, 156, 157, 257, 262, 263, 345, 500, 511)
_VALUES = (0, 32, 46, 47, 48, 55, 57, 61, 103, 120, 127, 128, 255)


@contextmanager
def target() -> Iterator[Try]:
    """Yield the target. Make the bulk reader start at the first entry, with small windows."""
    with (
        tempfile.TemporaryDirectory() as folder,
        replaced((tar, "_SAMPLE", 1), (tar, "_NUMPY_FROM", 0), (bulk, "_WINDOW", 20 << 10), (bulk, "_BATCH", 50)),
    ):
        path = Path(folder) / "a.tar"

        def attempt(source: random.Random, note: Note) -> None:
            raw, damaged = _archive(source)
            note(raw)
            path.write_bytes(raw)
            with replaced((bulk, "_LARGE", source.choice((0, 1 << 30)))):
                _check(source, raw, path, damaged)

        yield attempt


def _check(source: random.Random, raw: bytes, path: Path, damaged: bool) -> None:
    expected = _scanned(lambda: tar.scan(lambda start, stop: raw[start:stop], len(raw)))
    assert _scanned(lambda: tar.scan_file(path)) == expected, "the bulk reader differs"
    wide, large = source.choice((512, 3000, 1 << 20)), source.choice((0, 600, 1 << 20))
    ranged = _scanned(lambda: tar.scan(_exactly(raw), len(raw), wide=wide, large=large))
    assert ranged == expected, "the ranged reader differs"
    _check_sums(raw, path, wide, expected)
    if isinstance(expected, str):
        assert "\n" not in expected, "the message has several lines"
        return
    assert index.check(expected.index, len(raw)) == expected.entries_end
    entries = index.decode(expected.index)
    names = [
        tar.check_entry(raw[each.position : each.content.start], each, expected.first_key + number)
        for number, each in enumerate(entries)
    ]
    # tarfile refuses headers with damage in fields that the readers ignore, or stops at them.
    found = _by_tarfile(raw)
    assert damaged or len(found) == len(entries), f"tarfile finds {len(found)} of {len(entries)} entries"
    for (name, content), own_name, each in zip(found, names, entries, strict=False):
        same = (name, content) == (own_name, raw[each.content.start : each.content.stop])
        assert same or _prefixed(raw, each), f"tarfile reads {name!r}"


def _check_sums(raw: bytes, path: Path, wide: int, expected: tar.Contents | str) -> None:
    """Check that checksums are those of the contents, in whatever pieces they are read, and change nothing else."""
    summed = _scanned(lambda: tar.scan_file(path, checksums=True))
    assert _scanned(lambda: tar.scan(_exactly(raw), len(raw), wide=wide, checksums=True)) == summed
    if isinstance(expected, str) or isinstance(summed, str):
        assert summed == expected, "checksums change the result"
        return
    assert replace(summed, checksums=b"", crc=0, extension="") == expected
    places = [each.content for each in index.decode(expected.index)]
    own = [checksums.crc(raw[place.start : place.stop]) for place in places]
    assert checksums.decode(summed.checksums).tolist() == own, "a checksum is wrong"
    assert summed.crc == checksums.crc(raw), "the archive's checksum is wrong"


def _scanned(scan: Callable[[], tar.Contents]) -> tar.Contents | str:
    """Return what a scan returns, or the message with which it refuses the archive."""
    try:
        return scan()
    except ArchiveError as error:
        return str(error)


def _exactly(raw: bytes) -> Read:
    def read(start: int, stop: int) -> bytes:
        assert 0 <= start <= stop <= len(raw), "a reader requested bytes outside of the archive"
        return raw[start:stop]

    return read


def _by_tarfile(raw: bytes) -> list[tuple[str, bytes]]:
    """Return the names and contents that Python's tarfile reads."""
    found = []
    try:
        with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
            for member in archive:
                content = archive.extractfile(member)
                found.append((member.name, content.read() if content else b""))
    except (tarfile.TarError, ValueError, OSError):
        pass
    return found


def _prefixed(raw: bytes, each: index.Entry) -> bool:
    """Whether the header has a prefix that only tarfile applies, because it does not check the magic."""
    main = each.content.start - 512
    return raw[main + 345] != 0 and raw[main + 257 : main + 263] != b"ustar\0"


def _archive(source: random.Random) -> tuple[bytes, bool]:
    """Return an archive, mostly a valid one, and whether some of its bytes were changed at random."""
    first = source.choice((0, 1, 7, 10**19 // 2, 2**63 - 30))
    extensions = [source.choice((b"txt", b"json.zst", b"e" * source.choice((60, 79, 80, 120)))) for _ in range(3)]
    unusual = source.choice((0.0, 0.02, 0.3))
    pieces = [
        _entry(source, first + number, source.choice(extensions), unusual) for number in range(source.randint(1, 60))
    ]
    raw = bytearray(b"".join(pieces) + bytes(512 * source.choice((2, 2, 2, 3, 20, 1, 0))))
    damage = source.choice((0, 0, 0, 1, 1, 3))
    for _ in range(damage):
        at = source.randrange(max(len(raw) // 512, 1)) * 512 + source.choice(_FIELDS)
        if at < len(raw):
            raw[at] = source.choice((*_VALUES, source.randrange(256)))
            if source.random() < 0.5:
                _renew_checksum(raw, at // 512 * 512)
    if source.random() < 0.05:
        del raw[source.randrange(len(raw) + 1) :]
    return bytes(raw), damage > 0


def _entry(source: random.Random, key: int, extension: bytes, unusual: float) -> bytes:
    """Return the blocks of an entry, in any dialect, sometimes with unusual headers."""
    name = b"%020d.%s" % (key, extension)
    content = source.randbytes(source.choice((0, 1, 100, 511, 512, 513, 2000)))
    main = name[:100]
    headers = b""
    if len(name) > 100:
        headers = source.choice(
            (pax({b"path": name}), entry(b"././@LongLink", name + b"\0", kind=b"L", magic=b"ustar  \0"))
        )
    elif source.random() < 0.5:
        headers = pax({b"mtime": b"%d.%d" % (source.randrange(10**9), source.randrange(100))})
    while source.random() < unusual:
        headers = source.choice((headers + _header(source, name, content), _header(source, name, content) + headers))
    kind = b"0" if source.random() >= unusual / 4 else source.choice((b"\0", b"1", b"5", b"S", b"7", b"x"))
    magic = source.choice((b"ustar\x0000", b"ustar  \0", b""))
    return headers + raw_header(main, len(content), kind=kind, magic=magic) + content + bytes(-len(content) % 512)


def _header(source: random.Random, name: bytes, content: bytes) -> bytes:
    """Return an extended header, which may be one that is not allowed."""
    kind = source.choice((b"x", b"x", b"g", b"L", b"K"))
    if kind in (b"L", b"K"):
        return entry(b"././@LongLink", source.choice((name, name[:30], b"")) + b"\0", kind=kind, magic=b"ustar  \0")
    values = {b"path": name, b"size": b"%d" % len(content)}
    keys = source.sample(_KEYS, source.randint(0, 3))
    records = [{key: values.get(key, b"%d" % source.randrange(10**6))} for key in keys]
    if records and source.random() < 0.2:
        records.append(records[0])
    if source.random() < 0.02:
        records.append({b"comment": b"c" * (1 << 20)})
    return pax(*records, kind=kind)


def _renew_checksum(raw: bytearray, at: int) -> None:
    """Write the right checksum into the header block at this position."""
    block = raw[at : at + 512]
    if len(block) == 512:
        block[148:156] = b" " * 8
        raw[at + 148 : at + 156] = b"%06o\0 " % sum(block)
