"""Table: a handle of one table of a datas3t."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from operator import index as integer
from typing import TYPE_CHECKING, Any

from datas3t.archive.names import MAX_KEY
from datas3t.client._calls import tables
from datas3t.client._calls.dataranges import check_range
from datas3t.client._calls.session import Session
from datas3t.client.errors import PackageMissing

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.dataset as ds

    from datas3t.client._tables.contents import Contents
    from datas3t.client._tables.known import Known
    from datas3t.client._tables.results import Appended, Compacted


class Table:
    """A table of a datas3t: what is known about its datapoints, such as labels or captions.

    `Datas3t.table` creates handles, without a request. Each row has a `key`, that of its datapoint. For one key the row
    that was appended last counts. Rows of keys without a datapoint are kept, and not shown. docs/tables.md tells more.

    It needs pyarrow: `pip install 'datas3t[tables]'`. A handle may be used from many threads at once.

    Besides the errors of each method, every method may raise:

    - PackageMissing: pyarrow is not installed.
    - NotFound: There is no datas3t with this name, or no such table.
    - TableError: A file of the table is damaged.
    - ObjectChanged: An object in S3 is missing, or is not the one that was committed.
    - Aborted: Files were replaced faster than they could be read.
    - TransferFailed, Unavailable, DeadlineExceeded: S3 or the server do not respond.

    Example:
        >>> labels = client.datas3t("photos").table("labels")
        >>> labels.append([{"path": "cats/1.jpg", "label": "cat"}, {"key": 2, "label": "dog"}])
        Appended(rows=2, files=1)
        >>> labels.read(where=pyarrow.compute.field("label") == "cat")
    """

    def __init__(self, session: Session, datas3t: str, name: str, known: "Callable[[], Known]") -> None:
        self._session = session
        self._datas3t = datas3t
        self._name = name
        self._known = known

    def __repr__(self) -> str:
        return f"Table({self._session.url!r}, {self._datas3t!r}, {self._name!r})"

    @property
    def name(self) -> str:
        """The name of the table."""
        return self._name

    @property
    def schema(self) -> "pa.Schema":
        """The columns, united over all files, the key first.

        Raises:
            TableError: A column has different types in different files.
        """
        return self._contents.schema()

    def read(
        self,
        columns: Sequence[str] | None = None,
        where: "ds.Expression | None" = None,
        first: int | None = None,
        last: int | None = None,
    ) -> "pa.Table":
        """Return rows in key order, the newest of each key.

        Only the columns and row groups that are needed are fetched.

        Args:
            columns: The names of the columns to return; all if it is None.
            where: A condition, as pyarrow has them; it is applied to the newest row of each key.
            first: The first key; all from the lowest on if it is None.
            last: The last key, included; all up to the highest if it is None.

        Raises:
            InvalidArgument: There is no column of that name, the condition does not fit, or `first` to `last` is not a
                range of keys.

        Example:
            >>> labels.read(["key", "label"], where=pyarrow.compute.field("score") > 0.9)
        """
        from datas3t.client._tables.arrow import pa  # noqa: PLC0415 - needs pyarrow

        schema, rows = self._contents.batches(columns, where, *_key_range(first, last))
        tables = list(rows)
        return pa.concat_tables(tables) if tables else schema.empty_table()

    def to_batches(
        self,
        columns: Sequence[str] | None = None,
        where: "ds.Expression | None" = None,
        first: int | None = None,
        last: int | None = None,
    ) -> "pa.RecordBatchReader":
        """Return a reader of the rows that `read` returns, which holds few of them in memory at a time.

        Args:
            columns: As for `read`.
            where: As for `read`.
            first: As for `read`.
            last: As for `read`.

        Raises:
            InvalidArgument: As for `read`.

        Example:
            >>> for batch in labels.to_batches():
            ...     print(batch.num_rows)
        """
        from datas3t.client._tables.arrow import pa  # noqa: PLC0415 - needs pyarrow

        schema, rows = self._contents.batches(columns, where, *_key_range(first, last))
        return pa.RecordBatchReader.from_batches(schema, (batch for table in rows for batch in table.to_batches()))

    def append(self, data: Any) -> "Appended":
        """Append rows. They appear together, when all of them are in S3.

        A row replaces the row with the same key that was appended before. A table that does not exist is made.

        Args:
            data: A pyarrow Table, an iterable of tables or record batches, an iterable of rows as dicts, or whatever
                exports Arrow's C stream, such as a DataFrame of polars or pandas. There is a column `key`, or instead
                of it `path`, the name that a file had when `push` sent it. Rows may be in any order.

        Returns:
            How many rows were appended, and how many files hold them.

        Raises:
            InvalidArgument: A key repeats or is missing, a column has another type than the table's, or the rows
                cannot be stored.
            PathNotFound: No datapoint has one of the paths.

        Example:
            >>> labels.append([{"key": 1, "label": "cat"}, {"key": 2, "label": "dog"}])
            Appended(rows=2, files=1)
        """
        try:
            return self._contents.append(data, self._known().names.keys_of)
        finally:
            self._known().forget(self._name)

    def compact(self) -> "Iterator[Compacted]":
        """Merge small files, and those that overlap. Yields each merge when it is complete.

        Reading is faster with few files. Rows that were replaced are dropped. `optimize` does this for all tables.

        Raises:
            TableError: A column has different types in different files.

        Example:
            >>> for merged in labels.compact():
            ...     print(merged.files, merged.size)
        """
        return self._contents.compact()

    def drop(self) -> int:
        """Remove the table, and return how many files it had. This cannot be undone."""
        files = tables.drop(self._session.connection, self._datas3t, self._name)
        self._forget()
        return files

    def _forget(self) -> None:
        """Forget what is known of a table that was dropped. Without pyarrow nothing is."""
        with suppress(PackageMissing):
            self._contents.forget()
            self._known().forget(self._name)

    @property
    def _contents(self) -> "Contents":
        return self._known().contents(self._name)


def _key_range(first: int | None, last: int | None) -> tuple[int, int]:
    keys = 0 if first is None else integer(first), MAX_KEY if last is None else integer(last)
    check_range(*keys)
    return keys
