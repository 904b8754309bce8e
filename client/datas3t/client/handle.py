"""Datas3t: a handle of one datas3t, which reads its datapoints straight from S3.

The server is asked for dataranges and their presigned URLs where keys are read for the first time, and again only when
the URLs are about to expire, or were forgotten because there are too many. The index of a datarange says where a
datapoint is stored, and the header of each entry that is read is checked.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from operator import index as integer
from typing import TYPE_CHECKING, Literal, SupportsIndex, overload

from pyroaring import BitMap64

from datas3t.client._calls.arguments import check_path
from datas3t.client._calls.dataranges import key_range
from datas3t.client._calls.session import Session
from datas3t.client._files.operations import FileOperations
from datas3t.client._reading.catalogue_cache import MAX_SIZE
from datas3t.client._reading.datapoint import Datapoint, DatapointView
from datas3t.client._reading.operations import ReadOperations
from datas3t.client._reading.reader import Reader
from datas3t.client._tables.operations import TableOperations
from datas3t.client._transfers.operations import Operations
from datas3t.client.errors import InvalidArgument, PackageMissing
from datas3t.client.progress import Progress

if TYPE_CHECKING:
    import os

    from datas3t.client._tables.results import Compacted
    from datas3t.client._transfers.aggregate import Aggregated
    from datas3t.client._transfers.upload import RowsFor
    from datas3t.client.keyset import KeySet


class Datas3t(ReadOperations, Operations, FileOperations, TableOperations):
    """A handle of one datas3t, to read its datapoints and to upload, download, aggregate and delete dataranges.

    `Client.datas3t` creates handles, without a request: a name that does not exist raises NotFound at the first use.
    A handle learns which datapoints exist where it reads, some thousand dataranges at a time, and all at once by `len`
    and `keys`. What it has learned stays: `refresh` makes it see later uploads and deletions.

    A handle may be used from many threads at once and after a fork. It can be pickled, for example to pass it to worker
    processes. Threads are started only by `push`, `pull` and writers, and end with them.

    Besides the errors of each method, every method that reads datapoints may raise:

    - NotFound: There is no datas3t with this name.
    - ObjectChanged: An object in S3 is missing, or is not the one that was uploaded. Wrong bytes are never returned.
    - ArchiveError: An index does not fit its archive.
    - ChecksumMismatch: A content differs from its checksum, also after both were fetched again. Nothing is compared for
      dataranges without checksums, and with `Client(verify=False)`.
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

    def __init__(
        self, session: Session, name: str, max_catalogue: int = MAX_SIZE, pinned: "KeySet | None" = None
    ) -> None:
        super().__init__(session, name)
        if max_catalogue < 0:
            raise InvalidArgument(f"max_catalogue must be at least 0, but is {max_catalogue}")
        self._max_catalogue = max_catalogue
        self._reader = Reader(session, name, max_catalogue)
        self._catalogues = self._reader.catalogues
        self._pinned = pinned
        if pinned is not None:
            self._pin(pinned)

    def __reduce__(self) -> tuple[type["Datas3t"], tuple[Session, str, int, "KeySet | None"]]:
        return Datas3t, (self._session, self._name, self._max_catalogue, self._pinned)

    def __repr__(self) -> str:
        pinned = "" if self._pinned is None else f".at({self._pinned!r})"
        return f"Datas3t({self._session.url!r}, {self._name!r}){pinned}"

    @property
    def name(self) -> str:
        """The name of the datas3t."""
        return self._name

    @property
    def keys(self) -> BitMap64:
        """The keys of all datapoints, as a new bitmap. The server is asked once.

        Example:
            >>> missing = BitMap64(range(1000)) - photos.keys
        """
        return BitMap64(self._reader.keys)

    def __len__(self) -> int:
        """Return the number of datapoints."""
        return len(self._reader)

    def __contains__(self, key: object) -> bool:
        """Return whether there is a datapoint with this key; False for anything that is not an integer."""
        return isinstance(key, SupportsIndex) and integer(key) in self._reader

    def at(self, keyset: "KeySet") -> "Datas3t":
        """Return a handle of these keys alone, which stay: `len`, `keys`, `in`, `scan` and `split` are of them.

        So each epoch of a training run has the same samples, whatever is uploaded meanwhile, and a process that gets
        a pickle of the handle has them as well. A key of the set that is deleted is an error when it is read, also in a
        scan. Other keys cannot be read.

        Args:
            keyset: The keys. No request is made for them.

        Example:
            >>> train, test = (photos.at(part) for part in photos.keyset.split([0.9, 0.1], seed=1))
        """
        pinned = Datas3t(self._session, self._name, self._max_catalogue)
        pinned._reader, pinned._catalogues = self._reader, self._catalogues  # what this handle has learned
        pinned._pin(keyset)
        return pinned

    def _pin(self, keyset: "KeySet") -> None:
        from datas3t.client._reading.pinned import PinnedReader  # noqa: PLC0415 - imports numpy

        self._pinned = keyset
        self._reader = PinnedReader(self._reader, keyset)

    def refresh(self) -> None:
        """Ask the server again which datapoints exist.

        Without a refresh, a handle does not see datapoints that were uploaded after it learned that there are none with
        their keys. Dataranges that were aggregated are read without it.

        Example:
            >>> photos.upload_tar("more.tar")
            >>> photos.refresh()
        """
        self._reader.catalogues.refresh()
        if self._known is not None:
            self._known.refresh()

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
        return self._reader.get(integer(key))

    @overload
    def get_many(self, keys: Iterable[int], *, missing: Literal["raise"] = "raise") -> list[bytes]: ...

    @overload
    def get_many(self, keys: Iterable[int], *, missing: Literal["none"]) -> list[bytes | None]: ...

    def get_many(
        self, keys: Iterable[int], *, missing: Literal["raise", "none"] = "raise"
    ) -> list[bytes] | list[bytes | None]:
        """Return the contents of many datapoints, which are all held in memory at once.

        Neighbouring datapoints are fetched by one request; `explain` shows by which requests. A key that repeats is
        fetched once.

        Args:
            keys: The keys, in any order.
            missing: What to do about keys that do not exist: "raise", or return None in their places.

        Returns:
            The content of each key, in the order of `keys`.

        Raises:
            DatapointNotFound: A key does not exist; the error names the first one. Nothing was fetched.
            InvalidArgument: `missing` is something else.

        Example:
            >>> for content in photos.get_many([7, 42, 7, 9]):
            ...     print(len(content))
        """
        if missing == "none":
            return self._reader.get_some(keys)
        if missing != "raise":
            raise InvalidArgument(f"missing must be 'raise' or 'none', but is {missing!r}")
        return self._reader.get_many(keys)

    def batches(self, batches: Iterable[Iterable[int]], *, ahead: int = 2) -> Iterator[list[bytes]]:
        """Iterate over the contents of batches of datapoints, as for training.

        Several batches are read together: that takes fewer and larger waits than a `get_many` for each, above all if
        batches are small, or S3 is far away. Memory: the contents of `1 + ahead` batches.

        Args:
            batches: The keys of each batch, in any order. They are taken `1 + ahead` batches at a time.
            ahead: How many batches are read together with the one that is due.

        Returns:
            An iterator over the contents of each batch, in the order of its keys.

        Raises:
            InvalidArgument: `ahead` is negative; raised by the call, before the iteration.
            DatapointNotFound: A key of the batch that is due does not exist.

        Example:
            >>> for contents in photos.batches([[7, 42, 9], [3, 8, 1], [5, 4, 2]]):
            ...     train(contents)
        """
        if ahead < 0:
            raise InvalidArgument(f"ahead must be at least 0, but is {ahead}")
        return self._reader.batches(batches, integer(ahead))

    @overload
    def scan(
        self, first: int | None = None, last: int | None = None, *, copy: Literal[True] = True
    ) -> Iterator[Datapoint]: ...

    @overload
    def scan(
        self, first: int | None = None, last: int | None = None, *, copy: Literal[False]
    ) -> Iterator[DatapointView]: ...

    @overload
    def scan(
        self, first: int | None = None, last: int | None = None, *, copy: bool
    ) -> Iterator[Datapoint | DatapointView]: ...

    def scan(
        self, first: int | None = None, last: int | None = None, *, copy: bool = True
    ) -> Iterator[Datapoint] | Iterator[DatapointView] | Iterator[Datapoint | DatapointView]:
        """Iterate over datapoints in key order, reading ahead.

        Keys that do not exist are left out. Memory: up to 16 MiB are read ahead, or one datapoint if it is larger.
        The iteration may be stopped at any time.

        Args:
            first: The first key; all from the lowest on if it is None.
            last: The last key, included; all up to the highest if it is None.
            copy: Whether each content is bytes of its own. If False, it is a memoryview of a buffer, which has other
                bytes once the next datapoint is asked for. That is faster if contents are only looked at or written.

        Returns:
            An iterator over datapoints, each with `key`, `name` and `content`.

        Raises:
            InvalidArgument: `first` to `last` is not a range of keys; raised by the call, before the iteration.

        Example:
            >>> for datapoint in photos.scan(100, 200):
            ...     Path("photos", datapoint.name).write_bytes(datapoint.content)
        """
        first, last = key_range(first, last)
        return self._reader.scan(first, last, copy=copy)

    def optimize(  # type: ignore[override]
        self,
        *,
        min_score: float | None = None,
        target_size: int = 0,
        max_aggregate_size: int = 0,
        max_parallelism: int = 4,
        max_retries: int = 3,
        progress: Progress | None = None,
    ) -> "Iterator[Aggregated | Compacted]":
        """Merge dataranges, pass after pass, until no aggregate is worth its cost; then small files of tables.

        Yields each merge when it is complete. Tables are left alone if pyarrow is not installed.

        Example:
            >>> for merged in photos.optimize():
            ...     print(merged.first, merged.last)

        Args:
            min_score: As for `plan_aggregates`.
            target_size: As for `plan_aggregates`.
            max_aggregate_size: As for `plan_aggregates`.
            max_parallelism: As for `aggregate`.
            max_retries: As for `aggregate`.
            progress: As for `aggregate`.

        Raises:
            What `plan_aggregates`, `aggregate` and `compact_tables` raise. What was yielded before is complete.
        """
        yield from super().optimize(
            min_score=min_score,
            target_size=target_size,
            max_aggregate_size=max_aggregate_size,
            max_parallelism=max_parallelism,
            max_retries=max_retries,
            progress=progress,
        )
        with suppress(PackageMissing):
            yield from self.compact_tables()

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
        first, last = key_range(first, last)
        if parts < 1:
            raise InvalidArgument(f"parts must be at least 1, but is {parts}")
        return self._reader.split(parts, first, last)

    def _rows_named_by(self, names: "str | os.PathLike[str]") -> "RowsFor":
        from datas3t.client._tables.named_rows import NamedRows  # noqa: PLC0415 - needs pyarrow

        path = check_path(names, "the list of names")
        return lambda contents: NamedRows(self._session, self._name, path, contents)
