"""The rows of the table `files`: which of them a pull writes, and in which batches."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from datas3t.archive.names import MAX_KEY
from datas3t.client._calls.session import Session
from datas3t.client._files.listing import NO_TIME, hashes_of
from datas3t.client._reading.catalogue_cache import CatalogueCache
from datas3t.client._tables import globs
from datas3t.client._tables.arrow import pa, pc
from datas3t.client._tables.known import Known as KnownTables
from datas3t.client._tables.schemas import FILES
from datas3t.client.errors import InvalidArgument, NotFound
from datas3t.client.keyset import KeySet

LARGE = 8 << 20  # bytes from which a content is fetched into its file, and not into memory
_BATCH_FILES = 2_048
_BATCH_SIZE = 8 << 20  # bytes of contents


class Row(NamedTuple):
    """A row of the table; `mtime` is in nanoseconds, or None."""

    key: int
    path: str
    size: int
    mtime: int | None
    crc32c: int


class FileRows:
    """The rows of a datas3t's table `files` whose datapoints are present.

    Args:
        session: The settings and the connection.
        name: The datas3t.
        catalogues: What is present in it.
    """

    def __init__(self, session: Session, name: str, catalogues: CatalogueCache) -> None:
        self._contents = KnownTables(session, name, catalogues).contents(FILES)

    def tables(self, *columns: str, first: int = 0, last: int = MAX_KEY) -> Iterator[pa.Table]:
        """Yield rows in key order; none if there is no such table.

        Rows of other programs that lack a value of these columns, other than the time, are left out.

        Raises:
            NotFound: The datas3t does not exist.
        """
        try:
            for table in self._contents.batches(columns, None, first, last)[1]:
                lacking = [name for name in columns if name != "mtime" and table.column(name).null_count]
                for name in lacking:
                    table = table.filter(pc.is_valid(table.column(name)))  # noqa: PLW2901 - the rows that are left
                yield table
        except NotFound as error:
            if error.reason != "TABLE_NOT_FOUND":
                raise


class Chosen:
    """The files that a pull writes: of each path the newest key.

    Attributes:
        files: How many they are.
        size: Their size in bytes.
        named: All keys that have a path.
    """

    def __init__(self, rows: FileRows, first: int, last: int, match: str | None) -> None:
        self._rows = rows
        self._range = first, last
        matches = matching(match)
        hashes, keys, sizes, named = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], KeySet()
        for table in rows.tables("key", "path", "size", "crc32c", first=first, last=last):
            named |= KeySet(table.column("key").to_numpy())
            chosen = table.filter(matches(table.column("path")))
            hashes.append(hashes_of(chosen.column("path").to_pylist()))
            keys.append(chosen.column("key").to_numpy())
            sizes.append(chosen.column("size").to_numpy())
        self.named = named
        self._keys, chosen_sizes = _newest(np.concatenate(hashes), np.concatenate(keys), np.concatenate(sizes))
        self.files, self.size = len(self._keys), int(chosen_sizes.sum())

    def batches(self) -> Iterator[list[Row]]:
        """Yield the files, some at a time; a large one is alone."""
        batch: list[Row] = []
        size = 0
        for row in self._each():
            if batch and (row.size >= LARGE or size + row.size > _BATCH_SIZE or len(batch) == _BATCH_FILES):
                yield batch
                batch, size = [], 0
            batch.append(row)
            size += row.size
        if batch:
            yield batch

    def _each(self) -> Iterator[Row]:
        first, last = self._range
        for table in self._rows.tables(*Row._fields, first=first, last=last):
            keys = table.column("key").to_numpy()
            at = np.minimum(np.searchsorted(self._keys, keys), max(len(self._keys) - 1, 0))
            is_chosen = self._keys[at] == keys if len(self._keys) else np.zeros(len(keys), np.bool_)
            rows = table.filter(pa.array(is_chosen))
            times = rows.column("mtime").cast(pa.int64())
            columns = (times if name == "mtime" else rows.column(name) for name in Row._fields)
            yield from map(Row._make, zip(*(column.to_pylist() for column in columns), strict=True))


def matching(match: str | None) -> Callable[[pa.ChunkedArray], pa.Array]:
    """Return a function that tells which paths match a pattern; all do if it is None.

    Raises:
        InvalidArgument: No file can have such a name.
    """
    if match is None:
        return lambda column: pa.array(np.ones(len(column), np.bool_))
    regex = rf"(?s)\A(?:{globs.parsed(match).regex})\z"

    def matches(column: pa.ChunkedArray) -> pa.ChunkedArray:
        try:
            return pc.match_substring_regex(column, regex)
        except pa.ArrowException as error:
            raise InvalidArgument(f"the pattern is too complex: {' '.join(str(error).split())}") from None

    return matches


def time_of(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """Return times of modification in nanoseconds, NO_TIME for null."""
    times: NDArray[np.int64] = column.cast(pa.int64()).fill_null(NO_TIME).to_numpy()
    return times


def _newest(
    hashes: NDArray[np.int64], keys: NDArray[np.int64], sizes: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the greatest key of each hash, ascending, and their sizes."""
    if not len(hashes):
        return keys, sizes
    order = np.lexsort((keys, hashes))
    is_newest = np.append(hashes[order][1:] != hashes[order][:-1], True)
    order = np.sort(order[is_newest])  # the rows are by key
    return keys[order], sizes[order]
