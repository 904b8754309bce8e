"""Source: a data source of Grain, of which a batch is one read."""

from collections.abc import Callable, Sequence
from operator import index as integer
from typing import Any, Generic, SupportsIndex, TypeVar, overload

import grain
import numpy as np

from datas3t.client import InvalidArgument, KeySet
from datas3t.training.samples import Samples
from datas3t.training.samples import Source as Sources

T = TypeVar("T")


class Source(Generic[T]):
    """A `RandomAccessDataSource` of Grain: the samples of a datas3t by their positions, 0 to `len(source) - 1`.

    Which keys there are is asked at once, and stays; worker processes get them with the source. It may be used from
    many threads. Grain keeps its repr in checkpoints, and compares it when it restores them: it names the datas3t and
    has a digest of the keys, but no address. A server that moves, and an aggregation, leave it as it is.

    Grain reads single elements, from many threads. `batched` takes fewer requests.

    Example:
        >>> photos = Source(client.datas3t("photos"), transform=decode)
        >>> dataset = grain.MapDataset.source(photos).shuffle(seed=7).batch(256)

    Args:
        source: A datas3t, of which a sample is a `Datapoint`; or several by name, or a `Joined`, of which a sample is a
            dictionary of `key` and of their datapoints.
        keys: The keys of the samples; all that there are if it is None.
        transform: What to return of a sample. Worker processes get a pickle of it.

    Raises:
        InvalidArgument: A key has no sample.
        NotFound: The datas3t does not exist.
    """

    @overload
    def __init__(
        self: "Source[Any]", source: Sources, *, keys: KeySet | None = None, transform: None = None
    ) -> None: ...

    @overload
    def __init__(self, source: Sources, *, keys: KeySet | None = None, transform: Callable[[Any], T]) -> None: ...

    def __init__(
        self, source: Sources, *, keys: KeySet | None = None, transform: Callable[[Any], T] | None = None
    ) -> None:
        self._samples = Samples(source, keys)
        self._transform = transform
        self._repr = f"datas3t.grain.Source({self._samples.name!r}, keys={self.keys.digest}, {len(self.keys)})"

    @property
    def keys(self) -> KeySet:
        """The keys of the samples; that at position i has the i-th of them."""
        return self._samples.keys

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self._samples)

    def __repr__(self) -> str:
        return self._repr

    def __getitem__(self, index: SupportsIndex) -> T:
        """Return the sample at a position; negative ones count from the end.

        Raises:
            IndexError: There is none.
            DatapointNotFound: It was deleted.
        """
        (sample,) = self.__getitems__([index])
        return sample

    def __getitems__(self, indices: Sequence[SupportsIndex]) -> list[T]:
        """Return the samples at many positions by one read. Raise as for one of them."""
        samples: list[Any] = self._samples.read(
            self.keys.take(np.array(list(map(integer, indices)), np.int64)).tolist()
        )
        return samples if self._transform is None else list(map(self._transform, samples))

    _getitems = __getitems__  # as Grain calls it


def batched(
    source: Source[T],
    indices: "grain.MapDataset[int]",
    batch_size: int,
    *,
    drop_remainder: bool = False,
    collate: Callable[[list[T]], Any] | None = None,
) -> "grain.MapDataset[Any]":
    """Return a dataset of batches of samples, each by one read.

    Of Grain's own batches each sample is a read by itself, unless an experiment of Grain is on.

    Args:
        source: The samples.
        indices: Their positions, in the order in which they are wanted: `grain.MapDataset.range(len(source))`,
            shuffled, repeated, or sliced for processes.
        batch_size: How many samples a batch has.
        drop_remainder: Whether a last batch that is smaller is left out.
        collate: What to make of the list of samples; the list itself if it is None.

    Raises:
        InvalidArgument: `batch_size` is below 1.

    Example:
        >>> order = grain.MapDataset.range(len(photos)).shuffle(seed=7)
        >>> for samples in batched(photos, order, 256):
        ...     learn(samples)
    """
    if batch_size < 1:
        raise InvalidArgument(f"batch_size must be at least 1, but is {batch_size}")
    return indices.batch(batch_size, drop_remainder=drop_remainder).map(_Batches(source, collate))


class _Batches(Generic[T]):
    """Reads a batch. It is an object with a name, because Grain pickles it."""

    def __init__(self, source: Source[T], collate: Callable[[list[T]], Any] | None) -> None:
        self._source, self._collate = source, collate

    def __call__(self, indices: Any) -> Any:
        samples = self._source.__getitems__(indices.tolist())
        return samples if self._collate is None else self._collate(samples)
