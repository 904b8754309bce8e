"""Where datapoints are stored: the information that all contestants get, so that they read the same bytes."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from bench.bare import cut
from datas3t.archive.index import BLOCK, padded


@dataclass(frozen=True)
class Access:
    """An S3 endpoint, a bucket and the credentials for it."""

    endpoint: str
    bucket: str
    access_key: str
    secret_key: str


@dataclass(frozen=True)
class Archive:
    """An archive with keys `first` to `last` and one header block per entry. Its URL outlives the benchmark."""

    first: int
    last: int
    object_key: str
    etag: str
    url: str


@dataclass(frozen=True)
class Place:
    """A datas3t at one endpoint, with everything that any contestant needs to read it.

    Contents have `size` bytes each. `in_flight` is the number of requests under way at a time, for contestants that do
    not choose it themselves.
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
        """Return the archive that holds the key."""
        return self.archives[bisect_right(self._firsts, key) - 1]

    def content(self, key: int) -> tuple[Archive, range]:
        """Return the archive that holds the key, and the bytes of its content in it."""
        archive = self.holding(key)
        start = (key - archive.first) * entry_size(self.size) + BLOCK
        return archive, range(start, start + self.size)

    def sequence(self, step: int) -> Iterator[tuple[str, range]]:
        """Yield URLs and ranges of at most `step` bytes that cover all entries with their headers."""
        for archive in self.archives:
            for part in cut((archive.last - archive.first + 1) * entry_size(self.size), step):
                yield archive.url, part

    @property
    def total(self) -> int:
        """The number of datapoints."""
        return sum(archive.last - archive.first + 1 for archive in self.archives)


def entry_size(size: int) -> int:
    """Return the size of an entry, given the size of its content."""
    return BLOCK + padded(size)


def single(key: int) -> str:
    """Return the key of the object that holds only this datapoint."""
    return f"one/{key:020d}.bin"


def batches(keys: Sequence[int], size: int) -> list[Sequence[int]]:
    """Return the keys in batches of `size`, in the same order."""
    return [keys[start : start + size] for start in range(0, len(keys), size)]
