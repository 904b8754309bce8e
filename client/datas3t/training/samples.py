"""Samples: what a training run reads, whatever its framework: one datas3t, or several that are joined."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np

from datas3t.client import Datapoint, Datas3t, InvalidArgument, KeySet
from datas3t.training.joined import Joined

Source: TypeAlias = Datas3t | Joined | Mapping[str, Datas3t]
Sample: TypeAlias = Datapoint | dict[str, Any]
Missing: TypeAlias = Literal["raise", "none"]


class Samples:
    """The samples of one datas3t, which are datapoints, or of several, which are dictionaries of them; see `Joined`.

    Their keys stay, whatever is uploaded or deleted later. It can be pickled: other processes do not ask which keys
    there are.

    Args:
        source: The datas3t, a `Joined`, or datas3ts by the names that their datapoints have in a sample.
        keys: The keys of the samples; all that there are if it is None.
        missing: What to do about samples that were deleted: "raise", or return None in their places.

    Raises:
        InvalidArgument: A key has no sample, or `missing` is something else.
        NotFound: The datas3t does not exist.
    """

    def __init__(self, source: Source, keys: KeySet | None = None, missing: Missing = "raise") -> None:
        if missing not in ("raise", "none"):
            raise InvalidArgument(f"missing must be 'raise' or 'none', but is {missing!r}")
        every = Joined(source) if isinstance(source, Mapping) else source
        known = every.keys if isinstance(every, Joined) else every.keyset
        if keys is not None and (without := keys - known):
            raise InvalidArgument(f"{len(without)} of the keys have no sample, {without[0]} first; take them out")
        self.keys = known if keys is None else keys
        self.missing = missing
        self._source = every if isinstance(every, Joined) else every.at(self.keys)

    @property
    def name(self) -> str:
        """The name of the datas3t, or the names of those that are joined."""
        if isinstance(self._source, Joined):
            return ",".join(f"{name}={source.name}" for name, source in self._source.sources.items())
        return self._source.name

    @property
    def source(self) -> Datas3t | Joined:
        """The handle of the datas3t, pinned to the keys, or what is joined."""
        return self._source

    def __len__(self) -> int:
        return len(self.keys)

    def read(self, keys: Sequence[int]) -> list[Sample | None]:
        """Return the samples with these keys, in any order, by one read of each datas3t.

        Raises:
            DatapointNotFound: A key is none of the samples', or was deleted and `missing` is "raise".
        """
        if self.missing == "raise":
            return list(self._source.datapoints(keys))
        found: list[Any] = list(self._source.datapoints(keys, missing="none"))
        if isinstance(self._source, Joined) and self._source.how == "inner":
            return [None if None in sample.values() else sample for sample in found]
        return found

    def scan(self, keys: KeySet) -> Iterator[Sample]:
        """Yield the samples with these keys in their order, reading ahead.

        Raises:
            DatapointNotFound: A key is none of the samples', or was deleted.
        """
        if isinstance(self._source, Joined):
            return self._scan_joined(self._source, keys)
        return self._source.at(keys).scan()

    def sizes(self, keys: Sequence[int]) -> int:
        """Return how many bytes the contents of these keys have together, from the indices alone."""
        if not isinstance(self._source, Joined):
            return int(self._source.sizes(keys).sum())
        wanted = KeySet(keys)
        sets = self._source.sets
        return sum(int(each.sizes(wanted & sets[name]).sum()) for name, each in self._source.sources.items())

    def _scan_joined(self, joined: Joined, keys: KeySet) -> Iterator[Sample]:
        every = keys.take(np.arange(len(keys)))
        masks = [joined.sets[name].mask(every).tolist() for name in joined.sources]
        scans = [source.at(keys & joined.sets[name]).scan() for name, source in joined.sources.items()]
        for key, *has in zip(every.tolist(), *masks, strict=True):
            parts = zip(joined.sources, scans, has, strict=True)
            yield {"key": key} | {name: next(scan) if exists else None for name, scan, exists in parts}
