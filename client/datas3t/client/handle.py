"""Datas3t: a handle to read datapoints with, straight from S3.

The server is asked for dataranges with their URLs at the first use, and again only when these near their end. Where a
datapoint lies is looked up in the datarange's index; what is read is held against its entry's header.
"""

from collections.abc import Callable, Iterable, Iterator
from operator import index as integer
from types import TracebackType
from typing import TYPE_CHECKING, SupportsIndex, TypeVar

from pyroaring import BitMap64

from datas3t.archive import names
from datas3t.client._calls.dataranges import check_range
from datas3t.client._calls.session import Session
from datas3t.client._reading.costs import Costs
from datas3t.client._reading.fetching import Fetching, Gone
from datas3t.client._reading.index_files import Unfit
from datas3t.client._reading.indices import Indices
from datas3t.client._reading.leases import Leases
from datas3t.client._reading.one import content
from datas3t.client._reading.results import Datapoint, Explanation
from datas3t.client._reading.spans import split
from datas3t.client.errors import Aborted, ArchiveError, DatapointNotFound, InvalidArgument

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

T = TypeVar("T")

_TRIES = 5  # how often the dataranges may be replaced under one read


class Datas3t:
    """Reads the datapoints of one datas3t. Made by Client.datas3t; no request is made until something is read.

    What is there is asked for at the first use; `refresh` asks again. May be used from many threads and after a fork,
    and pickles. Errors, beside those of the methods: NotFound where there is no such datas3t; ObjectChanged where S3
    has other bytes than were uploaded; ArchiveError for an index that does not fit; TransferFailed.
    """

    def __init__(self, session: Session, name: str) -> None:
        self._session = session
        self._name = name
        self._leases = Leases(session, name)
        self._indices = Indices(session.cache_dir, session.max_cache_size)
        self._costs = Costs()
        self._held: Fetching | None = None

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
        """The keys of the datapoints present; a copy."""
        return BitMap64(self._leases.current().keys)

    def __len__(self) -> int:
        """How many datapoints are present."""
        return len(self._leases.current())

    def __contains__(self, key: object) -> bool:
        return isinstance(key, SupportsIndex) and self._leases.current().holding(integer(key)) is not None

    def refresh(self) -> None:
        """Asks the server again what is there: datapoints that were uploaded or deleted meanwhile."""
        self._leases.refresh()

    def get(self, key: int) -> bytes:
        """The content of one datapoint. Raises DatapointNotFound."""
        key = integer(key)
        if not 0 <= key <= names.MAX_KEY:
            raise self._not_found(key)
        try:
            return self._one(key, self._fetching(key, key))
        except (Gone, Unfit):
            return self._read(key, key, lambda fetching: self._one(key, fetching))

    def get_many(self, keys: Iterable[int]) -> list[bytes]:
        """The contents of datapoints, in the order of `keys`, which may repeat.

        Raises DatapointNotFound, which names the first key that is missing, before anything is fetched.
        """
        from datas3t.client._reading.many import contents  # noqa: PLC0415 - numpy takes 0.1 s, which a single read does not need

        wanted = list(map(integer, keys))
        if len(wanted) < 2:
            return [self.get(key) for key in wanted]
        found, numbers = self._planned(wanted, contents)
        return [found[number] for number in numbers]

    def explain(self, keys: Iterable[int]) -> Explanation:
        """How `get_many` would read these keys now: requests, bytes fetched, bytes used. It reads of the indices what
        is needed, and no datapoint. Raises DatapointNotFound."""
        from datas3t.client._reading.many import explanation  # noqa: PLC0415 - as above

        return self._planned(list(map(integer, keys)), explanation)[0]

    def scan(self, first: int | None = None, last: int | None = None) -> Iterator[Datapoint]:
        """The datapoints from key `first` to `last`, both included, in key order; all of them where neither is given.

        Keys that do not exist are left out. Each entry's header is held against key and index: ArchiveError where it is
        another's; InvalidArgument, at once, for a range that is none. Memory: 16 MiB that are read ahead, or one
        datapoint where that is larger.
        """
        first, last = _span(first, last)
        return self._scanned(first, last)

    def split(self, parts: int, first: int | None = None, last: int | None = None) -> list[tuple[int, int]]:
        """Cuts the span of keys from `first` to `last` into `parts` spans with about as many bytes each, for as many
        threads or processes to scan. Fewer where there are fewer datapoints. Raises InvalidArgument."""
        first, last = _span(first, last)
        if parts < 1:
            raise InvalidArgument(f"{parts} parts are none; ask for 1 or more")
        return split(self._leases.current(first, last), first, last, parts)

    def _one(self, key: int, fetching: Fetching) -> bytes:
        leased = fetching.catalogue.holding(key)
        if leased is None:
            raise self._not_found(key)
        return content(leased, key, self._indices, fetching)

    def _scanned(self, cursor: int, last: int) -> Iterator[Datapoint]:
        from datas3t.client._reading.scanning import datapoints  # noqa: PLC0415 - as above

        attempts, began = self._attempts(), cursor
        while True:
            if cursor != began:  # what was overcome does not count
                attempts, began = self._attempts(), cursor
            with attempts:
                for datapoint in datapoints(cursor, last, self._indices, self._fetching(cursor, last)):
                    cursor = datapoint.key + 1
                    yield datapoint
                return

    def _planned(
        self, wanted: list[int], plan: "Callable[[NDArray[np.int64], Indices, Fetching], T]"
    ) -> tuple[T, list[int]]:
        """What `plan` makes of the different keys among `wanted`, in ascending order; and which of these each is."""
        import numpy as np  # noqa: PLC0415 - as above

        from datas3t.client._reading.places import missing  # noqa: PLC0415 - as above

        outside = {key for key in wanted if not 0 <= key <= names.MAX_KEY}
        inside = np.array([key for key in wanted if key not in outside] if outside else wanted, np.int64)
        keys, numbers = np.unique(inside, return_inverse=True)

        def read(fetching: Fetching) -> T:
            if lost := outside.union(missing(fetching.catalogue, keys).tolist()):
                raise self._not_found(next(key for key in wanted if key in lost))
            return plan(keys, self._indices, fetching)

        span = (int(keys[0]), int(keys[-1])) if len(keys) else (0, 0)
        return self._read(*span, read), numbers.tolist()

    def _read(self, first: int, last: int, read: Callable[[Fetching], T]) -> T:
        attempts = self._attempts()
        while True:
            with attempts:
                return read(self._fetching(first, last))

    def _fetching(self, first: int, last: int) -> Fetching:
        """Out of a catalogue that holds these keys."""
        catalogue, held = self._leases.current(first, last), self._held
        if held is None or held.catalogue is not catalogue:
            self._held = held = Fetching(self._session, self._leases, catalogue, self._costs)
        return held

    def _attempts(self) -> "_Attempts":
        return _Attempts(self._name, self._indices)

    def _not_found(self, key: int) -> DatapointNotFound:
        return DatapointNotFound(f"datas3t {self._name!r} has no datapoint {key}", key=key)


def _span(first: int | None, last: int | None) -> tuple[int, int]:
    """The keys from `first` to `last`, all where they are not given. Raises InvalidArgument for no range."""
    span = 0 if first is None else integer(first), names.MAX_KEY if last is None else integer(last)
    check_range(*span)
    return span


class _Attempts:
    """Around an attempt to read: swallows what a new one can help against. Dataranges may be replaced under a read, and
    an index at hand may be spoilt."""

    def __init__(self, name: str, indices: Indices) -> None:
        self._name = name
        self._indices = indices
        self._left = _TRIES
        self._spoilt: set[int] = set()

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if isinstance(error, Gone):
            self._left -= 1
            if not self._left:
                raise Aborted(f"dataranges of {self._name!r} are replaced faster than they can be read; try again")
            return True  # whoever noticed has asked the server anew
        if isinstance(error, Unfit):
            if error.leased.id in self._spoilt:
                raise ArchiveError(str(error)) from None
            self._spoilt.add(error.leased.id)
            self._indices.forget(error.leased)
            return True
        return False
