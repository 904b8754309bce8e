"""Archives for tests: small ones in every dialect, and reproducible ones of any size."""

import io
import random
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from datas3t.archive import names, write

DIALECTS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


def archive(first: int, contents: Iterable[bytes], *, extension: str = "bin", dialect: str = "ustar") -> bytes:
    """Return an archive of Python's tarfile. In dialect `pax` each entry has a PAX header for its time."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=DIALECTS[dialect]) as tar:
        for key, content in enumerate(contents, first):
            member = tarfile.TarInfo(names.entry_name(key, extension))
            member.size = len(content)
            member.mtime = 1_700_000_000.25 + key if dialect == "pax" else 1_700_000_000
            tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


def contents(seed: int, count: int, size: int) -> list[bytes]:
    """Return random contents of 0 to `size` bytes, which cannot be compressed."""
    source = random.Random(seed)
    return [source.randbytes(source.randint(0, size)) for _ in range(count)]


def random_archive(seed: int, first: int, count: int, size: int = 2000, *, dialect: str = "ustar") -> bytes:
    """Return an archive of random contents."""
    return archive(first, contents(seed, count, size), dialect=dialect)


def write_archive(path: Path, seed: int, first: int, sizes: Sequence[int], *, extension: str = "bin") -> None:
    """Write an archive of random contents of these sizes to a file, one entry at a time."""
    source = random.Random(seed)
    with path.open("wb") as out:
        for key, size in enumerate(sizes, first):
            out.write(write.header(names.entry_name(key, extension), size))
            for start in range(0, size, 1 << 20):
                out.write(source.randbytes(min(1 << 20, size - start)))
            out.write(write.padding(size))
        out.write(write.END)


def raw_header(
    name: bytes, size: int, *, kind: bytes = b"0", size_field: bytes | None = None, magic: bytes = b"ustar\x0000"
) -> bytes:
    """Return a header block of any type, with the right checksum."""
    block = bytearray(512)
    block[: len(name)] = name
    block[100:124] = b"0000644\0" + b"0000000\0" * 2
    block[124:136] = size_field if size_field is not None else b"%011o\0" % size
    block[136:148] = b"%011o\0" % 0
    block[148:156] = b" " * 8
    block[156:157] = kind
    block[257 : 257 + len(magic)] = magic
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def entry(name: bytes, content: bytes = b"x", **fields: bytes) -> bytes:
    """Return a header block, a content and its padding."""
    return raw_header(name, len(content), **fields) + content + bytes(-len(content) % 512)


def pax(*records: dict[bytes, bytes], kind: bytes = b"x") -> bytes:
    """Return an extended header with these records. A record that is in several of the dictionaries is repeated."""
    payload = b""
    for key, value in (record for each in records for record in each.items()):
        rest = b" %s=%s\n" % (key, value)
        digits = next(count for count in range(1, 9) if len(str(len(rest) + count)) == count)
        payload += b"%d%s" % (len(rest) + digits, rest)
    return entry(b"PaxHeaders/x", payload, kind=kind)
