"""Which keys are present, as a handle knows it: rows of others are not shown."""

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap64

from datas3t.client._reading.catalogue_cache import CatalogueCache
from datas3t.client.keyset import KeySet

_NARROW = 1 << 20  # keys of a range for which only the dataranges in it are asked for
_FEW = 64  # keys that are looked up one by one


class Presence:
    """The keys that are present in one datas3t."""

    def __init__(self, catalogues: CatalogueCache) -> None:
        self._catalogues = catalogues
        self._all: tuple[BitMap64, KeySet] | None = None

    def within(self, first: int, last: int) -> KeySet:
        """Return the present keys, at least those from `first` to `last`."""
        if last - first < _NARROW:
            return KeySet.of([(low, high) for _, low, high in self._catalogues.overlapping(first, last)])
        return self._keys()

    def mask(self, keys: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return for each key whether it is present."""
        if len(keys) <= _FEW:
            return np.array([self._catalogues.has(key) for key in keys.tolist()], np.bool_)
        return self._keys().mask(keys)

    def _keys(self) -> KeySet:
        bitmap, known = self._catalogues.keys(), self._all
        if known is None or known[0] is not bitmap:
            self._all = known = bitmap, KeySet.of(bitmap)
        return known[1]
