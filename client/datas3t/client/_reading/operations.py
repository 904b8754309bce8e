"""Reading more than contents: names, sizes, sets of keys, plans. A part of the handle `Datas3t`."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from datas3t.client._reading.costs import Explanation
from datas3t.client._reading.datapoint import Datapoint
from datas3t.client._reading.reader import Reader

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from datas3t.client.keyset import KeySet


class ReadOperations:
    """The part of the handle `Datas3t` that reads what belongs to contents."""

    _reader: Reader

    @property
    def keyset(self) -> "KeySet":
        """The keys of all datapoints as a KeySet, which does not change. The server is asked once.

        Example:
            >>> train, test = photos.keyset.split([0.9, 0.1], seed=1)
        """
        return self._reader.keyset

    def datapoints(self, keys: Iterable[int]) -> list[Datapoint]:
        """Return many datapoints with their names and contents, which are all held in memory at once.

        They are read as by `get_many`, by the same requests.

        Args:
            keys: The keys, in any order.

        Returns:
            The datapoint of each key, in the order of `keys`.

        Raises:
            DatapointNotFound: A key does not exist; the error names the first one. Nothing was fetched.

        Example:
            >>> [(photo.extension, photo.size) for photo in photos.datapoints([7, 42])]
            [('jpg', 90021), ('png', 12340)]
        """
        return self._reader.datapoints(keys)

    def sizes(self, keys: Iterable[int]) -> "NDArray[np.int64]":
        """Return the sizes of the contents of many datapoints in bytes, in the order of `keys`.

        No datapoint is read, but parts of the indices may be fetched.

        Args:
            keys: The keys, in any order.

        Raises:
            DatapointNotFound: A key does not exist; the error names the first one.

        Example:
            >>> photos.sizes([7, 42]).sum()
            102361
        """
        return self._reader.sizes(keys)

    def explain(self, keys: Iterable[int]) -> Explanation:
        """Return how `get_many` would read these keys now: by how many requests, and how many bytes.

        No datapoint is read, but parts of the indices and the checksums may be fetched.

        Args:
            keys: The keys, in any order.

        Raises:
            DatapointNotFound: A key does not exist; the error names the first one.

        Example:
            >>> plan = photos.explain(range(0, 100_000, 100))
            >>> plan.requests, round(plan.amplification, 2)
            (940, 1.08)
        """
        return self._reader.explain(keys)
