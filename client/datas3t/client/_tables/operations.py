"""Tables, and datapoints by the names of files: the part of the handle that needs pyarrow."""

from collections.abc import Iterable, Iterator
from operator import index as integer
from typing import TYPE_CHECKING

from datas3t.client._calls import tables
from datas3t.client._calls.arguments import check_text
from datas3t.client._calls.dataranges import key_range
from datas3t.client._calls.session import Session
from datas3t.client._calls.tables import TableInfo
from datas3t.client._reading.catalogue_cache import CatalogueCache
from datas3t.client._reading.reader import Reader
from datas3t.client._tables.table import Table

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    import pyarrow as pa

    from datas3t.client._tables.known import Known
    from datas3t.client._tables.lookup import Lookup
    from datas3t.client._tables.results import Compacted
    from datas3t.client.keyset import KeySet

    FileName = str | bytes | os.PathLike[str]


class TableOperations:
    """The part of the handle `Datas3t` that knows Arrow and tables.

    Its names are those of the table `files`, which `push` and others write. A handle knows what was in that table when
    it looked for a name first, until `refresh`.
    """

    _session: Session
    _name: str
    _catalogues: CatalogueCache
    _reader: Reader
    _known: "Known | None" = None  # what was read of tables

    def to_batches(
        self,
        first: int | None = None,
        last: int | None = None,
        *,
        rows: int = 1024,
        bytes: int = 64 << 20,  # noqa: A002 - of contents
        columns: "Sequence[str]" = ("key", "name", "size", "content"),
    ) -> "pa.RecordBatchReader":
        """Return datapoints as batches of Arrow in key order, for DuckDB, Polars, pandas and others (docs/arrow.md).

        With `content` they are read as by `scan`. Without it no content is read: keys come from the catalogue, sizes
        from the indices, and names as `describe` has them. Memory: one batch, and what a scan reads ahead.

        Args:
            first: The first key; all from the lowest on if it is None.
            last: The last key, included; all up to the highest if it is None.
            rows: How many datapoints a batch has at most.
            bytes: How many bytes of contents a batch has at most, unless a single datapoint is larger.
            columns: Some of `key` (int64), `name` (string), `size` (int64) and `content` (large_binary), in any order.

        Returns:
            A `pyarrow.RecordBatchReader`, which can be read once. The errors of reading are raised by its batches.

        Raises:
            InvalidArgument: An argument is not allowed.
            PackageMissing: pyarrow is not installed.

        Example:
            >>> batches = photos.to_batches(columns=["key", "size"])
            >>> duckdb.sql("SELECT sum(size) FROM batches")
        """
        from datas3t.client._tables.datapoint_batches import datapoint_batches  # noqa: PLC0415 - needs pyarrow

        first, last = key_range(first, last)
        return datapoint_batches(self._reader, first, last, integer(rows), integer(bytes), list(columns))

    def tables(self) -> list[TableInfo]:
        """Return the tables, by name.

        Raises:
            NotFound: The datas3t does not exist.

        Example:
            >>> photos.tables()
            [TableInfo(name='files', files=2, size=81201, lowest=1, highest=2450)]
        """
        return tables.list_all(self._session.connection, self._name)

    def table(self, name: str) -> Table:
        """Return a handle of a table, without a request. A table that does not exist is made by its first rows.

        Example:
            >>> labels = photos.table("labels")
            >>> labels.append([{"key": 1, "label": "cat"}])
            Appended(rows=1, files=1)
        """
        check_text(name=name)
        return Table(self._session, self._name, name, lambda: self._tables)

    def find(self, path: "FileName") -> int:
        """Return the key of the datapoint that was pushed as this file; the greatest, if it was pushed again.

        Args:
            path: The name, as `push` recorded it, with `/` between folders.

        Raises:
            PathNotFound: No datapoint has this path. It is a KeyError.
            PackageMissing: pyarrow is not installed.

        Example:
            >>> image = PIL.Image.open(io.BytesIO(photos.get(photos.find("cats/1.jpg"))))
        """
        return self._names.find(path)

    def find_all(self, path: "FileName") -> list[int]:
        """Return the keys of all datapoints that were pushed as this file, the newest first; [] if there is none.

        Args:
            path: As for `find`.

        Raises:
            PackageMissing: pyarrow is not installed.

        Example:
            >>> versions = photos.get_many(photos.find_all("cats/1.jpg"))
        """
        return self._names.find_all(path)

    def find_many(self, paths: "Iterable[FileName]") -> list[int]:
        """Return what `find` returns for each path, in their order. That is faster than to call it for each.

        Args:
            paths: The paths.

        Raises:
            PathNotFound: A path does not exist; the error names the first one.
            PackageMissing: pyarrow is not installed.

        Example:
            >>> images = photos.get_many(photos.find_many(["cats/1.jpg", "dogs/7.jpg"]))
        """
        return self._names.find_many(paths)

    def paths(self, keys: Iterable[int]) -> list[str | None]:
        """Return the path of each datapoint, in the order of the keys; None where none is known.

        Bytes of a name that are no UTF-8 are as `os.fsdecode` returns them.

        Args:
            keys: The keys.

        Raises:
            PackageMissing: pyarrow is not installed.

        Example:
            >>> photos.paths([1, 2])
            ['cats/1.jpg', 'cats/2.jpg']
        """
        return self._names.paths(keys)

    def glob(self, pattern: str | bytes) -> "KeySet":
        """Return the keys of all datapoints whose path matches a pattern; of a file that was pushed again, the newest.

        `*` stands for any characters but `/`, `?` for one, `[a-z]` and `[!a-z]` for one of a set, and a part `**` for
        any number of folders, also none. Names that begin with a dot are no exception. Memory: that of the paths that
        match.

        Args:
            pattern: The pattern, for the whole path.

        Raises:
            InvalidArgument: No file can have such a name, or the pattern is too long.
            PackageMissing: pyarrow is not installed.

        Example:
            >>> cats = photos.glob("cats/**/*.jpg")
            >>> images = photos.get_many(cats[:100])
        """
        return self._names.glob(pattern)

    def compact_tables(self, *, dry_run: bool = False) -> "Iterator[Compacted]":
        """Merge small files of all tables, and those that overlap. Yields each merge when it is complete.

        `optimize` does this as well. A call makes at most 1,000 merges in a table, of up to 1 GiB each.

        Args:
            dry_run: Whether nothing is merged: what would be merged first is yielded.

        Raises:
            NotFound: The datas3t does not exist.
            TableError: A column of a table has different types in different files.
            PackageMissing: pyarrow is not installed.

        Example:
            >>> for merged in photos.compact_tables():
            ...     print(merged.table, merged.files)
        """
        for each in self.tables():
            if each.files > 1:
                yield from self._tables.contents(each.name).compact(dry_run=dry_run)
                self._tables.forget(each.name)

    @property
    def _names(self) -> "Lookup":
        return self._tables.names

    @property
    def _tables(self) -> "Known":
        if self._known is None:
            from datas3t.client._tables.known import Known  # noqa: PLC0415 - needs pyarrow

            self._known = Known(self._session, self._name, self._catalogues)
        return self._known
