"""Datas3t: a handle that reads the datapoints of one datas3t straight from S3.

The server is asked for the dataranges and their presigned URLs at the first use, and again only when the URLs are about
to expire. The index of a datarange tells where a datapoint is stored; what is read is checked against the header of its
entry.
"""

from collections.abc import Callable, Iterable, Iterator
from operator import index as integer
from types import TracebackType
from typing import TYPE_CHECKING, SupportsIndex, TypeVar

from pyroaring import BitMap64

from datas3t.archive import names
from datas3t.client._calls.dataranges import check_range
from datas3t.client._calls.session import Session
from datas3t.client._reading.catalogue_cache import CatalogueCache
from datas3t.client._reading.costs import Costs, Explanation
from datas3t.client._reading.datapoint import Datapoint, content
from datas3t.client._reading.fetching import Fetcher, RestartRead
from datas3t.client._reading.index_files import IndexMismatch
from datas3t.client._reading.indices import Indices
from datas3t.client._transfers.operations import Operations
from datas3t.client.errors import Aborted, ArchiveError, DatapointNotFound, InvalidArgument

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

T = TypeVar("T")

_MAX_ATTEMPTS = 5  # at one read; each one after the first means that dataranges were replaced during the last


class Datas3t(Operations):
    """A handle to read the datapoints of one datas3t.

    `Client.datas3t` creates handles, without a request: a name that does not exist raises NotFound at the first use.
    A handle reads the datapoints that exist at its first use; `refresh` makes it see later uploads and deletions.

    A handle may be used from many threads at once and after a fork. It can be pickled, for example to pass it to worker
    processes. No threads are started.

    Besides the errors of each method, every method that reads may raise:

    - NotFound: There is no datas3t with this name.
    - ObjectChanged: An object in S3 is missing, or is not the one that was uploaded. Wrong bytes are never returned.
    - ArchiveError: An index does not fit its archive.
    - Aborted: Dataranges were replaced faster than they could be read.
    - TransferFailed: Bytes could not be fetched from S3, in spite of retries.
    - Unavailable, DeadlineExceeded: The server does not respond.

    Example:
        >>> with Client("http://localhost:8765") as client:
        ...     photos = client.datas3t("photos")
        ...     photo = photos.get(42)
        ...     batch = photos.get_many([7, 42, 9])
        ...     for datapoint in photos.scan(100, 200):
        ...         print(datapoint.name, len(datapoint.content))
    """

    def __init__(self, session: Session, name: str) -> None:
        super().__init__(session, name)
        self._catalogues = CatalogueCache(session, name)
        self._indices = Indices(session.cache_dir, session.max_cache_size)
        self._costs = Costs()
        self._fetcher: Fetcher | None = None  # of the catalogue that was used last

    def __reduce__(self) -> tuple[type["Datas3t"], tuple[Session, str]]:
        return Datas3t, (self._session, self._name)

    def __repr__(self) -> str:
        return f"Datas3t({self._session.url!r}, {self._name!r})"

    @property
    def name(self) -> str:
        """The name of the datas3t."""
        return self._name

    @property
    def keys(self) -> BitMap64:
        """The keys of all datapoints, as a new bitmap.

        Example:
            >>> missing = BitMap64(range(1000)) - photos.keys
        """
        return BitMap64(self._catalogues.current().keys)

    def __len__(self) -> int:
        """Return the number of datapoints."""
        return len(self._catalogues.current())

    def __contains__(self, key: object) -> bool:
        """Return whether there is a datapoint with this key; False for anything that is not an integer."""
        return isinstance(key, SupportsIndex) and self._catalogues.current().holding(integer(key)) is not None

    def refresh(self) -> None:
        """Ask the server again which datapoints exist.

        Without a refresh, a handle does not see datapoints that were uploaded after its first use. Dataranges that were
        aggregated are read without it.

        Example:
            >>> client.upload_tar("photos", "more.tar")
            >>> photos.refresh()
        """
        self._catalogues.refresh()

    def get(self, key: int) -> bytes:
        """Return the content of one datapoint.

        To read several datapoints, `get_many` and `scan` are faster.

        Args:
            key: The key, from 0 to 2^63-1.

        Raises:
            DatapointNotFound: There is no datapoint with this key.

        Example:
            >>> image = PIL.Image.open(io.BytesIO(photos.get(42)))
        """
        key = integer(key)
        if not 0 <= key <= names.MAX_KEY:
            raise self._not_found(key)
        try:
            return self._get(key, self._current_fetcher(key, key))
        except (RestartRead, IndexMismatch):
            return self._read(key, key, lambda fetcher: self._get(key, fetcher))

    def get_many(self, keys: Iterable[int]) -> list[bytes]:
        """Return the contents of many datapoints, which are all held in memory at once.

        Neighbouring datapoints are fetched by one request; `explain` shows by which requests. A key that repeats is
        fetched once.

        Args:
            keys: The keys, in any order.

        Returns:
            The content of each key, in the order of `keys`.

        Raises:
            DatapointNotFound: A key does not exist; the error names the first one. Nothing was fetched.

        Example:
            >>> for content in photos.get_many([7, 42, 7, 9]):
            ...     print(len(content))
        """
        from datas3t.client._reading.many import contents  # noqa: PLC0415 - numpy takes 0.1 s, which `get` does not need

        wanted = list(map(integer, keys))
        if len(wanted) < 2:
            return [self.get(key) for key in wanted]
        found, numbers = self._planned(wanted, contents)
        return [found[number] for number in numbers]

    def explain(self, keys: Iterable[int]) -> Explanation:
        """Return how `get_many` would read these keys now: by how many requests, and how many bytes.

        No datapoint is read, but parts of the indices may be fetched.

        Args:
            keys: The keys, in any order.

        Raises:
            DatapointNotFound: A key does not exist; the error names the first one.

        Example:
            >>> plan = photos.explain(range(0, 100_000, 100))
            >>> plan.requests, round(plan.amplification, 2)
            (940, 1.08)
        """
        from datas3t.client._reading.many import explanation  # noqa: PLC0415 - as above

        return self._planned(list(map(integer, keys)), explanation)[0]

    def scan(self, first: int | None = None, last: int | None = None) -> Iterator[Datapoint]:
        """Iterate over datapoints in key order, reading ahead.

        Keys that do not exist are left out. Memory: up to 16 MiB are read ahead, or one datapoint if it is larger.
        The iteration may be stopped at any time.

        Args:
            first: The first key; all from the lowest on if it is None.
            last: The last key, included; all up to the highest if it is None.

        Returns:
            An iterator over datapoints, each with `key`, `name` and `content`.

        Raises:
            InvalidArgument: `first` to `last` is not a range of keys; raised by the call, before the iteration.

        Example:
            >>> for datapoint in photos.scan(100, 200):
            ...     Path("photos", datapoint.name).write_bytes(datapoint.content)
        """
        first, last = _key_range(first, last)
        return self._scan(first, last)

    def split(self, parts: int, first: int | None = None, last: int | None = None) -> list[tuple[int, int]]:
        """Cut a range of keys into spans with about the same number of bytes each, to scan them in parallel.

        Args:
            parts: How many spans to make. There are fewer if there are fewer datapoints.
            first: The first key; all from the lowest on if it is None.
            last: The last key, included; all up to the highest if it is None.

        Returns:
            The first and last key of each span, both included, in key order. Together the spans contain every datapoint
            of the range once.

        Raises:
            InvalidArgument: `parts` is below 1, or `first` to `last` is not a range of keys.

        Example:
            >>> def total_size(photos, span):
            ...     return sum(len(datapoint.content) for datapoint in photos.scan(*span))
            >>> with ProcessPoolExecutor(8) as processes:
            ...     print(sum(processes.map(total_size, repeat(photos), photos.split(8))))
        """
        first, last = _key_range(first, last)
        if parts < 1:
            raise InvalidArgument(f"parts must be at least 1, but is {parts}")
        return self._catalogues.current(first, last).split(first, last, parts)

    def _get(self, key: int, fetcher: Fetcher) -> bytes:
        datarange = fetcher.catalogue.holding(key)
        if datarange is None:
            raise self._not_found(key)
        return content(datarange, key, self._indices, fetcher)

    def _scan(self, cursor: int, last: int) -> Iterator[Datapoint]:
        from datas3t.client._reading.scanning import datapoints  # noqa: PLC0415 - as above

        attempts, began = self._attempts(), cursor
        while True:
            if cursor != began:  # the last attempt made progress, so failures before it no longer count
                attempts, began = self._attempts(), cursor
            with attempts:
                for datapoint in datapoints(cursor, last, self._indices, self._current_fetcher(cursor, last)):
                    cursor = datapoint.key + 1
                    yield datapoint
                return

    def _planned(
        self, wanted: list[int], plan: "Callable[[NDArray[np.int64], Indices, Fetcher], T]"
    ) -> tuple[T, list[int]]:
        """Call `plan` with the different keys among `wanted`, in ascending order, after checking that all exist.

        Returns:
            The result of `plan`, and for each key of `wanted` its number among those passed to `plan`.
        """
        import numpy as np  # noqa: PLC0415 - as above

        from datas3t.client._reading.locations import missing  # noqa: PLC0415 - as above

        outside = {key for key in wanted if not 0 <= key <= names.MAX_KEY}  # an int64 may not hold them
        inside = np.array([key for key in wanted if key not in outside] if outside else wanted, np.int64)
        keys, numbers = np.unique(inside, return_inverse=True)

        def read(fetcher: Fetcher) -> T:
            if lost := outside.union(missing(fetcher.catalogue, keys).tolist()):
                raise self._not_found(next(key for key in wanted if key in lost))
            return plan(keys, self._indices, fetcher)

        span = (int(keys[0]), int(keys[-1])) if len(keys) else (0, 0)
        return self._read(*span, read), numbers.tolist()

    def _read(self, first: int, last: int, read: Callable[[Fetcher], T]) -> T:
        """Call `read` with a fetcher of a catalogue that covers `first` to `last`; again if it must be restarted."""
        attempts = self._attempts()
        while True:
            with attempts:
                return read(self._current_fetcher(first, last))

    def _current_fetcher(self, first: int, last: int) -> Fetcher:
        catalogue, fetcher = self._catalogues.current(first, last), self._fetcher
        if fetcher is None or fetcher.catalogue is not catalogue:
            self._fetcher = fetcher = Fetcher(self._session, self._catalogues, catalogue, self._costs)
        return fetcher

    def _attempts(self) -> "_Attempts":
        return _Attempts(self._name, self._indices)

    def _not_found(self, key: int) -> DatapointNotFound:
        return DatapointNotFound(f"datas3t {self._name!r} has no datapoint {key}", key=key)


