"""Reading more than contents: names, sizes, sets of keys, plans. A part of the handle `Datas3t`."""

from collections.abc import Iterable
from functools import partial
from operator import index as integer
from typing import TYPE_CHECKING, Literal, overload

from datas3t.client._reading.costs import Explanation
from datas3t.client._reading.datapoint import Datapoint, DatapointInfo
from datas3t.client._reading.opened import OpenDatapoint
from datas3t.client._reading.reader import Reader
from datas3t.client.errors import InvalidArgument

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

    @overload
    def datapoints(self, keys: Iterable[int], *, missing: Literal["raise"] = "raise") -> list[Datapoint]: ...

    @overload
    def datapoints(self, keys: Iterable[int], *, missing: Literal["none"]) -> list[Datapoint | None]: ...

    def datapoints(
        self, keys: Iterable[int], *, missing: Literal["raise", "none"] = "raise"
    ) -> list[Datapoint] | list[Datapoint | None]:
        """Return many datapoints with their names and contents, which are all held in memory at once.

        They are read as by `get_many`, by the same requests.

        Args:
            keys: The keys, in any order.
            missing: What to do about keys that do not exist: "raise", or return None in their places.

        Returns:
            The datapoint of each key, in the order of `keys`.

        Raises:
            DatapointNotFound: A key does not exist; the error names the first one. Nothing was fetched.
            InvalidArgument: `missing` is something else.

        Example:
            >>> [(photo.extension, photo.size) for photo in photos.datapoints([7, 42])]
            [('jpg', 90021), ('png', 12340)]
        """
        if missing == "none":
            return self._reader.some_datapoints(keys)
        if missing != "raise":
            raise InvalidArgument(f"missing must be 'raise' or 'none', but is {missing!r}")
        return self._reader.datapoints(keys)

    def sizes(self, keys: Iterable[int] | None = None) -> "NDArray[np.int64]":
        """Return the sizes of the contents of many datapoints in bytes, in the order of `keys`.

        No datapoint is read, but parts of the indices may be fetched.

        Args:
            keys: The keys, in any order; None: all, in the order of `keyset`.

        Raises:
            DatapointNotFound: A key does not exist; the error names the first one.

        Example:
            >>> photos.sizes([7, 42]).sum()
            102361
        """
        return self._reader.every_size() if keys is None else self._reader.sizes(keys)

    def describe(self, keys: Iterable[int]) -> list[DatapointInfo]:
        """Return the names and sizes of many datapoints without their contents, and which dataranges hold them.

        No datapoint is read, but parts of the indices may be fetched; and headers, if the server does not know the
        extension that all datapoints of a datarange have.

        Args:
            keys: The keys, in any order.

        Returns:
            For each key, in the order of `keys`, a tuple with `key`, `name`, `size`, `datarange_id` and `etag`.

        Raises:
            DatapointNotFound: A key does not exist; the error names the first one.

        Example:
            >>> [(info.name, info.size) for info in photos.describe([7, 42])]
            [('00000000000000000007.jpg', 90021), ('00000000000000000042.png', 12340)]
        """
        return self._reader.describe(keys)

    def read(self, key: int, start: int, stop: int) -> bytes:
        """Return a part of the content of one datapoint.

        A part is not compared with the checksum, which is that of a whole content.

        Args:
            key: The key.
            start: The first byte, from 0 on.
            stop: The byte behind the last one. What is behind the end of the content is left out.

        Raises:
            DatapointNotFound: There is no datapoint with this key.
            InvalidArgument: Not 0 <= start <= stop.

        Example:
            >>> header = photos.read(42, 0, 256)
        """
        return self.read_many([(key, start, stop)])[0]

    def read_many(self, parts: Iterable[tuple[int, int, int]]) -> list[bytes]:
        """Return parts of the contents of many datapoints, which are all held in memory at once.

        Neighbouring parts are fetched by one request.

        Args:
            parts: The key, the first byte and the byte behind the last one of each part, as for `read`. They may
                overlap.

        Returns:
            The bytes of each part, in the order of `parts`. Raises as `read` does; then nothing was fetched.

        Example:
            >>> photos.read_many([(42, 0, 256), (42, 4096, 8192), (7, 0, 256)])
        """
        wanted = [(integer(key), integer(start), integer(stop)) for key, start, stop in parts]
        for key, start, stop in wanted:
            if not 0 <= start <= stop:
                raise InvalidArgument(f"bytes {start} to {stop} of datapoint {key} are not a part of it")
        return self._reader.read_many(wanted)

    def open(self, key: int, *, block_size: int = 4 << 20) -> OpenDatapoint:
        """Open the content of one datapoint as a file, for contents that are too large to be read as a whole.

        Args:
            key: The key.
            block_size: How many bytes are read ahead.

        Returns:
            A file that can be read and sought. It has `name`, that of the entry, `size` and `key`.

        Raises:
            DatapointNotFound: There is no datapoint with this key.
            InvalidArgument: `block_size` is below 1.

        Example:
            >>> with zipfile.ZipFile(photos.open(42)) as archive:
            ...     print(archive.namelist())
        """
        key, block_size = integer(key), integer(block_size)
        if block_size < 1:
            raise InvalidArgument(f"block_size must be at least 1, but is {block_size}")
        (info,) = self._reader.describe([key], trusting=False)
        return OpenDatapoint(key, info.name, info.size, partial(self.read, key), block_size)

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
