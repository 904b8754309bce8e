"""Appends rows to a table: sorted by key, in files that all appear when the last of them is in S3."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Protocol, TypeAlias

import numpy as np

from datas3t.client._tables.arrow import pa
from datas3t.client._tables.encoding import checked_keys
from datas3t.client._tables.files_rows import encoded
from datas3t.client._tables.results import Appended
from datas3t.client._tables.schemas import united, with_schema
from datas3t.client.errors import Datas3tError, InvalidArgument, TableError
from datas3t.client.keyset import KeySet
from datas3t.transport import Body, MemoryRange

FILE_SIZE = 64 << 20  # bytes in memory of the rows of one file
FILE_ROWS = 1 << 20  # rows of one file

Check: TypeAlias = Callable[[pa.Schema], None]


class Target(Protocol):
    """Where a table's files go."""

    def send(self, first: int, last: int, body: Body, replaces: Sequence[int] = ()) -> int:
        """Put a file into S3 and return its id. It does not count before it is complete."""
        ...

    def complete(self, file_id: int) -> None:
        """Make a file a part of the table."""
        ...

    def cancel(self, file_id: int) -> None:
        """Remove a file that is not complete."""
        ...


def append(tables: Iterator[pa.Table], target: Target, check: Check) -> Appended:
    """Append rows in any order of keys.

    Memory: the rows of one file, twice.

    Args:
        tables: The rows, with the column `key`.
        target: The table.
        check: Raises InvalidArgument if columns do not fit those of the table.

    Raises:
        InvalidArgument: A key repeats, or a column has another type than the table's.
    """
    sent: list[int] = []
    rows = 0
    keys = KeySet()
    with _cancelled_on_error(target, sent):
        for together in _files(tables, check):
            ordered = together.take(pa.array(np.argsort(checked_keys(together), kind="stable")))
            own = checked_keys(ordered)
            repeated = np.append(own[1:] == own[:-1], False) | keys.mask(own)
            if repeated.any():
                raise InvalidArgument(f"key {own[repeated][0]} repeats; each row to append needs a key of its own")
            keys |= KeySet(own)
            sent.append(target.send(int(own[0]), int(own[-1]), MemoryRange(_encoded(ordered))))
            rows += len(ordered)
        for file_id in sent:
            target.complete(file_id)
    return Appended(rows, len(sent))


def _files(tables: Iterator[pa.Table], check: Check) -> Iterator[pa.Table]:
    """Yield the rows of each file, cut to its size, with the columns of all that came so far."""
    waiting: list[pa.Table] = []
    size = rows = 0
    schema = pa.schema([])
    for given in tables:
        # A column without a value has no type either.
        table = given.select([field.name for field in given.schema if not pa.types.is_null(field.type)])
        check(table.schema)
        schema = _with(schema, table.schema)
        for start in range(0, len(table), max(_fitting(table), 1)):
            part = table.slice(start, _fitting(table))
            waiting.append(part)
            size, rows = size + part.nbytes, rows + len(part)
            if size >= FILE_SIZE or rows >= FILE_ROWS:
                yield pa.concat_tables([with_schema(each, schema) for each in waiting])
                waiting, size, rows = [], 0, 0
    if waiting:
        yield pa.concat_tables([with_schema(each, schema) for each in waiting])


def _with(schema: pa.Schema, more: pa.Schema) -> pa.Schema:
    try:
        return united((schema, more))
    except TableError as error:
        raise InvalidArgument(str(error).partition(" in different files")[0] + " in what was given") from None


def _fitting(table: pa.Table) -> int:
    """Return how many rows of a table fit into one file."""
    return min(FILE_ROWS, len(table) * FILE_SIZE // max(table.nbytes, 1) or 1)


def _encoded(table: pa.Table) -> memoryview:
    try:
        return encoded(table)
    except (pa.ArrowException, NotImplementedError) as error:
        raise InvalidArgument(f"the rows cannot be stored as Parquet: {' '.join(str(error).split())}") from None


@contextmanager
def _cancelled_on_error(target: Target, sent: list[int]) -> Iterator[None]:
    """Remove the files that are not complete if the block fails."""
    try:
        yield
    except BaseException:
        for file_id in sent:
            with suppress(Datas3tError):  # those that are complete stay
                target.cancel(file_id)
        raise
