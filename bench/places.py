"""Where datapoints lie: what every contestant is told, so that all of them read the same bytes."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from bench.bare import cut
from datas3t.archive.index import BLOCK, padded


@dataclass(frozen=True)
class Access:
    """An S3 endpoint, with what opens it."""

    endpoint: str
    bucket: str
    access_key: str
    secret_key: str


@dataclass(frozen=True)
class Archive:
    """Keys `first` to `last` in entries of one header block; a URL that lasts as long as the bench does."""

    first: int
    last: int
    object_key: str
    etag: str
    url: str


@dataclass(frozen=True)
class Place:
    """A datas3t at one endpoint, by all the names that contestants need. Contents have `size` bytes each.

    `in_flight` is how many requests the contestants that do not choose for themselves have under way.
    """

    server_url: str
    name: str
    access: Access
    archives: tuple[Archive, ...]
    size: int
    in_flight: int

    @cached_property
    def _firsts(self) -> list[int]:
        return [archive.first for archive in self.archives]

    def holding(self, key: int) -> Archive:
        """The archive with this datapoint."""
        return self.archives[bisect_right(self._firsts, key) - 1]

    def content(self, key: int) -> tuple[Archive, range]:
        """The bytes of a datapoint."""
        archive = self.holding(key)
        start = (key - archive.first) * entry_size(self.size) + BLOCK
        return archive, range(start, start + self.size)

    def sequence(self, step: int) -> Iterator[tuple[str, range]]:
        """All entries, headers included, in ranges of at most `step` bytes."""
        for archive in self.archives:
            for part in cut((archive.last - archive.first + 1) * entry_size(self.size), step):
                yield archive.url, part

    @property
    def total(self) -> int:
        """How many datapoints there are."""
        return sum(archive.last - archive.first + 1 for archive in self.archives)


def entry_size(size: int) -> int:
    """The bytes of an entry with a content of that size."""
    return BLOCK + padded(size)


def single(key: int) -> str:
    """The object that holds this datapoint alone."""
    return f"one/{key:020d}.bin"


def batches(keys: Sequence[int], size: int) -> list[Sequence[int]]:
    """The keys in their order, so many at a time."""
    return [keys[start : start + size] for start in range(0, len(keys), size)]
