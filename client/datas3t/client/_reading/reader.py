"""Reads of one datas3t: plans them with a catalogue, and restarts them when dataranges are replaced in between."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain, islice
from operator import index as integer
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from pyroaring import BitMap64

from datas3t.archive import names
from datas3t.client._calls.session import Session
from datas3t.client._reading.catalogue import split
from datas3t.client._reading.catalogue_cache import MAX_SIZE, CatalogueCache
from datas3t.client._reading.checksums import Checksums
from datas3t.client._reading.costs import Costs, Explanation
from datas3t.client._reading.datapoint import Datapoint, DatapointInfo, DatapointView, content
from datas3t.client._reading.fetching import Fetcher, RestartRead
from datas3t.client._reading.index_files import IndexMismatch
from datas3t.client._reading.indices import Indices
from datas3t.client._reading.known import Span
from datas3t.client.errors import Aborted, ArchiveError, DatapointNotFound

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from datas3t.client._reading.locations import Holders
    from datas3t.client._reading.parts import CheckedHeaders, Part
    from datas3t.client._reading.verifying import Collect, Verdict
    from datas3t.client.keyset import KeySet

T = TypeVar("T")

_FEW = 10_000  # keys whose sizes are read one by one; for more, the indices are read from end to end
_MAX_ATTEMPTS = 5  # at one read; each one after the first means that dataranges were replaced during the last


class Reader:
    """Reads the datapoints of one datas3t. Its methods are those of `Datas3t`, which documents them.

    Safe to use from many threads and after a fork.

    Attributes:
        is_pinned: Whether it reads a set of keys that stays, so that one that was deleted is an error.
    """

    is_pinned = False

    def __init__(self, session: Session, name: str, max_catalogue: int = MAX_SIZE) -> None:
        self.catalogues = CatalogueCache(session, name, max_catalogue)
        self.indices = Indices(session.cache_dir, session.max_cache_size)
        self.checksums = Checksums(session.cache_dir, session.max_cache_size, name) if session.verify else None
        self._checked_headers: CheckedHeaders | None = None
        self._name = name
        self._session = session
        self._fetcher = Fetcher(session, self.catalogues, Costs())

    @property
    def keys(self) -> BitMap64:
        """All keys; the bitmap is not to be changed."""
        return self.catalogues.keys()

    @property
    def keyset(self) -> "KeySet":
        """All keys."""
        from datas3t.client.keyset import KeySet  # noqa: PLC0415 - numpy takes 0.1 s, which `get` does not need

        return KeySet.of(self.keys)

    def __len__(self) -> int:
        """Return the number of keys."""
        return len(self.keys)

    def __contains__(self, key: int) -> bool:
        return self.catalogues.has(key)

    def split(self, parts: int, first: int, last: int) -> list[Span]:
        """Return spans of keys with about the same number of bytes each."""
        return split(self.catalogues.overlapping(first, last), parts)

    def get(self, key: int) -> bytes:
        """Return the content of one datapoint."""
        if not 0 <= key <= names.MAX_KEY:
            raise self._not_found(key)
        try:
            found = content(key, self.indices, self._fetcher, self.checksums)
        except (RestartRead, IndexMismatch):
            found = self._read(lambda: content(key, self.indices, self._fetcher, self.checksums))
        if found is None:
            raise self._not_found(key)
        return found

    def get_many(self, keys: Iterable[int]) -> list[bytes]:
        """Return the contents of many datapoints."""
        from datas3t.client._reading.many import contents  # noqa: PLC0415 - numpy takes 0.1 s, which `get` does not need

        wanted = list(map(integer, keys))
        if len(wanted) < 2:
            return [self.get(key) for key in wanted]
        found, numbers = self._planned(wanted, partial(contents, checksums=self.checksums))
        return [found[number] for number in numbers]

    def get_some(self, keys: Iterable[int]) -> list[bytes | None]:
        """Return the contents of many datapoints, and None for those that do not exist."""
        return self._some(keys, self.get_many)

    def some_datapoints(self, keys: Iterable[int]) -> list[Datapoint | None]:
        """Return many datapoints, and None for those that do not exist."""
        return self._some(keys, self.datapoints)

    def _some(self, keys: Iterable[int], read: Callable[[Iterable[int]], list[T]]) -> list[T | None]:
        wanted = list(map(integer, keys))
        for _ in range(_MAX_ATTEMPTS):
            lost = self.lost(wanted)
            try:
                found = iter(read(key for key in wanted if key not in lost))
            except DatapointNotFound:  # it was deleted meanwhile
                continue
            return [None if key in lost else next(found) for key in wanted]
        raise Aborted(f"datapoints of {self._name!r} are deleted faster than they can be read; try again")

    def datapoints(self, keys: Iterable[int]) -> list[Datapoint]:
        """Return many datapoints."""
        from datas3t.client._reading.many import datapoints  # noqa: PLC0415 - as above

        found, numbers = self._planned(list(map(integer, keys)), partial(datapoints, checksums=self.checksums))
        return [found[number] for number in numbers]

    def sizes(self, keys: Iterable[int]) -> "NDArray[np.int64]":
        """Return the sizes of the contents of many datapoints."""
        from datas3t.client._reading.many import sizes  # noqa: PLC0415 - as above

        found, numbers = self._planned(list(map(integer, keys)), sizes)
        return found[numbers]

    def every_size(self) -> "NDArray[np.int64]":
        """Return the sizes of the contents of all datapoints, in key order."""
        keyset = self.keyset
        if len(keyset) <= _FEW:
            return self.sizes(keyset)
        from datas3t.client._reading.headers import sizes_of  # noqa: PLC0415 - as above

        found, sizes = self.located(partial(sizes_of, keyset))
        if len(found) < len(keyset):
            raise self._not_found((keyset - found)[0])
        return sizes

    def read_many(self, parts: "list[Part]") -> list[bytes]:
        """Return parts of contents."""
        from datas3t.client._reading import parts as _parts  # noqa: PLC0415 - as above

        if not parts:
            return []
        return self._planned([key for key, _, _ in parts], partial(_parts.parts, parts, self._headers()))[0]

    def describe(self, keys: Iterable[int], *, trusting: bool = True) -> list[DatapointInfo]:
        """Return what is known of datapoints; with `trusting`, headers are read only for unknown extensions."""
        from datas3t.client._reading.parts import descriptions  # noqa: PLC0415 - as above

        plan = partial(descriptions, self._headers(), trusting)
        found, numbers = self._planned(list(map(integer, keys)), plan)
        return [found[number] for number in numbers]

    def _headers(self) -> "CheckedHeaders":
        from datas3t.client._reading.parts import CheckedHeaders  # noqa: PLC0415 - as above

        if self._checked_headers is None:
            self._checked_headers = CheckedHeaders()
        return self._checked_headers

    def batches(self, batches: Iterable[Iterable[int]], ahead: int) -> Iterator[list[bytes]]:
        """Yield the contents of each batch of keys, and read up to `ahead` further ones with it."""
        upcoming = iter(batches)
        failure: Exception | None = None  # of the caller's iterable
        while failure is None:
            together: list[list[int]] = []
            try:
                for keys in islice(upcoming, 1 + ahead):
                    together.append(list(map(integer, keys)))  # these stay if the next one fails
            except Exception as error:  # raised after the batches before it
                failure = error
            if not together:
                break
            try:
                contents = iter(self.get_many(chain.from_iterable(together)))
            except DatapointNotFound:  # nothing was read; the batches before the one with the missing key can be
                yield from map(self.get_many, together)
                continue
            for batch in together:
                yield list(islice(contents, len(batch)))
        if failure is not None:
            try:
                raise failure
            finally:
                del failure  # its traceback refers to this frame

    def explain(self, keys: Iterable[int]) -> Explanation:
        """Return how `get_many` would read these keys."""
        from datas3t.client._reading.many import explanation  # noqa: PLC0415 - as above

        return self._planned(list(map(integer, keys)), partial(explanation, checksums=self.checksums))[0]

    def scan(self, first: int, last: int, *, copy: bool) -> Iterator[Datapoint | DatapointView]:
        """Yield the datapoints with keys from `first` to `last`; without `copy` as views."""
        from datas3t.client._reading.scanning import datapoints  # noqa: PLC0415 - as above

        cursor = began = first
        attempts = self._attempts()
        while True:
            if cursor != began:  # the last attempt made progress, so failures before it no longer count
                attempts, began = self._attempts(), cursor
            with attempts:
                found = datapoints(cursor, last, self.indices, self._fetcher, self.checksums, copy=copy)
                for datapoint in found:
                    cursor = datapoint.key + 1
                    yield datapoint
                return

    def located(self, use: Callable[[Indices, Fetcher], T]) -> T:
        """Return the result of `use`, which finds datapoints in the indices; it is called again if they change."""
        return self._read(lambda: use(self.indices, self._fetcher))

    def large(self, first: int, last: int, size: int) -> list[int]:
        """Return the keys from `first` to `last` whose contents have `size` bytes or more."""
        from datas3t.client._reading.headers import large  # noqa: PLC0415 - as above

        return self.located(partial(large, first, last, size))

    def check_stored(self, first: int, last: int, parallelism: int, on_checked: Callable[[int], None]) -> None:
        """Check every header from key `first` to key `last` in S3; see `headers.check_stored`."""
        from datas3t.client._reading.headers import check_stored  # noqa: PLC0415 - as above

        self._read(lambda: check_stored(first, last, self.indices, self._fetcher, parallelism, on_checked))

    def check_file(self, fd: int, first: int, last: int) -> int:
        """Check a file of the entries from key `first` to key `last`; see `files.check_file`."""
        from datas3t.client._reading.files import check_file  # noqa: PLC0415 - as above

        return self._read(lambda: check_file(fd, first, last, self.indices, self._fetcher, self.checksums))

    def verdicts(
        self,
        first: int,
        last: int,
        fraction: float,
        on_bytes: Callable[[int], None],
        collect: "Collect | None",
    ) -> "Iterator[Verdict]":
        """Yield a verdict on each datarange that holds keys from `first` to `last`; see `verifying.Verifier`."""
        from datas3t.client._reading.verifying import Verifier  # noqa: PLC0415 - as above

        connection = self._session.connection
        return Verifier(connection, self._name, self._fetcher, fraction, on_bytes, collect).verdicts(first, last)

    def _planned(
        self, wanted: list[int], plan: "Callable[[NDArray[np.int64], Holders, Indices, Fetcher], T]"
    ) -> tuple[T, list[int]]:
        """Call `plan` with the different keys among `wanted`, in ascending order, after checking that all exist.

        Returns:
            The result of `plan`, and for each key of `wanted` its number among those passed to `plan`.
        """
        import numpy as np  # noqa: PLC0415 - as above

        from datas3t.client._reading.locations import holders  # noqa: PLC0415 - as above

        outside = {key for key in wanted if not 0 <= key <= names.MAX_KEY}  # an int64 may not hold them
        inside = np.array([key for key in wanted if key not in outside] if outside else wanted, np.int64)
        keys, numbers = np.unique(inside, return_inverse=True)

        def read() -> T:
            held = holders(keys, self.catalogues)
            if lost := outside.union(held.missing.tolist()):
                raise self._not_found(next(key for key in wanted if key in lost))
            return plan(keys, held, self.indices, self._fetcher)

        return self._read(read), numbers.tolist()

    def lost(self, wanted: list[int]) -> set[int]:
        """Return which of these keys do not exist."""
        import numpy as np  # noqa: PLC0415 - as above

        from datas3t.client._reading.locations import holders  # noqa: PLC0415 - as above

        outside = {key for key in wanted if not 0 <= key <= names.MAX_KEY}
        keys = np.unique(np.array([key for key in wanted if key not in outside], np.int64))
        return outside.union(holders(keys, self.catalogues).missing.tolist())

    def _read(self, read: Callable[[], T]) -> T:
        """Call `read`, and again if it must be restarted."""
        attempts = self._attempts()
        while True:
            with attempts:
                return read()

    def _attempts(self) -> "_Attempts":
        return _Attempts(self._name, self.indices)

    def _not_found(self, key: int) -> DatapointNotFound:
        return DatapointNotFound(f"datas3t {self._name!r} has no datapoint {key}", key=key)


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
