"""Datapoints: a dataset of PyTorch by positions, of which a batch is one read."""

from collections.abc import Callable, Sequence
from operator import index as integer
from typing import Any, Generic, SupportsIndex, TypeVar, overload

import torch.utils.data

from datas3t.client import KeySet
from datas3t.training.samples import Missing, Sample, Samples, Source

T = TypeVar("T")


class Key(int):
    """The key of a sample, where a plain number is a position. Samplers of this package yield keys."""

    __slots__ = ()


class Datapoints(torch.utils.data.Dataset[T], Generic[T]):
    """A map-style dataset of PyTorch: the samples of a datas3t by their positions, 0 to `len(dataset) - 1`.

    It works with every loader and sampler of PyTorch, with `Subset`, `random_split` and `ConcatDataset`. A loader that
    reads batches gets each of them by one read. `Loader` shuffles without a list of positions and resumes exactly.

    Which keys there are is asked at once, and stays: worker processes get them with the dataset, by fork, spawn or
    forkserver, and do not ask again.

    Example:
        >>> photos = Datapoints(client.datas3t("photos"), transform=decode)
        >>> loader = Loader(photos, 256, seed=7, num_workers=4)

    Args:
        source: A datas3t, of which a sample is a `Datapoint`; or several by name, or a `Joined`, of which a sample is a
            dictionary of `key` and of their datapoints.
        keys: The keys of the samples; all that there are if it is None.
        transform: What to return of a sample. It is called in the worker; spawn and forkserver pickle it.
        missing: What to do about samples that were deleted: "raise", or return None in their places.

    Raises:
        InvalidArgument: A key has no sample.
        NotFound: The datas3t does not exist.
    """

    @overload
    def __init__(
        self: "Datapoints[Any]",
        source: Source,
        *,
        keys: KeySet | None = None,
        transform: None = None,
        missing: Missing = "raise",
    ) -> None: ...

    @overload
    def __init__(
        self,
        source: Source,
        *,
        keys: KeySet | None = None,
        transform: Callable[[Any], T],
        missing: Missing = "raise",
    ) -> None: ...

    def __init__(
        self,
        source: Source,
        *,
        keys: KeySet | None = None,
        transform: Callable[[Any], T] | None = None,
        missing: Missing = "raise",
    ) -> None:
        self._samples = Samples(source, keys, missing)
        self._transform = transform

    @property
    def keys(self) -> KeySet:
        """The keys of the samples; that at position i has the i-th of them."""
        return self._samples.keys

    def __len__(self) -> int:
        return len(self.keys)

    def __repr__(self) -> str:
        return f"Datapoints({self._samples.name!r}, {len(self)} samples)"

    def __getitem__(self, index: SupportsIndex) -> T:
        """Return the sample at a position, of which negative ones count from the end, or with a key.

        Raises:
            IndexError: The position is outside of the dataset.
            DatapointNotFound: The key has no sample, or it was deleted.
        """
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[SupportsIndex]) -> list[T]:
        """Return many samples, by one read of each datas3t. Loaders of PyTorch call it for each batch."""
        return transformed(self._samples.read(self._keys(indices)), self._transform)

    def _keys(self, indices: Sequence[SupportsIndex]) -> list[int]:
        kinds = set(map(type, indices))
        if kinds == {Key}:
            return list(map(integer, indices))
        if Key not in kinds:
            taken: list[int] = self.keys.take(list(map(integer, indices))).tolist()
            return taken
        return [integer(each) if type(each) is Key else self.keys[integer(each)] for each in indices]


def transformed(samples: Sequence[Sample | None], transform: Callable[[Any], T] | None) -> list[Any]:
    """Return what the transform makes of samples; those that are missing stay None."""
    if transform is None:
        return list(samples)
    return [None if sample is None else transform(sample) for sample in samples]
