"""The files that a datas3t has already, judged by the committed rows of its table `files`."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from datas3t.client._files.file_rows import time_of
from datas3t.client._files.listing import NO_TIME, Hashes, hashes_of
from datas3t.client._tables.arrow import pa


class _Rows(NamedTuple):
    hashes: Hashes
    keys: NDArray[np.int64]
    sizes: NDArray[np.int64]
    mtimes: NDArray[np.int64]


class Known:
    """Files by the hash of their path, in 24 bytes for each. The newest datapoint of a path counts.

    Args:
        rows: Rows of the table `files` with the columns key, path, size and mtime, of keys that are present.
    """

    def __init__(self, rows: Iterable[pa.Table]) -> None:
        batches = [_columns(table) for table in rows]
        hashes, keys, sizes, mtimes = (np.concatenate(column) for column in zip(*[_NONE, *batches], strict=True))
        order = np.lexsort((keys, hashes))
        hashes = hashes[order]
        newest = np.append(hashes[1:] != hashes[:-1], True) if len(hashes) else np.zeros(0, np.bool_)
        order = order[newest]
        self._hashes, self._sizes, self._mtimes = hashes[newest], sizes[order], mtimes[order]

    def __len__(self) -> int:
        """Return the number of paths."""
        return len(self._hashes)

    def are_unchanged(self, hashes: Hashes, sizes: NDArray[np.int64], mtimes: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which files are there with the same size and time of modification, given the hashes of their paths."""
        if not len(self._hashes):
            return np.zeros(len(hashes), np.bool_)
        at = np.minimum(np.searchsorted(self._hashes, hashes), len(self._hashes) - 1)
        same: NDArray[np.bool_] = self._hashes[at] == hashes
        same &= (self._sizes[at] == sizes) & (self._mtimes[at] == mtimes) & (mtimes != NO_TIME)
        return same


def _columns(table: pa.Table) -> _Rows:
    return _Rows(
        hashes_of(table.column("path").to_pylist()),
        table.column("key").to_numpy(),
        table.column("size").to_numpy(),
        time_of(table.column("mtime")),
    )


_NONE = _Rows(*(np.zeros(0, np.int64) for _ in range(4)))
