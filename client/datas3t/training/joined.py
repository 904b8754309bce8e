"""Joined: parallel datas3ts, whose datapoints with the same key are one sample."""

from collections.abc import Iterable, Iterator, Mapping
from operator import index as integer
from typing import Any, Literal

import numpy as np

from datas3t.archive.names import MAX_KEY
from datas3t.client import Datapoint, DatapointNotFound, Datas3t, InvalidArgument


class Joined:
    """Several datas3ts that are read together: the datapoints with the same key are one sample.

    Which keys each of them has is asked at once, and stays: workers that get a pickle of it do not ask again. A
    datapoint that is deleted later is an error when it is read.

    Example:
        >>> train = Joined({"image": client.datas3t("train-jpg"), "label": client.datas3t("train-json")})
        >>> for keys in Batches(train.keys, 256):
        ...     for sample in train.datapoints(keys):
        ...         learn(decode(sample["image"]), decode(sample["label"]))

    Args:
        sources: The datas3ts, by the name that their datapoints have in a sample. None is named `key`.
        how: "inner" has the keys that all of them have. "left" has those of the first one; a sample has None for what
            another one lacks.

    Raises:
        InvalidArgument: There is no source, or one is named `key`.
        NotFound: A datas3t does not exist.
    """

    def __init__(self, sources: Mapping[str, Datas3t], how: Literal["inner", "left"] = "inner") -> None:
        if not sources or "key" in sources:
            raise InvalidArgument("name at least one source, and none of them 'key', which each sample has")
        if how not in ("inner", "left"):
            raise InvalidArgument(f"how must be 'inner' or 'left', but is {how!r}")
        self.sources = dict(sources)
        self.how = how
        self.sets = {name: source.keyset for name, source in self.sources.items()}
        first, *others = self.sets.values()
        for other in others if how == "inner" else ():
            first &= other
        self.keys = first

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.keys)

    def __repr__(self) -> str:
        return f"Joined({self.sources!r}, how={self.how!r})"

    def get_many(self, keys: Iterable[int]) -> list[dict[str, Any]]:
        """Return samples: dictionaries of `key` and of the contents by the names of the sources.

        Args:
            keys: The keys, in any order.

        Raises:
            DatapointNotFound: A key has no sample, or a datapoint was deleted.
        """
        return self._samples(keys, lambda source, wanted: iter(source.get_many(wanted)))

    def datapoints(self, keys: Iterable[int], *, missing: Literal["raise", "none"] = "raise") -> list[dict[str, Any]]:
        """Return samples: dictionaries of `key` and of the datapoints by the names of the sources.

        Args:
            keys: The keys, in any order.
            missing: With "none", a datapoint that was deleted is None; else it is an error, as above.
        """

        def read(source: Datas3t, wanted: list[int]) -> Iterator[Datapoint | None]:
            return iter(source.datapoints(wanted) if missing == "raise" else source.datapoints(wanted, missing="none"))

        return self._samples(keys, read)

    def _samples(self, keys: Iterable[int], read: Any) -> list[dict[str, Any]]:
        every = list(map(integer, keys))
        if too_large := [key for key in every if not 0 <= key <= MAX_KEY]:
            raise DatapointNotFound(f"there is no key {too_large[0]}", key=too_large[0])
        wanted = np.array(every, np.int64)
        self.keys.positions(wanted)  # raises for a key without a sample
        samples: list[dict[str, Any]] = [{"key": key} for key in wanted.tolist()]
        for name, source in self.sources.items():
            has = self.sets[name].mask(wanted)
            found = read(source, wanted[has].tolist())
            for sample, exists in zip(samples, has.tolist(), strict=True):
                sample[name] = next(found) if exists else None
        return samples
