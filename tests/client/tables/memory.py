"""Files of tables in memory, and a count of the bytes that are fetched of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from datas3t.client._tables.files_rows import encoded
from datas3t.client._tables.footers import Piece


@dataclass(frozen=True)
class MemoryFile:
    """A file of a table."""

    id: int
    first: int
    last: int
    counter: int
    content: bytes = field(repr=False)

    @property
    def size(self) -> int:
        return len(self.content)

    @property
    def etag(self) -> str:
        return str(hash(self.content))

    @property
    def location(self) -> str:
        return f"datas3t/photos/tables/labels/{self.first:020d}-{self.last:020d}-{self.counter:012d}.parquet"


@dataclass
class Store:
    """Fetches bytes of files, and counts them."""

    requests: int = 0
    fetched: int = 0
    pieces: list[Piece] = field(default_factory=list)

    def fetch(self, pieces: Sequence[Piece]) -> list[bytes]:
        self.requests += len(pieces)
        self.fetched += sum(stop - start for _, start, stop in pieces)
        self.pieces += pieces
        contents = []
        for file, start, stop in pieces:
            assert isinstance(file, MemoryFile)
            assert 0 <= start < stop <= file.size
            contents.append(file.content[start:stop])
        return contents


def file_of(table: pa.Table, counter: int) -> MemoryFile:
    """Return a file with these rows."""
    keys = table.column("key")
    return MemoryFile(counter, keys[0].as_py(), keys[-1].as_py(), counter, bytes(encoded(table)))
