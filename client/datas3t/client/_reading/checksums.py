"""The checksums of datapoints, with which their contents are compared.

They are cached as indices are. Dataranges without checksums are read unchecked.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from datas3t.archive.checksums import RECORD, crc
from datas3t.client._reading.fetching import Fetcher
from datas3t.client._reading.index_files import CHECKSUMS
from datas3t.client._reading.indices import Indices
from datas3t.client._reading.signed import SignedDatarange
from datas3t.client.errors import ChecksumMismatch

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers: TypeAlias = NDArray[np.int64]

UNKNOWN = -1  # in place of the checksum of a datapoint whose datarange has none


class Checksums:
    """The checksums of one datas3t. Safe to use from many threads.

    Args:
        folder: The folder of the cache on disk, which other processes and datas3ts may share.
        max_size: How many bytes the folder may hold.
        name: The datas3t.
    """

    def __init__(self, folder: Path, max_size: int, name: str) -> None:
        self._records = Indices(folder, max_size, CHECKSUMS)
        self._name = name

    def hold(self, datarange: SignedDatarange, key: int, content: bytes, fetcher: Fetcher) -> bool:
        """Return whether the content of a key has the right checksum, or none."""
        expected = self.one(datarange, key, fetcher)
        return expected is None or crc(content) == expected

    def one(self, datarange: SignedDatarange, key: int, fetcher: Fetcher) -> int | None:
        """Return the checksum of a key, or None if its datarange has none."""
        if not datarange.checksums_etag:
            return None
        expected: int = RECORD.unpack(self._records.record(datarange, key, fetcher))[0]
        return expected

    def of(
        self, wanted: Mapping[SignedDatarange, Sequence[int]], fetcher: Fetcher, expected: int = 0
    ) -> "Numbers | None":
        """Return the checksums of many keys in the order of `wanted`; None if no datarange has any.

        Args:
            wanted: For each datarange the keys, in ascending order.
            fetcher: Fetches what is not cached.
            expected: How many records the caller expects to read in all, now and next; 0 if it does not know.
        """
        import numpy as np  # noqa: PLC0415 - 0.1 s, which a single read does not need

        known = {datarange: keys for datarange, keys in wanted.items() if datarange.checksums_etag}
        if not known:
            return None
        found = np.frombuffer(self._records.records(known, fetcher, expected), ">u4").astype(np.int64)
        if len(known) == len(wanted):
            return found
        every = np.full(sum(map(len, wanted.values())), UNKNOWN, np.int64)
        at = taken = 0
        for datarange, keys in wanted.items():
            if datarange in known:
                every[at : at + len(keys)] = found[taken : taken + len(keys)]
                taken += len(keys)
            at += len(keys)
        return every

    def prepare(self, dataranges: Sequence[SignedDatarange], fetcher: Fetcher) -> None:
        """Fetch those of the dataranges' small checksums that are not on disk, all together."""
        self._records.prepare([each for each in dataranges if each.checksums_etag], fetcher)

    def forget(self, datarange: SignedDatarange) -> None:
        """Drop checksums from which a content differs, so that their next use fetches them again."""
        self._records.forget(datarange)

    def mismatch(self, datarange: SignedDatarange, key: int) -> ChecksumMismatch:
        """Return the error for a content that differs from its checksum for good."""
        archive, sums = datarange.object_key("tar"), datarange.object_key("crc32c")
        first, last = datarange.first, datarange.last
        return ChecksumMismatch(
            f"the content of datapoint {key} of {self._name!r} differs from its checksum: {archive} or {sums} is "
            f"damaged; restore the object, or delete the datarange {first} to {last} and upload it again",
            datas3t=self._name,
            key=key,
            datarange=(first, last),
            object=archive,
            reason="CHECKSUM_MISMATCH",
            metadata={
                "datas3t": self._name,
                "key": str(key),
                "first": str(first),
                "last": str(last),
                "object_key": archive,
                "checksums_object_key": sums,
            },
        )
