"""The rows of one table: read, appended and compacted. Reads start over where files were replaced meanwhile."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from datas3t.client._tables import appending, compacting, reading
from datas3t.client._tables.arrow import pa, pc
from datas3t.client._tables.conditions import Expression
from datas3t.client._tables.footers import Footers, TableFile
from datas3t.client._tables.groups import Question
from datas3t.client._tables.known_columns import KnownColumns
from datas3t.client._tables.presence import Presence
from datas3t.client._tables.remote import FilesReplaced, Remote
from datas3t.client._tables.results import Appended, Compacted
from datas3t.client._tables.rows import Data, KeysOf, tables_of
from datas3t.client._tables.schemas import FILES, FILES_SCHEMA, KEY, check_fits
from datas3t.client.errors import Aborted, InvalidArgument, NotFound

_ATTEMPTS = 5  # at one read, or at one compaction
_COMPACTED_AT_ONCE = 1000  # groups in one call: more are left for the next

T = TypeVar("T")


class Contents:
    """The rows of one table."""

    def __init__(self, remote: Remote, footers: Footers, presence: Presence) -> None:
        self.remote = remote
        self._footers = footers
        self._presence = presence
        self._columns = KnownColumns(self.columns)

    def forget(self) -> None:
        """Forget what is known of a table that was dropped."""
        self._columns.forget()

    def schema(self) -> pa.Schema:
        """Return the columns; see `Table.schema`."""

        def united_columns() -> pa.Schema:
            files = self.remote.files()
            if not files:
                raise self._no_table()
            return reading.schema_of(files, self._footers, self.remote.fetch)

        return self._retried(united_columns)

    def batches(
        self,
        columns: Sequence[str] | None,
        where: Expression | None,
        first: int,
        last: int,
    ) -> tuple[pa.Schema, Iterator[pa.Table]]:
        """Return the columns of an answer, and its rows in key order; see `Table.read`."""

        def begun() -> tuple[Sequence[TableFile], Question]:
            files = self.remote.files(first, last)
            listed = files or self.remote.files()
            if not listed:
                raise self._no_table()
            whole = reading.schema_for(listed, self._footers, self.remote.fetch, columns, where)
            present = self._presence.within(first, last)
            asked = reading.question(whole, columns=columns, where=where, first=first, last=last, present=present)
            return files, asked

        files, asked = self._retried(begun)
        return asked.columns, self._rows(files, asked)

    def _rows(self, files: Sequence[TableFile], asked: Question) -> Iterator[pa.Table]:
        """Yield the rows of an answer; where files were replaced, go on behind the last row with the new ones."""
        inner = asked
        if KEY not in asked.columns.names:
            inner = asked._replace(columns=asked.columns.append(asked.needed.field(KEY)))
        attempts = _ATTEMPTS
        while True:
            try:
                for table in reading.answer(files, self._footers, self.remote.fetch, inner):
                    yield table.select(asked.columns.names)
                    last = pc.max(table.column(KEY)).as_py()
                    inner, attempts = inner._replace(first=last + 1), _ATTEMPTS
            except FilesReplaced:
                attempts -= 1
                if not attempts:
                    raise self._replaced_too_often() from None
                files = self.remote.files(inner.first, inner.last) if inner.first <= inner.last else []
                if not files and not self.remote.files():
                    raise self._no_table() from None
            else:
                return

    def append(self, data: Data, keys_of: KeysOf) -> Appended:
        """Append rows; see `Table.append`."""
        if self.remote.table == FILES:
            tables = map(_checked_files, tables_of(data, FILES_SCHEMA, keys_of))
            return appending.append(tables, self.remote, lambda schema: check_fits(schema, FILES_SCHEMA))
        added: list[pa.Schema] = []

        def check(schema: pa.Schema) -> None:
            if not added or schema != added[-1]:
                self._columns.check(schema)
                added.append(schema)

        appended = appending.append(tables_of(data, self._columns.schema, keys_of), self.remote, check)
        for schema in added:
            self._columns.add(schema)
        return appended

    def columns(self) -> pa.Schema:
        """Return the columns; only the key if there is no such table."""
        return self._retried(lambda: reading.schema_of(self.remote.files(), self._footers, self.remote.fetch))

    def compact(self, *, dry_run: bool = False) -> Iterator[Compacted]:
        """Merge files, group by group; see `Table.compact`. With `dry_run`, yield only what would be merged first."""
        failures = done = 0
        while True:
            groups = compacting.plan(self.remote.files())
            for group in groups:
                size = sum(file.size for file in group)
                try:
                    if not dry_run:
                        _, size = compacting.compact(group, self._footers, self.remote.fetch, self.remote)
                except (Aborted, FilesReplaced):
                    failures += 1
                    if failures >= _ATTEMPTS:
                        raise self._replaced_too_often() from None
                    break  # plan again
                done += 1
                first, last = min(file.first for file in group), max(file.last for file in group)
                yield Compacted(self.remote.table, first, last, len(group), size)
            else:
                if not groups or dry_run or done >= _COMPACTED_AT_ONCE:
                    return

    def _retried(self, read: Callable[[], T]) -> T:
        for _ in range(_ATTEMPTS):
            try:
                return read()
            except FilesReplaced:
                continue
        raise self._replaced_too_often()

    def _no_table(self) -> NotFound:
        return NotFound(
            f"datas3t {self.remote.name!r} has no table {self.remote.table!r}; append rows to make it",
            reason="TABLE_NOT_FOUND",
            metadata={"datas3t": self.remote.name, "table": self.remote.table},
        )

    def _replaced_too_often(self) -> Aborted:
        return Aborted(f"files of table {self.remote.table!r} are replaced faster than they can be read; try again")


def _checked_files(table: pa.Table) -> pa.Table:
    """Return rows for the table `files`. Raise InvalidArgument unless they have its columns."""
    if sorted(table.column_names) != sorted(FILES_SCHEMA.names):
        raise InvalidArgument(
            f"the table 'files' has the columns {', '.join(FILES_SCHEMA.names)}, and no others; "
            "put others into a table of your own"
        )
    for name in ("path", "size", "crc32c"):
        if table.column(name).null_count:
            raise InvalidArgument(f"a row for the table 'files' has no {name}; each needs one")
    return table
