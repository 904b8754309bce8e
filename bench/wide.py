"""A datas3t of very many dataranges: rows in the database, with archives only for the few that are read."""

import os
import random
from dataclasses import dataclass
from itertools import islice

from bench import data
from bench.places import entry_size
from bench.stand import Stand
from datas3t.archive import names
from datas3t.archive.index import END_SIZE, Entry, encode

EACH, SIZE = 1_000, 100  # datapoints of a datarange, and bytes of each
_READABLE = 12


@dataclass(frozen=True)
class Wide:
    """The datas3t: its number of dataranges, and some keys that can be read, each in another datarange."""

    dataranges: int
    keys: list[int]

    @property
    def datapoints(self) -> int:
        """The number of datapoints."""
        return self.dataranges * EACH

    @staticmethod
    def name(bucket: str) -> str:
        """Return the name of the datas3t on a bucket configuration."""
        return f"wide-{bucket}"

    @staticmethod
    def content(key: int) -> bytes:
        """Return the content of the key."""
        return next(islice(data.contents(key - key % EACH, EACH, SIZE), key % EACH, None))


def create(stand: Stand, dataranges: int, buckets: list[str]) -> Wide:
    """Create the datas3t on each of the bucket configurations, all with the same objects, which nginx serves."""
    source = random.Random(7)
    readable = source.sample(range(dataranges), _READABLE)
    rows = _objects(stand, dataranges, set(readable))
    for bucket in buckets:
        stand.client.add_datas3t(Wide.name(bucket), bucket=bucket)
        stand.add_rows(Wide.name(bucket), rows)
    return Wide(dataranges, [number * EACH + source.randrange(EACH) for number in readable])


def _objects(stand: Stand, dataranges: int, readable: set[int]) -> list[tuple[int, int, str, str, int, int, str, str]]:
    """Write the objects and return the rows. All indices are equal, so they are hard links to one file."""
    entries = EACH * entry_size(SIZE)
    index = stand.memory / "wide.index"
    index.write_bytes(encode(Entry(number * entry_size(SIZE), 1, SIZE) for number in range(EACH)))
    rows = []
    for number in range(dataranges):
        first, last = number * EACH, number * EACH + EACH - 1
        object_key = names.archive_key("wide", first, last, number + 1)
        index_key = names.index_key(object_key)
        os.link(index, stand.in_front(index_key))
        etag = "none"
        if number in readable:
            data.write_archive(stand.in_front(object_key), first, EACH, SIZE)
            etag = stand.etag(object_key)
        rows.append((first, last, object_key, index_key, entries + END_SIZE, entries, etag, stand.etag(index_key)))
    return rows
