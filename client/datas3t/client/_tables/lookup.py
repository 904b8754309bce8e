"""Lookups of names, with what a handle knows of the table `files` until it is to forget it: its listing and bounds."""

from collections.abc import Callable, Iterable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from datas3t.client._tables import finding
from datas3t.client._tables.finding import Name
from datas3t.client._tables.footers import Footers
from datas3t.client._tables.path_index import PathIndex
from datas3t.client._tables.presence import Presence
from datas3t.client._tables.remote import FilesReplaced, Remote
from datas3t.client.errors import Aborted
from datas3t.client.keyset import KeySet

_ATTEMPTS = 5

T = TypeVar("T")


class Lookup:
    """Finds datapoints by name. Its methods are those of `Datas3t`, which documents them."""

    def __init__(self, remote: Remote, footers: Footers, presence: Presence) -> None:
        self._remote = remote
        self._footers = footers
        self._presence = presence
        self._index: PathIndex | None = None

    def forget(self) -> None:
        """Forget the files of the table: the next lookup asks for them again."""
        self._index = None

    def find(self, name: Name) -> int:
        """Return the greatest key of a name."""
        keys = self.find_all(name)
        if not keys:
            raise finding.not_found(name)
        return keys[0]

    def find_all(self, name: Name) -> list[int]:
        """Return all keys of a name, descending."""
        return self._read(lambda index: finding.find_all(index, self._presence.mask, name))

    def find_many(self, names: Iterable[Name]) -> list[int]:
        """Return the greatest key of each name."""
        wanted = list(names)
        return self._read(lambda index: finding.find_many(index, self._presence.mask, wanted))

    def keys_of(self, names: list[str]) -> NDArray[np.int64]:
        """Return the greatest key of each name, as an array."""
        return np.array(self.find_many(names), np.int64)

    def paths(self, keys: Iterable[int]) -> list[str | None]:
        """Return the name of each key."""
        wanted = np.array(list(keys), np.int64)
        return self._read(lambda index: finding.paths_of(index, self._presence.mask, wanted))

    def glob(self, pattern: str | bytes) -> KeySet:
        """Return the greatest key of each name that matches."""
        return self._read(lambda index: finding.glob(index, self._presence.mask, pattern))

    def _read(self, read: Callable[[PathIndex], T]) -> T:
        for _ in range(_ATTEMPTS):
            try:
                index = self._index
                if index is None:
                    self._index = index = PathIndex(self._remote.files(), self._footers, self._remote.fetch)
                return read(index)
            except FilesReplaced:
                self._index = None
        raise Aborted("files of table 'files' are replaced faster than they can be read; try again")
