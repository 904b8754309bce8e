"""The datapoints of the benchmarks: seeded random bytes, which do not compress and are the same in every run."""

import os
import random
from collections.abc import Iterator
from pathlib import Path

from bench.places import entry_size
from datas3t.archive import names, write
from datas3t.archive.index import BLOCK


def write_archive(path: Path, first: int, count: int, size: int) -> None:
    """Write an archive of `count` datapoints of `size` bytes, numbered from `first` on."""
    with path.open("wb", buffering=1 << 20) as out:
        out.writelines(_pieces(first, count, size))


def archive(first: int, count: int, size: int) -> bytes:
    """Return the same archive in memory."""
    return b"".join(_pieces(first, count, size))


def _pieces(first: int, count: int, size: int) -> Iterator[bytes]:
    for key, content in enumerate(contents(first, count, size), first):
        yield write.header(names.entry_name(key, "bin"), size) + content + write.padding(size)
    yield write.END


def contents(first: int, count: int, size: int) -> Iterator[bytes]:
    """Yield the contents of the archive with that first key."""
    source = random.Random(first)
    return (source.randbytes(size) for _ in range(count))


def content(path: Path, number: int, size: int) -> bytes:
    """Return the content of the entry with this number, from 0, of an archive on disk."""
    with path.open("rb") as file:
        return os.pread(file.fileno(), size, number * entry_size(size) + BLOCK)


def chosen(total: int, count: int) -> list[int]:
    """Return `count` different keys below `total`, at random but the same in every run."""
    return random.Random(5).sample(range(total), count)


def spans(total: int, each: int) -> Iterator[range]:
    """Yield the keys of each datarange, `each` at a time."""
    for first in range(0, total, each):
        yield range(first, min(first + each, total))