def _key_range(first: int | None, last: int | None) -> tuple[int, int]:
    """Return `first` and `last` as integers, with the lowest and highest possible key in place of None.

    Raises:
        InvalidArgument: They are not a range of keys.
    """
    keys = 0 if first is None else integer(first), names.MAX_KEY if last is None else integer(last)
    check_range(*keys)
    return keys


class _Attempts:
    """Context of each attempt at one read: suppresses errors after which another attempt can succeed.

    These are RestartRead, because dataranges may be replaced during a read, and one IndexMismatch per index, because a
    cached index may be damaged.
    """

    def __init__(self, name: str, indices: Indices) -> None:
        self._name = name
        self._indices = indices
        self._attempts_left = _MAX_ATTEMPTS
        self._mismatched: set[int] = set()  # ids of dataranges whose index was fetched again

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if isinstance(error, RestartRead):  # the catalogue was renewed before it was raised
            self._attempts_left -= 1
            if not self._attempts_left:
                raise Aborted(f"dataranges of {self._name!r} are replaced faster than they can be read; try again")
            return True
        if isinstance(error, IndexMismatch):
            if error.datarange.id in self._mismatched:
                raise ArchiveError(str(error)) from None
            self._mismatched.add(error.datarange.id)
            self._indices.forget(error.datarange)
            return True
        return False
