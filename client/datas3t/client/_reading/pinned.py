"""Reads of some keys of a datas3t, which stay whatever is uploaded or deleted."""

from collections.abc import Callable, Iterator
from itertools import chain, pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap64

from datas3t.client._reading.datapoint import Datapoint, DatapointView
from datas3t.client._reading.fetching import Fetcher
from datas3t.client._reading.indices import Indices
from datas3t.client._reading.known import Span
from datas3t.client._reading.locations import Holders
from datas3t.client._reading.reader import Reader
from datas3t.client.errors import DatapointNotFound
from datas3t.client.keyset import KeySet

T = TypeVar("T")

_LONG = 256  # keys without a gap that are scanned; fewer are read together with others
_TOGETHER = 4096  # keys that are read together
_MAX_SIZE = 16 << 20  # bytes of their contents, as a scan reads ahead


class PinnedReader(Reader):
    """Reads the datapoints of a set of keys, and no others.

    Args:
        reader: Reads all datapoints. What it has learned and cached is shared.
        keyset: The keys.
    """

    is_pinned = True

    def __init__(self, reader: Reader, keyset: KeySet) -> None:
        vars(self).update(vars(reader))
        self._keyset = keyset

    @property
    def keys(self) -> BitMap64:
        """The keys of the set."""
        keys = BitMap64()
        for first, last in self._keyset.spans:
            keys.add_range(first, last + 1)
        return keys

    @property
    def keyset(self) -> KeySet:
        """The set."""
        return self._keyset

    def __len__(self) -> int:
        return len(self._keyset)

    def __contains__(self, key: int) -> bool:
        return key in self._keyset

    def split(self, parts: int, first: int, last: int) -> list[Span]:
        """Return spans of keys with about the same number of datapoints of the set each."""
        keys = self._keyset.within(first, last)
        parts = min(parts, len(keys))
        cuts = [len(keys) * number // parts for number in range(parts + 1)] if parts else [0]
        return [(keys[start], keys[stop - 1]) for start, stop in pairwise(cuts)]

    def get(self, key: int) -> bytes:
        """Return the content of one datapoint."""
        if key not in self._keyset:
            raise self._not_found(key)
        return super().get(key)

    def scan(self, first: int, last: int, *, copy: bool) -> Iterator[Datapoint | DatapointView]:
        """Yield the datapoints of the set with keys from `first` to `last`, of which each must exist."""
        firsts, lasts = self._keyset.within(first, last).bounds
        long = lasts - firsts >= _LONG - 1
        cuts = np.flatnonzero(np.diff(long)) + 1
        for some_firsts, some_lasts in zip(np.split(firsts, cuts), np.split(lasts, cuts), strict=True):
            spans = zip(some_firsts.tolist(), some_lasts.tolist(), strict=True)
            if len(some_firsts) and some_lasts[0] - some_firsts[0] >= _LONG - 1:
                yield from chain.from_iterable(self._whole(*span, copy) for span in spans)
            else:
                yield from self._single(KeySet.of(spans), copy)

    def _whole(self, first: int, last: int, copy: bool) -> Iterator[Datapoint | DatapointView]:
        """Yield the datapoints of a span."""
        expected = first
        for datapoint in super().scan(first, last, copy=copy):
            if datapoint.key != expected:
                break
            yield datapoint
            expected += 1
        if expected <= last:
            raise self._not_found(expected)

    def _single(self, keys: KeySet, copy: bool) -> Iterator[Datapoint | DatapointView]:
        """Yield the datapoints of keys that are mostly not neighbours."""
        for start in range(0, len(keys), _TOGETHER):
            some = keys.take(np.arange(start, min(start + _TOGETHER, len(keys))))
            ends = np.cumsum(self.sizes(some.tolist()))
            at = 0
            while at < len(some):
                before = int(ends[at - 1]) if at else 0
                stop = max(int(np.searchsorted(ends, before + _MAX_SIZE, "right")), at + 1)
                for datapoint in self.datapoints(some[at:stop].tolist()):
                    yield datapoint if copy else DatapointView(*datapoint[:2], memoryview(datapoint.content))
                at = stop

    def _planned(
        self, wanted: list[int], plan: Callable[[NDArray[np.int64], Holders, Indices, Fetcher], T]
    ) -> tuple[T, list[int]]:
        if lost := self._outside(wanted):
            raise self._not_found(next(key for key in wanted if key in lost))
        return super()._planned(wanted, plan)

    def lost(self, wanted: list[int]) -> set[int]:
        """Return which of these keys do not exist, or are not of the set."""
        outside = self._outside(wanted)
        return outside | super().lost([key for key in wanted if key not in outside])

    def _outside(self, wanted: list[int]) -> set[int]:
        """Return which of these keys are not in the set."""
        try:
            keys = np.array(wanted, np.int64)
        except OverflowError:
            return {key for key in wanted if key not in self._keyset}
        return set(keys[~self._keyset.mask(keys)].tolist())

    def _not_found(self, key: int) -> DatapointNotFound:
        if key in self._keyset:
            return super()._not_found(key)
        return DatapointNotFound(
            f"key {key} is not among the keys that this handle of {self._name!r} is pinned to", key=key
        )
