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
    source = random.Random(first)
    with path.open("wb", buffering=1 << 20) as out:
        for key in range(first, first + count):
            out.write(write.header(names.entry_name(key, "bin"), size))
            out.write(source.randbytes(size) + write.padding(size))
        out.write(write.END)


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
