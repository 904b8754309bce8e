"""The bench's datapoints: seeded random bytes, so that nothing compresses and every run reads the same."""

import os
import random
from collections.abc import Iterator
from pathlib import Path

from bench.places import entry_size
from datas3t.archive import names, write
from datas3t.archive.index import BLOCK


def write_archive(path: Path, first: int, count: int, size: int) -> None:
    """An archive of `count` contents of `size` bytes."""
    with path.open("wb", buffering=1 << 20) as out:
        out.writelines(_pieces(first, count, size))


def archive(first: int, count: int, size: int) -> bytes:
    """The same in memory."""
    return b"".join(_pieces(first, count, size))


def _pieces(first: int, count: int, size: int) -> Iterator[bytes]:
    for key, content in enumerate(contents(first, count, size), first):
        yield write.header(names.entry_name(key, "bin"), size) + content + write.padding(size)
    yield write.END


def contents(first: int, count: int, size: int) -> Iterator[bytes]:
    """What the archive with that first key holds."""
    source = random.Random(first)
    return (source.randbytes(size) for _ in range(count))


def content(path: Path, number: int, size: int) -> bytes:
    """The content of the entry with this number, counted from 0."""
    with path.open("rb") as file:
        return os.pread(file.fileno(), size, number * entry_size(size) + BLOCK)


def chosen(total: int, count: int) -> list[int]:
    """Keys at random, each once."""
    return random.Random(5).sample(range(total), count)


def spans(total: int, each: int) -> Iterator[range]:
    """The keys of each datarange."""
    for first in range(0, total, each):
        yield range(first, min(first + each, total))
